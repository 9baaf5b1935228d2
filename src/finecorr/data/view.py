"""What a network sees of a picture or volume: its range from 0 to 1, and its size, whole or in
crops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from finecorr.data.image_options import Intensity
from finecorr.data.pictures import Picture

LUMINANCE = (0.299, 0.587, 0.114)
"""The shares of red, green and blue in grey."""


def scaled(picture: Picture, intensity: Intensity = ("image",), *, rgb: bool = False) -> Tensor:
    """`(channels, height, width)`, or `(channels, depth, height, width)`, float32, from 0 to 1.

    Where the file has no picture, it is 0. Where low values are to be shown bright, it is turned.

    Args:
        picture: of one channel or three.
        intensity: `("image",)`: its darkest value is 0 and its brightest 1, within its window if
            the file has one; `("type",)`: the least and the largest value that its type, or a
            DICOM's bits stored, can hold; `(low, high)`: these, in the unit of its values.
        rgb: three channels in any case, or else one, of the luminance.

    Raises:
        ValueError: it holds values that are not finite numbers, or real numbers, whose type has no
            range.
    """
    of_image = intensity == ("image",)
    windowed = of_image and picture.window is not None
    values = picture.window(picture.values) if windowed and picture.window else picture.values
    inside = values if picture.valid is None else values[:, picture.valid]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    if not np.isfinite(high - low):
        raise ValueError("it holds values that are not finite numbers")
    if not of_image:
        low, high = _limits(picture, intensity)
    # 32 bits and more have digits that float32 has not.
    wide = values.dtype.itemsize > 2 and values.dtype != np.float32
    real = np.float64 if wide else np.float32
    if len(values) == 1 or rgb:
        image = torch.from_numpy(values.astype(real))
    else:
        image = torch.zeros(1, *values.shape[1:], dtype=torch.float64 if wide else torch.float32)
        for channel, share in zip(values, LUMINANCE, strict=True):
            image.add_(torch.from_numpy(channel.astype(real)), alpha=share)
    # Of an image of one value, rounding is not stretched.
    image = image.sub_(low).div_(high - low if high > low else np.inf).clamp_(0, 1).float()
    if picture.inverted:
        image = image.neg_().add_(1)
    if picture.valid is not None:
        image.masked_fill_(~torch.from_numpy(picture.valid), 0)
    return image.expand(3, *image.shape[1:]) if rgb else image


def _limits(picture: Picture, intensity: Intensity) -> tuple[float, float]:
    if intensity != ("type",):
        low, high = (float(limit) for limit in intensity)
        return low, high
    if picture.lowest is None or picture.highest is None:
        raise ValueError("it holds real numbers, whose type has no range: say --intensity LOW HIGH")
    return picture.lowest, picture.highest


def fit_image(image: Tensor, size: tuple[int, ...], aspect: float = 1.0) -> tuple[Tensor, float]:
    """Resizes an image to fit into `size`, aspect kept, and pads it with 0 around.

    Args:
        image: `(channels, height, width)`.
        size: height and width of the result, whose pixels are square.
        aspect: height of a pixel of `image`, in its width.

    Returns:
        `(channels, *size)`, and how many of its pixels are as long as one of `image` is wide.
    """
    inner, factor = fitting(image.shape[1], image.shape[2], size, aspect)
    resized = torch.nn.functional.interpolate(
        image[None], size=inner, mode="bilinear", antialias=True, align_corners=False
    )[0]
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    padding = (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top)
    return torch.nn.functional.pad(resized, padding), factor


def fitting(
    height: int, width: int, size: tuple[int, ...], aspect: float = 1.0
) -> tuple[tuple[int, int], float]:
    """How an image is resized to fit into `size`: its height and width then, and how many of its
    pixels are as long as one of the file's is wide. `aspect` as for `fit_image`."""
    tall = height * aspect
    factor = min(size[0] / tall, size[1] / width)
    inner = (max(round(tall * factor), 1), max(round(width * factor), 1))
    # Whole pixels stretch the two axes a little differently: a length at any angle sees the mean.
    return inner, (inner[0] / tall * inner[1] / width) ** 0.5


