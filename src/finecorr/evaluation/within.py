"""Correlation within groups: of the samples of each patient, content, distortion or data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.evaluation.agreement import Agreement, agreement, labelled
from finecorr.evaluation.ranks import Array, Index

_KINDS = {"PLCC": "Pearson", "SRCC": "Spearman", "KRCC": "Kendall"}
CORRELATIONS = tuple(_KINDS)
WITHIN_MEASURES = tuple(f"{name} within" for name in CORRELATIONS)
_Part = tuple[NDArray[np.intp], Array, Array]
"""The samples of a group, their predictions and their targets."""


def within_meanings(groups: str) -> dict[str, str]:
    """What `WITHIN_MEASURES` are of, by the name of the column of the groups."""
    return {
        f"{name} within": f"{kind} correlation within each group of {groups!r}, mean over these"
        for name, kind in _KINDS.items()
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
    prediction, target = prediction[known], target[known]
    values = [_correlations(prediction[rows], target[rows]) for rows in _rows(member)]
    frame = pd.DataFrame(values, columns=list(CORRELATIONS))
    frame.insert(0, "group", np.unique(group[known]))
    frame.insert(1, "samples", np.bincount(member))
    return frame


class Groups(NamedTuple):
    """Groups within which samples are correlated."""

    member: Index
    """`(n,)`: the group of each sample, numbered from 0 without gaps."""
    drawn: bool
    """Whether each is of one subject, so that a resample has all its samples equally often."""


def groups_within(name: NDArray[np.str_], subject: NDArray[np.str_]) -> Groups:
    """The groups of that name, where subjects are what is drawn; both are `(n,)`."""
    _, first, member = np.unique(name, return_index=True, return_inverse=True)
    return Groups(member, bool((subject == subject[first][member]).all()))


class WithinGroups:
    """The mean over groups of the correlations within each, for any number of each sample.

    Groups that each are of one subject are drawn with the subjects: they are witnesses of other
    groups, and one that is drawn twice counts twice. Any others are the same in each resample, and
    their correlations are those of the samples that were drawn of them; each counts once. A group
    where a correlation is undefined is left out of its mean.

    Args:
        prediction: `(n,)`; where one is not finite, all is NaN.
        target: `(n,)`, without NaN.
        groups: of the samples.
    """

    names = WITHIN_MEASURES

    def __init__(self, prediction: Array, target: Array, groups: Groups) -> None:
        self._known = 1.0 if np.isfinite(prediction).all() else np.nan
        parts = [(rows, prediction[rows], target[rows]) for rows in _rows(groups.member)]
        self._mean = _mean_of_drawn(parts) if groups.drawn else _mean_of_each(parts)

    def __call__(self, weight: Array) -> Array:
        """`(measures, sets)` for `(n, sets)` numbers of each sample; NaN where undefined."""
        with np.errstate(invalid="ignore"):
            return self._known * self._mean(weight)


def _mean_of_drawn(parts: list[_Part]) -> Callable[[Array], Array]:
    """Of correlations that do not change, as all samples of a group are there equally often."""
    first = np.array([rows[0] for rows, _, _ in parts])
    found = np.array([_correlations(prediction, target) for _, prediction, target in parts]).T
    values, known = np.nan_to_num(found), np.isfinite(found).astype(np.float64)

    def mean(weight: Array) -> Array:
        count = weight[first]
        return np.asarray((values @ count) / (known @ count))

    return mean


def _mean_of_each(parts: list[_Part]) -> Callable[[Array], Array]:
    groups = [(rows, Agreement(prediction, target)) for rows, prediction, target in parts]
    # Alone, a sample has no correlation.
    groups = [(rows, measures) for rows, measures in groups if len(rows) > 1]

    def mean(weight: Array) -> Array:
        total, count = np.zeros((2, len(CORRELATIONS), weight.shape[1]))
        for rows, measures in groups:
            values = measures(weight[rows])[: len(CORRELATIONS)]
            total += np.nan_to_num(values)
            count += np.isfinite(values)
        return np.asarray(total / count)

    return mean


def _rows(member: Index) -> list[NDArray[np.intp]]:
    """The samples of each group."""
    order, counts = np.argsort(member, kind="stable"), np.bincount(member)
    return np.split(order, np.cumsum(counts)[:-1])


def _correlations(prediction: Array, target: Array) -> list[float]:
    value = agreement(prediction, target)
    return [value[name] for name in CORRELATIONS]
