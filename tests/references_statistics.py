"""Slow, obvious references of the statistics in `finecorr.evaluation`: of samples that are written
out as often as they count, by SciPy, scikit-learn and the definitions."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import curve_fit
from sklearn import metrics

Array = NDArray[np.float64]


def agreement(prediction: Array, target: Array) -> dict[str, float]:
    """Neither is constant."""
    p, y, error = prediction, target, prediction - target
    spread = p.var() + y.var() + (p.mean() - y.mean()) ** 2
    limit = 1.96 * error.std(ddof=1)
    return {
        "PLCC": stats.pearsonr(p, y).statistic,
        "SRCC": stats.spearmanr(p, y).statistic,
        "KRCC": stats.kendalltau(p, y, variant="b").statistic,
        "CCC": 2 * ((p - p.mean()) * (y - y.mean())).mean() / spread,
        "MAE": metrics.mean_absolute_error(y, p),
        "RMSE": metrics.root_mean_squared_error(y, p),
        "R2": metrics.r2_score(y, p),
        "bias": error.mean(),
        "LLoA": error.mean() - limit,
        "ULoA": error.mean() + limit,
    }


def mapped_agreement(prediction: Array, target: Array) -> dict[str, float]:
    """With VQEG's function and the start that is customary for it."""

    def function(p: Array, b1: float, b2: float, b3: float, b4: float) -> Array:
        return np.asarray(b2 + (b1 - b2) / (1 + np.exp(-(p - b3) / abs(b4))))

    start = [target.max(), target.min(), prediction.mean(), prediction.std() / 4]
    parameters = curve_fit(function, prediction, target, start, maxfev=10_000)[0]
    mapped = function(prediction, *parameters)
    return {
        "PLCC mapped": stats.pearsonr(mapped, target).statistic,
        "RMSE mapped": math.sqrt(((mapped - target) ** 2).mean()),
    }


def repeated(values: Array, times: Array) -> Array:
    return np.repeat(values, times.astype(int))


def holm(p_values: list[float]) -> list[float]:
    """The least level at which each is rejected, from the procedure: step down while the smallest
    that is left is at most the level over how many are left."""

    def rejected(level: float) -> set[int]:
        left = sorted(range(len(p_values)), key=lambda i: p_values[i])
        found = set()
        while left and p_values[left[0]] * len(left) <= level:
            found.add(left.pop(0))
        return found

    levels = sorted({min(p * k, 1.0) for p in p_values for k in range(1, len(p_values) + 1)} | {1})
    return [
        next((level for level in levels if i in rejected(level)), 1.0) for i in range(len(p_values))
    ]


def pairs_by_order(prediction: Array, target: Array) -> int:
    """Concordant less discordant pairs, both ways round."""
    return 2 * sum(
        int(np.sign(prediction[i] - prediction[j]) * np.sign(target[i] - target[j]))
        for i, j in combinations(range(len(target)), 2)
    )
