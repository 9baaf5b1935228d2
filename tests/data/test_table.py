from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from finecorr.data.folder import read_folder
from finecorr.data.names import real_paths
from finecorr.data.opinions import weights_of
from finecorr.data.options import TableOptions
from finecorr.data.presets import expand_presets
from finecorr.data.table import read_table
from finecorr.errors import InputError, InputWarning


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject in range(4):
        Image.new("L", (8, 6), subject).save(tmp_path / f"{subject:03d}_a.png")
    return tmp_path


def _options(folder: Path, rows: dict[str, list[object]], **options: object) -> TableOptions:
    images = [f"{subject:03d}_a.png" for subject in range(4)]
    table = folder / "table.csv"
    pd.DataFrame({"image": images, "target": [1.0, 2.0, 3.0, 4.0], **rows}).to_csv(
        table, index=False
    )
    return TableOptions(table, **options)  # type: ignore[arg-type]


def test_reads_targets_groups_weights_and_pixel_sizes(folder: Path) -> None:
    options = _options(
        folder,
        {"target": [1.5, None, 3, 4], "w": [0, 1, 2, 0.5], "mm": [0.1] * 4, "s": ["007"] * 4},
        weight_column="w",
        pixel_size_column="mm",
        group_column="s",
    )
    table = read_table(options)
    np.testing.assert_array_equal(table.targets[:, 0], [1.5, np.nan, 3, 4])
    np.testing.assert_array_equal(table.labelled, [True, False, True, True])
    assert list(table.groups) == ["007"] * 4
    np.testing.assert_array_equal(table.weights, [0, 1, 2, 0.5])
    np.testing.assert_array_equal(table.pixel_sizes, [0.1] * 4)
    assert options.lengths == (True,)


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_reads_excel_and_parquet(folder: Path, suffix: str) -> None:
    options = _options(folder, {})
    frame = pd.read_csv(options.table)
    path = options.table.with_suffix(suffix)
    frame.to_excel(path, index=False) if suffix == ".xlsx" else frame.to_parquet(path)
    np.testing.assert_array_equal(read_table(TableOptions(path)).targets[:, 0], [1, 2, 3, 4])


def test_group_pattern_takes_its_first_group_or_the_match(folder: Path) -> None:
    assert list(read_table(_options(folder, {}, group_pattern=r"^0*(\d+)_")).groups) == [
        *("0", "1", "2", "3")
    ]
    assert read_table(_options(folder, {}, group_pattern=r"^\d+")).groups[3] == "003"


def test_groups_to_correlate_within(folder: Path) -> None:
    rows: dict[str, list[object]] = {"part": [" a", "a", "NA", "1"]}
    table = read_table(_options(folder, rows, within="part"))
    assert table.within is not None
    assert (list(table.within), table.within_column) == (["a", "a", "NA", "1"], "part")
    kept = table.take(np.array([2])).within
    assert kept is not None
    assert list(kept) == ["NA"]
    pattern: dict[str, object] = {"group_pattern": r"^00(\d)", "within": "subject"}
    subjects = read_table(_options(folder, {}, **pattern)).within
    assert subjects is not None
    assert list(subjects) == ["0", "1", "2", "3"]
    own = read_table(_options(folder, {"subject": ["x", "x", "y", "y"]}, **pattern)).within
    assert own is not None
    assert list(own) == ["x", "x", "y", "y"]


SCORES: dict[str, list[object]] = {
    "a": [1, 2, 3, None],
    "b": [3, 4, 7, None],
    "c": [5, None, "n/a", None],
}


