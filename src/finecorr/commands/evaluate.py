"""`finecorr evaluate`: a model and tables to metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from finecorr.cross_tables import evaluate_tables, text
from finecorr.evaluating import evaluate
from finecorr.flags import build, overrides
from finecorr.trained.options import PredictionOptions


def run(*calls: Namespace) -> None:
    """One call, or one for each preset."""
    options = calls[0]
    trained, out = Path(options.run), Path(options.out)
    how: dict[str, Any] = {
        "options": build(PredictionOptions, options),
        "ensemble": [Path(other) for other in options.ensemble],
        "all_rows": options.all_rows,
        "mapped": options.mapped,
        "overwrite": options.overwrite,
    }
    tables = [
        {**overrides(call), **({} if table is None else {"table": Path(table)})}
        for call in calls
        for table in call.table or [None]
    ]
    if len(tables) > 1:
        print(f"{text(evaluate_tables(trained, tables, out, **how))}written to {out}")
        return
    evaluation, left_out = evaluate(trained, tables[0], out, **how)
    if left_out:
        print(f"left out: {left_out} rows of subjects that training or validation have seen")
    print(f"{evaluation.summary()}\nwritten to {options.out}")
