"""Trains with mean squared error and with the fine-grained correlation loss, on synthetic
ultrasound images of the fetal head of which one label in ten is wrong, and compares the two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from finecorr import pages, runs
from finecorr.comparison.summary import summarise
from finecorr.data.augmentation import AugmentationOptions
from finecorr.data.images import ImageOptions
from finecorr.data.phantom import write_phantoms
from finecorr.data.table import ImageTable, TableOptions, read_table
from finecorr.errors import InputError
from finecorr.evaluation.figures import Panel, bland_altman, scatter
from finecorr.models.training import TrainingOptions
from finecorr.runs import RunOptions

LOSSES = ("mse", "fine_grained")
SUBJECTS = 600
EPOCHS = 40
WRONG_LABELS = 0.1
IMAGES = ImageOptions(image_size=(68, 96))
TARGET = "head circumference (mm)"


def run(out: Path, *, overwrite: bool = False) -> str:
    """Runs the demo and returns its result as text.

    Args:
        out: folder for the images, a run for each loss, `scatter.png`, `bland_altman.png` and the
            page, `report.html`.
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
        image_columns=("filename",),
        target_columns=(TARGET,),
        group_pattern=r"^(\d+)_",
        pixel_size_column="pixel size(mm)",
    )
    print(
        f"{SUBJECTS} synthetic heads; {WRONG_LABELS:.0%} of the training labels are replaced by "
        "those of others",
        flush=True,
    )
    panels, predictions = [], []
    for loss in LOSSES:
        evaluation = runs.train(
            options,
            IMAGES,
            AugmentationOptions(),
            TrainingOptions(
                loss=loss, network="resnet10-narrow", epochs=EPOCHS, learning_rate=2e-3
            ),
            RunOptions(out / loss, corrupt_labels=WRONG_LABELS, overwrite=overwrite),
        )
        tested = evaluation.predictions.rename(
            columns={TARGET: "truth", f"predicted {TARGET}": "prediction"}
        )
        predictions.append(tested.assign(loss=loss, fold=1, seed=0))
        panels.append(
            Panel(loss, TARGET, tested["prediction"].to_numpy(), tested["truth"].to_numpy())
        )
    scatter(panels, out / runs.SCATTER)
    bland_altman(panels, out / runs.BLAND_ALTMAN)
    together = pd.concat(predictions)
    metrics = summarise(together)
    _write_page(out, read_table(options), together, metrics)
    values = metrics.pivot(index="loss", columns="metric", values="value")
    result = values.loc[list(LOSSES), ["PLCC", "SRCC", "MAE"]].to_string(
        float_format=lambda value: f"{value:.3f}"
    )
    return (
        f"\ntest split, {len(tested)} images with true labels (MAE in mm):\n{result}\n"
        f"figures: {out / runs.SCATTER}, {out / runs.BLAND_ALTMAN}\n"
        f"page, with the images: {out / pages.REPORT}"
    )


def _write_page(
    out: Path, table: ImageTable, predictions: pd.DataFrame, metrics: pd.DataFrame
) -> None:
    by_row = predictions.pivot(index="row", columns="loss", values="prediction")
    by_row = by_row.reindex(table.rows)
    pages.write_page(
        out / pages.REPORT,
        "Two losses on synthetic heads, with wrong labels among the training data",
        table,
        IMAGES,
        [pages.Predictor(loss, by_row[[loss]].to_numpy(), [out / loss]) for loss in LOSSES],
        {TARGET: pages.Findings(metrics)},
        {
            "Data": pages.described(table),
            "Wrong labels on purpose": f"{WRONG_LABELS:.0%} of the training rows",
        },
    )
