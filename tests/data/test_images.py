from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finecorr.data.images import ImageOptions, Images, fit_image, read_image
from finecorr.data.table import TableOptions, read_folder
from finecorr.errors import InputError


def _write(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(pixels, mode).save(path)
    return path


def test_grey_image_keeps_its_orientation_and_spans_0_to_1(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 10 + 50
    image = read_image(_write(tmp_path / "a.png", pixels))
    torch.testing.assert_close(image, torch.arange(6.0).reshape(1, 2, 3) / 5)


def test_colour_becomes_luminance_or_stays(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = (0, 255, 0)
    path = _write(tmp_path / "a.png", pixels)
    assert read_image(path)[0, 0, 0] == pytest.approx(0.587)
    assert read_image(path, rgb=True).shape == (3, 2, 2)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    grey = np.array([[0, 200], [100, 50]], np.uint8)
    Image.fromarray(grey).convert("RGB").quantize(8).save(tmp_path / "a.png")
    torch.testing.assert_close(
        read_image(tmp_path / "a.png")[0], torch.from_numpy(grey) / 200, atol=0.02, rtol=0
    )


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_ignored(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 2)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (1, 2, 4)


def test_16_bit_grey(tmp_path: Path) -> None:
    pixels = np.array([[0, 1000], [30000, 60000]], np.uint16)
    image = read_image(_write(tmp_path / "a.tif", pixels))
    torch.testing.assert_close(image[0], torch.tensor([[0, 1 / 60], [0.5, 1.0]]))


def test_dicom(tmp_path: Path) -> None:
    from pydicom import examples

    image = read_image(Path(str(examples.get_path("ct"))))
    assert image.shape == (1, 128, 128)


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


def test_images_beyond_the_memory_limit_are_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        _write(tmp_path / f"{i}.png", rng.integers(0, 255, (20, 30), dtype=np.uint8))
    table = read_folder(tmp_path, TableOptions(tmp_path))
    kept = Images(table, ImageOptions((16, 16)))
    read = Images(table, ImageOptions((16, 16), cache_mb=0))
    assert kept.in_memory
    assert not read.in_memory
    for i in range(3):
        assert torch.equal(kept[i], read[i])
    assert kept.factors == read.factors


def test_all_unreadable_images_are_named(tmp_path: Path) -> None:
    _write(tmp_path / "good.png", np.eye(20, dtype=np.uint8))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    table = read_folder(tmp_path, TableOptions(tmp_path))
    with pytest.raises(InputError, match="3 faults") as error:
        Images(table, ImageOptions((16, 16)))
    for name in ("cut.png", "text.png", "empty.png"):
        assert name in str(error.value)
