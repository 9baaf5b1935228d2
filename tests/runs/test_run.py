"""The main job on a few phantoms: small real trainings, no mocks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from conftest import PHANTOM_FLAGS, SMALL_FLAGS
from finecorr.cli import main
from finecorr.functional import label_weights
from finecorr.models.module import RegressionModule
from finecorr.models.training import epochs_done
from finecorr.trained import bundle

TARGET = "head circumference (mm)"


def test_a_run_holds_what_is_needed_and_no_pickle(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "splits.csv", "logs", "model.safetensors", "README.md", "outliers.csv"),
        *("metrics.csv", "predictions.csv", "scatter.png", "bland_altman.png"),
    }
    curves = pd.read_csv(run / "logs" / "version_0" / "metrics.csv")
    assert curves["validation_SRCC"].notna().sum() == 4
    assert list(run.glob("logs/version_0/events.out.tfevents.*"))


def test_splits_are_saved_and_by_subject(run: Path, phantoms: Path) -> None:
    splits = pd.read_csv(run / "splits.csv", dtype={"group": str})
    assert list(splits["image"]) == list(pd.read_csv(phantoms)["filename"])
    assert (splits.groupby("group")["split"].nunique() == 1).all()
    tested = pd.read_csv(run / "predictions.csv")
    assert set(tested["image"]) == set(splits.loc[splits["split"] == "test", "image"])


def test_it_learns_and_reports_millimetres(run: Path) -> None:
    metrics = pd.read_csv(run / "metrics.csv").set_index("metric")["value"]
    assert metrics["SRCC"] > 0.6
    predictions = pd.read_csv(run / "predictions.csv")
    truth = predictions[TARGET]
    assert 0.5 < predictions[f"predicted {TARGET}"].mean() / truth.mean() < 2


def test_config_reproduces_the_run(run: Path, tmp_path: Path) -> None:
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "b")]) == 0
    first, again = (load_file(folder / bundle.FILE) for folder in (run, tmp_path / "b"))
    for name, weight in first.items():
        assert torch.equal(weight, again[name]), name
    assert (tmp_path / "b" / "config.yaml").read_text() == (run / "config.yaml").read_text()


def test_an_interrupted_run_goes_on_to_the_same_end(
    phantom_flags: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    flags = ["train", *phantom_flags, *SMALL_FLAGS, "--epochs", "4", "--batch-size", "16"]
    flags += ["--out", str(out)]
    step = RegressionModule.training_step

    def interrupted(self: RegressionModule, *arguments: object) -> object:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RegressionModule, "training_step", interrupted)
    assert main(flags) == 130
    monkeypatch.undo()
    assert not (out / bundle.FILE).exists()
    assert main(flags) == 2
    assert main([*flags, "--resume", "--learning-rate", "0.1"]) == 2
    assert main([*flags, "--resume"]) == 0
    whole, resumed = (load_file(folder / bundle.FILE) for folder in (run, out))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name
    assert (out / "outliers.csv").read_text() == (run / "outliers.csv").read_text()
    # Nothing that was behind it is done again.
    assert pd.read_csv(out / "logs" / "version_1" / "metrics.csv")["epoch"].min() == 2
    assert main([*flags, "--resume"]) == 2


def test_overwriting_replaces_the_run_and_nothing_else(
    phantom_flags: list[str], tmp_path: Path
) -> None:
    flags = ["train", *phantom_flags, *SMALL_FLAGS, "--epochs", "1", "--out", str(tmp_path)]
    assert main(flags) == 0
    (tmp_path / "notes.txt").write_text("what I saw")
    first = (tmp_path / bundle.FILE).read_bytes()
    assert main([*flags, "--overwrite", "--seed", "1"]) == 0
    assert (tmp_path / bundle.FILE).read_bytes() != first
    assert (tmp_path / "notes.txt").exists()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["version_0"]


def test_corrupted_labels_are_of_training_rows_only(
    phantom_flags: list[str], tmp_path: Path
) -> None:
    flags = [*SMALL_FLAGS, "--epochs", "1", "--corrupt-labels", "0.25", "--out", str(tmp_path)]
    assert main(["train", *phantom_flags, *flags]) == 0
    splits = pd.read_csv(tmp_path / "splits.csv")
    replaced = splits.groupby("split")["label_replaced"].sum()
    assert replaced["train"] == round(0.25 * (splits["split"] == "train").sum())
    assert replaced["validation"] == replaced["test"] == 0


def test_labels_that_the_loss_sets_aside_are_counted(
    phantom_flags: list[str], tmp_path: Path
) -> None:
    """As the loss is not asked to learn wrong labels, it keeps finding most of them."""
    flags = [*phantom_flags, *SMALL_FLAGS, "--epochs", "12", "--batch-size", "16"]
    flags += ["--learning-rate", "2e-3", "--corrupt-labels", "0.1"]
    out = tmp_path / "robust"
    # In so short a training, what is remembered is from when little was learnt.
    loss = ["--loss", "robust_pearson", "--memory", "0"]
    assert main(["train", *flags, *loss, "--out", str(out)]) == 0
    splits = pd.read_csv(out / "splits.csv").set_index("row")
    found = pd.read_csv(out / "outliers.csv").set_index("row")
    assert set(found.index) == set(splits.index[splits["split"] == "train"])
    assert found["set_aside"].is_monotonic_decreasing
    assert (found["set_aside"] <= found["epochs"]).all()
    assert found["epochs"].between(6, 12).all()  # A remainder of the rows is not in a batch.
    replaced = splits["label_replaced"][found.index] == 1
    assert replaced[found["set_aside"] > found["epochs"] / 2].mean() > 0.7
    truth = pd.read_csv(phantom_flags[0])[TARGET].to_numpy()[found.index - 2]
    assert (np.isclose(found["label"], truth) != replaced).all()

    flags += ["--epochs", "1", "--loss", "mse", "--out", str(tmp_path / "mse")]
    assert main(["train", *flags]) == 0
    assert not (tmp_path / "mse" / "outliers.csv").exists()


def test_it_stops_when_patience_is_at_an_end(phantom_flags: list[str], tmp_path: Path) -> None:
    flags = [*phantom_flags, *SMALL_FLAGS, "--epochs", "12", "--learning-rate", "1e-9"]
    flags += ["--batch-size", "16", "--patience", "1", "--out", str(tmp_path)]
    assert main(["train", *flags]) == 0
    curves = pd.read_csv(tmp_path / "logs" / "version_0" / "metrics.csv")
    assert curves["validation_SRCC"].notna().sum() < 12


def test_without_validation_rows(
    phantom_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights are averaged, and an interrupted training goes on, as with validation rows; a loss
    that fixes no scale is calibrated in the end."""
    flags = ["train", *phantom_flags, *SMALL_FLAGS, "--epochs", "4", "--batch-size", "16"]
    flags += ["--split-fractions", "0.8", "0", "0.2", "--loss", "similarity_rank"]
    flags += ["--average", "0.5"]
    assert main([*flags, "--patience", "1", "--out", str(tmp_path / "patient")]) == 2
    assert "--patience needs validation rows" in capsys.readouterr().err
    assert not (tmp_path / "patient").exists()
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    printed = capsys.readouterr().err
    assert epochs_done(printed) == 4
    # Where there is no terminal, a line an epoch, and nothing that is written over.
    assert "\r" not in printed
    assert len(re.findall(r"^similarity_rank, epoch \d/4", printed, re.MULTILINE)) == 4
    curves = pd.read_csv(tmp_path / "whole" / "logs" / "version_0" / "metrics.csv")
    assert curves["loss"].notna().sum() == 4
    assert not curves.columns.str.startswith("validation").any()
    metrics = pd.read_csv(tmp_path / "whole" / "metrics.csv").set_index("metric")["value"]
    assert metrics["SRCC"] > 0.4
    step = RegressionModule.training_step

    def interrupted(self: RegressionModule, *arguments: object) -> object:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RegressionModule, "training_step", interrupted)
    assert main([*flags, "--out", str(tmp_path / "parts")]) == 130
    monkeypatch.undo()
    assert main([*flags, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    whole, resumed = (load_file(tmp_path / name / bundle.FILE) for name in ("whole", "parts"))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name
    assert main(["evaluate", str(tmp_path / "whole"), "--out", str(tmp_path / "page")]) == 0
    assert '"validation":[null,null,null,null]' in (tmp_path / "page" / "report.html").read_text()


@pytest.mark.parametrize("fractions", [("0.7", "0.15", "0.15"), ("0.8", "0", "0.2")])
def test_a_diverged_training_is_explained(
    fractions: tuple[str, ...],
    phantom_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [*SMALL_FLAGS, "--epochs", "2", "--loss", "mse", "--learning-rate", "1e30"]
    flags += ["--split-fractions", *fractions, "--out", str(tmp_path)]
    assert main(["train", *phantom_flags, *flags]) == 2
    assert "diverged: try a lower" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["pearson", "similarity_rank", "huber"])
def test_predictions_of_any_loss_are_in_the_unit(
    phantom_flags: list[str], tmp_path: Path, loss: str
) -> None:
    """Those that fix no scale, or not even a direction, are calibrated."""
    flags = [*SMALL_FLAGS, "--epochs", "4", "--batch-size", "16", "--loss", loss]
    assert main(["train", *phantom_flags, *flags, "--out", str(tmp_path)]) == 0
    metrics = pd.read_csv(tmp_path / "metrics.csv").set_index("metric")["value"]
    assert metrics["SRCC"] > 0.5
    truth = pd.read_csv(tmp_path / "predictions.csv")[TARGET]
    # Four epochs make no good model, but not one in another unit.
    assert metrics["MAE"] < 1.5 * (truth - truth.mean()).abs().mean()


def test_predictions_are_on_the_line_of_the_training_labels_that_are_believed(
    phantoms: Path, phantom_flags: list[str], tmp_path: Path
) -> None:
    frame = pd.read_csv(phantoms)
    frame.loc[::10, TARGET] *= 3
    frame.to_csv(tmp_path / "table.csv", index=False)
    run, flags = tmp_path / "run", [*SMALL_FLAGS, "--epochs", "8", "--batch-size", "16"]
    table = [str(tmp_path / "table.csv"), *phantom_flags[1:]]
    assert main(["train", *table, *flags, "--out", str(run)]) == 0
    assert main(["predict", str(run), "--out", str(tmp_path / "all.csv")]) == 0
    trained = pd.read_csv(run / "splits.csv")["split"] == "train"
    label, predicted = (  # In pixels, as it learns them.
        (lengths[TARGET] / frame["pixel size(mm)"])[trained].to_numpy()
        for lengths in (frame, pd.read_csv(tmp_path / "all.csv"))
    )
    believed = label_weights(torch.tensor(predicted), torch.tensor(label)).numpy()
    assert believed[frame.index[trained] % 10 == 0].max() < 0.1
    slope, intercept = np.polyfit(predicted, label, 1, w=believed**0.5)
    assert slope == pytest.approx(1, abs=1e-3)
    assert intercept == pytest.approx(0, abs=1e-3 * label.mean())


def test_several_targets_holes_weights_and_splits(phantoms: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(phantoms)
    rng = np.random.default_rng(0)
    frame["score"] = rng.normal(size=len(frame))
    frame.loc[::5, "score"] = np.nan
    frame.loc[::7, TARGET] = np.nan
    frame["w"] = rng.random(len(frame))
    subject = frame["filename"].str[:3].astype(int)
    frame["part"] = np.where(subject % 4 == 0, "test", "train")
    table = tmp_path / "table.csv"
    frame.to_csv(table, index=False)
    flags = ["--image-root", str(phantoms.parent / "images"), "--image-columns", "filename"]
    flags += ["--target-columns", TARGET, "score", "--group-pattern", r"^(\d+)_"]
    flags += ["--pixel-size-column", "pixel size(mm)", "--length-columns", TARGET]
    flags += ["--weight-column", "w", "--split-column", "part", "--rgb", "--epochs", "2"]
    out = tmp_path / "run"
    assert main(["train", str(table), *flags, *SMALL_FLAGS, "--out", str(out)]) == 0
    metrics = pd.read_csv(out / "metrics.csv")
    assert list(metrics["target"].unique()) == [TARGET, "score"]
    predictions = pd.read_csv(out / "predictions.csv")
    assert predictions.drop(columns=[TARGET, "score"]).notna().all(axis=None)
    assert set(predictions["image"]) <= set(frame.loc[frame["part"] == "test", "filename"])


def test_evaluate_leaves_out_what_training_has_seen(
    run: Path, phantom_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--out", str(tmp_path / "a")]) == 0
    assert "left out:" in capsys.readouterr().out
    # The levels of an interval are counts of resamples, and jump where predictions hardly move.
    for name, accuracy in (("metrics.csv", 1e-2), ("predictions.csv", 1e-4)):
        pd.testing.assert_frame_equal(
            pd.read_csv(run / name), pd.read_csv(tmp_path / "a" / name), rtol=accuracy
        )
    page = (tmp_path / "a" / "report.html").read_text()
    assert "fine_grained has SRCC" in page
    assert "Learning curves" in page
    assert '"unit":"mm"' in page
    assert main(["evaluate", str(run), "--out", str(tmp_path / "a")]) == 2
    flags = [*phantom_flags, "--all-rows", "--out", str(tmp_path / "b")]
    assert main(["evaluate", str(run), *flags]) == 0
    splits = pd.read_csv(run / "splits.csv")
    assert len(pd.read_csv(tmp_path / "b" / "predictions.csv")) == len(splits)
    # The same images elsewhere are of other subjects, for all that is known.
    moved = tmp_path / "moved"
    shutil.copytree(phantom_flags[2], moved)
    flags = ["--image-root", str(moved), "--out", str(tmp_path / "c")]
    assert main(["evaluate", str(run), *flags]) == 0
    assert len(pd.read_csv(tmp_path / "c" / "predictions.csv")) == len(splits)


def test_evaluate_with_further_measures(
    run: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(phantoms)
    table["hospital"] = np.arange(len(table)) % 7
    table["scanner"] = np.where(np.arange(len(table)) % 3, "old", "NA")
    table.to_csv(tmp_path / "table.csv", index=False)
    flags = ["--image-root", str(phantoms.parent / "images"), "--group-column", "hospital"]
    flags += ["--mapped", "--within", "scanner", "--all-rows", "--out", str(tmp_path)]
    assert main(["evaluate", str(run), str(tmp_path / "table.csv"), *flags]) == 0
    metrics = pd.read_csv(tmp_path / "metrics.csv").set_index("metric")["value"]
    assert metrics["PLCC mapped"] >= metrics["PLCC"]
    within = pd.read_csv(tmp_path / "within_groups.csv", keep_default_na=False)
    assert list(within["target"].unique()) == [TARGET]
    assert list(within["group"]) == ["NA", "old"]
    assert within["samples"].sum() == len(pd.read_csv(tmp_path / "predictions.csv"))
    assert metrics["SRCC within"] == pytest.approx(within["SRCC"].mean())
    page = (tmp_path / "report.html").read_text()
    assert "PLCC mapped" in page
    assert "Highest and lowest scores" in page
    assert "Spearman correlation within each group of &#39;scanner&#39;" in page
    assert "Spearman correlation within each group of 'scanner'" in capsys.readouterr().out
    again = [*flags, "--overwrite", "--predict-per", "subject"]
    assert main(["evaluate", str(run), str(tmp_path / "table.csv"), *again]) == 2
    assert "in several groups of --within scanner (NA and old)" in capsys.readouterr().err
    flags = [*flags[:4], "--all-rows", "--out", str(tmp_path), "--overwrite"]
    assert main(["evaluate", str(run), str(tmp_path / "table.csv"), *flags]) == 0
    assert not (tmp_path / "within_groups.csv").exists()
    assert "Highest and lowest scores" not in (tmp_path / "report.html").read_text()


def test_predictions_of_a_relative_path_are_replaced(
    run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["predict", str(run), str(phantoms), "--image-root", str(phantoms.parent / "images")]
    flags += ["--out", "p.csv"]
    assert main(flags) == 0
    assert main(flags) == 2
    assert main([*flags, "--overwrite"]) == 0


def test_groups_in_which_nothing_is_correlated(
    run: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["evaluate", str(run), str(phantoms), "--within", "filename", "--all-rows"]
    flags += ["--image-root", str(phantoms.parent / "images"), "--out", str(tmp_path / "e")]
    assert main(flags) == 0
    assert "--within filename: there is no correlation within the groups" in capsys.readouterr().err


def test_scores_of_several_observers(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(phantoms)
    rng = np.random.default_rng(0)
    readings = frame[[TARGET]].to_numpy() + 15 * rng.normal(size=(len(frame), 3))
    readings[rng.random(readings.shape) < 0.2] = np.nan
    mean = pd.DataFrame(readings).mean(axis=1)
    observers = pd.DataFrame(readings, columns=["A", "B", "C"])
    frame = pd.concat([frame.drop(columns=TARGET), observers], axis=1)
    frame.to_csv(tmp_path / "table.csv", index=False)
    root = ["--image-root", str(phantoms.parent / "images")]
    flags = ["--score-columns", "A", "B", "C", *PHANTOM_FLAGS, *SMALL_FLAGS, "--epochs", "2"]
    flags += ["--batch-size", "16", "--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "table.csv"), *root, *flags]) == 0
    printed = capsys.readouterr().out
    reached = re.search(r"observers' ceiling: PLCC (0\.\d+), SRCC (0\.\d+)", printed)
    assert reached is not None
    assert 0.9 < float(reached[1]) < 1
    tested = pd.read_csv(tmp_path / "run" / "predictions.csv")
    np.testing.assert_allclose(tested[TARGET], mean[tested["row"] - 2])

    run, out = str(tmp_path / "run"), str(tmp_path / "again")
    assert main(["evaluate", run, "--out", out]) == 0
    assert reached[0] in capsys.readouterr().out
    assert "Observers&#39; ceiling: PLCC" in (tmp_path / "again" / "report.html").read_text()
    # Of two images of a subject, the errors are those of their mean.
    assert main(["evaluate", run, "--predict-per", "subject", "--overwrite", "--out", out]) == 0
    assert "observers' ceiling" in capsys.readouterr().out
    # Others need none of these columns.
    frame.drop(columns=["A", "B", "C"]).to_csv(tmp_path / "new.csv", index=False)
    new = [str(tmp_path / "new.csv"), *root]
    assert main(["predict", run, *new, "--out", str(tmp_path / "p.csv")]) == 0
    assert main(["evaluate", run, str(phantoms), *root, "--all-rows", "--out", f"{out}2"]) == 0
    assert "observers' ceiling" not in capsys.readouterr().out


def test_predict_for_a_table_and_a_folder(run: Path, phantoms: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "new.csv"
    frame = pd.read_csv(phantoms).drop(columns=TARGET)
    frame.to_csv(unlabelled, index=False)
    out = tmp_path / "predictions.csv"
    root = ["--image-root", str(phantoms.parent / "images")]
    assert main(["predict", str(run), str(unlabelled), *root, "--out", str(out)]) == 0
    predicted = pd.read_csv(out).set_index("image")[TARGET]
    tested = pd.read_csv(run / "predictions.csv").set_index("image")[f"predicted {TARGET}"]
    pd.testing.assert_series_equal(predicted[tested.index], tested, check_names=False, rtol=1e-4)

    folder = str(phantoms.parent / "images")
    assert main(["predict", str(run), folder, "--out", str(tmp_path / "f.csv")]) == 2
    assert not (tmp_path / "f.csv").exists()
    flags = ["--pixel-size", "0.5", "--out", str(tmp_path / "f.csv")]
    assert main(["predict", str(run), folder, *flags]) == 0
    scaled = pd.read_csv(tmp_path / "f.csv").set_index("image")[TARGET][predicted.index]
    sizes = frame.set_index("filename")["pixel size(mm)"]
    pd.testing.assert_series_equal(scaled / 0.5, predicted / sizes, check_names=False, rtol=1e-4)


def test_evaluate_needs_labels_of_every_target(
    run: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are left: here almost only rows that training has seen have labels."""
    tested = pd.read_csv(run / "predictions.csv")["image"]
    frame = pd.read_csv(phantoms)
    frame.loc[frame["filename"].isin(tested[1:]), TARGET] = np.nan
    frame.to_csv(tmp_path / "table.csv", index=False)
    flags = ["--image-root", str(phantoms.parent / "images"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(run), str(tmp_path / "table.csv"), *flags]) == 2
    assert f"1 labels of {TARGET!r} are left" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_table_has_its_images_beside_it(run: Path, phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms.parent / "images", tmp_path / "other")
    shutil.copy(phantoms, tmp_path / "other" / "other.csv")
    table, out = str(tmp_path / "other" / "other.csv"), tmp_path / "out"
    assert main(["evaluate", str(run), table, "--out", str(out)]) == 0
    assert len(pd.read_csv(out / "predictions.csv")) == len(pd.read_csv(phantoms))


def test_another_table_may_name_subjects_otherwise_and_lack_what_training_needs(
    phantoms: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(phantoms)
    subject = frame["filename"].str[:3]
    frame["part"] = np.where(subject.astype(int) % 3 == 0, "test", "train")
    frame["w"] = 1.0
    frame.to_csv(tmp_path / "table.csv", index=False)
    root = ["--image-root", str(phantoms.parent / "images")]
    flags = ["--split-column", "part", "--weight-column", "w", "--epochs", "1", *PHANTOM_FLAGS]
    out = tmp_path / "run"
    table = str(tmp_path / "table.csv")
    assert main(["train", table, *root, *flags, *SMALL_FLAGS, "--out", str(out)]) == 0

    other = tmp_path / "other"
    other.mkdir()
    for i, name in enumerate(frame["filename"]):
        shutil.copy(phantoms.parent / "images" / name, other / f"image{i}.png")
    renamed = frame.drop(columns=["part", "w"]).assign(
        filename=[f"image{i}.png" for i in range(len(frame))], who=subject
    )
    renamed.to_csv(other / "other.csv", index=False)
    flags = ["--group-column", "who", "--out", str(tmp_path / "evaluation")]
    assert main(["evaluate", str(out), str(other / "other.csv"), *flags]) == 0
    predictions = pd.read_csv(tmp_path / "evaluation" / "predictions.csv", dtype=str)
    assert list(predictions["group"]) == list(subject)
    flags = ["--out", str(tmp_path / "predictions.csv")]
    assert main(["predict", str(out), str(other / "other.csv"), *flags]) == 0


def test_image_size_does_not_change_millimetres(run: Path, phantoms: Path, tmp_path: Path) -> None:
    """An image of twice the pixels of half the size is the same image."""
    frame = pd.read_csv(phantoms).head(10)
    for name in frame["filename"]:
        with Image.open(phantoms.parent / "images" / name) as image:
            image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC).save(
                tmp_path / name
            )
    frame["pixel size(mm)"] /= 2
    frame.to_csv(tmp_path / "big.csv", index=False)
    for table, root, name in (
        (phantoms, phantoms.parent / "images", "small"),
        (tmp_path / "big.csv", tmp_path, "big"),
    ):
        flags = ["--image-root", str(root), "--out", str(tmp_path / f"{name}.out.csv")]
        assert main(["predict", str(run), str(table), *flags]) == 0
    small, big = (pd.read_csv(tmp_path / f"{name}.out.csv")[TARGET] for name in ("small", "big"))
    assert np.abs(small[:10] / big - 1).max() < 0.03


def test_config_file_holds_plain_values(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["image_size"] == [48, 68]
    assert config["loss"] == "fine_grained"
    assert Path(config["table"]).is_absolute()