def test_scores_of_several_observers(folder: Path) -> None:
    named: dict[str, object] = {"score_columns": ("a", "b", "c"), "target_columns": ("opinion",)}
    table = read_table(_options(folder, SCORES, **named))
    np.testing.assert_array_equal(table.targets[:, 0], [3, 3, 5, np.nan])
    assert table.standard_errors is not None
    assert table.weights is not None
    np.testing.assert_array_equal(np.isfinite(table.standard_errors), [True, True, True, False])
    np.testing.assert_array_equal(table.weights > 0, table.labelled)
    np.testing.assert_array_equal(table.weights, weights_of(table.standard_errors))
    part = table.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.standard_errors, table.standard_errors[[2, 0]])
    given: dict[str, object] = {**named, "weight_column": "w"}
    with pytest.warns(InputWarning, match="weighed by --weight-column"):
        weighted = read_table(_options(folder, {**SCORES, "w": [1, 2, 3, 4]}, **given))
    np.testing.assert_array_equal(weighted.weights, [1, 2, 3, 4])
    np.testing.assert_array_equal(weighted.standard_errors, table.standard_errors)


@pytest.mark.parametrize("observers", ["25", "n"])
def test_deviations_of_opinions(folder: Path, observers: str) -> None:
    rows: dict[str, list[object]] = {
        "target": [1.5, None, 3, 4],
        "sd": [2, 9, 0, None],
        "n": [25, None, 25, 25],
    }
    table = read_table(_options(folder, rows, sd_column="sd", observers=observers))
    assert table.standard_errors is not None
    pooled = 48 * 2 / 48  # of the deviations 2 and 0 of 25 opinions each
    expected = [(24 * 4 + 4 * pooled) / 28 / 25, np.nan, 4 * pooled / 28 / 25, pooled / 25]
    np.testing.assert_allclose(table.standard_errors**2, expected)
    np.testing.assert_array_equal(table.targets[:, 0], [1.5, np.nan, 3, 4])