def fit_volume(volume: Tensor, size: Sequence[int], steps: Sequence[float]) -> Tensor:
    """Samples a volume on a grid that has the same centre; where it is not, there is 0.

    By linear interpolation along each axis, and, where the grid is coarser, by a triangle as wide
    as two of its steps, which lets through little of what the grid cannot show.

    Args:
        volume: `(channels, depth, height, width)`.
        size: depth, height and width of the result.
        steps: of the grid, along each axis, in voxels of `volume`.

    Returns:
        `(channels, *size)`.
    """
    # The last axis first, along which the values are beside each other; each becomes the first of
    # those of the volume, so that they are in their order again after the third.
    for side, step in reversed(list(zip(size, steps, strict=True))):
        weights = _weights(volume.shape[-1], side, step).to(volume.dtype)
        volume = (volume @ weights).movedim(-1, 1)
    return volume.contiguous()


def _weights(before: int, after: int, step: float) -> Tensor:
    """`(before, after)`: of each voxel in each sample."""
    wide = max(step, 1.0)
    places = (torch.arange(after, dtype=torch.float64) - (after - 1) / 2) * step + (before - 1) / 2
    apart = torch.arange(before, dtype=torch.float64)[:, None] - places
    weights = (1 - apart.abs() / wide).clamp_min(0)
    # At its very end, a volume reaches half a voxel beyond the centre of its last one.
    inside = (places > -0.5 - 1e-6) & (places < before - 0.5 + 1e-6)
    return torch.where(inside, weights / weights.sum(0).clamp_min(1e-12), 0)


def voxel(size: Sequence[int], spacing: Sequence[float], fitted: Sequence[int]) -> float:
    """The side of the smallest cubes of which `fitted` hold a whole volume, in the unit of
    `spacing`.

    Args:
        size: of the volume, in voxels.
        spacing: the sides of these.
        fitted: the cubes along each axis.
    """
    return max(n * side / room for n, side, room in zip(size, spacing, fitted, strict=True))


def slices(image: Tensor) -> Tensor:
    """The middle slices of a volume `(channels, depth, height, width)` as a picture: coronal and
    sagittal, with the superior end at the top, and axial below. A picture `(channels, height,
    width)` as it is."""
    if image.ndim == 3:
        return image
    depth, height, width = (side // 2 for side in image.shape[1:])
    above = torch.cat([image[:, :, height], image[:, :, :, width]], dim=2).flip(1)
    axial = torch.nn.functional.pad(image[:, depth], (0, image.shape[2]))
    return torch.cat([above, axial], dim=1)


def padded(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image that is at least of that size, mirrored at its edges where it was smaller.

    Args:
        image: `(channels, height, width)`.
        size: height and width.
    """
    lacking = [max(wanted - side, 0) for wanted, side in zip(size, image.shape[1:], strict=True)]
    if not any(lacking):
        return image
    around = [(lack // 2, lack - lack // 2) for lack in lacking]
    # torch mirrors once only, and a side may be far too short.
    return torch.from_numpy(np.pad(image.numpy(), [(0, 0), *around], mode="reflect"))


def grid(shape: tuple[int, int], size: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Tops and lefts of `count` crops, evenly over the image: rows times columns of them, as many
    of each as suit its shape best, or the fewer rows of two that do; one alone is its middle.

    Args:
        shape: height and width of the image.
        size: of the crops, no larger than it.
        count: of the crops.
    """
    # In whole numbers: of two that suit it alike, a rounded logarithm would take either.
    shares = row_counts(count)
    rows = shares[sum(a * b * shape[1] < count * shape[0] for a, b in pairwise(shares))]
    tops, lefts = (
        _even(side - crop, number)
        for side, crop, number in zip(shape, size, (rows, count // rows), strict=True)
    )
    return [(top, left) for top in tops for left in lefts]


def row_counts(count: int) -> list[int]:
    """Numbers of rows that so many crops can be in."""
    return [rows for rows in range(1, count + 1) if count % rows == 0]


def _even(room: int, number: int) -> list[int]:
    """Places from 0 to `room`."""
    places = np.linspace(0, room, number) if number > 1 else np.array([room / 2])
    return [round(place) for place in places.tolist()]
