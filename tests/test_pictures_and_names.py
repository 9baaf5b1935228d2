"""From files to predictions: what a table or an image says is what a run makes of it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import PHANTOM_FLAGS, SMALL_FLAGS
from dicom_files import write_dicom
from finecorr.cli import main
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.lengths import pixel_sizes
from finecorr.data.options import TableOptions
from finecorr.data.records import read_record, write_record
from finecorr.data.table import read_table
from finecorr.errors import InputError, InputWarning
from finecorr.trained import bundle

TARGET, SIZE = "head circumference (mm)", "pixel size(mm)"
SHORT = [*SMALL_FLAGS, "--epochs", "2", "--batch-size", "16"]


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    """`table.csv` and its images, in one folder."""
    folder = tmp_path / "data"
    shutil.copytree(phantoms.parent / "images", folder)
    shutil.copy(phantoms, folder / "table.csv")
    return folder


def _frame(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "table.csv", dtype={"filename": str})


def _flags(data: Path) -> list[str]:
    return [str(data / "table.csv"), *PHANTOM_FLAGS]


def _same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / bundle.FILE) for folder in (one, other))
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def _as_dicom(path: Path, size: float | None, **said: Any) -> str:
    """The picture as a DICOM file beside it; its name."""
    pixels = np.asarray(Image.open(path).convert("L"))
    if size is not None:
        said["PixelSpacing"] = [f"{size:.12g}"] * 2
    target = write_dicom(path.with_suffix(".dcm"), pixels, **said)
    path.unlink()
    return target.name


# Names


def test_subjects_whose_names_look_like_missing_values(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = _frame(data)
    odd = {"000": "NA", "001": "None", "002": "null", "003": "007", "004": "=1+1", "005": 'a, "b"'}
    frame["who"] = frame["filename"].str[:3].replace(odd)
    frame.to_csv(data / "table.csv", index=False)
    out = tmp_path / "run"
    flags = [*_flags(data)[:-4], "--group-column", "who", *_flags(data)[-2:], *SHORT]
    assert main(["train", *flags, "--out", str(out)]) == 0
    splits = pd.read_csv(out / "splits.csv", dtype=str, keep_default_na=False)
    assert splits["group"].tolist() == frame["who"].tolist()
    assert main(["evaluate", str(out), "--out", str(tmp_path / "evaluation")]) == 0
    left = (splits["split"] != "test").sum()
    assert f"left out: {left} rows" in capsys.readouterr().out
    tested = pd.read_csv(tmp_path / "evaluation" / "predictions.csv")
    assert len(tested) == (splits["split"] == "test").sum()
    # Goes on with the same rows, and not with others.
    (out / bundle.FILE).unlink()
    assert main(["train", *flags, "--out", str(out), "--resume"]) == 0
    (out / bundle.FILE).unlink()
    frame.replace({"who": {"NA": "N"}}).to_csv(data / "table.csv", index=False)
    assert main(["train", *flags, "--out", str(out), "--resume"]) == 2
    assert "is no longer the one" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["NA", "a\rb", "a\nb", 'a "b", c', "=1+1", "\u2028", " ", "007"])
def test_what_is_recorded_is_read_back(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"group": [name, "b"], name: ["c", name], "row": [2, 3]})
    write_record(tmp_path / "a.csv", frame)
    assert read_record(tmp_path / "a.csv", ["group"], whole=["row"])["group"][0] == name
    if name.strip():
        assert read_record(tmp_path / "a.csv", [name])[name].tolist() == ["c", name]


def test_a_comparison_of_odd_names(data: Path, tmp_path: Path) -> None:
    frame = _frame(data)
    odd = {"000": "NA", "001": "None", "002": "a\nb"}
    frame["who"] = frame["filename"].str[:3].replace(odd)
    frame = frame.rename(columns={TARGET: "NA"})
    frame.to_csv(data / "table.csv", index=False)
    out = tmp_path / "comparison"
    flags = ["--image-columns", "filename", "--target-columns", "NA", "--group-column", "who"]
    flags += [*SHORT, "--epochs", "1", "--folds", "2", "--seeds", "1", "--out", str(out)]
    assert main(["compare", str(data / "table.csv"), *flags, "--losses", "robust_pearson"]) == 0
    suspects = pd.read_csv(out / "suspects.csv", dtype=str, keep_default_na=False)
    assert set(suspects["group"]) == set(frame["who"])
    assert set(suspects["target"]) == {"NA"}
    assert main(["suspects", str(out)]) == 0


def test_weights_are_relative(data: Path, tmp_path: Path) -> None:
    frame = _frame(data)
    runs = []
    for factor in (1.0, 2.0**900):
        frame["w"] = factor * 0.5 ** (np.arange(len(frame)) % 3)
        frame.to_csv(data / "table.csv", index=False)
        runs.append(tmp_path / f"{factor:g}")
        flags = [*_flags(data), *SHORT, "--weight-column", "w", "--out", str(runs[-1])]
        assert main(["train", *flags]) == 0
    _same_weights(*runs)


def test_weights_of_rows_that_are_not_trained_on_count_for_nothing(
    data: Path, tmp_path: Path
) -> None:
    frame = _frame(data)
    frame["part"] = np.where(np.arange(len(frame)) % 4 == 0, "test", "train")
    frame["who"] = frame["filename"]
    runs = []
    for weight in (1.0, 1e300):
        frame["w"] = np.where(frame["part"] == "test", weight, 1e-300)
        frame.to_csv(data / "table.csv", index=False)
        runs.append(tmp_path / f"{weight:g}")
        flags = [*_flags(data)[:-4], "--group-column", "who", "--split-column", "part"]
        flags += ["--weight-column", "w", *SHORT, "--out", str(runs[-1])]
        assert main(["train", *flags]) == 0
    _same_weights(*runs)


def test_a_changed_table_is_another(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*_flags(data), *SHORT, "--epochs", "1"]
    comparison = ["--folds", "2", "--seeds", "1", "--losses", "mse", "--out", str(tmp_path / "c")]
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 0
    assert main(["compare", *flags, *comparison]) == 0
    frame = _frame(data)
    frame[TARGET] *= 1.5
    frame.to_csv(data / "table.csv", index=False)
    capsys.readouterr()
    (tmp_path / "run" / bundle.FILE).unlink()
    assert main(["train", *flags, "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert main(["compare", *flags, *comparison]) == 2
    assert capsys.readouterr().err.count("the table is no longer the one") == 2


def test_damaged_predictions_of_a_comparison(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    flags = [*_flags(data), *SHORT, "--epochs", "1", "--folds", "2", "--seeds", "1"]
    command = ["compare", *flags, "--losses", "mse", "--out", str(out)]
    assert main(command) == 0
    path = out / "runs" / "mse" / "fold-1" / "seed-0" / "predictions.csv"
    whole = path.read_text().splitlines()
    for lines in (whole[:1], whole[:2], [whole[0], *whole[1:], *whole[1:]], whole[::-1]):
        path.write_text("\n".join(lines))
        assert main(command) == 2
        assert "predictions.csv is damaged" in capsys.readouterr().err


def test_a_run_stays_until_another_has_taken_its_place(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [*_flags(data), *SHORT, "--epochs", "1", "--loss", "mse", "--out", str(out)]
    assert main(["train", *flags]) == 0
    before = {path.relative_to(out): path.stat().st_size for path in out.rglob("*")}
    assert main(["train", *flags, "--overwrite", "--learning-rate", "1e30"]) == 2
    assert {path.relative_to(out): path.stat().st_size for path in out.rglob("*")} == before
    assert main(["train", *flags, "--overwrite", "--seed", "1"]) == 0
    assert not (out / ".replaced").exists()


def test_the_same_folder_under_another_name(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who training has seen is left out, however the path is spelled; in a copy, it is said."""
    out = tmp_path / "run"
    assert main(["train", *_flags(data), *SHORT, "--epochs", "1", "--out", str(out)]) == 0
    (tmp_path / "link").symlink_to(data)
    shutil.copytree(data, tmp_path / "copy")
    tested = (pd.read_csv(out / "splits.csv")["split"] == "test").sum()
    capsys.readouterr()
    for name, expected in (("link", tested), ("copy", len(_frame(data)))):
        evaluation = tmp_path / f"evaluation-{name}"
        flags = [str(tmp_path / name / "table.csv"), "--out", str(evaluation)]
        assert main(["evaluate", str(out), *flags]) == 0
        assert len(pd.read_csv(evaluation / "predictions.csv")) == expected
        said = capsys.readouterr().err
        assert ("have images or subjects of the same name" in said) == (name == "copy")


