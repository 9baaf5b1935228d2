"""The comparisons behind docs/results.md: `finecorr compare` on HC18 and on phantoms, task after
task.

    python benchmarks/results.py HC18 --out results              # all of it
    python benchmarks/results.py HC18 --out results --reduced    # in 16 minutes, on two cores
    python benchmarks/results.py HC18 --biq2021 BIQ --weights FILE --tasks quality --out results

HC18 is the folder of the training set of HC18 (doi 10.5281/zenodo.1327317). BIQ is the folder of a
part of BIQ2021 (N. Ahmed, S. Asif, 2022): scores.csv, with the columns image, MOS, subset and
split, and images/; without it, its tasks are left out. FILE has weights of timm's
tf_efficientnet_lite0; without it, timm downloads them. Each task is a folder of `finecorr compare`:
what is there is not repeated, so that the same command goes on after Ctrl-C.
What a further loss is compared with need not be trained again: `OUT/predictions/` keeps what all
trainings have predicted, and a loss of which it has everything is not trained.

For each task, `OUT/TASK.csv` has the values of all losses with 95 % intervals, and p against
fine_grained after Holm's correction; `OUT/TASK-steps.csv` has what each part of the loss adds,
`OUT/TASK-shared.csv` how much of the errors all losses share, and `OUT/TASK-set-aside.csv` which
wrong labels fine_grained sets aside. `OUT/local-level.csv` has what the local level adds over the
trainings of all tasks of the circumference, and `OUT/times.csv` what each task took.
`benchmarks/report.py` makes tables and figures of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from finecorr.cli import main as finecorr
from finecorr.comparison.summary import measure_each, shared_trainings, summarise
from finecorr.config import CONFIG
from finecorr.data.phantom import write_phantoms
from finecorr.data.presets import PRESETS
from finecorr.files import replacing
from finecorr.models import outliers
from finecorr.report.verdict import LOWER_IS_BETTER
from finecorr.trained import bundle

REFERENCE = "fine_grained"
METRICS = ("PLCC", "SRCC", "MAE")
WITHIN = ("PLCC within", "SRCC within")
"""Of tasks that have groups."""
MEDIAN = "median of all losses"
ALIKE = "correlation of errors"
WRONG_BY = (0.0, 10.0, 20.0, 40.0, 80.0, float("inf"))
"""In mm: labels that are set aside are counted between these."""

Losses = dict[str, dict[str, Any]]

LADDER: Losses = {
    "mse": {},
    "mae": {},
    "huber": {},
    "mse@log": {"log": True},
    "mae@log": {"log": True},
    "huber@log": {"log": True},
    "mse@log-robust": {"log": True, "robust": True},
    "mae@log-robust": {"log": True, "robust": True},
    "pearson": {},
    "robust_pearson@plain": {"robust": False},
    "robust_pearson": {},
    "fine_grained": {},
}
"""From squared error to the whole loss, part by part."""

STEPS = {
    "mse@log": "mse",
    "mae@log": "mae",
    "huber@log": "huber",
    "mse@log-robust": "mse@log",
    "mae@log-robust": "mae@log",
    "robust_pearson@plain": "pearson",
    "robust_pearson": "robust_pearson@plain",
    "fine_grained": "robust_pearson",
}
"""For each step of the ladder, the one below it."""

RIVALS: Losses = {
    "norm_in_norm": {},
    "gradient_aligned": {"alpha": 1.0},
    "rank_n_contrast": {},
    "rank_n_contrast@light": {"feature_weight": 0.1},
    "ranksim": {"feature_weight": 0.1},
    "conr": {"feature_weight": 0.2},
    "concordance": {},
    "spearman": {"strength": 8.0},
    "blackbox_spearman": {"interpolation": 0.1},
}
"""Losses of other papers, with the settings that were best on phantoms (docs/results.md)."""

AGAINST_RIVALS = RIVALS | {REFERENCE: LADDER[REFERENCE]}
SECOND_TABLE = "-rivals"
"""The end of the name of a task that goes on with the trainings of another one."""

BEST: Losses = {name: LADDER[name] for name in ("mse", "mae@log", "robust_pearson", "fine_grained")}
FEW: Losses = {"gradient_aligned": RIVALS["gradient_aligned"], **BEST}
RANKED: Losses = {
    **{name: LADDER[name] for name in ("mse", "mae", "huber", "mae@log", "pearson")},
    **{name: RIVALS[name] for name in ("gradient_aligned", "rank_n_contrast")},
    **{name: LADDER[name] for name in ("robust_pearson", "fine_grained")},
}
"""Those that are ranked over all tasks."""
FULL: Losses = {name: LADDER[name] for name in ("mse", "robust_pearson", "fine_grained")}
FULL_RIVALS: Losses = {
    **{name: LADDER[name] for name in ("mse", "huber", "pearson")},
    **{name: RIVALS[name] for name in ("gradient_aligned", "rank_n_contrast")},
    **{name: LADDER[name] for name in ("robust_pearson", "fine_grained")},
}

OPTIONS: Losses = {
    "fine_grained@plain": {"robust": False},
    "robust_pearson": {},
    "fine_grained@local-0.3": {"rank_weight": 0.3},
    "fine_grained@local-3": {"rank_weight": 3.0},
    "fine_grained": {},
}
"""What the parts of fine_grained need: its defaults, and one thing changed at a time."""


def circumference(options: argparse.Namespace) -> list[str]:
    """Flags for the table of HC18."""
    return ["--preset", "hc18", str(options.data)]


def severity(options: argparse.Namespace) -> list[str]:
    """Flags for the table of HC18's images, degraded, which are made once."""
    folder = options.out / "degraded"
    if not (folder / "scores.csv").exists():
        images = str(options.data / "training_set")
        flags = ["--group-pattern", r"^(\d+)_", "--versions", "2", "--overwrite"]
        code = finecorr(["degrade", images, "--out", str(folder), *flags])
        if code:
            sys.exit(code)
    return [
        str(folder / "scores.csv"),
        *("--target-columns", "severity", "--group-column", "group"),
    ]


