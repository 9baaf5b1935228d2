"""Tables and figures of what `results.py`, `tasks.py` and `suspects.py` have found.

    python benchmarks/report.py results
    python benchmarks/report.py docs/results --page docs/results.md

writes figures into the folder with the CSV files, and the tables to `tables.md` beside them, or
into pages that have a place for them, between `<!-- NAME -->` and `<!-- / -->`.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from finecorr.comparison.options import REFERENCE as BOOSTING
from finecorr.files import replacing
from finecorr.report.verdict import p_text
from results import ALIKE, MEDIAN, METRICS, RANKED, REFERENCE, SECOND_TABLE, TASKS
from tasks import WRONG

MATRICES = {
    "wrong-labels": {
        "labels as they are": "circumference",
        **{f"{percent} % wrong": f"circumference-wrong-{percent}" for percent in (5, 10, 20)},
    },
    "batches": {
        "batches of 8": "circumference-batch-8",
        "batches of 16": "circumference-batch-16",
        "batches of 64": "circumference",
    },
}
"""Tables whose columns are tasks."""
LADDER = ("circumference", "circumference-wrong-10")
QUALITY = ("quality", "quality-wrong-10")
HEADLINES = {
    "headline": (LADDER, ("SRCC", "MAE")),
    "quality-headline": (QUALITY, ("SRCC", "SRCC within")),
}
"""Tables of the losses that a reader knows."""


class Figure(NamedTuple):
    title: str
    metrics: dict[str, str]
    """With what their axes say."""
    tasks: tuple[str, str]
    """With labels as they are, and with wrong ones."""


_circumference = partial(
    Figure,
    "HC18, head circumference: mean over folds and seeds, 95 % interval",
    {"SRCC": "SRCC, higher is better", "MAE": "MAE in mm, lower is better"},
)
_quality = partial(
    Figure,
    "BIQ2021, mean opinion score: mean over seeds, 95 % interval",
    {
        "SRCC": "SRCC of all images, higher is better",
        "SRCC within": "SRCC within each source of images, higher is better",
    },
)
FIGURES = {
    "ladder": _circumference(LADDER),
    "rivals": _circumference(("circumference-rivals", "circumference-wrong-10-rivals")),
    "quality": _quality(QUALITY),
    "quality-rivals": _quality(("quality-rivals", "quality-wrong-10-rivals")),
}
COLORS = ("#1f5fa8", "#c0392b")
"""Of labels as they are, and of wrong ones."""
OTHERS = [*RANKED][:-2]
LABELS = {
    "lengths, measured": "circumference",
    "lengths, 10 % wrong": "circumference-wrong-10",
    "opinion scores": "quality",
    "opinion scores, 10 % wrong": "quality-wrong-10",
    "severity of a degradation": "severity-native",
    "strength of concrete": "concrete",
    "strength of concrete, 10 % wrong": "concrete-wrong-10",
    "scores of wines": "wine",
    "scores of wines, 10 % wrong": "wine-wrong-10",
    "fitness of proteins like those known": "gb1-sampled",
    "the same, 10 % wrong": "gb1-sampled-wrong-10",
    "fitness, of proteins with more mutations": "gb1-three_vs_rest",
    "the same, 10 % wrong ": "gb1-three_vs_rest-wrong-10",
    "fitness, of far more mutations, 381 labels": "gb1-two_vs_rest",
    "the same, 10 % wrong  ": "gb1-two_vs_rest-wrong-10",
    "fitness, of fitter proteins than those known": "gb1-low_vs_high",
    "the same, 10 % wrong   ": "gb1-low_vs_high-wrong-10",
}
"""What a user may have, and the task that is like it."""
IN_SHORT = {
    labels: LABELS[labels]
    for labels in (
        "lengths, measured",
        "lengths, 10 % wrong",
        "opinion scores",
        "opinion scores, 10 % wrong",
        "strength of concrete",
        "fitness, of far more mutations, 381 labels",
        "fitness, of fitter proteins than those known",
    )
}
"""Those of the README."""
KNOWN = ("mse", "huber", "pearson", "mae@log", "robust_pearson", "fine_grained")


def read_metrics(folder: Path) -> dict[str, pd.DataFrame]:
    """The values of each task that has been run."""
    return {task: pd.read_csv(path) for task in TASKS if (path := folder / f"{task}.csv").exists()}


def make_tables(folder: Path, found: dict[str, pd.DataFrame]) -> dict[str, str]:
    """The tables by name, in Markdown."""
    tables = {task: of_task(metrics) for task, metrics in found.items()}
    for name, tasks in MATRICES.items():
        chosen = {label: found[task] for label, task in tasks.items() if task in found}
        if len(chosen) > 1:
            tables[name] = matrix(chosen)
    for name, ((clean, wrong), measures) in HEADLINES.items():
        if found.keys() >= {clean, wrong}:
            tables[name] = headline(found[clean], found[wrong], measures)
    for task in found:
        if (path := folder / f"{task}-steps.csv").exists():
            tables[f"{task}-steps"] = steps(pd.read_csv(path))
        if (path := folder / f"{task}-set-aside.csv").exists():
            tables[f"{task}-set-aside"] = set_aside(pd.read_csv(path))
    if (path := folder / "local-level.csv").exists():
        tables["local-level"] = local_level(pd.read_csv(path))
    common = {
        task: pd.read_csv(p) for task in found if (p := folder / f"{task}-shared.csv").exists()
    }
    if common:
        tables["shared"] = shared(common)
    of_columns: dict[str, pd.DataFrame] = {}
    if (path := folder / "tasks-compared.csv").exists():
        of_columns = {str(task): rows for task, rows in pd.read_csv(path).groupby("task")}
    if (path := folder / "tasks.csv").exists():
        trainings = pd.read_csv(path)
        for metric in ("PLCC", "SRCC"):
            for is_wrong, kind in ((False, "as-they-are"), (True, "wrong-10")):
                of_labels = trainings[trainings["task"].str.endswith(WRONG) == is_wrong]
                tables[f"tasks-{metric}-{kind}"] = of_tasks(of_labels, of_columns, metric)
    every = of_every_task(found | of_columns)
    tables["ranks"] = ranks(every)
    tables["gains"] = gains(every, LABELS)
    tables["gains-in-short"] = gains(every, IN_SHORT)
    if (path := folder / "suspects.csv").exists():
        tables["suspects"] = markdown(pd.read_csv(path))
    if (path := folder / "times.csv").exists():
        tables["times"] = times(pd.read_csv(path))
    return tables


def of_task(metrics: pd.DataFrame) -> str:
    """Values, with p against fine_grained in brackets."""
    texts = [
        value_text(metric, value) + ("" if loss == REFERENCE else f" ({p_text(p)})")
        for loss, metric, value, p in fields(metrics, "loss", "metric", "value", "p")
    ]
    return wide(metrics.assign(text=texts), "loss")


def matrix(tasks: dict[str, pd.DataFrame]) -> str:
    """SRCC and, in brackets, MAE of the losses that all the tasks have."""
    columns = {}
    for label, metrics in tasks.items():
        values = metrics.pivot_table(index="loss", columns="metric", values="value", sort=False)
        srcc, mae = (
            values[name].map(partial(value_text, name), na_action="ignore")
            for name in ("SRCC", "MAE")
        )
        columns[label] = srcc + " (" + mae + ")"
    table = pd.concat(columns, axis=1, join="inner")
    return markdown(table.rename_axis("loss").reset_index())


def headline(clean: pd.DataFrame, wrong: pd.DataFrame, measures: tuple[str, ...]) -> str:
    """The losses that a reader knows, on labels as they are and with 10 % wrong ones."""
    columns = {}
    for metrics, labels in ((clean, "labels as they are"), (wrong, "10 % wrong")):
        for metric in measures:
            rows = metrics[metrics["metric"] == metric].set_index("loss")
            rows = rows.loc[[loss for loss in KNOWN if loss in rows.index]]
            values, lows, highs = (
                rows[name].map(partial(value_text, metric)) for name in ("value", "low", "high")
            )
            columns[f"{metric}, {labels}"] = values + " (" + lows + " to " + highs + ")"
    return markdown(pd.DataFrame(columns).reset_index())


def steps(gains: pd.DataFrame) -> str:
    """What each part adds, with p."""
    step = gains["before"] + " to " + gains["loss"]
    texts = [f"{gain:+.4f} ({p_text(p)})" for gain, p in fields(gains, "gain", "p")]
    return wide(gains.assign(text=texts, step=step), "step")


def local_level(gains: pd.DataFrame) -> str:
    """What the local level adds, at each size, with the standard error over the trainings, and in
    how many of them it is better."""
    size = gains["size"] + ", " + gains["trainings"].astype(str) + " trainings"
    texts = [
        f"{gain:+.4f} ± {error:.4f} ({p_text(p)}), better in {better}"
        for gain, error, p, better in fields(gains, "gain", "standard error", "p", "better")
    ]
    return wide(gains.assign(text=texts, size=size), "size")


def set_aside(shares: pd.DataFrame) -> str:
    """How often labels are set aside, by how wrong they are."""
    limits = shares["wrong by up to"].map("{:.0f}".format).tolist()
    between = [f"{low} to {high} mm" for low, high in itertools.pairwise(limits[:-1])]
    table = pd.DataFrame(
        {
            "the label is wrong by": ["nothing", *between, f"more than {limits[-2]} mm"],
            "labels": shares["labels"],
            "set aside": (100 * shares["set aside"]).map("{:.0f} %".format),
        }
    )
    return markdown(table)


def shared(tasks: dict[str, pd.DataFrame]) -> str:
    """fine_grained beside the median of all losses, and how alike the errors of two losses are."""
    lines = []
    for task, metrics in tasks.items():
        values = metrics.set_index(["metric", "loss"])
        line = {"task": task, ALIKE: f"{values['value'][ALIKE, MEDIAN]:.2f}"}
        for metric in METRICS:
            ours, median = values["value"][metric, REFERENCE], values["value"][metric, MEDIAN]
            texts = value_text(metric, ours), value_text(metric, median)
            line[metric] = f"{' / '.join(texts)} ({p_text(values['p'][metric, MEDIAN])})"
        lines.append(line)
    return markdown(pd.DataFrame(lines))


def of_tasks(trainings: pd.DataFrame, compared: dict[str, pd.DataFrame], metric: str) -> str:
    """A column for each task: the mean over the trainings, with its standard error where there are
    several, and p against fine_grained where it is known."""
    p = {task: of_every_task({task: rows}, metric)[task] for task, rows in compared.items()}
    found = trainings.groupby(["task", "loss"], sort=False)[metric].agg(["mean", "sem", "count"])
    columns: dict[str, dict[str, str]] = {}
    measures = ("task", "loss", "mean", "sem", "count")
    for task, loss, mean, error, count in fields(found.reset_index(), *measures):
        text = f"{mean:.4f}" + (f" ± {error:.4f}" if count > 1 else "")
        if task in p and loss != REFERENCE:
            text += f" ({p_text(p[task][loss][1])})"
        name = f"{task.removesuffix(WRONG)}, {count} training{'s' if count > 1 else ''}"
        columns.setdefault(name, {})[loss] = text
    return markdown(pd.DataFrame(columns).rename_axis("loss").reset_index())


def of_every_task(
    found: dict[str, pd.DataFrame], metric: str = "SRCC"
) -> dict[str, dict[str, tuple[float, float]]]:
    """A measure of each loss, and p of its difference from fine_grained."""
    tasks: dict[str, dict[str, tuple[float, float]]] = {}
    for task, metrics in found.items():
        rows = metrics[metrics["metric"] == metric]
        values = tasks.setdefault(task.removesuffix(SECOND_TABLE), {})
        values |= {loss: (value, p) for loss, value, p in fields(rows, "loss", "value", "p")}
    return tasks


def gains(tasks: dict[str, dict[str, tuple[float, float]]], kinds: dict[str, str]) -> str:
    """For each kind of labels, SRCC of squared errors, of the best of the others, and of ours."""
    lines = []
    for labels, task in kinds.items():
        values = tasks.get(task, {})
        if not values.keys() >= {*RANKED}:
            continue
        srcc = {loss: value for loss, (value, _) in values.items()}
        best = max(OTHERS, key=srcc.__getitem__)
        over_mse, over_best = (srcc[REFERENCE] - srcc[other] for other in ("mse", best))
        lines.append(
            {
                "labels": labels.strip(),
                "mse": f"{srcc['mse']:.4f}",
                "the best of seven others": f"{srcc[best]:.4f} ({best})",
                "robust_pearson": f"{srcc['robust_pearson']:.4f}",
                "fine_grained": f"{srcc[REFERENCE]:.4f}",
                "gradient boosting": f"{srcc[BOOSTING]:.4f}" if BOOSTING in srcc else "",
                "gain over mse": f"{over_mse:+.4f} ({p_text(values['mse'][1])})",
                "gain over the best": f"{over_best:+.4f} ({p_text(values[best][1])})",
            }
        )
    return markdown(pd.DataFrame(lines))


def ranks(tasks: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Mean ranks in SRCC over the tasks that have the losses of `RANKED`, and how far two mean
    ranks have to be apart for more than chance (5 %), by Nemenyi's test."""
    complete = {
        task: {loss: value for loss, (value, _) in values.items()}
        for task, values in tasks.items()
        if values.keys() >= {*RANKED}
    }
    columns = {}
    for label, mark, has in (("as they are", "-wrong-", False), ("10 % wrong", WRONG, True)):
        chosen = [values for task, values in complete.items() if (mark in task) == has]
        if chosen:
            each = (-pd.DataFrame(chosen)[list(RANKED)]).rank(axis=1)
            count = len(RANKED)
            width = stats.studentized_range.ppf(0.95, count, np.inf) / np.sqrt(2)
            width *= np.sqrt(count * (count + 1) / (6 * len(each)))
            name = f"{label}, {len(each)} tasks (critical difference {width:.1f})"
            columns[name] = each.mean().map("{:.2f}".format)
    return markdown(pd.DataFrame(columns).rename_axis("loss").reset_index())


