"""A real, small comparison, as the command makes it."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from conftest import CHECKPOINTS, PHANTOM_FLAGS, SLOW_NETWORK, SMALL_FLAGS, interrupted
from finecorr.cli import main
from finecorr.comparison.processes import _Process
from finecorr.data.corruption import replace_labels
from finecorr.evaluation.within import correlation_within_groups

TARGET = "head circumference (mm)"
FLAGS = [*SMALL_FLAGS, "--epochs", "3", "--batch-size", "16", "--folds", "2", "--seeds", "1"]
FLAGS += ["--workers", "2", "--network", SLOW_NETWORK]
FILES = {"results.csv", "predictions.parquet", "summary.md", "summary.tex", "report.html"}
FILES |= {"suspects.csv"}


@pytest.fixture(scope="module")
def phantom_flags(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> list[str]:
    """With a column more in the table."""
    frame = pd.read_csv(phantoms)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    frame["kind"] = np.where(frame.index % 3, "b", "a")
    frame["part"] = np.where(frame["filename"].str[:3].astype(int) % 3, "train", "test")
    frame["sd"] = 30.0
    frame.to_csv(path, index=False)
    return [str(path), "--image-root", str(phantoms.parent / "images"), *PHANTOM_FLAGS]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory, phantom_flags: list[str]) -> Path:
    out = tmp_path_factory.mktemp("comparison") / "out"
    losses = ["--losses", "mse,fine_grained"]
    assert main(["compare", *phantom_flags, *FLAGS, *losses, "--out", str(out)]) == 0
    return out


def models(out: Path) -> dict[str, float]:
    found = out.glob("runs/*/*/*/model.safetensors")
    return {str(path.relative_to(out)): path.stat().st_mtime for path in found}


def test_what_is_written(comparison: Path) -> None:
    assert {path.name for path in comparison.iterdir()} == FILES | {"runs"}
    assert len(models(comparison)) == 4
    results = pd.read_csv(comparison / "results.csv")
    assert list(results) == ["loss", "fold", "seed", "target", "metric", "value"]
    assert not results.duplicated(["loss", "fold", "seed", "target", "metric"]).any()
    summary = (comparison / "summary.md").read_text()
    assert "| fine_grained |" in summary
    assert "Rank by SRCC in each split and seed" in summary


def test_every_row_is_tested_once_by_each_loss(comparison: Path) -> None:
    predictions = pd.read_parquet(comparison / "predictions.parquet")
    assert (predictions.groupby(["loss", "row"]).size() == 1).all()
    assert predictions.groupby("loss")["row"].nunique().nunique() == 1
    # No subject is on both sides.
    folds = predictions.groupby("group")["fold"].nunique()
    assert (folds == 1).all()


def test_all_losses_have_the_same_splits(comparison: Path) -> None:
    for fold in (1, 2):
        splits = [
            (comparison / "runs" / loss / f"fold-{fold}" / "seed-0" / "splits.csv").read_text()
            for loss in ("mse", "fine_grained")
        ]
        assert splits[0] == splits[1]


def test_a_further_loss_trains_only_itself(comparison: Path, phantom_flags: list[str]) -> None:
    before = models(comparison)
    losses = ["--losses", "mse,fine_grained,fine_grained@flat"]
    options = ["--loss-options", "{fine_grained@flat: {rank_weight: 0.0}}"]
    flags = [*phantom_flags, *FLAGS, *losses, *options, "--out", str(comparison)]
    assert main(["compare", *flags]) == 0
    after = models(comparison)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert "fine_grained@flat" in (comparison / "summary.md").read_text()


def test_correlations_within_groups_need_no_further_training(
    comparison: Path, tmp_path: Path, phantom_flags: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(comparison, out)
    before = models(out)
    flags = [*phantom_flags, *FLAGS, "--losses", "mse", "--within", "kind", "--out", str(out)]
    assert main(["compare", *flags]) == 0
    assert models(out) == before
    part = pd.read_parquet(out / "predictions.parquet").query("fold == 1")
    prediction, truth = part["prediction"].to_numpy(), part["truth"].to_numpy()
    each = correlation_within_groups(prediction, truth, part["within"].to_numpy(dtype=str))
    assert list(each["group"]) == ["a", "b"]
    results = pd.read_csv(out / "results.csv").set_index(["metric", "fold"])["value"]
    assert results["PLCC within", 1] == pytest.approx(each["PLCC"].mean())
    assert "in each group of 'kind'" in (out / "summary.md").read_text()
    assert "within each group of &#39;kind&#39;" in (out / "report.html").read_text()


def test_another_budget_is_another_comparison(
    comparison: Path, phantom_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*phantom_flags, *FLAGS, "--losses", "mse", "--learning-rate", "0.1"]
    assert main(["compare", *flags, "--out", str(comparison)]) == 2
    assert "--learning-rate (2 runs)" in capsys.readouterr().err


def test_the_split_of_the_table(
    tmp_path: Path, phantom_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*phantom_flags, *SMALL_FLAGS, "--split-column", "part", "--epochs", "1"]
    flags += ["--sd-column", "sd", "--observers", "9"]
    flags += ["--losses", "mse,huber", "--seeds", "1", "--workers", "2", "--out", str(tmp_path)]
    assert main(["compare", *flags, "--folds", "2"]) == 2
    assert "--folds and --split-column each say" in capsys.readouterr().err
    assert main(["compare", *flags]) == 0
    assert {path.rsplit("/", 1)[0] for path in models(tmp_path)} == {
        f"runs/{loss}/split/seed-0" for loss in ("mse", "huber")
    }
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    table = pd.read_csv(phantom_flags[0])
    for _, part in predictions.groupby("loss"):
        assert list(part["image"]) == list(table["filename"][table["part"] == "test"])
    assert (predictions["fold"] == 1).all()
    summary, page = (tmp_path / "summary.md").read_text(), (tmp_path / "report.html").read_text()
    assert "Each value is that of one training, on the split of column" in page
    assert "on the split of column 'part'" in summary
    reached = np.sqrt(1 - 30**2 / 9 / table[TARGET][table["part"] == "test"].var())
    assert f"Observers' ceiling: PLCC {reached:.3f}, SRCC 0." in summary
    assert f"Observers&#39; ceiling: PLCC {reached:.3f}" in page
    assert "nan" not in summary
    assert "nan to nan" not in page
    assert re.search(r"\| mse \| [12]\.\d\d \| ", summary), "a rank without an interval"


def test_random_splits(tmp_path: Path, phantom_flags: list[str]) -> None:
    flags = [*phantom_flags, *SMALL_FLAGS, "--repeats", "3", "--epochs", "1", "--seeds", "1"]
    flags += ["--losses", "mse,robust_pearson", "--workers", "2", "--batch-size", "16"]
    assert main(["compare", *flags, "--out", str(tmp_path / "out")]) == 0
    splits = [
        pd.read_csv(tmp_path / "out" / "runs" / "mse" / f"repeat-{i}" / "seed-0" / "splits.csv")
        for i in (1, 2, 3)
    ]
    for split in splits:
        assert (split.groupby("group")["split"].nunique() == 1).all()
        tested = split.groupby("group")["split"].first() == "test"
        assert tested.sum() == round(0.2 * len(tested))
        assert set(split["split"]) == {"train", "test"}
    assert not splits[0].equals(splits[1])
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    srcc = results.query("loss == 'mse' and metric == 'SRCC'").set_index("fold")["value"]
    assert list(srcc.index) == [1, 2, 3]
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "Each value is the median of 3 random 80/20 splits by subject." in summary
    assert "| loss | mean rank | median SRCC | first |" in summary
    assert f"{srcc.median():.3f}" in summary
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the median of 3 random 80/20 splits by subject" in page
    assert "median SRCC</th>" in page
    # Each is an ordinary run.
    config = tmp_path / "out" / "runs" / "mse" / "repeat-2" / "seed-0" / "config.yaml"
    assert main(["train", "--config", str(config), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "splits.csv").read_text() == (
        config.parent / "splits.csv"
    ).read_text()


def test_a_training_that_fails_does_not_take_the_others_with_it(
    tmp_path: Path, phantom_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "runs" / "huber" / "fold-2" / "seed-0"
    broken.mkdir(parents=True)
    (broken / "notes.txt").write_text("mine")
    flags = [*phantom_flags, *FLAGS, "--losses", "mse,huber", "--out", str(tmp_path)]
    assert main(["compare", *flags]) == 2
    error = capsys.readouterr().err
    assert "1 training failed" in error
    assert "huber fold-2 seed-0" in error
    assert "holds no run" in error
    assert len(models(tmp_path)) == 3
    assert (broken / "notes.txt").read_text() == "mine"
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_started_again_it_ends_with_the_same_numbers(
    stop: int, comparison: Path, tmp_path: Path, phantom_flags: list[str]
) -> None:
    """Its trainings end with it."""
    out = tmp_path / "out"
    flags = [*phantom_flags, *FLAGS, "--losses", "mse", "--out", str(out)]
    error = interrupted(["compare", *flags], out / CHECKPOINTS, stop=stop)
    assert "the same command goes on from here" in error
    assert main(["compare", *flags]) == 0
    resumed, whole = (pd.read_csv(folder / "results.csv") for folder in (out, comparison))
    whole = whole[whole["loss"] == "mse"]
    np.testing.assert_array_equal(resumed["value"], whole["value"])


def test_suspects_of_a_comparison(
    comparison: Path, tmp_path: Path, phantom_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    suspects = pd.read_csv(comparison / "suspects.csv", dtype={"group": str})
    assert suspects["score"].is_monotonic_decreasing
    predictions = pd.read_parquet(comparison / "predictions.parquet")
    robust = predictions[predictions["loss"].str.startswith("fine_grained")]
    assert len(suspects) == robust["row"].nunique()
    expected = robust.groupby("row")["prediction"].mean()[suspects["row"]]
    np.testing.assert_allclose(suspects["prediction"], expected)
    assert main(["suspects", str(comparison)]) == 0
    printed = capsys.readouterr().out
    assert f"of {len(suspects)} labels" in printed
    assert suspects["image"][0] in printed
    assert str(comparison / "suspects.csv") in printed

    flags = [*phantom_flags, *FLAGS, "--epochs", "1", "--losses", "mse", "--out", str(tmp_path)]
    assert main(["compare", *flags]) == 0
    assert not (tmp_path / "suspects.csv").exists()
    assert main(["suspects", str(tmp_path)]) == 2
    assert "add robust_pearson to its --losses" in capsys.readouterr().err


def test_suspects_of_a_run(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels that are another's are found by models that were trained on some of them."""
    table = pd.read_csv(phantoms)
    rng = np.random.default_rng(0)
    labels, replaced = replace_labels(table[TARGET].to_numpy(), 0.05, rng)
    table.assign(**{TARGET: labels}).to_csv(tmp_path / "table.csv", index=False)
    flags = ["--image-root", str(phantoms.parent / "images"), *PHANTOM_FLAGS, *SMALL_FLAGS]
    flags += ["--epochs", "15", "--batch-size", "16", "--learning-rate", "2e-3", "--loss", "mse"]
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "table.csv"), *flags, "--out", str(run)]) == 0
    command = ["suspects", str(run), "--folds", "3", "--seeds", "1", "--workers", "2"]
    assert main(command) == 0
    out = run / "suspects"
    assert {path.name for path in out.iterdir()} == FILES | {"runs"}
    # The loss of the run learns wrong labels, too.
    assert [path.name for path in (out / "runs").iterdir()] == ["robust_pearson"]
    suspects = pd.read_csv(out / "suspects.csv")
    wrong = set(table["filename"][replaced & (np.abs(labels - phantom_labels(phantoms)) > 40)])
    assert wrong <= set(suspects["image"][: 2 * len(wrong)])
    assert "Suspected wrong labels" in (out / "report.html").read_text()

    capsys.readouterr()
    before = models(out)
    assert main(command) == 0
    assert models(out) == before
    (run / "config.yaml").unlink()
    assert main(command) == 2
    assert "config.yaml is missing" in capsys.readouterr().err


def phantom_labels(phantoms: Path) -> NDArray[np.float64]:
    return pd.read_csv(phantoms)[TARGET].to_numpy()


def test_a_training_ends_with_its_comparison() -> None:
    """Killed, this one cannot stop it; and the next call trains in the same folder."""
    code = (
        "import multiprocessing, time\n"
        "from finecorr.comparison.processes import _end_with_parent\n"
        "multiprocessing.get_context('fork').Process(target=_end_with_parent).start()\n"
        "print('started', flush=True)\n"
        "time.sleep(300)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # A training has a group of its own, of which it ends all.
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    parent.kill()
    # The pipe is open as long as one of them is there.
    assert parent.communicate(timeout=300)[0] == ""


def test_a_killed_training_says_so() -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=time.sleep, args=(300,))
    process.start()
    assert _Process(process).reason() is None
    process.kill()
    process.join()
    reason = _Process(process).reason()
    assert reason is not None
    assert "killed (SIGKILL)" in reason
