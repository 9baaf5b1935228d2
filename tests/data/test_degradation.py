from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from finecorr.data.degradation.degrading import degrade, write_degradations
from finecorr.data.degradation.kinds import eight_bits
from finecorr.data.degradation.options import KINDS, DegradationOptions
from finecorr.data.phantom import phantom
from finecorr.data.pictures import read
from finecorr.data.view import scaled
from finecorr.errors import InputError


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    drawn = phantom(np.random.default_rng(0), height=136, width=192).image
    return drawn[None].astype(np.float32) / 255


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject in range(3):
        for frame in "ab":
            path = tmp_path / "in" / f"clinic{subject % 2}" / f"{subject}_{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = phantom(np.random.default_rng(subject), height=64, width=96)
            Image.fromarray(drawn.image).save(path)
    return tmp_path / "in"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_step_does_more(kind: str, image: np.ndarray) -> None:
    damage = []
    for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
        worse = degrade(image, {kind: strength}, np.random.default_rng(1))
        assert worse.dtype == np.float32
        assert worse.shape == image.shape
        assert worse.min() >= 0
        assert worse.max() <= 1
        damage.append(np.abs(worse - image).mean())
    assert damage[0] > 0
    assert np.all(np.diff(damage) > 0)


def _is_blurred(image: np.ndarray, worse: np.ndarray) -> bool:
    across, along = (
        np.abs(np.diff(worse, axis=axis)).mean() / np.abs(np.diff(image, axis=axis)).mean()
        for axis in (2, 1)
    )
    same_mean = abs(worse.mean() - image.mean()) < 0.01
    return bool(across < along < 0.9 and same_mean and not _is_compressed(image, worse))


def _is_speckled(image: np.ndarray, worse: np.ndarray) -> bool:
    grain = (worse / np.maximum(image, 1e-6))[(image > 0.2) & (worse < 1)]
    return bool(0.3 < grain.std() < 0.6 and abs(np.median(grain) - 1) < 0.1)


def _is_attenuated(image: np.ndarray, worse: np.ndarray) -> bool:
    lost = image - worse
    return bool((lost[:, 0] == 0).all() and lost[:, 100:].mean() > lost[:, :36].mean())


def _is_shadowed(image: np.ndarray, worse: np.ndarray) -> bool:
    changed = (np.abs(worse - image) > 0.02).any(axis=(0, 1))
    width = np.flatnonzero(changed)[-1] - np.flatnonzero(changed)[0]
    return bool((worse <= image).all() and 0.1 * 192 < width < 0.5 * 192)


def _has_other_gain(image: np.ndarray, worse: np.ndarray) -> bool:
    kept = (worse > 0) & (worse < 1)
    return float(np.ptp((worse - image)[kept])) < 1e-6


def _is_compressed(image: np.ndarray, worse: np.ndarray) -> bool:
    steps = np.abs(np.diff(worse, axis=2)).mean(axis=(0, 1))
    return bool(steps[7::8].mean() > 2 * np.delete(steps, np.s_[7::8]).mean())


@pytest.mark.parametrize(
    ("kind", "shows"),
    [
        ("blur", _is_blurred),
        ("speckle", _is_speckled),
        ("attenuation", _is_attenuated),
        ("shadow", _is_shadowed),
        ("gain", _has_other_gain),
        ("compression", _is_compressed),
    ],
)
def test_each_kind_is_what_it_is_called(
    kind: str, shows: Callable[[np.ndarray, np.ndarray], bool], image: np.ndarray
) -> None:
    worse = degrade(image, {kind: 1.0}, np.random.default_rng(1))
    assert shows(image, worse)
    for other in KINDS:
        if other != kind:
            assert not shows(image, degrade(image, {other: 1.0}, np.random.default_rng(1))), other


