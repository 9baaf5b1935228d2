"""How well predictions agree with the truth, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

Array = NDArray[np.float64]

MEASURES = {
    "PLCC": "Pearson linear correlation",
    "SRCC": "Spearman rank correlation",
    "KRCC": "Kendall rank correlation (tau-b)",
    "CCC": "Lin's concordance correlation",
    "MAE": "mean absolute error",
    "RMSE": "root mean squared error",
    "R2": "coefficient of determination",
}


def agreement(prediction: Array, target: Array) -> dict[str, float]:
    """All of `MEASURES` for `(n,)` predictions and targets without NaN.

    A correlation with a constant is NaN.
    """
    correlated = np.ptp(prediction) > 0 and np.ptp(target) > 0
    error = prediction - target
    covariance = np.cov(prediction, target, bias=True)
    spread = covariance[0, 0] + covariance[1, 1] + error.mean() ** 2
    return {
        "PLCC": stats.pearsonr(prediction, target).statistic if correlated else np.nan,
        "SRCC": stats.spearmanr(prediction, target).statistic if correlated else np.nan,
        "KRCC": stats.kendalltau(prediction, target).statistic if correlated else np.nan,
        "CCC": 2 * covariance[0, 1] / spread if correlated else np.nan,
        "MAE": sklearn_metrics.mean_absolute_error(target, prediction),
        "RMSE": sklearn_metrics.root_mean_squared_error(target, prediction),
        "R2": sklearn_metrics.r2_score(target, prediction) if correlated else np.nan,
    }


def agreement_with_intervals(
    prediction: Array,
    target: Array,
    group: NDArray[np.str_],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """`MEASURES` with percentile intervals of a bootstrap over groups.

    Groups (subjects) are drawn with replacement, each with all its samples: the samples of one
    are no independent witnesses.

    Args:
        prediction: `(n,)`.
        target: `(n,)`; samples with NaN are left out.
        group: `(n,)`: the subject of each sample.
        resamples: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row for each metric, with the columns `metric`, `value`, `low` and `high`.
    """
    known = np.isfinite(target)
    prediction, target = prediction[known], target[known]
    names, member = np.unique(group[known], return_inverse=True)
    rows_of = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(resamples):
        drawn = rng.integers(len(names), size=len(names))
        rows = np.concatenate([rows_of[index] for index in drawn])
        if len(rows) > 1:
            samples.append(list(agreement(prediction[rows], target[rows]).values()))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.array(samples), [tail, 1 - tail], axis=0)
    value = agreement(prediction, target)
    return pd.DataFrame(
        {"metric": list(value), "value": list(value.values()), "low": low, "high": high}
    )


def limits_of_agreement(prediction: Array, target: Array) -> tuple[float, float, float]:
    """Bias, and the limits `bias -+ 1.96 * std` of the errors (Bland and Altman, 1986)."""
    error = prediction - target
    bias, spread = float(error.mean()), float(error.std(ddof=1))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread
