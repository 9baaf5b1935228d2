"""Intervals from a bootstrap over groups.

Groups (subjects) are drawn with replacement, each with all its samples: the samples of one are no
independent witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from finecorr.evaluation.agreement import labelled
from finecorr.evaluation.measures import Measures
from finecorr.evaluation.ranks import Array, Index
from finecorr.evaluation.within import groups_within

Method = Literal["percentile", "centred", "bca"]
Statistic = Callable[[Array], Array]
"""From `(n, sets)` numbers of each sample to `(..., sets)` values."""

_CHUNK = 2**18
"""Numbers of samples that are handled at once; what they need stays in the tens of megabytes."""

_PARTS = 1000
"""Into which more groups than that are put for the jackknife: the sums of cubes and squares from
which it has the skewness grow with the groups, however they are put together."""


def agreement_with_intervals(
    prediction: Array,
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
    """`MEASURES` with intervals of a bootstrap over groups.

    A resample in which a measure is undefined (a correlation with a constant) is left out of that
    measure's interval. With a single group there is no interval, and the limits are NaN.

    Args:
        prediction: `(n,)`.
        target: `(n,)`; samples with NaN are left out.
        group: `(n,)`: the subject of each sample.
        method: `"percentile"`; `"centred"`, the percentiles of the resamples less their bias; or
            `"bca"`, which corrects bias and skewness (Efron, 1987) and takes as many further
            resamples as there are groups.
        mapped: add `MAPPED_MEASURES`; each resample has its own mapping.
        within: `(n,)`: add `WITHIN_MEASURES`, within the groups of these names, which need not be
            those that are drawn (see `finecorr.evaluation.within.WithinGroups`).
        resamples: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row for each metric, with the columns `metric`, `value`, `low` and `high`.

    Raises:
        InputError: no sample has a target.
    """
    known, member = labelled(target, group)
    groups = None if within is None else groups_within(within[known], group[known])
    statistic = Measures(prediction[known], target[known], mapped=mapped, within=groups)
    intervals = [
        distribution.interval(confidence)
        for distribution in distributions(statistic, member, resamples, method, seed)
    ]
    return pd.DataFrame(
        {
            "metric": statistic.names,
            "value": statistic(np.ones((len(member), 1)))[:, 0],
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
        }
    )


def distributions(
    statistic: Statistic, member: Index, resamples: int, method: Method, seed: int
) -> list[Distribution]:
    """The bootstrap distribution of each value of a statistic, in their order when flattened.

    Args:
        statistic: of the samples.
        member: `(n,)`: the group of each sample, numbered from 0 without gaps.
        resamples: number of bootstrap samples.
        method: as in `agreement_with_intervals`.
        seed: of the bootstrap.
    """
    groups, chunk = int(member.max()) + 1, max(1, _CHUNK // len(member))
    rng = np.random.default_rng(seed)
    value = statistic(np.ones((len(member), 1))).ravel()

    def evaluated(weights: Iterator[Array]) -> Array:
        parts = [statistic(weight).reshape(len(value), -1) for weight in weights]
        return np.concatenate([np.empty((len(value), 0)), *parts], axis=1)

    drawn = _drawn(member, groups, resamples if groups > 1 else 0, chunk, rng)
    samples = evaluated(drawn)
    if method == "centred":
        samples = _centred(samples, value)
    without = evaluated(_without(member, min(groups, _PARTS) if method == "bca" else 0, chunk))
    return [
        Distribution(*each, groups=groups) for each in zip(value, samples, without, strict=True)
    ]


class Distribution:
    """A statistic of many resamples, and what they say about its value.

    Percentiles of resamples are too narrow for few groups, as is a normal interval with the biased
    deviation. So, as Student's interval is wider than that, the normal quantile `z` of a level is
    replaced by `sqrt(g / (g - 1)) t` of `g - 1` degrees of freedom (the expanded interval of
    Hesterberg, 2015, "What Teachers Should Know About the Bootstrap").
    """

    def __init__(self, value: float, samples: Array, without: Array, *, groups: int) -> None:
        """
        Args:
            value: of all groups.
            samples: `(resamples,)`; those with NaN are left out.
            without: `(parts,)`: without each part of the groups, for the bias-corrected and
                accelerated interval; or nothing, for the percentile interval.
            groups: how many were drawn from.
        """
        self._samples = np.sort(samples[~np.isnan(samples)])
        self._groups = groups
        self._bias = self._acceleration = 0.0
        if len(without) and len(self._samples):
            self._bias = float(ndtri(self._share_below(value)))
            self._acceleration = _acceleration(without[~np.isnan(without)])

    def interval(self, confidence: float) -> tuple[float, float]:
        """NaN where there are no resamples."""
        if not len(self._samples):
            return np.nan, np.nan
        half = self._expansion() * stdtrit(self._groups - 1, (1 + confidence) / 2)
        shifted = self._bias + np.array([-half, half])
        levels = ndtr(self._bias + shifted / (1 - self._acceleration * shifted))
        low, high = np.quantile(self._samples, levels).tolist()
        return low, high

    def p_value(self) -> float:
        """Two-sided, that the true value is 0: the least `1 - confidence` with which the interval
        does not hold 0. NaN where there are no resamples."""
        if not len(self._samples):
            return np.nan
        shifted = ndtri(self._share_below(0.0)) - self._bias
        score = shifted / (1 + self._acceleration * shifted) - self._bias
        return float(2 * stdtr(self._groups - 1, -abs(score) / self._expansion()))

    def _expansion(self) -> float:
        return math.sqrt(self._groups / (self._groups - 1))

    def _share_below(self, value: float) -> float:
        """Of the resamples, half of those that are equal among them; neither none nor all."""
        count = len(self._samples)
        below = np.searchsorted(self._samples, value, "left")
        not_above = np.searchsorted(self._samples, value, "right")
        least = 0.5 / (count + 1)
        return float(np.clip((below + not_above) / (2 * count), least, 1 - least))


def _centred(samples: Array, value: Array) -> Array:
    """`(values, resamples)` with the `value` of all groups as their mean."""
    total, count = np.nansum(samples, axis=1), (~np.isnan(samples)).sum(1)
    bias = np.where(count > 0, total / np.maximum(count, 1) - value, 0)
    centred: Array = samples - bias[:, None]
    return centred


def _acceleration(without: Array) -> float:
    """From the jackknife (Efron and Tibshirani, 1993, eq. 14.15); 0 where it is constant."""
    deviation = without.mean() - without
    scale = np.abs(deviation).max(initial=0)
    if scale == 0:
        return 0.0
    deviation /= scale
    return float((deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5))


def _drawn(
    member: Index, groups: int, resamples: int, chunk: int, rng: np.random.Generator
) -> Iterator[Array]:
    """How often each sample is in each resample: `(n, sets)` at a time."""
    for first in range(0, resamples, chunk):
        sets = min(chunk, resamples - first)
        drawn = rng.integers(groups, size=(sets, groups))
        cells = (drawn * sets + np.arange(sets)[:, None]).ravel()
        counts = np.bincount(cells, minlength=groups * sets).reshape(groups, sets)
        yield counts[member].astype(np.float64)


def _without(member: Index, parts: int, chunk: int) -> Iterator[Array]:
    """All samples but those of a part of the groups, for each part: `(n, sets)` at a time."""
    for first in range(0, parts, chunk):
        left_out = np.arange(first, min(first + chunk, parts))
        yield (member[:, None] % parts != left_out).astype(np.float64)
