"""The main job on real data, small and short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from conftest import PHANTOM_FLAGS
from finecorr.cli import main
from finecorr.data.corruption import replace_labels

TARGET = "head circumference (mm)"
SMALL = ["--image-size", "68", "96", "--network", "resnet10-narrow", "--epochs", "15"]
SMALL += ["--learning-rate", "2e-3"]


def test_head_circumference_from_real_images(hc18: Path, tmp_path: Path) -> None:
    flags = [*SMALL, "--corrupt-labels", "0.1", "--out", str(tmp_path / "run")]
    assert main(["train", "--preset", "hc18", str(hc18), *flags]) == 0
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv").set_index("metric")["value"]
    assert metrics["SRCC"] > 0.9
    assert metrics["MAE"] < 20
    splits = pd.read_csv(tmp_path / "run" / "splits.csv", dtype=str)
    assert splits["group"].nunique() < len(splits)

    new = tmp_path / "predictions.csv"
    flags = ["--preset", "hc18", str(hc18), "--out", str(new)]
    assert main(["predict", str(tmp_path / "run"), *flags]) == 0
    assert len(pd.read_csv(new)) == len(splits)


def test_wrong_labels_of_real_images_are_found(hc18: Path, tmp_path: Path) -> None:
    """With less training than the task deserves."""
    table = pd.read_csv(hc18 / "training_set_pixel_size_and_HC.csv")
    labels = table[TARGET].to_numpy()
    wrong, replaced = replace_labels(labels, 0.05, np.random.default_rng(0))
    table.assign(**{TARGET: wrong}).to_csv(tmp_path / "table.csv", index=False)
    flags = ["--image-root", str(hc18 / "training_set"), *PHANTOM_FLAGS, *SMALL]
    flags += ["--losses", "robust_pearson", "--folds", "2", "--seeds", "1", "--workers", "2"]
    out = tmp_path / "comparison"
    assert main(["compare", str(tmp_path / "table.csv"), *flags, "--out", str(out)]) == 0
    suspects = pd.read_csv(out / "suspects.csv")
    assert len(suspects) == len(table)
    first = suspects["image"][: int(replaced.sum())]
    assert first.isin(table["filename"][replaced]).mean() > 0.5
    far = table["filename"][np.abs(wrong - labels) > 60]
    assert far.isin(suspects["image"][:80]).mean() > 0.9
