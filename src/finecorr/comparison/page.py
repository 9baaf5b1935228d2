"""The page of a comparison: what its trainings left in their folders, as a report."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

import finecorr
from finecorr.comparison.plan import ComparisonOptions, Run
from finecorr.data.images import Images
from finecorr.data.table import ImageTable
from finecorr.evaluation.report.page import Model, Report, Target, write_report
from finecorr.evaluation.report.thumbnails import thumbnail
from finecorr.models import training


def write_page(
    path: Path,
    table: ImageTable,
    runs: Sequence[Run],
    options: ComparisonOptions,
    predictions: pd.DataFrame,
    metrics: Mapping[str, pd.DataFrame],
) -> None:
    """Writes the page.

    Args:
        path: of the file.
        table: all rows.
        runs: the finished trainings.
        options: of the comparison.
        predictions: of the test splits: `loss`, `target`, `row`, `prediction` at least.
        metrics: of each target, as `finecorr.comparison.summary.summarise` gives them.
    """
    images = Images(table, runs[0].data.images)
    curves = {loss: _curve([run for run in runs if run.loss == loss]) for loss in options.losses}
    targets = []
    for i, name in enumerate(table.target_columns):
        of_target = predictions[predictions["target"] == name]
        mean = of_target.groupby(["loss", "row"])["prediction"].mean()
        models = [
            Model(loss, mean[loss].reindex(table.rows).to_numpy(), curves[loss])
            for loss in options.losses
            if loss in mean.index.get_level_values("loss")
        ]
        targets.append(Target(name, None, table.targets[:, i], models, metrics[name]))
    report = Report(
        f"Losses compared on {table.source.name}",
        pd.DataFrame({"row": table.rows, "image": table.names, "group": table.groups}),
        targets,
        [thumbnail(images[i].float().numpy()) for i in range(len(table))],
        _provenance(table, runs, options),
    )
    write_report(report, path)


def _curve(runs: Sequence[Run]) -> pd.DataFrame | None:
    """Means over folds and seeds: `epoch`, `loss`, `validation`."""
    logs = [
        pd.read_csv(path)
        for run in runs
        for path in sorted((run.folder / training.LOGS).glob("version_*/metrics.csv"))
    ]
    if not logs:
        return None
    means = pd.concat(logs).groupby("epoch")[["loss", "validation_SRCC"]].mean().reset_index()
    return means.rename(columns={"validation_SRCC": "validation"})


def _provenance(
    table: ImageTable, runs: Sequence[Run], options: ComparisonOptions
) -> dict[str, str]:
    run = runs[0]
    subjects, images = len(set(table.groups)), len(table)
    trained, (height, width) = run.training, run.data.images.image_size
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    packages = ("torch", "lightning", "monai", "numpy", "scipy")
    return {
        "Data": f"{table.source}: {images} images of {subjects} subjects",
        "Splits": (
            f"{options.folds} folds by subject, each the test split in turn; {options.seeds} "
            "trainings of each loss and fold, from different initial weights"
        ),
        "Trainings": f"{len(runs)} finished",
        "Network": f"{trained.network} on {height} x {width} pixels",
        "Budget": (
            f"{trained.epochs} epochs, batches of {trained.batch_size}, AdamW with a one-cycle "
            f"schedule to {trained.learning_rate:g}"
        ),
        "Wrong labels on purpose": f"{options.corrupt_labels:.0%} of the training rows",
        "Versions": ", ".join(
            [f"finecorr {finecorr.__version__}", *(f"{name} {version(name)}" for name in packages)]
        ),
        "Hardware": f"{device}, {platform.machine()}, Python {platform.python_version()}",
        "Date": date.today().isoformat(),
        "Again": f"finecorr {' '.join(sys.argv[1:])}",
    }
