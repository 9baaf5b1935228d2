"""How far the disagreement of observers limits what predictions can reach.

A label that is the mean of a few opinions is not the score that infinitely many observers would
give. So even who predicts that score exactly is not perfectly correlated with the labels.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from finecorr.errors import InputWarning
from finecorr.evaluation.ranks import Array

_CHUNK = 2**20
"""Samples that are drawn at once."""


class Ceiling(NamedTuple):
    """What a perfect prediction of the true scores would reach, on average."""

    plcc: float
    srcc: float

    def text(self) -> str:
        return f"observers' ceiling: PLCC {self.plcc:.3f}, SRCC {self.srcc:.3f}"


def ceiling(mean: Array, standard_error: Array, *, draws: int = 1000, seed: int = 0) -> Ceiling:
    """The correlations of the true scores with the means of opinions on them.

    The reliability of the means `m`, whose standard errors are `s`, is

        r = 1 - mean(s^2) / var(m)

    and the PLCC is `sqrt(r)`, by which errors of measurement attenuate a correlation (Spearman,
    1904). For the SRCC, the true scores are taken to be the means, drawn to the middle until those
    of each standard error have the variance `t^2 = r var(m)` that is left without errors:

        mean(m) + sqrt(t^2 / (t^2 + s_i^2)) (m_i - mean(m))

    Normal errors with the standard deviations `s` are added to them, and the SRCC of scores with
    and without errors is averaged. For true scores that are skewed it is too high (for exponential
    ones by 0.05 where r is 0.75), as errors hide how skewed they are.

    The opinions on a sample are taken to be independent. Where all observers have scored all
    samples, that one is stricter than another does not change the order of the means, but counts as
    disagreement here, and the ceiling is too low: take each observer's mean off before.

    Where observers disagree on a sample by more than the means differ between samples, r is
    negative: an `InputWarning` says so, and both are 0. For means that are all equal they are NaN.

    Args:
        mean: `(n,)`, of the opinions.
        standard_error: `(n,)`, of each of them.
        draws: how many for the SRCC.
        seed: of these.
    """
    variance = mean.var(ddof=1) if len(mean) > 1 else 0.0
    if variance == 0:
        return Ceiling(math.nan, math.nan)
    reliability = 1 - (standard_error**2).mean() / variance
    if reliability <= 0:
        warnings.warn(
            "the observers disagree by more than their mean opinions differ between images: the "
            "labels say nothing that a model could learn",
            InputWarning,
            stacklevel=2,
        )
        return Ceiling(0.0, 0.0)
    left = reliability * variance
    true = np.sqrt(left / (left + standard_error**2)) * (mean - mean.mean())
    rank = _deviation(rankdata(true))
    rng = np.random.default_rng(seed)
    size, total = max(1, _CHUNK // len(true)), 0.0
    for first in range(0, draws, size):
        errors = rng.normal(size=(min(size, draws - first), len(true)))
        drawn = _deviation(rankdata(true + standard_error * errors, axis=1))
        total += float((drawn @ rank / np.sqrt((drawn**2).sum(axis=1) * (rank @ rank))).sum())
    return Ceiling(math.sqrt(reliability), total / draws)


def _deviation(ranks: Array) -> Array:
    return np.asarray(ranks - ranks.mean(axis=-1, keepdims=True))
