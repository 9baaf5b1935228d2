"""Losses over folds and seeds: their mean ranks and values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from finecorr.errors import InputError
from finecorr.evaluation.bootstrap import distributions
from finecorr.evaluation.ranks import Array

Average = Literal["mean", "median"]
"""Of the values of several folds: their mean, or their median, as of many random splits."""


def averaged(values: Array, fold: NDArray[np.int64], average: Average) -> Array:
    """The mean of all values, or the median over folds of the mean of each one's.

    Args:
        values: `(n, ...)`, of n trainings.
        fold: `(n,)`: of each of them.
        average: which of the two.
    """
    if average == "median":
        means = [values[fold == each].mean(axis=0) for each in np.unique(fold)]
        return np.asarray(np.median(means, axis=0))
    return np.asarray(values.mean(axis=0))


def ranking(
    results: pd.DataFrame,
    *,
    lower_is_better: bool = False,
    average: Average = "mean",
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The mean rank of each loss over folds and seeds.

    In each fold and seed the losses are ranked, 1 being the best and ties having the mean of their
    ranks. The interval is the percentile interval of a bootstrap over folds, each with all its
    seeds: it tells how much depends on the folds, whose training sets overlap. From k folds there
    are few different resamples, and for fewer than ten folds it is too narrow. Of one fold there is
    none, and its limits are NaN.

    Args:
        results: a row for each training, with the columns `loss`, `fold`, `seed` and `value`.
        lower_is_better: of the values, as of errors.
        average: of the values, as `averaged` takes it.
        resamples: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row for each loss, the best first, with the columns `loss`, `mean_rank`, `low`, `high`,
        `mean` or `median` (of the values) and `best` (in how many of the trainings it is first,
        alone or not).

    Raises:
        InputError: a loss lacks a value for a fold and seed that another has, or has two.
    """
    cells = ["loss", "fold", "seed"]
    twice = results[results.duplicated(cells)]
    if len(twice):
        raise InputError(f"{_training(twice[cells].to_numpy()[0])} is there twice")
    table = results.pivot(index=["fold", "seed"], columns="loss", values="value")
    missing = np.argwhere(table.isna().to_numpy())
    if len(missing):
        row, column = missing[0]
        cell = [table.columns[column], *table.index.to_list()[row]]
        raise InputError(f"{_training(cell)} has no value: losses are ranked where all have one")
    values = table.to_numpy(dtype=np.float64)
    ranks = rankdata(values if lower_is_better else -values, axis=1)
    member = np.unique(table.index.get_level_values("fold"), return_inverse=True)[1]

    def mean_ranks(weight: Array) -> Array:
        return np.asarray(ranks.T @ weight / weight.sum(0))

    found = distributions(mean_ranks, member, resamples, "percentile", seed)
    frame = pd.DataFrame({"loss": table.columns, "mean_rank": ranks.mean(0)})
    frame[["low", "high"]] = [distribution.interval(confidence) for distribution in found]
    frame[average] = averaged(values, member, average)
    frame["best"] = (ranks == ranks.min(axis=1, keepdims=True)).sum(0)
    return frame.sort_values("mean_rank", kind="stable", ignore_index=True)


def _training(cell: Iterable[object]) -> str:
    loss, fold, seed = cell
    return f"{loss} in fold {fold} with seed {seed}"
