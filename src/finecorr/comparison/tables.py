"""Tables for a paper, in Markdown and LaTeX."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from finecorr.comparison.summary import CRITERION
from finecorr.report.verdict import (
    LOSSES,
    SIGNIFICANCE,
    Kind,
    best_first,
    interval_text,
    measure_text,
)

Style = Literal["markdown", "latex"]


def ranking_text(ranks: pd.DataFrame, style: Style, kind: Kind = LOSSES) -> str:
    """A table of what `rank_losses` returns."""
    average = "median" if "median" in ranks else "mean"
    table = pd.DataFrame(
        {
            kind.one: ranks["loss"],
            "mean rank": [
                f"{mean:.2f}{_limits(low, high)}"
                for mean, low, high in ranks[["mean_rank", "low", "high"]].to_numpy(dtype=float)
            ],
            f"{average} {CRITERION}": [measure_text(CRITERION, value) for value in ranks[average]],
            "first": ranks["best"].astype(str),
        }
    )
    return _table_text(table, style)


def _limits(low: float, high: float) -> str:
    """The interval; of one split there is none."""
    return "" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"


def table_text(metrics: pd.DataFrame, style: Style, kind: Kind = LOSSES) -> str:
    """A table for a paper: values with intervals, the best in bold, a dagger where a loss is worse
    than the best with p < 0.05."""
    bold, dagger = ("**{}**", "†") if style == "markdown" else (r"\textbf{{{}}}", r"$^\dagger$")
    cells = {}
    for metric in metrics["metric"].unique():
        rows = metrics[metrics["metric"] == metric].set_index("loss")
        best, known = best_first(metrics, metric)["loss"].iloc[0], rows["value"].notna().any()
        cells[metric] = {
            loss: _cell(row, metric, bold if loss == best and known else "{}", dagger)
            for loss, row in rows.iterrows()
        }
    table = pd.DataFrame(cells).rename_axis(kind.one).reset_index()
    return _table_text(table, style)


def _table_text(table: pd.DataFrame, style: Style) -> str:
    if style == "markdown":
        lines = [table.columns.tolist(), ["---"] * table.shape[1], *table.to_numpy().tolist()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    first = table.columns[0]
    table[first] = table[first].str.replace("_", r"\_")
    return table.to_latex(index=False, column_format="l" + "c" * (table.shape[1] - 1))


def _cell(row: pd.Series[float], metric: str, form: str, dagger: str) -> str:
    value = form.format(measure_text(metric, row["value"]))
    mark = dagger if row["p"] < SIGNIFICANCE else ""
    return f"{value}{mark} ({interval_text(metric, row['low'], row['high'])})"
