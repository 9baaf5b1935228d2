"""What the page says of a target without a script: tables, and galleries of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finecorr.evaluation.measures import meanings
from finecorr.report.contents import (
    GALLERY,
    Array,
    Model,
    Report,
    Target,
    ends_of,
    hardest,
    models_best_first,
    quantity,
    shown_of,
    signed,
)
from finecorr.report.ends import End
from finecorr.report.verdict import (
    SIGNIFICANCE,
    WITHOUT_BEST,
    best_first,
    interval_text,
    measure_text,
    number_text,
    p_text,
    verdict,
)


def static(report: Report, target: Target, places: Mapping[int, int]) -> dict[str, Any]:
    """What the page says without a script."""
    metrics = target.metrics
    models = models_best_first(target)
    best, shown = models[0], set(metrics["metric"]) - WITHOUT_BEST
    measures = {name: text for name, text in meanings(report.within).items() if name in shown}
    names = list(measures)
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
            _strips(report, target, end, best.prediction, places) for end in ends_of(report, target)
        ],
        **_galleries(report, target, best, places),
        "spreads": any(model.spread is not None for model in target.models),
        "curves": any(model.curve is not None for model in target.models),
    }


def _galleries(
    report: Report, target: Target, best: Model, places: Mapping[int, int]
) -> dict[str, Any]:
    """Cases with their pictures: the hardest ones, and labels that may be wrong."""
    error = target.error
    return {
        "hardest": [
            {
                **_case(report, case, places),
                "truth": quantity(target.truth[case], target.unit),
                "mean": quantity(error[case], target.unit),
                "predicted": quantity(best.prediction[case], target.unit),
                "error": signed(best.prediction[case] - target.truth[case], target.unit),
            }
            for case in hardest(target)
        ],
        "suspects": [
            {
                **_case(report, suspect["case"], places),
                "label": quantity(target.truth[suspect["case"]], target.unit),
                "predicted": quantity(suspect["prediction"], target.unit),
                "score": number_text(suspect["score"]),
            }
            for suspect in shown_of(target.suspects)
        ],
        "more_suspects": _more(target.suspects),
        "set_aside": [
            {
                **record,
                **_case(report, record["case"], places),
                "label": quantity(record["label"], target.unit),
            }
            for record in shown_of(target.set_aside)
        ],
        "more_set_aside": _more(target.set_aside),
    }


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
                        "truth": quantity(target.truth[case], target.unit),
                        "predicted": quantity(prediction[case], target.unit),
                        "both": case in end.both,
                    }
                    for case in cases
                ],
            }
            for by, cases in (("truth", end.by_truth), ("prediction", end.by_prediction))
        ],
    }


def _more(gallery: pd.DataFrame | None) -> int:
    """How many cases a gallery has no room for."""
    return 0 if gallery is None else max(len(gallery) - GALLERY, 0)


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
    subject = str(row["group"]) if report.subjects_named else None
    return {"case": places[case], "image": str(row["image"]), "subject": subject}


def _counted(report: Report, target: Target) -> str:
    """How many cases and subjects the metrics are of."""
    known = np.isfinite(target.error)
    cases, subjects = int(known.sum()), report.cases["group"][known].nunique()
    text = f"{cases} {'case' if cases == 1 else 'cases'}"
    if not report.subjects_named:
        return text
    return f"{text} of {subjects} {'subject' if subjects == 1 else 'subjects'}"