def test_lengths_that_are_all_the_same_number_of_pixels(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = _frame(data)
    frame[SIZE] = frame[TARGET] / 100
    frame.to_csv(data / "table.csv", index=False)
    assert main(["train", *_flags(data), *SHORT, "--out", str(tmp_path / "run")]) == 2
    assert "in pixels" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_model_learnt_as_a_length_stays_one(run: Path, data: Path, tmp_path: Path) -> None:
    flags = ["--target-columns", "x", "--out", str(tmp_path / "x.csv")]
    no_lengths = ["--length-columns", "x", "--target-columns", "x"]
    plain = tmp_path / "plain"
    assert main(["train", *_flags(data)[:-2], *SHORT, "--epochs", "1", "--out", str(plain)]) == 0
    table = str(data / "table.csv")
    for more in (["--pixel-size-column", SIZE], no_lengths, ["--pixel-size", "1"]):
        assert main(["predict", str(plain), table, *flags, *more]) == 2
    assert main(["predict", str(plain), table, *flags]) == 0


# Pictures


def test_a_folder_with_all_that_people_have(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    source = next(data.glob("*.png"))
    with Image.open(source) as image:
        for suffix in ("png", "webp", "gif", "jfif", "jp2", "pgm", "tif", "bmp"):
            options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
            image.convert("L").save(folder / f"a.{suffix}", **options)
    for name in ("IM0001", "b.IMA"):
        shutil.copy(source, folder / "x.png")
        _as_dicom(folder / "x.png", 0.5)
        (folder / "x.dcm").rename(folder / name)
    (folder / "._a.png").write_bytes(b"resource fork")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "b.png").write_bytes(b"no image")
    (folder / "scan.png").mkdir()
    shutil.copy(source, folder / "scan.png" / "c.png")
    (folder / "notes.txt").write_text("taken in spring")
    shutil.copytree(folder / "scan.png", tmp_path / "elsewhere")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(folder), "--pixel-size", "0.5", "--out", str(out)]) == 0
    predicted = pd.read_csv(out).set_index("image")[TARGET]
    assert set(predicted.index) == {
        *(f"a.{suffix}" for suffix in ("png", "webp", "gif", "jfif", "jp2", "pgm", "tif", "bmp")),
        *("IM0001", "b.IMA", "scan.png/c.png", "sub/c.png"),
    }
    np.testing.assert_allclose(predicted.drop("a.jfif"), predicted["a.png"], rtol=1e-4)
    assert "note: " in (said := capsys.readouterr().err)
    assert "left out, as they are no images: gone.png, notes.txt" in said


