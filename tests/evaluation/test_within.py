from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from finecorr.evaluation.within import correlation_within_groups, mean_within_groups


def test_correlation_within_groups_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(["b", "a", "c", "d"], [10, 7, 1, 3]))
    target = rng.normal(size=21)
    prediction = target + rng.normal(size=21) + 5 * (group == "b")
    prediction[group == "d"] = 2.0
    target[np.flatnonzero(group == "a")[0]] = np.nan
    within = correlation_within_groups(prediction, target, group)
    assert list(within["group"]) == ["a", "b", "c", "d"]
    assert list(within["samples"]) == [6, 10, 1, 3]
    for _, row in within.iterrows():
        known = (group == row["group"]) & np.isfinite(target)
        p, y = prediction[known], target[known]
        if row["group"] in "cd":
            assert row[["PLCC", "SRCC", "KRCC"]].isna().all()
            continue
        assert row["PLCC"] == pytest.approx(stats.pearsonr(p, y).statistic)
        assert row["SRCC"] == pytest.approx(stats.spearmanr(p, y).statistic)
        assert row["KRCC"] == pytest.approx(stats.kendalltau(p, y).statistic)
    mean = mean_within_groups(within, resamples=500).set_index("metric")
    assert list(mean.index) == ["PLCC", "SRCC", "KRCC"]
    assert (mean["groups"] == 2).all()
    assert mean.loc["SRCC", "value"] == pytest.approx(within["SRCC"][:2].mean())
    # Of two groups, a resample has one, the other, or both.
    assert mean.loc["SRCC", "low"] == pytest.approx(within["SRCC"][:2].min())


def test_the_interval_of_the_mean_is_about_groups() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(80).astype(str), 12)
    target = rng.normal(size=960)
    prediction = target + rng.normal(size=960) * np.repeat(rng.uniform(0.2, 3, size=80), 12)
    within = correlation_within_groups(prediction, target, group)
    mean = mean_within_groups(within, resamples=4000).set_index("metric").loc["PLCC"]
    values = within["PLCC"]
    low, high = stats.t.interval(0.95, 79, values.mean(), values.std(ddof=1) / np.sqrt(80))
    assert (mean["low"], mean["high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_no_group_with_a_correlation() -> None:
    within = correlation_within_groups(np.arange(3.0), np.arange(3.0), np.array(["a", "b", "c"]))
    mean = mean_within_groups(within)
    assert (mean["groups"] == 0).all()
    assert mean[["value", "low", "high"]].isna().all(axis=None)
