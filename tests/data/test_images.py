from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dicom_files import write_dicom
from finecorr.data import images, pictures
from finecorr.data.decoding import seen
from finecorr.data.folder import read_folder
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.left_out import Unreadable
from finecorr.data.options import TableOptions
from finecorr.data.pictures import raster
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError

SMALL = ImageOptions(image_size=(32, 32))


def _write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def _pages(path: Path, *levels: int) -> None:
    """A TIFF, each of whose pages is bright in another row."""
    pages = []
    for level in levels:
        pixels = np.zeros((20, 20), np.uint8)
        pixels[level] = 255
        pages.append(Image.fromarray(pixels))
    pages[0].save(path, save_all=True, append_images=pages[1:])


def _table(folder: Path, rows: dict[str, list[object]], **options: object) -> ImageTable:
    frame = pd.DataFrame({"target": np.arange(len(next(iter(rows.values())))), **rows})
    frame.to_csv(folder / "table.csv", index=False)
    return read_table(TableOptions(folder / "table.csv", **options))  # type: ignore[arg-type]


def test_images_beyond_the_memory_limit_are_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        _write(tmp_path / f"{i}.png", rng.integers(0, 255, (20, 30), dtype=np.uint8))
    table = read_folder(tmp_path, TableOptions(tmp_path))
    kept = Images(table, SMALL)
    read = Images(table, replace(SMALL, cache_mb=0))
    assert kept.in_memory
    assert not read.in_memory
    for i in range(3):
        assert torch.equal(kept[i], read[i])
    np.testing.assert_array_equal(kept.factors, read.factors)


def test_all_unreadable_images_are_named(tmp_path: Path) -> None:
    _write(tmp_path / "good.png", np.eye(20, dtype=np.uint8))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    table = read_folder(tmp_path, TableOptions(tmp_path))
    with pytest.raises(InputError, match="3 faults") as error:
        Images(table, SMALL)
    for name in ("cut.png", "text.png", "empty.png"):
        assert name in str(error.value)


def test_a_picture_of_several_rows_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        _write(tmp_path / f"{name}.png", np.eye(20, dtype=np.uint8))
    decoded = []

    def read(path: Path, frame: int, *, volumes: bool) -> pictures.Picture:
        decoded.append(path.name)
        return raster.read(path, frame)

    monkeypatch.setattr(pictures, "read", read)
    table = _table(tmp_path, {"image": ["a.png", "b.png"] * 50})
    found = Images(table, SMALL)
    assert len(found) == 100
    assert sorted(decoded) == ["a.png", "b.png"]
    assert torch.equal(found[0], found[2])


def test_a_file_of_several_pages_is_no_image_unless_it_is_said_which(tmp_path: Path) -> None:
    _pages(tmp_path / "a.tif", 3, 10, 16)
    with pytest.raises(InputError, match=r"row 2: .*a.tif has 3 frames: say which"):
        Images(_table(tmp_path, {"image": ["a.tif"] * 2}), SMALL)


def test_frames_are_those_that_the_column_names(tmp_path: Path) -> None:
    _pages(tmp_path / "a.tif", 3, 10, 16)
    _write(tmp_path / "b.png", np.eye(20, dtype=np.uint8))
    rows: dict[str, list[object]] = {"image": ["a.tif", "a.tif", "b.png"], "page": [3, 1, None]}
    found = Images(_table(tmp_path, rows, frame_column="page"), ImageOptions(image_size=(40, 40)))
    assert [int(found[i][0].float().sum(1).argmax()) // 2 for i in (0, 1)] == [16, 3]
    rows["page"] = [4, 1, 1]
    with pytest.raises(InputError, match=r"row 2: .*a.tif has 3 frames, and not number 4"):
        Images(_table(tmp_path, rows, frame_column="page"), SMALL)


def test_all_frames_and_several_columns_are_images_of_one_row(tmp_path: Path) -> None:
    _pages(tmp_path / "a.tif", 3, 10, 16)
    for name in "bcd":
        _write(tmp_path / f"{name}.png", np.eye(20, dtype=np.uint8))
    rows: dict[str, list[object]] = {"left": ["a.tif", "b.png"], "right": ["c.png", "d.png"]}
    table = _table(tmp_path, rows, image_columns=("left", "right"), all_frames=True)
    assert table.names == ["a.tif | c.png", "b.png | d.png"]
    found = Images(table, SMALL)
    np.testing.assert_array_equal(found.rows, [0, 0, 0, 0, 1, 1])
    assert [found.of_row(row) for row in (0, 1)] == [0, 4]


def test_a_large_image_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "a.png", np.zeros((1000, 1001), np.uint8))
    table = read_folder(tmp_path, TableOptions(tmp_path))
    Images(table, replace(SMALL, max_megapixels=1.1))
    monkeypatch.setattr(pictures, "read", None)
    with pytest.raises(InputError, match=r"row 1: .*1001 x 1000 pixels.*--max-megapixels 1 "):
        Images(table, replace(SMALL, max_megapixels=1))


