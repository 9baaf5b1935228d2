from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from finecorr.data.augmentation import Augmentation
from finecorr.data.image_options import AugmentationOptions

NONE = AugmentationOptions(flip=0, rotation=0, shift=0, zoom=0, gain=0, gamma=0)
HEIGHT, WIDTH = 96, 144


def _disc(radius: float = 20, x: float = 72, y: float = 48) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    inside = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2
    return inside.float()[None, None]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _spread(image: Tensor) -> tuple[float, float]:
    """Standard deviations of the bright pixels along the two axes."""
    rows, columns = torch.nonzero(image > 0.5, as_tuple=True)
    return float(columns.double().std()), float(rows.double().std())


def test_nothing_changes_nothing() -> None:
    image = torch.rand(2, 1, HEIGHT, WIDTH)
    changed, zoom = Augmentation(NONE, lengths=True)(image, _generator())
    torch.testing.assert_close(changed, image, atol=1e-4, rtol=0)
    assert zoom.tolist() == [1, 1]


def test_flip_is_left_to_right() -> None:
    image = torch.rand(1, 1, HEIGHT, WIDTH)
    options = AugmentationOptions(flip=1, rotation=0, shift=0, zoom=0, gain=0, gamma=0)
    changed, _ = Augmentation(options, lengths=True)(image, _generator())
    torch.testing.assert_close(changed, image.flip(-1), atol=1e-4, rtol=0)


def test_zoom_is_the_factor_of_lengths() -> None:
    options = AugmentationOptions(flip=0, rotation=0, shift=0, zoom=0.3, gain=0, gamma=0)
    images = _disc().expand(16, -1, -1, -1)
    changed, zoom = Augmentation(options, lengths=True)(images, _generator())
    assert zoom.min() < 0.9
    assert zoom.max() > 1.1
    for image, factor in zip(changed, zoom, strict=True):
        radius = math.sqrt(float((image > 0.5).sum()) / math.pi)
        assert radius == pytest.approx(20 * float(factor), rel=0.02)


def test_zoom_is_off_where_not_all_targets_are_lengths() -> None:
    images = _disc().expand(4, -1, -1, -1)
    _, zoom = Augmentation(AugmentationOptions(zoom=0.3), lengths=False)(images, _generator())
    assert zoom.tolist() == [1, 1, 1, 1]


def test_rotation_keeps_shapes_in_an_image_that_is_wider_than_high() -> None:
    options = AugmentationOptions(flip=0.5, rotation=45, shift=0.05, zoom=0, gain=0, gamma=0)
    images = _disc(20).expand(16, -1, -1, -1)
    changed, _ = Augmentation(options, lengths=True)(images, _generator())
    for image in changed:
        along, across = _spread(image[0])
        assert along == pytest.approx(across, rel=0.02)
        assert along == pytest.approx(10, rel=0.02)


def test_gain_and_gamma_change_brightness_within_bounds() -> None:
    options = AugmentationOptions(flip=0, rotation=0, shift=0, zoom=0, gain=0.2, gamma=0.2)
    images = torch.full((64, 1, 4, 4), 0.5)
    changed, _ = Augmentation(options, lengths=True)(images, _generator())
    level = changed[:, 0, 0, 0]
    assert 0.5**1.2 * 0.8 - 1e-6 <= level.min() < 0.45
    assert 0.55 < level.max() <= 0.5 ** (1 / 1.2) * 1.2 + 1e-6


def test_the_generator_decides() -> None:
    image, augmentation = torch.rand(3, 1, 8, 8), Augmentation(AugmentationOptions(), lengths=True)
    first, again = augmentation(image, _generator()), augmentation(image, _generator())
    assert torch.equal(first[0], again[0])


# ---- volumes: compared with bodies that are transformed as formulas ------------------------------

SIZE, VOXEL = (40, 48, 44), (1.5, 1.0, 1.2)


def _ellipsoid(matrix: Tensor, shift: Tensor, voxel: tuple[float, ...]) -> Tensor:
    """A smooth body whose points x, of depth, height and width in mm, were moved from
    matrix x + shift."""
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(SIZE, voxel, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) @ matrix.T + shift
    level = ((points - torch.tensor([2.0, -3.0, 4.0])) / torch.tensor([9.0, 14.0, 6.0])).norm(
        dim=-1
    )
    return torch.sigmoid((1 - level) * 4)[None, None]


def _about(axis: int, angle: Tensor) -> Tensor:
    """Of depth, height and width."""
    cos, sin = float(angle.cos()), float(angle.sin())
    turned = torch.eye(3)
    one, other = [(2, 1), (2, 0), (1, 0)][axis]
    sign = -1 if axis == 1 else 1
    turned[one, one] = turned[other, other] = cos
    turned[one, other], turned[other, one] = -sin * sign, sin * sign
    return turned


@pytest.mark.parametrize("voxel", [None, VOXEL])
@pytest.mark.parametrize("seed", range(4))
def test_volumes_are_turned_scaled_and_moved_as_in_the_body(
    seed: int, voxel: tuple[float, ...] | None
) -> None:
    options = AugmentationOptions(flip=0.5, rotation=25, shift=0.1, zoom=0.2, gain=0, gamma=0)
    augmentation = Augmentation(options, lengths=True, voxel=voxel)
    sides = voxel or (1.0, 1.0, 1.0)
    body = _ellipsoid(torch.eye(3), torch.zeros(3), sides)
    changed, zoom = augmentation(body, torch.Generator().manual_seed(seed))
    # What it has drawn, in its order.
    generator = torch.Generator().manual_seed(seed)

    def uniform(largest: float) -> Tensor:
        return (2 * torch.rand(1, generator=generator) - 1) * largest

    mirrored = bool(torch.rand(1, generator=generator) < 0.5)
    angles = [torch.deg2rad(uniform(25)) for _ in range(3)]
    assert float(zoom) == pytest.approx(float(1.2 ** uniform(1.0)))
    move = torch.cat([uniform(0.1) for _ in range(3)]).flip(0)
    matrix = _about(2, angles[2]) @ _about(1, angles[1]) @ _about(0, angles[0])
    if mirrored:
        matrix = matrix * torch.tensor([1.0, 1.0, -1.0])
    shift = move * torch.tensor([n * s for n, s in zip(SIZE, sides, strict=True)])
    expected = _ellipsoid(matrix / float(zoom), shift, sides)
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8), slice(8, -8))
    assert (changed[inside] - expected[inside]).abs().max() < 0.03
    assert (body[inside] - expected[inside]).abs().max() > 0.3


def test_a_volume_grows_by_the_cube_of_zoom() -> None:
    options = AugmentationOptions(flip=0, rotation=0, shift=0, zoom=0.3, gain=0, gamma=0)
    body = _ellipsoid(torch.eye(3), torch.zeros(3), (1.0, 1.0, 1.0)).expand(8, -1, -1, -1, -1)
    changed, zoom = Augmentation(options, lengths=True)(body, _generator())
    grown = (changed > 0.5).sum((1, 2, 3, 4)) / (body > 0.5).sum((1, 2, 3, 4))
    torch.testing.assert_close(grown, zoom**3, rtol=0.03, atol=0)