def test_a_turned_photograph_is_predicted_as_the_upright_one(
    run: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "turned"
    folder.mkdir()
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(next(data.glob("*.png"))) as image:
        image.save(folder / "upright.png")
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(folder), "--pixel-size", "0.5", "--out", str(out)]) == 0
    upright, turned = pd.read_csv(out)[TARGET]
    assert upright == pytest.approx(turned, rel=1e-6)


def test_several_images_a_row_are_predicted_by_their_mean(
    run: Path, data: Path, tmp_path: Path
) -> None:
    names = _frame(data)["filename"].tolist()
    pages = [Image.open(data / name) for name in names[:3]]
    pages[0].save(data / "stack.tif", save_all=True, append_images=pages[1:])
    table = pd.DataFrame(
        {"left": [*names[:3], "stack.tif"], "right": [*names[3:6], names[6]], SIZE: 0.5}
    )
    table.to_csv(data / "pairs.csv", index=False)
    single = pd.DataFrame({"left": names[:7], SIZE: 0.5})
    single.to_csv(data / "single.csv", index=False)
    flags = {"pairs": ["left", "right", "--all-frames"], "single": ["left"]}
    for name, columns in flags.items():
        out = ["--out", str(tmp_path / f"{name}.csv"), "--image-columns", *columns]
        assert main(["predict", str(run), str(data / f"{name}.csv"), *out]) == 0
    each = pd.read_csv(tmp_path / "single.csv")[TARGET].to_numpy()
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    expected = [*((each[:3] + each[3:6]) / 2), each[[0, 1, 2, 6]].mean()]
    np.testing.assert_allclose(pairs[TARGET], expected, rtol=1e-5)
    assert pairs["image"].tolist()[0] == f"{names[0]} | {names[3]}"


