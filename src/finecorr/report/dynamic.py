"""What the page's script draws of a target: its plots, and the table of cases."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finecorr.evaluation.agreement import limits_of_agreement
from finecorr.evaluation.sureness import errors_in_bins
from finecorr.report.contents import Array, Model, Target, models_best_first, quantity, signed
from finecorr.report.verdict import measure_text, number_text


def dynamic(target: Target, drawn: NDArray[np.intp]) -> dict[str, Any]:
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
            for model in models_best_first(target)
        ],
    }


def _model(model: Model, target: Target, drawn: NDArray[np.intp]) -> dict[str, Any]:
    known = np.isfinite(model.prediction) & np.isfinite(target.truth)
    prediction, truth = model.prediction[known], target.truth[known]
    limits = limits_of_agreement(prediction, truth) if len(truth) > 1 else None
    limits_text = ""
    if limits is not None:
        low, high = signed(limits[1], None), signed(limits[2], target.unit)
        limits_text = f"bias {signed(limits[0], None)}, limits {low} to {high}"
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
        "sizes": errors_in_bins("truth", truth, prediction - truth).to_dict("list"),
        "by_spread": None
        if model.spread is None
        else errors_in_bins("spread", model.spread[known], prediction - truth).to_dict("list"),
        "spread": _spread(prediction),
        "curve": curve,
    }


def _spread(values: Array) -> str:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return ""
    return f"{quantity(known.mean(), None)} ± {number_text(known.std(ddof=1))}"


def _numbers(values: Array) -> list[float | None]:
    """As JSON has them: None for NaN, and no more digits than anybody can see."""
    return [float(f"{value:.9g}") if np.isfinite(value) else None for value in values]
