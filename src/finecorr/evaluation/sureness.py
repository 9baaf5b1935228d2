"""Whether what a model says of how sure it is holds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.evaluation.bootstrap import agreement_with_intervals, distributions
from finecorr.evaluation.ranks import Array

_BINS = 8
_CASES_IN_BIN = 10
_CONFIDENCE = 0.95
_RESAMPLES = 10_000


class Share(NamedTuple):
    """A value, with the limits of its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


def coverage(
    truth: Array, low: Array, high: Array, group: NDArray[np.str_], *, seed: int = 0
) -> Share:
    """How many of the limits hold the truth: of the samples of a group their share, and of the
    groups the mean, so that each counts once. With an interval of a bootstrap over groups.

    Args:
        truth: `(n,)`; NaN for none.
        low: `(n,)`.
        high: `(n,)`.
        group: `(n,)`: the subject of each.
        seed: of the bootstrap.
    """
    known = np.isfinite(truth)
    inside = ((truth >= low) & (truth <= high))[known].astype(float)
    _, member, count = np.unique(group[known], return_inverse=True, return_counts=True)
    share = 1 / count[member]

    def mean(numbers: Array) -> Array:
        weights = numbers * share[:, None]
        return np.asarray((inside @ weights / weights.sum(axis=0))[None])

    (found,) = distributions(mean, member, _RESAMPLES, "percentile", seed)
    return Share(float(mean(np.ones((len(member), 1)))[0, 0]), *found.interval(_CONFIDENCE))


def error_by_spread_correlation(
    error: Array, spread: Array, group: NDArray[np.str_], *, seed: int = 0
) -> Share:
    """Spearman's correlation of the absolute errors with the spread of what was predicted: 0 where
    it says nothing of them. With an interval of a bootstrap over groups.

    Args:
        error: `(n,)`; NaN for none.
        spread: `(n,)`.
        group: `(n,)`: the subject of each.
        seed: of the bootstrap.
    """
    found = agreement_with_intervals(spread, np.abs(error), group, seed=seed)
    row = found[found["metric"] == "SRCC"].iloc[0]
    return Share(row["value"], row["low"], row["high"])


def errors_in_bins(name: str, values: Array, error: Array) -> pd.DataFrame:
    """Errors in bins of other values, with about as many cases each; equal values share one.

    Args:
        name: of the values.
        values: `(n,)`.
        error: `(n,)`, without NaN.

    Returns:
        For each of up to 8 bins with at least about 10 cases: the mean of the values, by their
        name, the mean absolute error `absolute`, the mean error `bias`, and `cases`.
    """
    frame = pd.DataFrame({name: values, "absolute": np.abs(error), "bias": error})
    bins = max(1, min(_BINS, len(frame) // _CASES_IN_BIN))
    # Ranks, so that constant values have a bin, too.
    groups = frame.groupby(np.ceil(frame[name].rank(pct=True) * bins))
    return groups.mean().assign(cases=groups.size()).reset_index(drop=True)
