"""Predictions for labelled rows: how well they agree with the truth, and the files that say it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.records import write_record
from finecorr.data.table import ImageTable
from finecorr.errors import InputWarning
from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.evaluation.figures import Panel, bland_altman, scatter
from finecorr.evaluation.measures import meanings
from finecorr.evaluation.observers import Ceiling, ceiling
from finecorr.evaluation.within import WITHIN_MEASURES
from finecorr.runs.folder import BLAND_ALTMAN, METRICS, PREDICTIONS, SCATTER


@dataclass(frozen=True)
class Evaluation:
    """Predictions for labelled rows, and how well they agree with the truth."""

    predictions: pd.DataFrame
    """`row`, `image`, `group`, and for each target its truth and `predicted` value."""
    metrics: pd.DataFrame
    """`target`, `metric`, `value`, `low`, `high`."""
    within: str | None = None
    """The column within whose groups some metrics are."""
    ceiling: Ceiling | None = None
    """That the observers' disagreement sets, where it is known."""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By target, sentences on what was said of how sure the predictions are."""
    left_out: str = ""
    """A sentence on the images that could not be read."""

    def summary(self) -> str:
        """The metrics as a text table."""
        lines, meaning = [], meanings(self.within)
        width = self.metrics["metric"].str.len().max() + 2
        for target, rows in self.metrics.groupby("target", sort=False):
            lines += [f"{target}", f"  {'':{width}}{'value':>9}   95 % interval"]
            for row in rows.itertuples():
                interval = f"{row.low:.4g} to {row.high:.4g}"
                name = str(row.metric)
                lines.append(f"  {name:{width}}{row.value:9.4g}   {interval:20} {meaning[name]}")
            lines += [f"  {note}" for note in self.notes.get(str(target), ())]
        if self.ceiling is not None:
            lines.append(f"  {self.ceiling.text()}")
        if self.left_out:
            lines.append(self.left_out)
        subjects = self.predictions["group"].nunique()
        return "\n".join([f"{len(self.predictions)} images of {subjects} subjects", *lines])


def evaluate_predictions(
    table: ImageTable,
    predictions: NDArray[np.float64],
    out: Path,
    *,
    mapped: bool = False,
    further: pd.DataFrame | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """Evaluates predictions for the rows of a table, and writes `metrics.csv`, `predictions.csv`,
    `scatter.png` and `bland_altman.png` into `out`.

    `further` are columns for `predictions.csv`, and `notes` those of the evaluation.

    `mapped`, and groups of the table to correlate within, add measures, as in
    `finecorr.evaluation.bootstrap.agreement_with_intervals`.
    """
    frame = pd.DataFrame({"row": table.rows, "image": table.names, "group": table.groups})
    metrics, panels = [], []
    for i, column in enumerate(table.target_columns):
        truth, predicted = table.targets[:, i], predictions[:, i]
        frame[column], frame[f"predicted {column}"] = truth, predicted
        result = agreement_with_intervals(
            predicted, truth, table.groups, mapped=mapped, within=table.within
        )
        metrics.append(result.assign(target=column))
        known = np.isfinite(truth)
        panels.append(Panel(f"{known.sum()} images", column, predicted[known], truth[known]))
    columns = ["target", "metric", "value", "low", "high"]
    if table.within_column is not None:
        _note_undefined(table.within_column, metrics)
    evaluation = Evaluation(
        frame,
        pd.concat(metrics, ignore_index=True)[columns],
        table.within_column,
        observers_ceiling(table),
        notes or {},
    )
    if further is not None:
        frame[further.columns] = further
    write_record(out / PREDICTIONS, frame)
    scatter(panels, out / SCATTER)
    bland_altman(panels, out / BLAND_ALTMAN)
    write_record(out / METRICS, evaluation.metrics)
    return evaluation


def _note_undefined(within: str, metrics: list[pd.DataFrame]) -> None:
    found = pd.concat(metrics).set_index("metric")["value"].loc[[*WITHIN_MEASURES]]
    if found.isna().any():
        warnings.warn(
            f"--within {within}: there is no correlation within the groups, because none has two "
            "images whose labels and predictions differ",
            InputWarning,
            stacklevel=3,
        )


def observers_ceiling(table: ImageTable) -> Ceiling | None:
    """What a perfect prediction of the labels would reach, where they are means of opinions."""
    if table.standard_errors is None:
        return None
    known = table.labelled
    return ceiling(table.targets[known, 0], table.standard_errors[known])