def quality(options: argparse.Namespace) -> list[str]:
    """Flags for the table of BIQ2021, with its own split, and within each of its sources."""
    folder = options.biq2021
    return [
        str(folder / "scores.csv"),
        *("--image-root", str(folder / "images")),
        *("--target-columns", "MOS", "--split-column", "split", "--within", "subset"),
    ]


def phantoms(options: argparse.Namespace) -> list[str]:
    """Flags for the table of phantoms, which has the columns of HC18 and is drawn once: as many for
    training as in the trials of docs/results.md."""
    folder = options.out / "phantoms"
    table = folder / "table.csv"
    if not table.exists():
        write_phantoms(folder, 535)
    _, *columns = PRESETS["hc18"].flags(folder)
    return [str(table), *columns, "--image-root", str(folder / "images")]


SHARED = (
    *("--image-size", "68", "96", "--network", "resnet10-narrow"),
    *("--learning-rate", "8e-3", "--epochs", "30"),
)
FROZEN = ("--task", "quality", "--frozen")
FINE_TUNED = ("--task", "quality", "--epochs", "8", "--batch-size", "32", "--frozen-epochs", "1")


@dataclass(frozen=True)
class Task:
    label: str
    losses: Losses
    flags: tuple[str, ...] = ()
    table: Callable[[argparse.Namespace], list[str]] = circumference
    """Flags for the table."""
    folds: int = 5
    """1 for the split that the table has."""
    seeds: int = 3
    settings: tuple[str, ...] = SHARED


