"""What a comparison hands to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from finecorr.comparison.options import ComparisonOptions
from finecorr.comparison.plan import Run, splitting
from finecorr.comparison.splitting import Splitting
from finecorr.data.table import ImageTable
from finecorr.report import trainings
from finecorr.report.verdict import Kind


def write_page(
    path: Path,
    table: ImageTable,
    runs: Sequence[Run],
    options: ComparisonOptions,
    predictions: pd.DataFrame,
    findings: Mapping[str, trainings.Result],
    kind: Kind,
) -> None:
    """Writes the page.

    Args:
        path: of the file.
        table: all rows.
        runs: the finished trainings.
        options: of the comparison.
        predictions: of the test splits: `loss`, `target`, `row`, `prediction` at least.
        findings: of each target.
        kind: what is compared.
    """
    means = predictions.pivot_table(
        index="row", columns=["loss", "target"], values="prediction", dropna=False
    ).reindex(table.rows)
    candidates = [
        trainings.Candidate(
            loss,
            np.stack([means[loss, target] for target in table.target_columns], axis=1),
            [run.folder for run in runs if run.loss == loss],
        )
        for loss in dict.fromkeys(run.loss for run in runs)
        if loss in means.columns.get_level_values("loss")
    ]
    splits = splitting(options, runs[0].data.table)
    alone = "cross-validated" if splits.kind == "folds" else "tested"
    title = (
        f"{kind.many.capitalize()} compared"
        if len(candidates) > 1
        else f"{candidates[0].loss} {alone}"
    )
    trainings.write_page(
        path,
        f"{title} on {table.source.name}",
        table,
        runs[0].data.images,
        candidates,
        findings,
        _provenance(table, runs, options, splits),
        kind=kind,
        quality=options.mapped,
    )


def _provenance(
    table: ImageTable, runs: Sequence[Run], options: ComparisonOptions, splits: Splitting
) -> dict[str, str]:
    run = runs[0]
    trained = run.training
    return {
        "Data": trainings.described(table),
        "Splits": splits.described(options.seeds),
        "Trainings": f"{len(runs)} finished",
        "Network": f"{trained.network} on {trainings.seen(table, run.data.images)}",
        "Budget": (
            f"{trained.epochs} epochs, batches of {trained.batch_size}, AdamW with a one-cycle "
            f"schedule to {trained.learning_rate:g}"
        ),
        "Wrong labels on purpose": f"{options.corrupt_labels:.0%} of the training rows",
    }
