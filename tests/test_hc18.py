"""The main job on real data, small and short."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from finecorr.cli import main


def test_head_circumference_from_real_images(hc18: Path, tmp_path: Path) -> None:
    flags = ["--image-size", "68", "96", "--network", "resnet10-narrow", "--epochs", "15"]
    flags += ["--learning-rate", "2e-3", "--corrupt-labels", "0.1", "--out", str(tmp_path / "run")]
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
