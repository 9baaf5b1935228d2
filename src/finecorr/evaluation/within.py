"""Correlation within groups: of the samples of each patient, or of each content."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.evaluation.agreement import agreement
from finecorr.evaluation.bootstrap import Method, distributions, labelled
from finecorr.evaluation.ranks import Array

CORRELATIONS = ("PLCC", "SRCC", "KRCC")


def correlation_within_groups(
    prediction: Array, target: Array, group: NDArray[np.str_]
) -> pd.DataFrame:
    """PLCC, SRCC and KRCC of the samples of each group.

    Args:
        prediction: `(n,)`.
        target: `(n,)`; samples with NaN are left out.
        group: `(n,)`.

    Returns:
        A row for each group, with the columns `group`, `samples`, `PLCC`, `SRCC` and `KRCC`; NaN
        where a group's predictions or targets are constant.

    Raises:
        InputError: no sample has a target.
    """
    known, member = labelled(target, group)
    prediction, target, names = prediction[known], target[known], np.unique(group[known])
    order, counts = np.argsort(member, kind="stable"), np.bincount(member)
    rows = []
    for indices in np.split(order, np.cumsum(counts)[:-1]):
        value = agreement(prediction[indices], target[indices])
        rows.append([value[name] for name in CORRELATIONS])
    frame = pd.DataFrame(rows, columns=list(CORRELATIONS))
    frame.insert(0, "group", names)
    frame.insert(1, "samples", counts)
    return frame


def mean_within_groups(
    within: pd.DataFrame,
    *,
    method: Method = "bca",
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The mean over groups of what `correlation_within_groups` returns, each group counting once,
    with the interval of a bootstrap over groups.

    Args:
        within: its result. A group where a correlation is undefined is left out of its mean.
        method: as in `agreement_with_intervals`, like what follows.
        resamples: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row for each metric, with the columns `metric`, `groups`, `value`, `low` and `high`.
    """
    rows = []
    for name in CORRELATIONS:
        values = within[name].dropna().to_numpy()
        low = high = np.nan
        if len(values):

            def mean(weight: Array, values: Array = values) -> Array:
                return np.asarray(values @ weight / weight.sum(0))[None]

            member = np.arange(len(values))
            (distribution,) = distributions(mean, member, resamples, method, seed)
            low, high = distribution.interval(confidence)
        value = values.mean() if len(values) else np.nan
        rows.append((name, len(values), value, low, high))
    return pd.DataFrame(rows, columns=["metric", "groups", "value", "low", "high"])
