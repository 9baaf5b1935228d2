from __future__ import annotations

import numpy as np
import pytest
import torch

from finecorr.data.pictures import Picture
from finecorr.data.view import fit_image, grid, padded, scaled


def _picture(values: object, **said: object) -> Picture:
    array = np.asarray(values)
    array = array[None] if array.ndim == 2 else array
    return Picture(array, None, None, **said)  # type: ignore[arg-type]


def test_it_spans_0_to_1() -> None:
    image = scaled(_picture(np.arange(6, dtype=np.uint8).reshape(2, 3) * 10 + 50))
    torch.testing.assert_close(image, torch.arange(6.0).reshape(1, 2, 3) / 5)
    assert torch.equal(scaled(_picture(np.full((2, 3), 7))), torch.zeros(1, 2, 3))


def test_low_values_are_bright_where_the_file_says_so() -> None:
    shown = scaled(_picture([[0.0, 1.0, 4.0]], inverted=True))
    torch.testing.assert_close(shown, torch.tensor([[[1.0, 0.75, 0.0]]]))


@pytest.mark.parametrize("inverted", [False, True])
def test_what_is_no_picture_is_black_and_counts_for_nothing(inverted: bool) -> None:
    values = np.array([[-2000, 10, 20, 30, 9999]], dtype=np.int16)
    valid = np.array([[False, True, True, True, False]])
    shown = scaled(_picture(values, valid=valid, inverted=inverted))[0, 0]
    inside = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(shown[1:4], inside.flip(0) if inverted else inside)
    assert shown[0] == shown[4] == 0
    assert torch.equal(scaled(_picture(values, valid=np.zeros_like(valid))), torch.zeros(1, 1, 5))


def test_values_outside_the_window_are_black_or_white() -> None:
    def window(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(values, 100.0, 200.0))

    shown = scaled(_picture([[0.0, 100.0, 150.0, 200.0, 5000.0]], window=window))
    torch.testing.assert_close(shown, torch.tensor([[[0.0, 0.0, 0.5, 1.0, 1.0]]]))


def test_32_bits_keep_their_digits() -> None:
    values = np.array([[2**31, 2**31 + 1, 2**31 + 2]], dtype=np.uint32)
    torch.testing.assert_close(scaled(_picture(values)), torch.tensor([[[0.0, 0.5, 1.0]]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        scaled(_picture([[0.0, bad]]))
    valid = np.array([[True, False]])
    assert torch.equal(scaled(_picture([[0.0, bad]], valid=valid)), torch.zeros(1, 1, 2))


def test_colour_becomes_luminance_or_stays() -> None:
    values = np.zeros((3, 2, 2), np.uint8)
    values[1, 0, 0] = 255
    assert scaled(_picture(values))[0, 0, 0] == pytest.approx(0.587)
    assert scaled(_picture(values), rgb=True).shape == (3, 2, 2)
    assert scaled(_picture(values[0]), rgb=True).shape == (3, 2, 2)


@pytest.mark.parametrize("shape", [(270, 400), (400, 270), (50, 50), (17, 301)])
def test_fitting_keeps_lengths(shape: tuple[int, int]) -> None:
    """A bright bar is `factor` times as long after resizing."""
    height, width = shape
    image = torch.zeros(1, height, width)
    image[0, :, width // 4 : width // 4 * 3] = 1
    fitted, factor = fit_image(image, (136, 192))
    assert fitted.shape == (1, 136, 192)
    row = fitted[0, 136 // 2]
    assert float(row.sum()) == pytest.approx(factor * (width // 4 * 2), rel=0.02, abs=0.6)
    assert max(height * factor / 136, width * factor / 192) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("aspect", [0.5, 2.0])
def test_pixels_that_are_not_square_become_square(aspect: float) -> None:
    """A square of the world is a square of the result, whatever the pixels were."""
    image = torch.zeros(1, round(120 / aspect), 120)
    image[0, round(30 / aspect) : round(90 / aspect), 30:90] = 1
    fitted, factor = fit_image(image, (100, 160), aspect)
    tall, wide = (float(fitted[0].amax(axis).sum()) for axis in (1, 0))
    assert tall == pytest.approx(wide, rel=0.03)
    assert wide == pytest.approx(60 * factor, rel=0.03)


def test_a_type_has_a_range_whatever_the_image() -> None:
    eight = Picture(np.array([[[0, 51, 102]]], np.uint8), 0.0, 255.0)
    torch.testing.assert_close(scaled(eight, ("type",)), torch.tensor([[[0.0, 0.2, 0.4]]]))
    signed = Picture(np.array([[[-1024, 0, 3071]]], np.int16), -1024.0, 3071.0)
    torch.testing.assert_close(scaled(signed, ("type",)), torch.tensor([[[0.0, 1024 / 4095, 1.0]]]))
    with pytest.raises(ValueError, match=r"real numbers.*--intensity LOW HIGH"):
        scaled(_picture([[0.5, 1.5]]), ("type",))


def test_two_numbers_are_in_the_unit_of_the_values_and_no_window_counts() -> None:
    values = [[-2000.0, -100.0, 100.0, 300.0, 9000.0]]
    picture = _picture(values, window=lambda values: np.clip(values, 0, 1))
    shown = scaled(picture, (-100.0, 300.0))[0, 0]
    torch.testing.assert_close(shown, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    turned = scaled(_picture([[-100.0, 300.0]], inverted=True), (-100.0, 300.0))[0, 0]
    torch.testing.assert_close(turned, torch.tensor([1.0, 0.0]))


def test_small_images_are_mirrored_at_their_edges() -> None:
    image = torch.arange(6.0).view(1, 2, 3)
    assert padded(image, (2, 3)) is image
    assert padded(image, (1, 2)) is image
    wide = padded(image, (2, 7))
    assert wide[0, 0].tolist() == [2, 1, 0, 1, 2, 1, 0]
    # Far smaller than the crop: mirrored again and again.
    far = padded(torch.arange(3.0).view(1, 1, 3), (5, 11))
    assert far.shape == (1, 5, 11)
    assert far[0, 0].tolist() == far[0, 4].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]


def test_a_grid_covers_an_image_from_edge_to_edge() -> None:
    assert grid((10, 20), (4, 6), 1) == [(3, 7)]
    assert grid((10, 20), (4, 6), 2) == [(3, 0), (3, 14)]
    assert grid((20, 10), (4, 6), 2) == [(0, 2), (16, 2)]
    nine = grid((100, 100), (10, 10), 9)
    assert nine == [(top, left) for top in (0, 45, 90) for left in (0, 45, 90)]
    # Two rows suit it as well as three.
    assert len({top for top, _ in grid((100, 100), (10, 10), 6)}) == 2
    assert len({top for top, _ in grid((101, 100), (10, 10), 6)}) == 3
    for count in range(1, 30):
        places = grid((64, 48), (32, 48), count)
        assert len(places) == count
        assert all(0 <= top <= 32 and left == 0 for top, left in places)