# About as many steps as at 96 x 68 pixels.
FULL_SIZE = (
    *("--image-size", "136", "192", "--network", "resnet18"),
    *("--learning-rate", "4e-3", "--epochs", "15", "--batch-size", "32"),
)
TASKS = {
    "circumference": Task("labels as they are", LADDER, seeds=1),
    "circumference-rivals": Task("labels as they are", AGAINST_RIVALS, seeds=1),
    "circumference-wrong-5": Task("5 % wrong", FEW, ("--corrupt-labels", "0.05"), seeds=1),
    "circumference-wrong-10": Task("10 % wrong", LADDER, ("--corrupt-labels", "0.1"), seeds=1),
    "circumference-wrong-10-rivals": Task(
        "10 % wrong", AGAINST_RIVALS, ("--corrupt-labels", "0.1"), seeds=1
    ),
    "circumference-wrong-20": Task("20 % wrong", FEW, ("--corrupt-labels", "0.2"), seeds=1),
    "circumference-batch-8": Task("batches of 8", FEW, ("--batch-size", "8"), seeds=1),
    "circumference-batch-16": Task("batches of 16", FEW, ("--batch-size", "16"), seeds=1),
    "severity": Task("severity", FEW, table=severity, seeds=1),
    "severity-native": Task("severity", RANKED, table=severity, seeds=1, settings=FROZEN),
    "quality": Task("labels as they are", LADDER, (), quality, 1, 5, FROZEN),
    "quality-rivals": Task("labels as they are", AGAINST_RIVALS, (), quality, 1, 5, FROZEN),
    "quality-wrong-10": Task(
        "10 % wrong", LADDER, ("--corrupt-labels", "0.1"), quality, 1, 5, FROZEN
    ),
    "quality-wrong-10-rivals": Task(
        "10 % wrong", AGAINST_RIVALS, ("--corrupt-labels", "0.1"), quality, 1, 5, FROZEN
    ),
    "quality-fine-tuned": Task("fine-tuned", BEST, (), quality, 1, 2, FINE_TUNED),
    "circumference-full-size": Task("full size", FULL, FULL_SIZE),
    "circumference-full-size-rivals": Task("full size", FULL_RIVALS, FULL_SIZE, seeds=2),
    "circumference-wrong-10-full-size": Task(
        "full size, 10 % wrong", FULL, ("--corrupt-labels", "0.1", *FULL_SIZE)
    ),
    "options": Task("phantoms", OPTIONS, table=phantoms, seeds=1),
    "options-wrong-10": Task(
        "phantoms, 10 % wrong", OPTIONS, ("--corrupt-labels", "0.1"), table=phantoms, seeds=1
    ),
}


PREDICTIONS = {"loss": "str", "fold": "int", "seed": "int", "row": "int", "prediction": "float"}
"""What is kept of them: neither the truth nor the name of an image."""
TRAINING = ["loss", "fold", "seed"]
OF_ROW = ("row", "group", "truth", "within")


def compare(task: str, options: argparse.Namespace) -> pd.DataFrame:
    """Writes what is found, and returns the predictions."""
    out = options.out
    losses, folds, seeds = TASKS[task].losses, TASKS[task].folds, TASKS[task].seeds
    trainings = task.removesuffix(SECOND_TABLE)
    runs = out / trainings / "runs"
    if options.losses:
        losses = {name: losses[name] for name in options.losses.split(",")}
    if options.reduced:
        losses, folds, seeds = BEST, 3, 1
    kept = out / "predictions" / f"{trainings}.parquet"
    nothing = pd.DataFrame(columns=list(PREDICTIONS)).astype(PREDICTIONS)
    # Other folds are other trainings.
    known = pd.read_parquet(kept) if kept.exists() and not options.reduced else nothing
    done = known.drop_duplicates(TRAINING)["loss"].value_counts()
    todo = [name for name in losses if done.get(name, 0) < folds * seeds] or [REFERENCE]
    arguments = [
        "compare",
        *TASKS[task].table(options),
        *TASKS[task].settings,
        *weights(task, options),
        *TASKS[task].flags,
        *("--losses", ",".join(todo)),
        *("--loss-options", json.dumps({name: losses[name] for name in todo if losses[name]})),
        *(("--folds", str(folds)) if folds > 1 else ()),
        *("--seeds", str(seeds), "--workers", str(options.workers)),
        *("--out", str(out / trainings)),
    ]
    print(" ".join(["finecorr", *arguments]), flush=True)
    code = finecorr(arguments)
    if code:
        sys.exit(code)
    predictions = pd.read_parquet(out / trainings / "predictions.parquet")
    new = pd.MultiIndex.from_frame(predictions[TRAINING])
    known = known[~pd.MultiIndex.from_frame(known[TRAINING]).isin(new)]
    if not options.reduced:
        keep(pd.concat([known, predictions])[list(PREDICTIONS)], kept)
    predictions = joined(predictions, known[known["seed"] < seeds], list(losses))
    summary(predictions).to_csv(out / f"{task}.csv", index=False)
    shared(predictions).to_csv(out / f"{task}-shared.csv", index=False)
    # Of one split, the truth of the training rows is not among the predictions.
    if "--corrupt-labels" in TASKS[task].flags and REFERENCE in todo and folds > 1:
        aside = set_aside(predictions, runs / REFERENCE)
        aside.to_csv(out / f"{task}-set-aside.csv", index=False)
    steps = [
        step(predictions, after, before)
        for after, before in STEPS.items()
        if {after, before} <= losses.keys()
    ]
    if steps:
        pd.concat(steps).to_csv(out / f"{task}-steps.csv", index=False)
    folders = [
        folder
        for name in losses
        for seed in range(seeds)
        for folder in (runs / name).glob(f"*/seed-{seed}")
    ]
    note_time(out, task, folders)
    return predictions