def times(found: pd.DataFrame) -> str:
    minutes = found["trainings"] * found["seconds"] / found["at a time"] / 60
    table = pd.DataFrame(
        {
            "task": found["task"],
            "trainings": found["trainings"].astype(int),
            "seconds each (median)": found["seconds"].round().astype(int),
            "at a time": found["at a time"].astype(int),
            "minutes in all": minutes.round().astype(int),
        }
    )
    return markdown(table)


def fields(table: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    return table[list(names)].itertuples(index=False, name=None)


def wide(table: pd.DataFrame, index: str) -> str:
    """A column of `text` for each metric."""
    pivot = table.pivot_table(
        index=index, columns="metric", values="text", aggfunc="first", sort=False
    )
    return markdown(pivot.reset_index())


def value_text(metric: str, value: float) -> str:
    """Correlations differ in the fourth place; errors are millimetres, or parts of a severity or of
    a score from 0 to 1."""
    places = (2 if value >= 1 else 3 if value >= 0.1 else 4) if metric == "MAE" else 4
    return f"{value:.{places}f}"


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns.tolist(), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def draw(chosen: Figure, found: dict[str, pd.DataFrame], path: Path) -> None:
    """Two measures of all losses, in each task."""
    losses = next(iter(found.values()))["loss"].drop_duplicates().tolist()
    size = (11, 1 + 0.27 * len(losses))
    figure, axes = plt.subplots(1, 2, figsize=size, dpi=150, layout="constrained", sharey=True)
    for axis, (metric, label) in zip(axes, chosen.metrics.items(), strict=True):
        draw_metric(axis, found, losses, metric)
        axis.set_xlabel(label)
    axes[0].set_yticks(range(len(losses)), losses)
    axes[0].set_ylim(len(losses) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    figure.suptitle(chosen.title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    plt.close(figure)


def draw_metric(axis: Axes, found: dict[str, pd.DataFrame], losses: list[str], metric: str) -> None:
    for (task, metrics), color, shift in zip(found.items(), COLORS, (-0.15, 0.15), strict=False):
        rows = metrics[metrics["metric"] == metric].set_index("loss").reindex(losses)
        places = [i + shift for i in range(len(losses))]
        axis.hlines(places, rows["low"], rows["high"], color=color, linewidth=1.2)
        axis.plot(rows["value"], places, "o", color=color, markersize=5, label=TASKS[task].label)
    ours = losses.index(REFERENCE)
    axis.axhspan(ours - 0.5, ours + 0.5, color="#eeeeee", zorder=0)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def fill_in(page: Path, tables: dict[str, str]) -> None:
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- / -->)"
        text = re.sub(pattern, rf"\g<1>\n{table}\n\g<2>", text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the CSV files are")
    parser.add_argument("--page", type=Path, action="append", default=[])
    options = parser.parse_args()
    metrics = read_metrics(options.folder)
    tables = make_tables(options.folder, metrics)
    if not options.page:
        text = "\n".join(f"## {name}\n\n{table}" for name, table in tables.items())
        (options.folder / "tables.md").write_text(text, encoding="utf-8")
    for name, figure in FIGURES.items():
        found = {task: metrics[task] for task in figure.tasks if task in metrics}
        if found:
            draw(figure, found, options.folder / f"{name}.png")
    for page in options.page:
        fill_in(page, tables)


if __name__ == "__main__":
    main()