@pytest.mark.parametrize(("threads", "limits"), [(1, (30_000, 30_000)), (8, (30_001, 40_000))])
def test_images_that_are_decoded_side_by_side_are_together_no_larger_than_one_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, limits: tuple[int, int]
) -> None:
    """By as many threads as the process may use, which can be fewer than the machine has."""
    for i in range(12):
        _write(tmp_path / f"{i}.png", np.zeros((100, 100 * (1 + i % 3)), np.uint8))
    now, most, lock = 0, 0, threading.Lock()

    def read(path: Path, frame: int, *, volumes: bool) -> pictures.Picture:
        nonlocal now, most
        picture = raster.read(path, frame)
        with lock:
            now += picture.values.size
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= picture.values.size
        return picture

    monkeypatch.setattr(pictures, "read", read)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    table = read_folder(tmp_path, TableOptions(tmp_path))
    Images(table, replace(SMALL, max_megapixels=0.04))
    assert limits[0] <= most <= limits[1]


def test_an_image_that_changes_after_the_start_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "a.png", np.eye(20, dtype=np.uint8))
    table = _table(tmp_path, {"image": ["a.png"] * 2})
    found = Images(table, replace(SMALL, cache_mb=0))
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"row 3: .*a.png has changed since the start"):
        found[1]


def _counted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[tuple[str, int]]]:
    """The files whose header is read, and the frames that are decoded."""
    headers: list[str] = []
    frames: list[tuple[str, int]] = []

    def header(path: Path, *, volumes: bool) -> pictures.Header:
        headers.append(path.name)
        return raster.header(path)

    def read(path: Path, frame: int, *, volumes: bool) -> pictures.Picture:
        frames.append((path.name, frame))
        return raster.read(path, frame)

    monkeypatch.setattr(pictures, "header", header)
    monkeypatch.setattr(pictures, "read", read)
    return headers, frames


def test_each_header_is_read_once_and_each_frame_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pages(tmp_path / "a.tif", 3, 10, 16)
    _write(tmp_path / "b.png", np.eye(20, dtype=np.uint8))
    rows: dict[str, list[object]] = {"image": ["a.tif", "b.png"] * 50, "page": [3, None, 1, 1] * 25}
    table = _table(tmp_path, rows, frame_column="page")
    headers, frames = _counted(monkeypatch)
    found = Images(table, SMALL)
    assert sorted(headers) == ["a.tif", "b.png"]
    assert sorted(frames) == [("a.tif", 0), ("a.tif", 2), ("b.png", 0)]
    assert len(found) == 100
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[2])


def test_of_those_that_are_not_kept_an_even_sample_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i:03}.png" for i in range(100)]
    for name in names:
        _write(tmp_path / name, np.eye(20, dtype=np.uint8))
    table = _table(tmp_path, {"image": [*names]})
    headers, frames = _counted(monkeypatch)
    monkeypatch.setattr(images, "SAMPLE", 12)
    found = Images(table, replace(SMALL, cache_mb=0))
    assert sorted(headers) == names
    assert sorted(frames) == [(names[i], 0) for i in range(0, 100, 9)]
    assert found.shapes.tolist() == [[32, 32]] * 100
    frames.clear()
    # 512 fit into a megabyte, at 2 KB each.
    assert Images(table, replace(SMALL, cache_mb=1)).in_memory
    assert sorted(frames) == [(name, 0) for name in names]


def test_what_is_not_decoded_at_the_start_is_named_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "a.png", np.eye(20, dtype=np.uint8))
    whole = _write(
        tmp_path / "b.png", np.random.default_rng(0).integers(0, 255, (20, 20), dtype=np.uint8)
    ).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    table = _table(tmp_path, {"image": ["a.png", "b.png"]})
    with pytest.raises(InputError, match=r"1 fault; .*\n.*row 3: .*b.png cannot be read"):
        Images(table, replace(SMALL, cache_mb=0))
    monkeypatch.setattr(images, "SAMPLE", 1)
    found = Images(table, replace(SMALL, cache_mb=0))
    with pytest.raises(Unreadable, match=r"row 3: .*b.png cannot be read as an image"):
        found[1]


def test_an_image_that_gets_another_size_is_not_taken(tmp_path: Path) -> None:
    """Its lengths would be wrong."""
    _write(tmp_path / "a.png", np.eye(20, dtype=np.uint8))
    found = Images(_table(tmp_path, {"image": ["a.png"] * 2}), replace(SMALL, cache_mb=0))
    _write(tmp_path / "a.png", np.eye(30, dtype=np.uint8))
    with pytest.raises(Unreadable, match="not of the size that its header said at the start"):
        found[0]


@pytest.mark.parametrize("view", ["fit", "crops"])
def test_the_scale_by_headers_is_that_of_the_images(tmp_path: Path, view: Any) -> None:
    exif = Image.Exif()
    exif[274] = 6
    tall = np.random.default_rng(0).integers(0, 255, (90, 50), dtype=np.uint8)
    Image.fromarray(tall).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(tall).save(tmp_path / "b.tif", tiffinfo={274: 8})
    write_dicom(tmp_path / "c.dcm", tall, PixelSpacing=[0.3, 0.2])
    write_dicom(tmp_path / "d.dcm", tall[:20], PixelAspectRatio=[1, 3])
    table = _table(tmp_path, {"image": ["a.jpg", "b.tif", "c.dcm", "d.dcm"]})
    options = ImageOptions(view=view, image_size=(40, 64), crop_size=(32, 64))
    found = Images(table, options)
    for i, (path,) in enumerate(table.images):
        image = seen(pictures.read(path), options)
        assert found.factors[i] == image.factor
        assert tuple(found.shapes[i]) == image.geometry.size
        assert found.unfit[i] == image.unfit
        np.testing.assert_array_equal(found.pixel_sizes[i], image.pixel_size)
