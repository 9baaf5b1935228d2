"""Correlations of independent samples, without a bootstrap: intervals, and differences of two that
share a variable."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import pearsonr

from finecorr.evaluation.ranks import Array

_ROUNDING = 1e-15
"""How far two correlations that are equal may be apart."""


def pearson_interval(
    correlation: float, samples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """`tanh(atanh(r) -+ z / sqrt(n - 3))` (Fisher, 1921), for `n` independent samples.

    NaN where r is, and for 3 samples or fewer.
    """
    return _fisher_interval(correlation, 1.0, samples, confidence)


def spearman_interval(
    correlation: float, samples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """`tanh(atanh(r) -+ z sqrt((1 + r^2 / 2) / (n - 3)))` (Bonett and Wright, 2000), for `n`
    independent samples.

    NaN where r is, and for 3 samples or fewer.
    """
    return _fisher_interval(correlation, 1 + correlation**2 / 2, samples, confidence)


def _fisher_interval(
    correlation: float, variance: float, samples: int, confidence: float
) -> tuple[float, float]:
    if samples <= 3:
        return math.nan, math.nan
    half = ndtri((1 + confidence) / 2) * math.sqrt(variance / (samples - 3))
    with np.errstate(divide="ignore"):
        middle = np.arctanh(correlation)
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


class Difference(NamedTuple):
    """Of two correlations with the same variable."""

    value: float
    low: float
    high: float
    """The limits of Zou's interval."""
    p: float
    """Two-sided, of Steiger's test that there is none."""


def pearson_difference(
    first: Array, second: Array, target: Array, confidence: float = 0.95
) -> Difference:
    """PLCC of one model less that of another, on the same independent samples, more than 3.

    Args:
        first: `(n,)` predictions of one model.
        second: `(n,)` predictions of the other.
        target: `(n,)`, without NaN.
        confidence: of the interval.
    """
    a, b, between = (
        float(pearsonr(x, y).statistic)
        for x, y in ((first, target), (second, target), (first, second))
    )
    low, high = zou_interval(a, b, between, len(target), confidence)
    return Difference(a - b, low, high, steiger_test(a, b, between, len(target))[1])


def steiger_test(first: float, second: float, between: float, samples: int) -> tuple[float, float]:
    """Whether two correlations that share a variable differ (Steiger, 1980, eq. 14).

    With `r = (r1 + r2) / 2`, and `r12` between the two variables that are not shared,

        z = (atanh(r1) - atanh(r2)) sqrt((n - 3) / (2 - 2 c))
        c = (r12 (1 - 2 r^2) - r^2 (1 - 2 r^2 - r12^2) / 2) / (1 - r^2)^2

    Args:
        first: `r1`.
        second: `r2`.
        between: `r12`.
        samples: `n`, more than 3.

    Returns:
        `z`, and its two-sided p-value; 0 and 1 for equal correlations.
    """
    if abs(first - second) <= _ROUNDING:
        return 0.0, 1.0
    square = min(((first + second) / 2) ** 2, 1 - _ROUNDING)
    covariance = between * (1 - 2 * square) - square * (1 - 2 * square - between**2) / 2
    covariance = np.clip(covariance / (1 - square) ** 2, -1, 1 - _ROUNDING)
    with np.errstate(divide="ignore"):
        difference = np.arctanh(first) - np.arctanh(second)
    z = float(difference * math.sqrt((samples - 3) / (2 - 2 * covariance)))
    return z, float(2 * ndtr(-abs(z)))


def zou_interval(
    first: float, second: float, between: float, samples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Of `r1 - r2`, two correlations that share a variable (Zou, 2007).

    With the limits `l` and `u` of each by Fisher's transformation, and the correlation `c` of the
    two estimates,

        L = r1 - r2 - sqrt((r1 - l1)^2 + (u2 - r2)^2 - 2 c (r1 - l1) (u2 - r2))
        U = r1 - r2 + sqrt((u1 - r1)^2 + (r2 - l2)^2 - 2 c (u1 - r1) (r2 - l2))
        c = ((r12 - r1 r2 / 2) (1 - r1^2 - r2^2 - r12^2) + r12^3) / ((1 - r1^2) (1 - r2^2))

    where c is 0 if one of the correlations is 1 or -1, of which the limits are that, too.

    Args:
        first: `r1`.
        second: `r2`.
        between: `r12`, between the two variables that are not shared.
        samples: `n`, more than 3.
        confidence: of the interval.
    """
    (l1, u1), (l2, u2) = (pearson_interval(r, samples, confidence) for r in (first, second))
    c = (between - first * second / 2) * (1 - first**2 - second**2 - between**2) + between**3
    variances = (1 - first**2) * (1 - second**2)
    c = np.clip(c / variances, -1, 1) if variances else 0.0

    def distance(a: float, b: float) -> float:
        return math.sqrt(max(a**2 + b**2 - 2 * c * a * b, 0))

    value = first - second
    return value - distance(first - l1, u2 - second), value + distance(u1 - first, second - l2)
