"""Losses on tables without pictures: `finecorr compare` with its defaults for columns, task after
task.

    python benchmarks/tasks.py --tables TABLES --gb1 FILE --out results
    python benchmarks/tasks.py --tables TABLES --gb1 FILE --tasks concrete --seeds 5 --out results

TABLES is the folder of the concrete strength and the wine quality of the UCI repository, as the
authors of gradient aligned regression split and standardised them: feature columns, the target, and
`split` (train or test).

FILE has the fitness of variants of protein GB1 at four sites (N. C. Wu et al., eLife 2016) with the
splits of FLIP (C. Dallago et al., 2021): the columns site39, site40, site41 and site54, `fitness`,
and one for each split (train, validation, test). Validation rows are not trained on.

Beside the losses is scikit-learn's HistGradientBoostingRegressor, on the same rows and labels. With
`-wrong-10`, one training label in ten is that of another training row.

Each task is a folder of `finecorr compare` in OUT: what is finished there is not repeated, so that
the same command goes on after Ctrl-C, and one with more seeds adds these. `OUT/tasks.csv` has a row
for each training of the tasks that are finished, and `OUT/tasks-compared.csv` the mean of each
loss, with p against fine_grained. `benchmarks/report.py` makes tables of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from finecorr.cli import main as finecorr
from finecorr.comparison.compare import ALL_PREDICTIONS, RESULTS, RUN
from finecorr.files import replacing
from results import RANKED, summary

SITES = ("site39", "site40", "site41", "site54")
WRONG = "-wrong-10"
"""The end of the name of a task with wrong labels."""


@dataclass(frozen=True)
class Task:
    target: str
    split: str = "split"
    features: tuple[str, ...] = ("*",)
    table: str | None = None
    """In the folder of tables; else the file of GB1."""


TASKS = {
    "concrete": Task("strength_mpa", table="concrete_strength.csv"),
    "wine": Task("quality", table="wine_quality.csv"),
    **{
        f"gb1-{split}": Task("fitness", split, SITES)
        for split in ("two_vs_rest", "sampled", "three_vs_rest", "low_vs_high")
    },
}
NAMES = [*TASKS, *(f"{name}{WRONG}" for name in TASKS)]


def compare(name: str, options: argparse.Namespace) -> None:
    """Trains what is not trained yet."""
    task = TASKS[name.removesuffix(WRONG)]
    arguments = [
        "compare",
        str(options.gb1 if task.table is None else options.tables / task.table),
        *("--task", "table", "--feature-columns", *task.features),
        *("--target-columns", task.target, "--split-column", task.split),
        *("--losses", *RANKED, "--reference"),
        *("--loss-options", json.dumps({loss: given for loss, given in RANKED.items() if given})),
        *(("--corrupt-labels", "0.1") if name.endswith(WRONG) else ()),
        *("--seeds", str(options.seeds), "--workers", str(options.workers)),
        *("--out", str(options.out / name)),
    ]
    print(" ".join(["finecorr", *arguments]), flush=True)
    code = finecorr(arguments)
    if code:
        sys.exit(code)


def trainings(folder: Path) -> pd.DataFrame:
    """A row for each training, with its measures."""
    found = pd.read_csv(folder / RESULTS)
    wide = found.pivot_table(index=[*RUN], columns="metric", values="value", sort=False)
    return wide.reset_index()


def note(table: pd.DataFrame, task: str, path: Path) -> None:
    """Writes what was found for a task into the table of all, in the place of what was there."""
    tables = [pd.concat({task: table}, names=["task"]).reset_index("task")]
    if path.exists():
        known = pd.read_csv(path)
        tables.insert(0, known[known["task"] != task])
    order = {name: i for i, name in enumerate(NAMES)}
    found = pd.concat(tables).sort_values("task", key=lambda names: names.map(order), kind="stable")
    with replacing(path) as temporary:
        found.to_csv(temporary, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder of the two tables")
    parser.add_argument("--gb1", type=Path, required=True, help="file of the variants")
    parser.add_argument("--tasks", nargs="+", choices=NAMES, default=NAMES, metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each loss")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    options = parser.parse_args()
    for name in options.tasks:
        compare(name, options)
        folder = options.out / name
        note(trainings(folder), name, options.out / "tasks.csv")
        compared = summary(pd.read_parquet(folder / ALL_PREDICTIONS))
        note(compared, name, options.out / "tasks-compared.csv")


if __name__ == "__main__":
    main()
