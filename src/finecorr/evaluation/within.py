"""Correlation within groups: of the samples of each patient, or of each content."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.evaluation.agreement import agreement, labelled
from finecorr.evaluation.ranks import Array, Index

CORRELATIONS = ("PLCC", "SRCC", "KRCC")
WITHIN_MEASURES = {
    "PLCC within": "mean over subjects of the Pearson correlation within each",
    "SRCC within": "mean over subjects of the Spearman correlation within each",
    "KRCC within": "mean over subjects of the Kendall correlation (tau-b) within each",
}


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
    frame = pd.DataFrame(
        _correlations(prediction[known], target[known], member), columns=list(CORRELATIONS)
    )
    frame.insert(0, "group", np.unique(group[known]))
    frame.insert(1, "samples", np.bincount(member))
    return frame


class WithinGroups:
    """The mean over groups of the correlations within each, for any number of each group.

    A group where a correlation is undefined is left out of its mean; each other counts once.

    Args:
        prediction: `(n,)`.
        target: `(n,)`, without NaN.
        member: `(n,)`: the group of each sample, numbered from 0 without gaps.
    """

    names = tuple(WITHIN_MEASURES)

    def __init__(self, prediction: Array, target: Array, member: Index) -> None:
        values = _correlations(prediction, target, member).T
        self._known = np.isfinite(values).astype(np.float64)
        self._values = np.nan_to_num(values)
        self._first = np.unique(member, return_index=True)[1]

    def __call__(self, weight: Array) -> Array:
        """`(measures, sets)` for `(n, sets)` numbers of each sample, which are one in a group; NaN
        where undefined."""
        weight = weight[self._first]
        with np.errstate(invalid="ignore"):
            return np.asarray((self._values @ weight) / (self._known @ weight))


def _correlations(prediction: Array, target: Array, member: Index) -> Array:
    """`(groups, correlations)`"""
    order, counts = np.argsort(member, kind="stable"), np.bincount(member)
    rows = []
    for indices in np.split(order, np.cumsum(counts)[:-1]):
        value = agreement(prediction[indices], target[indices])
        rows.append([value[name] for name in CORRELATIONS])
    return np.array(rows)
