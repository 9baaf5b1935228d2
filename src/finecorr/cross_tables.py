"""A trained run on several tables, side by side: the cross-data-set result of papers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from finecorr.data.records import write_record
from finecorr.errors import InputError
from finecorr.evaluating import EVALUATION, evaluate
from finecorr.files import all_or_none, check_folder, half_moved
from finecorr.report.verdict import interval_text, measure_text
from finecorr.runs.folder import METRICS

TABLES = "tables.csv"
SUMMARY = "tables.md"
_SHOWN = ("PLCC", "PLCC mapped", "SRCC", "KRCC", "MAE", "RMSE")


def evaluate_tables(
    run: Path, tables: Sequence[dict[str, Any]], out: Path, *, overwrite: bool = False, **how: Any
) -> pd.DataFrame:
    """Evaluates a run's model on several tables.

    Args:
        run: the run folder.
        tables: for each table the fields of `TableOptions` that differ from the run's, its path
            among them.
        out: folder for `tables.csv` (each measure on each table), `tables.md` (a row for each) and
            in a folder for each table what `finecorr.evaluating.evaluate` writes.
        overwrite: replace evaluations that are there.
        how: `all_rows`, `mapped` and `predict_per`, as `finecorr.evaluating.evaluate` takes them.

    Returns:
        `table`, `images`, `left_out`, `target`, `metric`, `value`, `low` and `high`.

    Raises:
        InputError: as `finecorr.evaluating.evaluate` raises it; nothing was written.
    """
    check_folder(out)
    names = _names([options["table"] for options in tables])
    there = [name for name in (TABLES, SUMMARY, *names) if (out / name).exists()]
    unfinished = half_moved(out)
    if there and not overwrite and not unfinished:
        raise InputError(
            f"{out} already holds {', '.join(there)}: choose another, or use --overwrite"
        )
    for name in set(names) & set(there):
        if not unfinished and not (out / name / METRICS).exists():
            raise InputError(f"{out / name} holds no evaluation to replace: choose another --out")
    parts = []
    sets = {TABLES: (TABLES, SUMMARY), **EVALUATION}
    with all_or_none(out, sets) as folder:
        for name, options in zip(names, tables, strict=True):
            evaluation, left_out = evaluate(run, options, folder / name, **how)
            part = evaluation.metrics.assign(
                table=name, images=len(evaluation.predictions), left_out=left_out
            )
            parts.append(part)
        columns = ["table", "images", "left_out", "target", "metric", "value", "low", "high"]
        found = pd.concat(parts, ignore_index=True)[columns]
        write_record(folder / TABLES, found)
        (folder / SUMMARY).write_text(text(found), encoding="utf-8")
    return found


def text(found: pd.DataFrame) -> str:
    """What `evaluate_tables` returns as a Markdown table: a row for each table and target, with
    95 % intervals."""
    shown = [metric for metric in _SHOWN if metric in set(found["metric"])]
    lines = [["table", "target", "images", *shown]]
    lines.append(["---"] * len(lines[0]))
    for (table, target), rows in found.groupby(["table", "target"], sort=False):
        numbers = rows[["value", "low", "high"]].to_numpy(dtype=float).tolist()
        of = dict(zip(rows["metric"], numbers, strict=True))
        cells = []
        for metric in shown:
            value, low, high = of[metric]
            cells.append(f"{measure_text(metric, value)} ({interval_text(metric, low, high)})")
        names = [str(name).replace("|", r"\|") for name in (table, target)]
        lines.append([*names, str(rows["images"].iloc[0]), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _names(paths: Sequence[Path]) -> list[str]:
    """One for each table: of its file, with its folder where that is not enough."""
    again = [path for path, number in Counter(map(Path.absolute, paths)).items() if number > 1]
    if again:
        raise InputError(f"{again[0]} is given twice")
    names = [path.stem if path.suffix else path.name for path in paths]
    count = Counter(names)
    names = [
        f"{path.absolute().parent.name}-{name}" if count[name] > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise InputError(f"two tables are called {twice[0]!r}: rename one, or its folder")
    return names
