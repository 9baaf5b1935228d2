"""Labels, subjects, splits and advice for tables that are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from checked import COUNT, checked, kinds, labels, rows, scene, scenes
from dicom_files import write_dicom
from finecorr.checking.findings import Histogram
from finecorr.checking.subjects import suggested_pattern
from finecorr.checking.text import bars


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    scenes(folder)
    return folder


@pytest.fixture(scope="module")
def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))


def _with(values: dict[int, float]) -> dict[str, Any]:
    target = labels()
    for place, value in values.items():
        target[place] = value
    return {"target": target}


# Labels

LABELS: dict[str, tuple[str, dict[int, float]]] = {
    "ten times": ("label in another unit", {4: 700.0}),
    "a tenth": ("label in another unit", {4: 7.1, 6: 6.4}),
    "inches": ("label in another unit", {i: 70 / 25.4 + i / 50 for i in range(8)}),
    "minus one": ("possible code for a missing label", {4: -1.0, 5: -1.0, 6: -1.0}),
    "999": ("possible code for a missing label", {4: 999.0, 5: 999.0, 6: 999.0}),
    "999 once": ("possible code for a missing label", {4: 999.0}),
    "far": ("label far out", {4: 400.0}),
    "below 0": ("label far out", {4: -60.0}),
}


@pytest.mark.parametrize("values", [(1e16, 1e16 + 2), (-1e308, 1e308), (0.0, 5e-324)])
def test_labels_that_no_bins_part_are_refused(
    folder: Path, names: list[str], values: tuple[float, float]
) -> None:
    found = checked(folder, names, {"target": np.resize(values, COUNT)})
    assert found.refused is not None
    assert "target column 'target' is from" in found.refused


def test_several_kinds_of_odd_labels_at_once(folder: Path, names: list[str]) -> None:
    values = {4: 700.0, 5: 6.9, 10: -1.0, 11: -1.0, 12: -1.0}
    found = checked(folder, names, _with(values))
    assert sorted(rows(found, "label in another unit")) == [4, 5]
    assert rows(found, "possible code for a missing label") == [10, 11, 12]
    assert "label far out" not in kinds(found)


@pytest.mark.parametrize("case", LABELS)
def test_odd_labels_are_found(case: str, folder: Path, names: list[str]) -> None:
    kind, values = LABELS[case]
    found = checked(folder, names, _with(values))
    assert sorted(rows(found, kind)) == sorted(values)
    others = {"label in another unit", "possible code for a missing label", "label far out"} - {
        kind
    }
    assert not others & kinds(found)


def test_of_one_label_any_factor_may_be_meant(folder: Path, names: list[str]) -> None:
    text = checked(folder, names, {"target": [8.1, *np.linspace(70, 310, COUNT - 1)]}).text()
    assert "8.1 is below the others by a factor of about 25.4 (inch and mm) or 10: is it in" in text


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "normal": lambda rng: rng.normal(50, 5, COUNT),
    "skewed": lambda rng: rng.lognormal(3, 0.8, COUNT),
    "uniform": lambda rng: rng.uniform(0, 1, COUNT),
    "two clusters": lambda rng: np.concatenate([rng.normal(50, 3, 20), rng.normal(80, 3, 20)]),
    "grades from 0": lambda rng: rng.integers(0, 6, COUNT).astype(float),
    "grades from -1": lambda rng: rng.integers(-1, 2, COUNT).astype(float),
    "a few down to 0": lambda rng: np.append(rng.beta(2, 2, COUNT - 1), 0.004),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_usual_labels_are_not(name: str, folder: Path, names: list[str]) -> None:
    target = DISTRIBUTIONS[name](np.random.default_rng(1))
    found = checked(folder, names, {"target": target})
    assert "Labels: target: nothing found" in found.text()
    assert ("by its logarithm" in found.text()) is (name == "skewed")


def test_labels_are_described(folder: Path, names: list[str]) -> None:
    text = checked(folder, names, {"target": [*[3.0] * 5, *range(10, 40), *[np.nan] * 5]}).text()
    assert "35 labels, 5 missing" in text
    assert "31 different values; 5 labels share theirs" in text


def test_a_histogram_in_a_line() -> None:
    histogram = Histogram("a", np.array([0, 1, 2, 3.0]), np.array([1, 0, 8]))
    assert bars(histogram) == "0 ▂ █ 3"


def test_observers_who_disagree(folder: Path, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    scores = {f"by {i}": labels() + rng.normal(size=COUNT) for i in range(3)}
    for i, by in enumerate(scores):
        scores[by][7] = 20 + 40 * i
    more = {**scores, "target": None}
    found = checked(folder, names, more, score_columns=list(scores), target_columns=["mean"])
    assert rows(found, "disagreement") == [7]
    assert "observers' ceiling" in found.text()
    one = rng.normal(size=COUNT)
    noise = {"one": one, "other": rng.normal(size=COUNT) / 9 - one}
    found = checked(folder, names, noise, score_columns=list(noise), target_columns=["mean"])
    assert "there is nothing to learn" in found.text()


# Subjects


@pytest.mark.parametrize(
    ("made", "pattern"),
    [
        (lambda i: f"{i // 2:03d}_{i % 2 or ''}HC.png", r"^(\d+)[_-]"),
        (lambda i: f"P{i // 3}-{i % 3}.png", r"^([A-Za-z]+\d+)[_-]"),
        (lambda i: f"ana{chr(97 + i // 3)}_{i % 3}.png", r"^([^_]+)_"),
        (lambda i: f"image_{i:03d}.png", None),
        (lambda i: f"{i:03d}.png", None),
        (lambda i: f"ss{i % 3}_{i}.png", None),
    ],
)
def test_subjects_in_names(made: Any, pattern: str | None) -> None:
    assert suggested_pattern([made(i) for i in range(60)]) == pattern


def test_a_pattern_is_suggested_where_no_flag_names_subjects(tmp_path: Path) -> None:
    names = [f"{i // 2:03d}_{'2' * (i % 2)}HC.png" for i in range(COUNT)]
    for old, new in zip(scenes(tmp_path), names, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    found = checked(tmp_path, [*names, "absent.png"], {})
    assert r"--group-pattern '^(\d+)[_-]'" in found.text()
    assert "it would find 20" in found.text()
    found = checked(tmp_path, names, {}, group_pattern=r"^(\d+)")
    assert "subjects in names" not in kinds(found)
    assert "20 subjects with 40 rows; rows of a subject: 2 to 2, median 2" in found.text()


def test_labels_of_a_subject_that_differ(folder: Path, names: list[str]) -> None:
    target = np.repeat(np.linspace(50, 90, COUNT // 2), 2)
    target[[8, 9]] = 50, 89
    more = {"target": target, "who": [f"p{i // 2}" for i in range(COUNT)]}
    found = checked(folder, names, more, group_column="who")
    assert rows(found, "subject with different labels") == [8]


# Splits


def test_a_subject_in_two_splits_is_refused(folder: Path, names: list[str]) -> None:
    who = [f"p{i // 2}" for i in range(COUNT)]
    split = [*(["train"] * 31), *(["test"] * 9)]
    more = {"who": who, "split": split}
    found = checked(folder, names, more, group_column="who", split_column="split")
    assert "subjects in several splits" in kinds(found)
    assert "p15 (test, train)" in str(found.refused)


@pytest.mark.parametrize("ordered", [True, False])
def test_labels_of_the_splits(ordered: bool, folder: Path, names: list[str]) -> None:
    target = np.sort(labels()) if ordered else labels()
    more = {"target": target, "split": [*(["train"] * 28), *(["test"] * 12)]}
    found = checked(folder, names, more, split_column="split")
    assert ("splits with other labels" in kinds(found)) is ordered
    assert "Kolmogorov-Smirnov" in found.text()


def test_the_splits_that_would_be_drawn(folder: Path, names: list[str]) -> None:
    text = checked(folder, names, {}).text()
    assert "train 28 rows of 28 subjects; validation 6 rows" in text
    assert "test 8 rows of 8 subjects" in checked(folder, names, {}, folds=5).text()


# Advice


def test_pixel_sizes(folder: Path, names: list[str]) -> None:
    sizes = np.full(COUNT, 0.2)
    flags = {"pixel_size_column": "size", "image_size": [64, 64]}
    assert "pixels from 0.2 to 0.2" in checked(folder, names, {"size": sizes}, **flags).text()
    sizes[6] = 20
    wide = checked(folder, names, {"size": sizes}, **flags)
    assert rows(wide, "implausible pixel size") == [6]
    sizes[[3, 8]] = np.nan
    found = checked(folder, names, {"size": sizes}, **flags)
    assert rows(found, "no pixel size") == [3, 8]
    assert found.refused is not None
    crops = checked(folder, names, {"size": sizes}, view="crops", **flags)
    assert "use --view fit" in str(crops.refused)


def test_pixel_sizes_that_files_say_otherwise(tmp_path: Path) -> None:
    names = [f"{i}.dcm" for i in range(COUNT)]
    for i, name in enumerate(names):
        write_dicom(tmp_path / name, scene(i), PixelSpacing=[0.2 + 0.1 * (i == 5)] * 2)
    found = checked(tmp_path, names, {"size": [0.2] * COUNT}, pixel_size_column="size")
    assert rows(found, "pixel sizes disagree") == [5]
    assert found.refused is None
    by_files = checked(tmp_path, names, {}, length_columns=["target"])
    assert "pixels from 0.2 to 0.3" in by_files.text()


def test_what_is_advised_on_flags(folder: Path, names: list[str]) -> None:
    both = {"length (mm)": labels(), "MOS": labels() / 100}
    found = checked(folder, names, both, target_columns=["length (mm)", "MOS"], batch_size=12)
    assert {"a length?", "quality?", "small table", "few validation subjects"} <= kinds(found)
    assert "few steps" in kinds(found)
    crops = {"view": "crops", "intensity": "type", "batch_size": 4}
    found = checked(folder, names, both, target_columns=["MOS"], **crops)
    assert {"small population", "smaller than a crop"} <= kinds(found)
    assert not {"quality?", "few steps"} & kinds(found)


@pytest.mark.parametrize(
    ("side", "kind"), [(600, "much larger than --image-size"), (20, "much smaller")]
)
def test_images_of_another_size_than_the_network_sees(side: int, kind: str, tmp_path: Path) -> None:
    names = scenes(tmp_path, 12)
    for name in names:
        with Image.open(tmp_path / name) as image:
            resized = image.resize((side, side))
        resized.save(tmp_path / name)
    assert kind in str(kinds(checked(tmp_path, names, {}, image_size=[64, 64])))
