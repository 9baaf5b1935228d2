"""Files, intensities and duplicates of tables that are checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import zoom

import finecorr
from checked import COUNT, checked, kinds, rows, scene, scenes
from dicom_files import write_dicom
from finecorr.checking.alignment import aligned
from finecorr.checking.check import Check
from finecorr.checking.duplicates import near_duplicates

USUAL = {"small table", "few steps", "few validation subjects", "much smaller than --image-size"}
"""What is said of any table as small as these."""


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    return scenes(tmp_path)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path, names: list[str]) -> None:
    found = checked(tmp_path, names, {})
    assert kinds(found) <= USUAL
    assert found.refused is None
    for title in ("Files", "Intensities", "Labels: target", "Subjects", "Duplicates", "Splits"):
        assert f"\n{title}: nothing found\n" in found.text()


# Files


def test_all_broken_files_are_named_and_the_others_are_looked_at(
    tmp_path: Path, names: list[str]
) -> None:
    (tmp_path / names[3]).write_bytes(b"no image")
    whole = (tmp_path / names[5]).read_bytes()
    (tmp_path / names[5]).write_bytes(whole[: len(whole) // 2])
    (tmp_path / names[7]).unlink()
    Image.new("L", (64, 64), 7).save(tmp_path / names[9])
    found = checked(tmp_path, names, {})
    assert rows(found, "unreadable file") == [3, 5]
    assert rows(found, "fault in the table") == [7]
    assert rows(found, "constant image") == [9]
    assert found.refused is not None
    for name in (names[3], names[5], names[7]):
        assert name in found.refused
    assert names[9] not in found.refused


def test_images_that_are_too_large_are_refused(tmp_path: Path, names: list[str]) -> None:
    Image.new("L", (300, 300)).save(tmp_path / names[4])
    found = checked(tmp_path, names, {}, max_megapixels=0.05)
    assert rows(found, "unreadable file") == [4]
    assert "--max-megapixels" in str(found.refused)


def test_a_sample_is_spread_over_the_table(tmp_path: Path, names: list[str]) -> None:
    for i in (0, 20, 39):
        (tmp_path / names[i]).write_bytes((tmp_path / names[i]).read_bytes()[:1000])
    found = checked(tmp_path, names, {}, decode=3)
    assert f"3 of {COUNT} images were decoded" in found.text()
    assert rows(found, "unreadable file") == [0, 20, 39]
    assert "all 40 images were decoded" in checked(tmp_path, names, {}, decode="all").text()


def test_files_are_described(tmp_path: Path, names: list[str]) -> None:
    Image.fromarray(scene(0).astype(np.uint16) * 256).save(tmp_path / names[0])
    Image.fromarray(scene(1, 80)).save(tmp_path / "other.jpg")
    text = checked(tmp_path, [*names, names[0], "other.jpg"], {}).text()
    assert "39 files of PNG, 8 bits; 1 file of PNG, 16 bits; 1 file of JPEG, 8 bits" in text
    assert "from 64 x 64 to 80 x 80 pixels, in 2 sizes; 40 are of 64 x 64" in text
    assert "1 file in several rows: picture000.png (rows 2, 42)" in text


# Intensities


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("constant image", np.full((64, 64), 9)),
        ("nearly empty image", np.pad(scene(0, 4), 30)),
        ("saturated image", np.where(np.arange(64) < 32, 255, scene(0))),
        ("inverted image", 255 - np.tile(np.arange(64) * 4, (64, 1))),
        ("colour among grey", np.stack([scene(0), scene(1), scene(2)], -1)),
    ],
)
def test_odd_images_are_found(kind: str, image: np.ndarray, tmp_path: Path) -> None:
    names = []
    for i in range(20):
        ramp = np.tile(np.arange(64.0), (64, 1)) * 3 + scene(i) / 5
        names.append(f"{i}.png")
        Image.fromarray((image if i == 8 else ramp).astype(np.uint8)).save(tmp_path / names[i])
    found = checked(tmp_path, names, {})
    assert rows(found, kind) == [8]


def test_twelve_bits_in_sixteen_are_dark_by_the_type(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(COUNT)]
    for i, name in enumerate(names):
        Image.fromarray(scene(i).astype(np.uint16) * 16).save(tmp_path / name)
    found = checked(tmp_path, names, {}, intensity="type")
    assert "range that is hardly used" in kinds(found)
    assert "--intensity 0 4080 keeps exposure" in found.text()
    assert "range that is hardly used" not in kinds(checked(tmp_path, names, {}))
    wrong = checked(tmp_path, names, {}, intensity=[-900.0, -100.0])
    assert len(rows(wrong, "--intensity does not fit")) == COUNT


def test_what_dicom_files_say(tmp_path: Path) -> None:
    names = [f"{i}.dcm" for i in range(20)]
    for i, name in enumerate(names):
        said = {"PhotometricInterpretation": "MONOCHROME1"} if i < 6 else {}
        window = {"WindowCenter": 100, "WindowWidth": 50} if i < 4 else {}
        write_dicom(tmp_path / name, scene(i), PixelSpacing=[0.5, 0.5], **said, **window)
    text = checked(tmp_path, names, {}).text()
    assert "20 files of DICOM, 8 bits" in text
    assert "6 of 20 images with bright low values" in text
    assert "4 of 20 images with a window" in text


def test_real_numbers_have_no_type_to_scale_by(tmp_path: Path, names: list[str]) -> None:
    Image.fromarray(scene(0).astype(np.float32)).save(tmp_path / "real.tif")
    found = checked(tmp_path, [*names, "real.tif"], {}, intensity="type")
    assert rows(found, "unreadable file") == [COUNT]
    assert found.refused is not None


@pytest.mark.parametrize("coloured", [True, False])
def test_colour_and_rgb(coloured: bool, tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(20)]
    for i, name in enumerate(names):
        channels = [scene(i + 20 * c * coloured) for c in range(3)]
        Image.fromarray(np.stack(channels, -1)).save(tmp_path / name)
    assert ("grey as colour" in kinds(checked(tmp_path, names, {}, rgb=True))) is not coloured
    assert ("colour left out" in kinds(checked(tmp_path, names, {}))) is coloured


# Duplicates


def _jpeg(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "compressed": _jpeg,
    "rescaled": lambda image: image.resize((40, 40)),
    "cut": lambda image: image.crop((3, 2, 62, 61)),
    "brighter": lambda image: image.point(lambda value: min(1.3 * value, 255)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change: str, tmp_path: Path, names: list[str]) -> None:
    with Image.open(tmp_path / names[11]) as image:
        CHANGES[change](image).save(tmp_path / "copy.png", compress_level=1)
    found = checked(tmp_path, [*names, "copy.png"], {})
    assert rows(found, "same picture") == [11]
    (what,) = found.findings["what"][found.findings["kind"] == "same picture"]
    assert "row 42, copy.png" in what
    assert ("mirrored" in what) is (change == "mirrored")


def test_copies_of_files_of_one_subject_and_of_two(tmp_path: Path, names: list[str]) -> None:
    shutil.copy(tmp_path / names[2], tmp_path / "within.png")
    shutil.copy(tmp_path / names[4], tmp_path / "across.png")
    who = [*(f"p{i}" for i in range(COUNT)), "p2", "another"]
    splits = [*(["train"] * 30), *(["test"] * 10), "train", "test"]
    more = {"who": who, "split": splits}
    flags = {"group_column": "who", "split_column": "split"}
    found = checked(tmp_path, [*names, "within.png", "across.png"], more, decode=1, **flags)
    assert rows(found, "same file") == [4]
    text = found.text()
    assert "the file of row 43, across.png: train and test" in text
    assert "1 pair of two subjects each, 1 of them in two splits" in text


def test_alignment_undoes_a_cut_and_a_stretch() -> None:
    whole = scene(3, 128).astype(float)
    part = whole[8:120, 5:125]
    small = [zoom(image, 32 / np.array(image.shape), order=1) for image in (whole, part)]
    one, other = (torch.tensor(image[None], dtype=torch.float32) for image in small)
    plain = float(np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1])
    assert aligned(one, other).item() > max(0.97, plain + 0.02)
    assert aligned(one, torch.tensor(scene(4, 32)[None], dtype=torch.float32)).item() < 0.8
    assert aligned(one[:0], other[:0]).shape == (0,)


def test_constant_pictures_are_no_duplicates() -> None:
    pictures = torch.stack([torch.full((32, 32), 0.5), torch.full((32, 32), 0.5)])
    assert near_duplicates(pictures, np.array(["a", "b"])) == []


def test_near_duplicates_of_real_images(hc18: Path) -> None:
    """None across subjects. With each image its own subject, frames that nearly are the same."""
    assert "same picture" not in kinds(_hc18(hc18))
    alone = _hc18(hc18, group_pattern=r"(.*)")
    pairs = alone.findings[alone.findings["kind"] == "same picture"]
    assert len(pairs) >= 8
    for image, what in zip(pairs["image"], pairs["what"], strict=True):
        assert image.partition("_")[0] in what


def test_series_of_photographs(hc18: Path) -> None:
    """In BIQ2021, some scenes were taken several times."""
    folder = hc18.parent / "biq2021"
    flags = {"image_root": folder / "images", "target_columns": ["MOS"], "split_column": "split"}
    found = finecorr.check(folder / "scores.csv", decode=600, **flags)
    assert "600 of 2400 images were decoded" in found.text()
    assert not {"label in another unit", "label far out"} & kinds(found)
    pairs = found.findings[found.findings["kind"] == "same picture"]
    assert len(pairs) >= 5
    assert pairs["what"].str.contains("train and test|validation and test").any()


def _hc18(folder: Path, **flags: str) -> Check:
    return finecorr.check(
        folder / "training_set_pixel_size_and_HC.csv",
        image_root=folder / "training_set",
        image_columns=["filename"],
        target_columns=["head circumference (mm)"],
        **{"group_pattern": r"^(\d+)_", **flags},
    )