def weights(task: str, options: argparse.Namespace) -> list[str]:
    """Of the pretrained network, for the tasks that have one."""
    pretrained = "quality" in TASKS[task].settings and options.weights is not None
    return ["--weights", str(options.weights)] if pretrained else []


def keep(predictions: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        predictions.astype({"prediction": "float32"}).to_parquet(temporary, index=False)


def joined(predictions: pd.DataFrame, known: pd.DataFrame, losses: list[str]) -> pd.DataFrame:
    """With those that are known already, in the order of the losses."""
    of_row = [name for name in OF_ROW if name in predictions]
    truth = predictions.drop_duplicates("row")[of_row]
    known = known[known["loss"].isin(losses)].merge(truth, on="row")
    both = pd.concat([predictions, known])
    order = both["loss"].map(losses.index)
    return both.assign(order=order).sort_values(["order", "seed", "fold", "row"])


def summary(predictions: pd.DataFrame) -> pd.DataFrame:
    found = summarise(predictions, reference=REFERENCE)
    return found[found["metric"].isin([*METRICS, *WITHIN])]


def shared(predictions: pd.DataFrame) -> pd.DataFrame:
    """The median of what all losses predict for a row, as if it were a loss beside fine_grained,
    and the rank correlation of the errors of two losses, the mean over all pairs of them.

    An error that all losses make is no matter of the loss.
    """
    training = ["fold", "seed"]
    row = [name for name in OF_ROW if name in predictions]
    predictions = predictions.merge(shared_trainings(predictions), on=training)
    median = predictions.groupby(training + row)["prediction"].median().reset_index()
    ours = predictions[predictions["loss"] == REFERENCE]
    found = summary(pd.concat([ours, median.assign(loss=MEDIAN)]))
    errors = predictions.assign(error=predictions["prediction"] - predictions["truth"])
    wide = errors.pivot(index=[*training, "row"], columns="loss", values="error")
    alike = wide.groupby(level=training).corr("spearman")
    count = alike.shape[1]
    mean = (alike.to_numpy().mean() * count - 1) / (count - 1)
    row_of_all = {"loss": MEDIAN, "metric": ALIKE, "value": mean}
    return pd.concat([found, pd.DataFrame([row_of_all])])


def step(predictions: pd.DataFrame, after: str, before: str) -> pd.DataFrame:
    """What the mean of each measure gains from one loss to another, with p, uncorrected."""
    both = predictions[predictions["loss"].isin([after, before])]
    rows = summarise(both, reference=before).set_index(["metric", "loss"])
    gains = [
        (after, before, metric, rows["value"][metric, after] - rows["value"][metric, before])
        for metric in (*METRICS, *WITHIN)
        if metric in rows.index
    ]
    table = pd.DataFrame(gains, columns=["loss", "before", "metric", "gain"])
    return table.assign(p=[rows["p"][metric, after] for metric in table["metric"]])


def local_level(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What the local level gains over all tasks of one size of images, with the standard error over
    the trainings, p, uncorrected, and in how many of the trainings it is better with it."""
    predictions = pd.concat(found, names=["task"]).reset_index("task")
    predictions["seed"] = predictions.groupby(["task", "seed"]).ngroup()
    sizes = []
    for size, of_size in predictions.groupby(predictions["task"].map(size_of)):
        gains = step(of_size, REFERENCE, STEPS[REFERENCE])
        each = measure_each(of_size).set_index([*TRAINING, "metric"])["value"]
        gain = (each[REFERENCE] - each[STEPS[REFERENCE]]).dropna().unstack()[gains["metric"]]
        gains["standard error"] = gain.sem().array
        gain[[*LOWER_IS_BETTER & {*METRICS}]] *= -1
        better = (gain > 0).sum().array
        sizes.append(gains.assign(size=size, trainings=len(gain), better=better))
    return pd.concat(sizes)


def size_of(task: str) -> str:
    return "full size" if {*FULL_SIZE} <= {*TASKS[task].flags} else "96 x 68 pixels"


def set_aside(predictions: pd.DataFrame, trainings: Path) -> pd.DataFrame:
    """In what share of the epochs training labels are set aside, by how wrong they are."""
    truth = predictions.drop_duplicates("row").set_index("row")["truth"]
    labels = pd.concat(pd.read_csv(path) for path in trainings.rglob(outliers.FILE))
    error = (labels["label"] - labels["row"].map(truth)).abs().round(6)
    by_error = labels.groupby(pd.cut(error, [-1.0, *WRONG_BY]), observed=False)
    share = by_error["set_aside"].sum() / by_error["epochs"].sum()
    return pd.DataFrame(
        {"wrong by up to": WRONG_BY, "labels": by_error.size().array, "set aside": share.array}
    )


def note_time(out: Path, task: str, folders: list[Path]) -> None:
    """Adds the number of trainings to the table, the seconds that each took, and how many ran at a
    time."""
    starts = pd.Series([(folder / CONFIG).stat().st_mtime for folder in folders])
    ends = pd.Series([(folder / bundle.FILE).stat().st_mtime for folder in folders])
    running = [((starts <= start) & (start < ends)).sum() for start in starts]
    path = out / "times.csv"
    times = pd.read_csv(path, index_col="task") if path.exists() else pd.DataFrame()
    row = len(folders), (ends - starts).median(), max(running)
    times.loc[task, ["trainings", "seconds", "at a time"]] = row
    times.rename_axis("task").to_csv(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of HC18's training set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--biq2021", type=Path, help="folder of a part of BIQ2021")
    parser.add_argument("--weights", type=Path, help="of timm's tf_efficientnet_lite0")
    parser.add_argument("--tasks", help="names, separated by commas (default: all)")
    parser.add_argument("--losses", help="some of a task's, separated by commas (default: all)")
    parser.add_argument("--reduced", action="store_true", help="two tasks, 4 losses, 3 folds")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = ["circumference", "circumference-wrong-10"] if options.reduced else list(TASKS)
    if options.biq2021 is None:
        names = [name for name in names if TASKS[name].table is not quality]
    tasks = options.tasks.split(",") if options.tasks else names
    found = {task: compare(task, options) for task in tasks}
    both = {
        task: predictions
        for task, predictions in found.items()
        if TASKS[task].table is circumference
        and not task.endswith(SECOND_TABLE)
        and {REFERENCE, STEPS[REFERENCE]} <= {*predictions["loss"]}
    }
    if both:
        local_level(both).to_csv(options.out / "local-level.csv", index=False)


if __name__ == "__main__":
    main()
