"""Trains with mean squared error and with the fine-grained correlation loss, on synthetic
ultrasound images of the fetal head of which one label in ten is wrong, and compares the two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from finecorr import runs
from finecorr.data.augmentation import AugmentationOptions
from finecorr.data.images import ImageOptions
from finecorr.data.phantom import write_phantoms
from finecorr.data.table import TableOptions
from finecorr.errors import InputError
from finecorr.evaluation.figures import Panel, bland_altman, scatter
from finecorr.models.training import TrainingOptions
from finecorr.runs import RunOptions

LOSSES = ("mse", "fine_grained")
SUBJECTS = 600
EPOCHS = 40
WRONG_LABELS = 0.1
TARGET = "head circumference (mm)"


def run(out: Path, *, overwrite: bool = False) -> str:
    """Runs the demo and returns its result as text.

    Args:
        out: folder for the images, a run for each loss, `scatter.png` and `bland_altman.png`.
        overwrite: replace the demo that is there.

    Raises:
        InputError: the folder is not empty.
    """
    images = out / "phantoms"
    if out.exists() and any(out.iterdir()) and not (overwrite and images.is_dir()):
        raise InputError(f"{out} is not empty: choose another --out, or use --overwrite")
    shutil.rmtree(images, ignore_errors=True)
    table = write_phantoms(images, SUBJECTS)
    options = TableOptions(
        table,
        image_root=images / "images",
        image_column="filename",
        target_columns=(TARGET,),
        group_pattern=r"^(\d+)_",
        pixel_size_column="pixel size(mm)",
    )
    print(
        f"{SUBJECTS} synthetic heads; {WRONG_LABELS:.0%} of the training labels are replaced by "
        "those of others",
        flush=True,
    )
    rows, panels = [], []
    for loss in LOSSES:
        evaluation = runs.train(
            options,
            ImageOptions(image_size=(68, 96)),
            AugmentationOptions(),
            TrainingOptions(
                loss=loss, network="resnet10-narrow", epochs=EPOCHS, learning_rate=2e-3
            ),
            RunOptions(out / loss, corrupt_labels=WRONG_LABELS, overwrite=overwrite),
        )
        metrics = evaluation.metrics.set_index("metric")["value"]
        rows.append(metrics[["PLCC", "SRCC", "MAE"]].rename(loss))
        predictions = evaluation.predictions
        panels.append(
            Panel(
                loss,
                TARGET,
                predictions[f"predicted {TARGET}"].to_numpy(),
                predictions[TARGET].to_numpy(),
            )
        )
    scatter(panels, out / runs.SCATTER)
    bland_altman(panels, out / runs.BLAND_ALTMAN)
    result = pd.DataFrame(rows).to_string(float_format=lambda value: f"{value:.3f}")
    return (
        f"\ntest split, {len(predictions)} images with true labels (MAE in mm):\n{result}\n"
        f"figures: {out / runs.SCATTER}, {out / runs.BLAND_ALTMAN}"
    )