def test_several_at_once_happen_in_the_order_of_the_kinds(image: np.ndarray) -> None:
    both = degrade(image, {"compression": 0.5, "gain": 0.4}, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    one = degrade(image, {"gain": 0.4}, rng)
    np.testing.assert_array_equal(both, degrade(one, {"compression": 0.5}, rng))


def test_the_table_tells_what_was_done(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = DegradationOptions(out, group_pattern=r"^(\d+)_", versions=20, steps=4, at_once=2)
    written = write_degradations(folder, options)
    table = pd.read_csv(out / "scores.csv", dtype={"group": str})
    pd.testing.assert_frame_equal(table, written, check_dtype=False)
    assert len(table) == 6 * 21
    steps = table[list(KINDS)]
    np.testing.assert_allclose(table["severity"], steps.sum(axis=1) / 4)
    assert set(np.unique(steps)) == {0, 1, 2, 3, 4}
    count = (steps > 0).sum(axis=1)
    assert set(count) == {0, 1, 2}
    assert (count == 0).sum() == 6
    assert (table.groupby("original")["group"].nunique() == 1).all()
    assert set(table["group"]) == {"0", "1", "2"}
    for row in table.itertuples():
        original = eight_bits(scaled(read(folder / str(row.original))).numpy())[0]
        image = np.asarray(Image.open(out / str(row.image)))
        assert np.array_equal(image, original) == (row.severity == 0), row


def test_the_seed_and_the_name_decide(folder: Path, tmp_path: Path) -> None:
    options = DegradationOptions(tmp_path / "a", versions=2)
    write_degradations(folder, options)
    write_degradations(folder, replace(options, out=tmp_path / "b"))
    write_degradations(folder, replace(options, out=tmp_path / "c", seed=1))
    (folder / "clinic0" / "0_a.png").unlink()
    write_degradations(folder, replace(options, out=tmp_path / "d"))
    first = _files(tmp_path / "a")
    assert _files(tmp_path / "b") == first
    other = _files(tmp_path / "c")
    assert other.keys() == first.keys()
    assert other != first
    fewer = _files(tmp_path / "d")
    del fewer["scores.csv"]
    assert len(fewer) == 15
    assert all(first[name] == content for name, content in fewer.items())


def test_frames_without_a_pattern_are_subjects_of_their_own(folder: Path, tmp_path: Path) -> None:
    table = write_degradations(folder, DegradationOptions(tmp_path / "out", versions=1))
    assert table["group"].tolist() == table["original"].tolist()


def test_an_ending_that_is_a_number_is_part_of_the_name(tmp_path: Path) -> None:
    """As DICOM files are named by their UID."""
    names = ["1.2.840.1", "1.2.840.2", "a.b.png", "sub.d/e"]
    (tmp_path / "in" / "sub.d").mkdir(parents=True)
    for name in names:
        Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / "in" / name, "PNG")
    table = write_degradations(tmp_path / "in", DegradationOptions(tmp_path / "out", versions=1))
    stems = ["1.2.840.1", "1.2.840.2", "a.b", "sub.d/e"]
    assert table["image"].tolist() == [f"images/{stem}_{i}.png" for stem in stems for i in (0, 1)]


def test_colours_stay(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(colours).save(tmp_path / "in" / "a.png")
    write_degradations(tmp_path / "in", DegradationOptions(tmp_path / "out", rgb=True))
    shapes = {
        np.asarray(Image.open(path)).shape for path in (tmp_path / "out" / "images").iterdir()
    }
    assert shapes == {(40, 60, 3)}


def test_all_faulty_images_are_named_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_text("no image")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(folder / "clinic0" / "0_a.bmp")
    with pytest.raises(InputError) as error:
        write_degradations(folder, DegradationOptions(tmp_path / "out"))
    for name in ("broken.png", "torn.jpg", "clinic0/0_a.png", "clinic0/0_a.bmp"):
        assert name in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kinds": ("blur", "haze")}, "--kinds must be different ones of blur"),
        ({"kinds": ()}, "--kinds"),
        ({"versions": 0}, "--versions must be from 1"),
        ({"steps": 0}, "--steps must be from 1"),
        ({"at_once": 7}, "--at-once 7 is more than the 6"),
        ({"seed": -1}, "--seed"),
        ({"group_pattern": "("}, "--group-pattern"),
        ({"group_pattern": "^[a-z]"}, "does not match"),
    ],
)
def test_options_out_of_range(
    change: dict[str, object], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        write_degradations(
            folder,
            replace(DegradationOptions(tmp_path / "out"), **change),  # type: ignore[arg-type]
        )
    assert not (tmp_path / "out").exists()


def test_nothing_is_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    options = DegradationOptions(tmp_path / "out", versions=1)
    write_degradations(folder, options)
    before = _files(tmp_path / "out")
    with pytest.raises(InputError, match="--overwrite"):
        write_degradations(folder, replace(options, seed=1))
    assert _files(tmp_path / "out") == before
    write_degradations(folder, replace(options, seed=1, overwrite=True))
    assert _files(tmp_path / "out") != before


@pytest.mark.parametrize("place", [".", "..", "in"])
def test_the_images_are_safe(place: str, folder: Path) -> None:
    before = _files(folder)
    with pytest.raises(InputError, match="--out"):
        write_degradations(folder, DegradationOptions(folder / place))
    assert _files(folder) == before


def test_a_folder_with_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_degradations(folder, DegradationOptions(tmp_path / "out"))
