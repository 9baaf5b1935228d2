"""What the test splits say about the losses: values, intervals, corrected p-values, tables."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.evaluation.agreement import MEASURES, Agreement
from finecorr.evaluation.bootstrap import distributions
from finecorr.evaluation.comparison import holm
from finecorr.evaluation.ranks import Array
from finecorr.evaluation.report.verdict import (
    LOWER_IS_BETTER,
    SIGNIFICANCE,
    best_first,
    interval_text,
    measure_text,
)

COMPARED = ("PLCC", "SRCC", "KRCC", "CCC", "MAE", "RMSE", "R2")
CRITERION = "SRCC"
RESAMPLES = 2000


def summarise(predictions: pd.DataFrame, *, resamples: int = RESAMPLES) -> pd.DataFrame:
    """The mean of each measure over folds and seeds, with intervals, and p against the best loss.

    Subjects are drawn with replacement, the same for all losses, and each fold's measures are taken
    of what was drawn of it. So the intervals (95 %) are about other subjects, given the trainings
    that there are. p is two-sided, of the difference from the loss with the best value, after
    Holm's correction for the number of other losses.

    Only folds and seeds that every loss has finished count.

    Args:
        predictions: of one target: `loss`, `fold`, `seed`, `row`, `group`, `truth`, `prediction`.
        resamples: number of bootstrap samples.

    Returns:
        `loss`, `metric`, `value`, `low`, `high`, `p`; p is NaN for the best.
    """
    shared = shared_trainings(predictions)
    known = predictions.merge(shared, on=["fold", "seed"])
    known = known[np.isfinite(known["truth"])]
    columns = ["loss", "metric", "value", "low", "high", "p"]
    means = _Means(known)
    found = distributions(means, means.member, resamples, "percentile", seed=0)
    of_value, of_difference = np.array(found, dtype=object).reshape(2, -1, len(COMPARED))
    rows = []
    for m, metric in enumerate(COMPARED):
        best = means.best[m]
        raw = np.array([distribution.p_value() for distribution in of_difference[:, m]])
        p = np.insert(holm(np.delete(raw, best)), best, np.nan)
        for i, loss in enumerate(means.losses):
            low, high = of_value[i, m].interval(0.95)
            rows.append((loss, metric, means.values[i, m], low, high, p[i]))
    return pd.DataFrame(rows, columns=columns)


def shared_trainings(predictions: pd.DataFrame) -> pd.DataFrame:
    """`fold` and `seed` of the trainings that all losses have."""
    trainings = predictions[["loss", "fold", "seed"]].drop_duplicates()
    count = trainings.value_counts(["fold", "seed"])
    shared = count[count == trainings["loss"].nunique()]
    return shared.index.to_frame(index=False)


def table_text(metrics: pd.DataFrame, style: Literal["markdown", "latex"]) -> str:
    """A table for a paper: values with intervals, the best in bold, a dagger where a loss is worse
    than the best with p < 0.05."""
    bold, dagger = ("**{}**", "†") if style == "markdown" else (r"\textbf{{{}}}", r"$^\dagger$")
    cells = {}
    for metric in COMPARED:
        rows = metrics[metrics["metric"] == metric].set_index("loss")
        best = best_first(metrics, metric)["loss"].iloc[0]
        cells[metric] = {
            loss: _cell(row, metric, bold if loss == best else "{}", dagger)
            for loss, row in rows.iterrows()
        }
    table = pd.DataFrame(cells).rename_axis("loss").reset_index()
    if style == "markdown":
        lines = [table.columns.tolist(), ["---"] * table.shape[1], *table.to_numpy().tolist()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    table["loss"] = table["loss"].str.replace("_", r"\_")
    return table.to_latex(index=False, column_format="l" + "c" * len(COMPARED))


def _cell(row: pd.Series[float], metric: str, form: str, dagger: str) -> str:
    value = form.format(measure_text(metric, row["value"]))
    mark = dagger if row["p"] < SIGNIFICANCE else ""
    return f"{value}{mark} ({interval_text(metric, row['low'], row['high'])})"


class _Means:
    """For any number of each row: `(2, losses, measures, sets)`, the mean of each measure over
    folds and seeds, and its difference from that of the loss which is best on all rows."""

    def __init__(self, predictions: pd.DataFrame) -> None:
        rows = predictions.drop_duplicates("row").reset_index()
        self.member = np.unique(rows["group"].to_numpy(dtype=str), return_inverse=True)[1]
        place = pd.Series(rows.index, index=rows["row"])
        self._parts: dict[str, list[tuple[NDArray[np.intp], Agreement]]] = {}
        for (loss, _, _), part in predictions.groupby(["loss", "fold", "seed"], sort=False):
            agreement = Agreement(part["prediction"].to_numpy(), part["truth"].to_numpy())
            self._parts.setdefault(str(loss), []).append((place[part["row"]].to_numpy(), agreement))
        self.losses = list(self._parts)
        self.values = self._means(np.ones((len(rows), 1)))[..., 0]
        sign = np.where([metric in LOWER_IS_BETTER for metric in COMPARED], -1, 1)
        self.best = np.nan_to_num(sign * self.values, nan=-np.inf).argmax(0)

    def __call__(self, weight: Array) -> Array:
        means = self._means(weight)
        best = means[self.best, np.arange(len(COMPARED))]
        return np.stack([means, means - best])

    def _means(self, weight: Array) -> Array:
        names = [list(MEASURES).index(metric) for metric in COMPARED]
        return np.stack(
            [
                np.mean([agreement(weight[rows])[names] for rows, agreement in parts], axis=0)
                for parts in self._parts.values()
            ]
        )