def test_without_a_subject_each_image_is_its_own(folder: Path) -> None:
    assert len(set(read_table(_options(folder, {})).groups)) == 4


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({}, {"target_columns": ("targte",)}, "no column 'targte' for --target-columns.*'target'"),
        ({}, {"group_pattern": r"^(x+)_"}, "(?s)4 faults.*row 2: 000_a.png does not match"),
        ({}, {"group_pattern": "("}, "--group-pattern"),
        ({"target": [1, "two", 3, "x"]}, {}, "(?s)row 3: .*'two', not a number.*row 5.*'x'"),
        ({"target": [1, "inf", 3, 4]}, {}, "row 3"),
        ({"target": [None] * 4}, {}, "'target' has no value at all"),
        ({"target": [7, 7, None, 7]}, {}, "'target' is 7 in every row"),
        (
            {"w": [1, -1, 1, 1]},
            {"weight_column": "w"},
            "row 3: column 'w' is '-1', not a number of",
        ),
        (
            {"mm": [1, 0, None, -1]},
            {"pixel_size_column": "mm"},
            "(?s)2 faults.*row 3.*above 0.*row 5",
        ),
        ({"p": ["train", "tset", None, "VAL"]}, {"split_column": "p"}, "(?s)row 3.*'tset'.*row 4"),
        ({"image": ["no.png", "000_a.png", None, "gone.png"]}, {}, "(?s)row 2.*row 4|row 4.*row 2"),
        ({}, {"length_columns": ("width",)}, "--length-columns: 'width' is none of"),
        ({}, {"target_columns": ("target", "target")}, "twice"),
        ({"k": ["a", " ", None, "b"]}, {"within": "k"}, "(?s)2 faults.*row 3: .*a group of 1 to"),
        ({}, {"within": "subject"}, "no column 'subject' for --within"),
        (
            SCORES,
            {"score_columns": ("a", "b")},
            "--target-columns calls the mean of --score-columns 'target'",
        ),
        (SCORES, {"score_columns": ("a", "d"), "target_columns": ("m",)}, "'d' for --score-col"),
        (SCORES, {"score_columns": ("a",), "target_columns": ("m",)}, "at least two observers"),
        (SCORES, {"score_columns": ("a", "a"), "target_columns": ("m",)}, "at least two observers"),
        (
            {**SCORES, "b": ["x", 1, "-", 2]},
            {"score_columns": ("a", "b"), "target_columns": ("m",)},
            "(?s)2 faults.*row 2: column 'b' is 'x', not a number.*row 4",
        ),
        (
            {"a": [1, None, 2, None], "b": [None, 5, None, 6]},
            {"score_columns": ("a", "b"), "target_columns": ("m",)},
            "no row has the scores of two observers",
        ),
        ({"sd": [1] * 4}, {"sd_column": "sd"}, "give --sd-column and --observers together"),
        ({}, {"observers": "25"}, "give --sd-column and --observers together"),
        ({"sd": [1] * 4}, {"sd_column": "sd", "observers": "1"}, "--observers must be at least 2"),
        ({"sd": [1] * 4}, {"sd_column": "sd", "observers": "who"}, "no column 'who' for --obs"),
        (
            {"sd": [1] * 4, "25": [1] * 4},
            {"sd_column": "sd", "observers": "25"},
            "--observers 25 is a number, and also the name of a column",
        ),
        (
            {"sd": [1, -1, 1, 1], "n": [3, 3, 0, None]},
            {"sd_column": "sd", "observers": "n"},
            "(?s)3 faults.*row 4: column 'n' is '0.0', not the number.*row 5.*empty.*row 3: .*'-1'",
        ),
        (
            {"t": [1] * 4, "sd": [1] * 4},
            {"sd_column": "sd", "observers": "9", "target_columns": ("target", "t")},
            "--sd-column is for one target",
        ),
        (
            {"sd": [1] * 4},
            {"sd_column": "sd", "observers": "9", "score_columns": ("a", "b")},
            "not both",
        ),
    ],
)
def test_faults_are_named(
    folder: Path, rows: dict[str, list[object]], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_table(_options(folder, rows, **options))


def test_all_faults_are_collected(folder: Path) -> None:
    rows: dict[str, list[object]] = {
        "image": ["no.png", "000_a.png", "001_a.png", "002_a.png"],
        "target": [1, "two", 3, 4],
    }
    with pytest.raises(InputError, match=r"2 faults") as error:
        read_table(_options(folder, rows))
    assert "row 2: no image" in str(error.value)
    assert "row 3: column 'target'" in str(error.value)


def test_a_missing_table_names_its_neighbours(folder: Path) -> None:
    _options(folder, {})
    with pytest.raises(InputError, match=r"no table .*tabel.csv; in that folder .*table.csv"):
        read_table(TableOptions(folder / "tabel.csv"))


@pytest.mark.parametrize("content", ["", "image,target\n", 'image,target\n"a,1\n'])
def test_a_broken_table_is_no_traceback(tmp_path: Path, content: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=r"table.csv"):
        read_table(TableOptions(tmp_path / "table.csv"))


def test_prediction_needs_no_targets(folder: Path) -> None:
    options = _options(folder, {}, target_columns=("age",))
    assert np.isnan(read_table(options, need_targets=False).targets).all()


def test_a_folder_is_its_images(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    with pytest.warns(InputWarning, match=r"left out, as they are no images: notes.txt"):
        table = read_folder(folder, TableOptions(folder))
    assert table.names == [f"00{subject}_a.png" for subject in range(4)]
    with pytest.raises(InputError, match="nowhere cannot be read"):
        read_folder(folder / "nowhere", TableOptions(folder))


def test_preset_stands_for_its_flags() -> None:
    expanded = expand_presets(["train", "--preset", "hc18", "DIR", "--loss", "mse"])
    assert expanded[:2] == ["train", str(Path("DIR/training_set_pixel_size_and_HC.csv"))]
    assert expanded[-2:] == ["--loss", "mse"]
    assert expand_presets(["train", "table.csv"]) == ["train", "table.csv"]
    with pytest.raises(InputError, match="known names are hc18"):
        expand_presets(["train", "--preset", "hc19", "DIR"])


def test_files_are_found_through_links_and_dots(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.png").touch()
    (tmp_path / "folder").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "a" / "b" / "1.png")
    (tmp_path / "a" / "3.png").symlink_to(tmp_path / "a" / "2.png")
    names = ["a/b/1.png", "folder/b/1.png", "a/2.png", "folder/3.png", "folder/../a/b/1.png"]
    files = real_paths(tmp_path / name for name in [*names, "a/none.png", "folder/none.png"])
    expected = {path: os.path.realpath(path) for path in files}
    assert files == expected
    assert len(set(files.values())) == 2
