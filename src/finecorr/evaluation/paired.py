"""Models on the same samples: the differences of each two."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.errors import InputError
from finecorr.evaluation.agreement import labelled
from finecorr.evaluation.bootstrap import Method, distributions
from finecorr.evaluation.measures import Measures
from finecorr.evaluation.ranks import Array
from finecorr.evaluation.within import groups_within


def compare(
    predictions: Mapping[str, Array],
    target: Array,
    group: NDArray[np.str_],
    *,
    method: Method = "bca",
    mapped: bool = False,
    within: NDArray[np.str_] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The differences of each two models in each measure, by a paired bootstrap over groups: all
    models are measured on the same resamples.

    Args:
        predictions: the models by their names, at least two, each with `(n,)` predictions.
        target: `(n,)`; samples with NaN are left out.
        group: `(n,)`: the subject of each sample.
        method: as in `agreement_with_intervals`, like what follows.
        mapped: add `MAPPED_MEASURES`.
        within: `(n,)`: add `WITHIN_MEASURES`, within the groups of these names.
        resamples: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row for each pair and metric, with the columns `first`, `second`, `metric`, `difference`
        (first less second), its limits `low` and `high`, `p` (two-sided, that there is none: the
        least `1 - confidence` with which the interval does not hold 0), and `p_holm`, the same by
        Holm's correction for all pairs in that metric.

    Raises:
        InputError: fewer than two models, predictions of another length than the target, or no
            sample has a target.
    """
    if len(predictions) < 2:
        raise InputError("a comparison needs at least two models")
    for name, values in predictions.items():
        if len(values) != len(target):
            raise InputError(f"{name} has {len(values)} predictions for {len(target)} samples")
    known, member = labelled(target, group)
    groups = None if within is None else groups_within(within[known], group[known])
    models = [
        Measures(p[known], target[known], mapped=mapped, within=groups)
        for p in predictions.values()
    ]
    pairs = list(combinations(range(len(models)), 2))

    def differences(weight: Array) -> Array:
        values = [model(weight) for model in models]
        return np.stack([values[first] - values[second] for first, second in pairs])

    value = differences(np.ones((len(member), 1))).ravel()
    found = distributions(differences, member, resamples, method, seed)
    names, metrics = list(predictions), models[0].names
    frame = pd.DataFrame(
        [(names[first], names[second], metric) for first, second in pairs for metric in metrics],
        columns=["first", "second", "metric"],
    )
    frame["difference"] = value
    frame[["low", "high"]] = [distribution.interval(confidence) for distribution in found]
    frame["p"] = [distribution.p_value() for distribution in found]
    frame["p_holm"] = frame.groupby("metric")["p"].transform(lambda p: holm(p.to_numpy()))
    return frame


def holm(p_values: Array) -> Array:
    """P-values that are corrected for their number, so that the probability of any false discovery
    is at most the level that they are compared with (Holm, 1979).

    The i-th smallest of m becomes `max over j <= i of min((m - j + 1) p_j, 1)`. NaN stays NaN and
    does not count.

    Args:
        p_values: `(m,)`.
    """
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted
