"""A comparison of losses, or one model, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from finecorr.evaluation.agreement import limits_of_agreement
from finecorr.evaluation.measures import meanings
from finecorr.evaluation.sureness import error_by_spread
from finecorr.report.ends import End, ends
from finecorr.report.html import write_html
from finecorr.report.thumbnails import data_uri
from finecorr.report.verdict import (
    LOSSES,
    LOWER_IS_BETTER,
    SIGNIFICANCE,
    WITHOUT_BEST,
    Kind,
    best_first,
    interval_text,
    measure_text,
    number_text,
    p_text,
    verdict,
)

Array = NDArray[np.float64]

_HARDEST = 20
_GALLERY = 40
_DRAWN = 5000
_SIZES = 8
"""Bins for the error by size of target."""
_CASES_IN_BIN = 10
_THUMBNAIL_BYTES = 7_000_000
"""Of all files: the page stays below 15 MB, of which Plotly takes 4.8 and base64 a third more."""


@dataclass(frozen=True)
class Model:
    """What one loss has learnt for one target."""

    name: str
    """Of the loss, or of what else is compared."""
    prediction: Array
    """`(cases,)`; NaN for a case that the model does not predict, being trained on it."""
    curve: pd.DataFrame | None = None
    """The training: `epoch`, the training `loss` and the `validation` SRCC; NaN where not known."""
    spread: Array | None = None
    """`(cases,)`: how far what is averaged to the prediction differs; NaN for none."""


@dataclass(frozen=True)
class Target:
    """How the losses do on one target."""

    name: str
    unit: str | None
    truth: Array
    """`(cases,)`; NaN for a missing label."""
    models: Sequence[Model]
    metrics: pd.DataFrame
    """`loss`, `metric`, `value`, `low`, `high` and `p`, as `verdict` takes it."""
    criterion: str = "SRCC"
    """The metric that decides which loss is best."""
    notes: Sequence[str] = ()
    """What must be known of the metrics, a sentence each."""
    ranking: pd.DataFrame | None = None
    """By the criterion over folds and seeds, as `finecorr.evaluation.ranking.ranking` gives
    it."""
    suspects: pd.DataFrame | None = None
    """Cases whose labels the predictions contradict, the worst first: `case` (a position in
    `Report.cases`), `prediction` and `score`."""
    set_aside: pd.DataFrame | None = None
    """Cases that a robust loss set aside in training: `case`, the `label` that it was trained with,
    `set_aside` (in how many epochs) and `epochs` (of how many)."""

    @cached_property
    def error(self) -> Array:
        """`(cases,)`: absolute, the mean of the losses that predict the case; NaN for none."""
        errors = [np.abs(model.prediction - self.truth) for model in self.models]
        return pd.DataFrame(errors).mean().to_numpy()


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    cases: pd.DataFrame
    """`row` in the table, `image` (its name, or another name of the case) and `group` (subject)."""
    targets: Sequence[Target]
    thumbnails: Sequence[bytes | None] = ()
    """A JPEG, PNG or WebP file for each case, or None; empty where there are no images."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """How it was made: data, splits, versions, hardware, configuration, commands."""
    within: str | None = None
    """The column within whose groups some metrics are."""
    kind: Kind = LOSSES
    """What the models differ in."""
    quality: bool = False
    """Whether to show the images with the highest and the lowest scores, by truth and by
    prediction."""


def write_report(report: Report, path: Path) -> None:
    """Writes the page.

    It needs no network, and stays below 15 MB: where the thumbnails of all cases would not fit,
    those of the cases with the smallest errors are left out. Of more than 5000 cases, so many are
    drawn: those of the galleries, and others at random; all numbers are of all cases. The page says
    so.

    Raises:
        ValueError: lengths do not agree, or a thumbnail is no JPEG, PNG or WebP file.
    """
    _check(report)
    hardness = _hardness(report)
    drawn = _drawn_cases(hardness)
    places = {case: place for place, case in enumerate(drawn.tolist())}
    thumbnails, left_out = _within_limit(report, drawn[np.argsort(-hardness[drawn], kind="stable")])
    write_html(
        path,
        __package__,
        "page.html",
        title=report.title,
        targets=[_static(report, target, places) for target in report.targets],
        provenance=report.provenance,
        left_out=left_out,
        cases=len(report.cases),
        drawn=len(drawn),
        data={
            "row": [str(row) for row in report.cases["row"].iloc[drawn]],
            "image": [str(name) for name in report.cases["image"].iloc[drawn]],
            "group": [str(name) for name in report.cases["group"].iloc[drawn]],
            "thumbnails": {places[case]: address for case, address in thumbnails.items()},
            "kind": report.kind.one,
            "targets": [_dynamic(target, drawn) for target in report.targets],
        },
        pictures=bool(thumbnails),
        kind=report.kind,
        in_units=LOWER_IS_BETTER,
        script=(files(__package__) / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
    )


def _check(report: Report) -> None:
    count = len(report.cases)
    lengths = {"thumbnails": len(report.thumbnails) or count}
    for target in report.targets:
        lengths[f"truth of {target.name}"] = len(target.truth)
        for model in target.models:
            lengths[f"prediction of {target.name} by {model.name}"] = len(model.prediction)
    wrong = [f"{name} ({length})" for name, length in lengths.items() if length != count]
    if wrong:
        raise ValueError(f"there are {count} cases, but another number in: {', '.join(wrong)}")


def _hardness(report: Report) -> Array:
    """`(cases,)`: the larger, the less the page can do without the case; infinite for those of the
    galleries."""
    hardness = np.full(len(report.cases), -np.inf)
    for target in report.targets:
        rank = pd.Series(target.error).rank().to_numpy()
        hardness = np.fmax(hardness, rank)
        hardness[_hardest(target)] = np.inf
        for shown in _records(target.suspects), _records(target.set_aside):
            hardness[[record["case"] for record in shown]] = np.inf
        for end in _ends(report, target):
            hardness[[*end.by_truth, *end.by_prediction]] = np.inf
    return hardness


def _drawn_cases(hardness: Array) -> NDArray[np.intp]:
    """All, or those of the galleries and others at random, in order."""
    if len(hardness) <= _DRAWN:
        return np.arange(len(hardness))
    # At random, as the hardest would look like the rule.
    chance = np.random.default_rng(0).random(len(hardness))
    order = np.argsort(np.where(np.isinf(hardness) & (hardness > 0), -1, chance), kind="stable")
    return np.sort(order[:_DRAWN])


def _within_limit(report: Report, cases: NDArray[np.intp]) -> tuple[dict[int, str], int]:
    """The addresses of the thumbnails by case, the first ones if not all fit, and how many do
    not."""
    kept: dict[int, str] = {}
    size, known = 0, 0
    for case in cases.tolist() if len(report.thumbnails) else []:
        file = report.thumbnails[case]
        known += file is not None
        if file is not None and size + len(file) <= _THUMBNAIL_BYTES:
            size += len(file)
            kept[case] = data_uri(file)
    return kept, known - len(kept)


def _records(gallery: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """What a gallery has room for."""
    return [] if gallery is None else gallery.head(_GALLERY).to_dict("records")


def _best_first(target: Target) -> list[Model]:
    order = best_first(target.metrics, target.criterion)["loss"].tolist()
    return sorted(target.models, key=lambda model: [*order, model.name].index(model.name))


def _hardest(target: Target) -> list[int]:
    error = target.error
    order = np.argsort(-np.where(np.isnan(error), -np.inf, error), kind="stable")
    return [int(case) for case in order[:_HARDEST] if np.isfinite(error[case])]


def _ends(report: Report, target: Target) -> list[End]:
    """Of the best model, if they are shown."""
    return ends(_best_first(target)[0].prediction, target.truth) if report.quality else []


def _strips(
    report: Report, target: Target, end: End, prediction: Array, places: Mapping[int, int]
) -> dict[str, Any]:
    """An end of the scale, as the page shows it."""
    return {
        "name": end.name,
        "size": len(end.by_truth),
        "common": len(end.both),
        "strips": [
            {
                "by": by,
                "cases": [
                    {
                        **_case(report, case, places),
                        "truth": _quantity(target.truth[case], target.unit),
                        "predicted": _quantity(prediction[case], target.unit),
                        "both": case in end.both,
                    }
                    for case in cases
                ],
            }
            for by, cases in (("truth", end.by_truth), ("prediction", end.by_prediction))
        ],
    }


def _static(report: Report, target: Target, places: Mapping[int, int]) -> dict[str, Any]:
    """What the page says without a script."""
    metrics = target.metrics
    models = _best_first(target)
    best, shown = models[0], set(metrics["metric"]) - WITHOUT_BEST
    measures = {name: text for name, text in meanings(report.within).items() if name in shown}
    names = list(measures)
    error = target.error
    ranking = pd.DataFrame() if target.ranking is None else target.ranking
    return {
        "name": target.name,
        "unit": target.unit,
        "criterion": target.criterion,
        "verdict": verdict(metrics, target.criterion, target.unit, report.kind),
        "measures": [{"name": name, "meaning": text} for name, text in measures.items()],
        "rows": [_row(target, model.name, names) for model in models],
        "compared": len(models) > 1,
        "notes": target.notes,
        "average": "median" if "median" in ranking else "mean",
        "ranking": ranking.to_dict("records"),
        "cases": _counted(report, target),
        "columns": min(len(target.models), 4),
        "best": best.name,
        "ends": [
            _strips(report, target, end, best.prediction, places) for end in _ends(report, target)
        ],
        "hardest": [
            {
                **_case(report, case, places),
                "truth": _quantity(target.truth[case], target.unit),
                "mean": _quantity(error[case], target.unit),
                "predicted": _quantity(best.prediction[case], target.unit),
                "error": _signed(best.prediction[case] - target.truth[case], target.unit),
            }
            for case in _hardest(target)
        ],
        "suspects": [
            {
                **_case(report, suspect["case"], places),
                "label": _quantity(target.truth[suspect["case"]], target.unit),
                "predicted": _quantity(suspect["prediction"], target.unit),
                "score": number_text(suspect["score"]),
            }
            for suspect in _records(target.suspects)
        ],
        "more_suspects": _more(target.suspects),
        "set_aside": [
            {
                **record,
                **_case(report, record["case"], places),
                "label": _quantity(record["label"], target.unit),
            }
            for record in _records(target.set_aside)
        ],
        "more_set_aside": _more(target.set_aside),
        "spreads": any(model.spread is not None for model in target.models),
        "curves": any(model.curve is not None for model in target.models),
    }


def _more(gallery: pd.DataFrame | None) -> int:
    """How many cases a gallery has no room for."""
    return 0 if gallery is None else max(len(gallery) - _GALLERY, 0)


def _row(target: Target, loss: str, names: Sequence[str]) -> dict[str, Any]:
    """One loss in the table of losses."""
    cells: list[dict[str, Any] | None] = []
    for metric in names:
        rows = target.metrics[target.metrics["metric"] == metric]
        found = rows[rows["loss"] == loss]
        if found.empty:
            cells.append(None)
            continue
        row = found.iloc[0]
        is_best = best_first(target.metrics, metric).iloc[0]["loss"] == loss
        p = float(row["p"])
        compared = len(rows) > 1 and not is_best and np.isfinite(row["value"])
        cells.append(
            {
                "value": measure_text(metric, row["value"]),
                "interval": interval_text(metric, row["low"], row["high"]),
                "best": is_best and len(rows) > 1 and np.isfinite(row["value"]),
                "p": p_text(p) if compared else "",
                "close": compared and not p < SIGNIFICANCE,
                "bar": _bar(rows, row) if metric == target.criterion else None,
            }
        )
    return {"loss": loss, "cells": cells}


def _bar(rows: pd.DataFrame, row: pd.Series[Any]) -> dict[str, float] | None:
    """Where an interval lies between the lowest and the highest end of all, in percent."""
    low, high = rows["low"].min(), rows["high"].max()
    ends = np.array([row["low"], row["value"], row["high"]], dtype=float)
    if not (np.isfinite(ends).all() and high > low):
        return None
    at = 100 * (ends - low) / (high - low)
    return {name: round(float(v), 2) for name, v in zip(("low", "value", "high"), at, strict=True)}


def _case(report: Report, case: int, places: Mapping[int, int]) -> dict[str, Any]:
    row = report.cases.iloc[case]
    return {"case": places[case], "image": str(row["image"]), "group": str(row["group"])}


def _counted(report: Report, target: Target) -> str:
    """How many cases and subjects the metrics are of."""
    known = np.isfinite(target.error)
    cases, subjects = int(known.sum()), report.cases["group"][known].nunique()
    return (
        f"{cases} {'case' if cases == 1 else 'cases'} of "
        f"{subjects} {'subject' if subjects == 1 else 'subjects'}"
    )


def _quantity(value: float, unit: str | None) -> str:
    if not np.isfinite(value):
        return "none"
    text = number_text(value).replace("-", "\N{MINUS SIGN}")
    return f"{text} {unit}" if unit else text


def _signed(value: float, unit: str | None) -> str:
    return f"{'+' if value > 0 else ''}{_quantity(value, unit)}"


def _dynamic(target: Target, drawn: NDArray[np.intp]) -> dict[str, Any]:
    """What the plots and the table of cases are drawn from."""
    truth, error = target.truth, target.error
    places = {model.name: place for place, model in enumerate(target.models)}
    return {
        "name": target.name,
        "unit": target.unit or "",
        "truth": _numbers(truth[drawn]),
        "error": _numbers(error[drawn]),
        "spread": _spread(truth[np.isfinite(error)]),
        "models": [
            {**_model(model, target, drawn), "colour": places[model.name]}
            for model in _best_first(target)
        ],
    }


def _model(model: Model, target: Target, drawn: NDArray[np.intp]) -> dict[str, Any]:
    known = np.isfinite(model.prediction) & np.isfinite(target.truth)
    prediction, truth = model.prediction[known], target.truth[known]
    limits = limits_of_agreement(prediction, truth) if len(truth) > 1 else None
    limits_text = ""
    if limits is not None:
        low, high = _signed(limits[1], None), _signed(limits[2], target.unit)
        limits_text = f"bias {_signed(limits[0], None)}, limits {low} to {high}"
    curve = None
    if model.curve is not None:
        columns = ("epoch", "loss", "validation")
        curve = {name: _numbers(model.curve[name].to_numpy(dtype=float)) for name in columns}
    rows = target.metrics[target.metrics["loss"] == model.name]
    return {
        "name": model.name,
        "agreement": ", ".join(
            f"{row['metric']} {measure_text(row['metric'], row['value'], target.unit)}"
            for row in rows.to_dict("records")
            if row["metric"] in ("PLCC", "SRCC", "MAE")
        ),
        "prediction": _numbers(model.prediction[drawn]),
        "limits": limits,
        "limits_text": limits_text,
        "sizes": error_by_size(prediction, truth).to_dict("list"),
        "by_spread": None
        if model.spread is None
        else error_by_spread(prediction - truth, model.spread[known]).to_dict("list"),
        "spread": _spread(prediction),
        "curve": curve,
    }


def _spread(values: Array) -> str:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return ""
    return f"{_quantity(known.mean(), None)} ± {number_text(known.std(ddof=1))}"


def error_by_size(prediction: Array, truth: Array) -> pd.DataFrame:
    """Errors in bins of the truth with about as many cases each.

    Args:
        prediction: `(n,)`, without NaN.
        truth: `(n,)`, without NaN.

    Returns:
        For each of up to 8 bins with at least about 10 cases: the mean `truth`, the mean absolute
        error `absolute`, the mean error `bias`, and `cases`.
    """
    frame = pd.DataFrame({"truth": truth, "bias": prediction - truth})
    bins = max(1, min(_SIZES, len(truth) // _CASES_IN_BIN))
    # Ranks, so that a constant truth has a bin, too; equal values share one.
    rank = frame["truth"].rank(pct=True)
    frame["bin"] = np.ceil(rank * bins)
    frame["absolute"] = frame["bias"].abs()
    groups = frame.groupby("bin")
    result = groups[["truth", "absolute", "bias"]].mean()
    return result.assign(cases=groups.size()).reset_index(drop=True)


def _numbers(values: Array) -> list[float | None]:
    """As JSON has them: None for NaN, and no more digits than anybody can see."""
    return [float(f"{value:.9g}") if np.isfinite(value) else None for value in values]
