from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from finecorr.data import pictures
from finecorr.data.folder import read_folder
from finecorr.data.images import Images
from finecorr.data.options import ImageOptions, TableOptions
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

    def read(path: Path, frame: int) -> pictures.Picture:
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

    def read(path: Path, frame: int) -> pictures.Picture:
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