def test_training_on_several_images_a_row(data: Path, tmp_path: Path) -> None:
    frame = _frame(data)
    frame["again"] = frame["filename"]
    frame.to_csv(data / "table.csv", index=False)
    out = tmp_path / "run"
    flags = [*_flags(data), "--image-columns", "filename", "again", *SHORT, "--out", str(out)]
    assert main(["train", *flags]) == 0
    splits = pd.read_csv(out / "splits.csv")
    tested = pd.read_csv(out / "predictions.csv")
    assert tested["row"].tolist() == splits.loc[splits["split"] == "test", "row"].tolist()
    counts = pd.read_csv(out / "outliers.csv")
    assert counts["row"].is_unique
    assert (counts["set_aside"] <= counts["epochs"]).all()
    assert counts["epochs"].max() == 4  # two images in each of two epochs
    assert main(["evaluate", str(out), "--out", str(tmp_path / "evaluation")]) == 0
    assert len(pd.read_csv(tmp_path / "evaluation" / "predictions.csv")) == len(tested)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_image_that_vanishes_in_training(
    data: Path,
    tmp_path: Path,
    workers: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from finecorr.models.module import RegressionModule

    begin = RegressionModule.on_fit_start

    def vanish(self: RegressionModule) -> None:
        for path in data.glob("*.png"):
            path.unlink()
        begin(self)

    monkeypatch.setattr(RegressionModule, "on_fit_start", vanish)
    flags = [
        *SHORT,
        "--cache-mb",
        "0",
        "--loading-workers",
        workers,
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["train", *_flags(data), *flags]) == 2
    said = capsys.readouterr().err
    assert "has changed since the start: it cannot be read as an image" in said
    assert "Traceback" not in said.partition("error:")[2]
    assert len(said.partition("error:")[2].splitlines()) == 1


# Subjects


def test_one_prediction_for_each_subject(run: Path, data: Path, tmp_path: Path) -> None:
    frame = _frame(data)
    frame["who"] = np.where(np.arange(len(frame)) % 3 == 0, "NA", frame["filename"].str[:2])
    frame.to_csv(data / "table.csv", index=False)
    table = str(data / "table.csv")
    assert main(["predict", str(run), table, "--out", str(tmp_path / "rows.csv")]) == 0
    flags = ["--group-column", "who", "--predict-per", "subject"]
    assert main(["predict", str(run), table, *flags, "--out", str(tmp_path / "who.csv")]) == 0
    rows = pd.read_csv(tmp_path / "rows.csv")[TARGET].groupby(frame["who"])
    subjects = pd.read_csv(tmp_path / "who.csv", keep_default_na=False).set_index("group")
    assert subjects.index.tolist() == frame["who"].unique().tolist()
    np.testing.assert_allclose(subjects[TARGET], rows.mean()[subjects.index], rtol=1e-12)
    np.testing.assert_array_equal(subjects["rows"], rows.size()[subjects.index])

    out = tmp_path / "evaluation"
    flags += ["--all-rows", "--out", str(out)]
    assert main(["evaluate", str(run), table, *flags]) == 0
    evaluated = pd.read_csv(out / "predictions.csv", keep_default_na=False).set_index("group")
    labels = frame.groupby("who")[TARGET].mean()[evaluated.index]
    np.testing.assert_allclose(evaluated[TARGET], labels, rtol=1e-12)
    np.testing.assert_allclose(
        evaluated[f"predicted {TARGET}"], subjects[TARGET][evaluated.index], rtol=1e-4
    )


# Sizes of pixels


def test_lengths_by_what_the_files_say(data: Path, tmp_path: Path) -> None:
    """The same model as with a column that says the same."""
    frame = _frame(data)
    frame["filename"] = [
        _as_dicom(data / name, size)
        for name, size in zip(frame["filename"], frame[SIZE], strict=True)
    ]
    frame[SIZE] = [f"{size:.12g}" for size in frame[SIZE]]
    frame.to_csv(data / "table.csv", index=False)
    by_table, by_file = tmp_path / "table", tmp_path / "file"
    assert main(["train", *_flags(data), *SHORT, "--out", str(by_table)]) == 0
    flags = [*_flags(data)[:-2], "--length-columns", TARGET, *SHORT, "--out", str(by_file)]
    assert main(["train", *flags]) == 0
    _same_weights(by_table, by_file)
    # A folder says it, too, but only in mm.
    predicted = {}
    for model, more in ((by_file, []), (by_table, ["--pixel-size", "file"])):
        out = tmp_path / f"{model.name}.csv"
        folder = tmp_path / "folder"
        if not folder.exists():
            shutil.copytree(data, folder)
            (folder / "table.csv").unlink()
        assert main(["predict", str(model), str(folder), *more, "--out", str(out)]) == 0
        predicted[model.name] = pd.read_csv(out)[TARGET]
    pd.testing.assert_series_equal(predicted["file"], predicted["table"], rtol=1e-6)
    flags = [str(by_table), str(folder), "--out", str(tmp_path / "x.csv")]
    assert main(["predict", *flags]) == 2


def _sizes(
    data: Path, in_table: list[float | None], in_file: list[float | None]
) -> tuple[np.ndarray, list[str]]:
    """What is taken, and what is remarked."""
    names = [
        _as_dicom(data / name, size)
        for name, size in zip(_frame(data)["filename"], in_file, strict=False)
    ]
    frame = pd.DataFrame({"image": names, "target": np.arange(len(names)), "mm": in_table})
    frame.to_csv(data / "table.csv", index=False)
    options = TableOptions(data / "table.csv", pixel_size_column="mm")
    table = read_table(options)
    images = Images(table, ImageOptions(image_size=(68, 96)))
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        sizes = pixel_sizes(table, images)
    return sizes, [str(w.message) for w in remarks if w.category is InputWarning]


def test_the_file_says_it_where_the_column_does_not(data: Path) -> None:
    sizes, remarks = _sizes(data, [0.5, 0.25, None], [0.5, None, 0.125])
    np.testing.assert_allclose(sizes, [0.5, 0.25, 0.125])
    assert not remarks


def test_the_column_counts_where_the_file_says_another(data: Path) -> None:
    sizes, remarks = _sizes(data, [0.5, 0.3, 0.4], [0.5, 0.2, None])
    np.testing.assert_allclose(sizes, [0.5, 0.3, 0.4])
    (remark,) = remarks
    assert "is not the file's in 1 of 2 images" in remark
    assert "row 3 (0.3, and 0.2 mm by its file)" in remark


@pytest.mark.parametrize("in_file", [[5.0, None, 1.25], [None, None, 1.25]])
def test_a_column_that_may_not_be_in_millimetres_is_not_filled(
    data: Path, in_file: list[float | None]
) -> None:
    with pytest.raises(InputError, match=r"row 4 \(empty, and 1.25 mm by its file\)"):
        _sizes(data, [0.5, 0.25, None], in_file)


def test_nothing_says_it(data: Path) -> None:
    with pytest.raises(InputError, match=r"row 4: .* has no pixel size"):
        _sizes(data, [0.5, 0.25, None], [None] * 3)
