from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.evaluation.within import WITHIN_MEASURES, correlation_within_groups


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
    metrics = agreement_with_intervals(prediction, target, group, within=True, resamples=500)
    mean = metrics.set_index("metric").loc[list(WITHIN_MEASURES)]
    for name, row in mean.iterrows():
        values = within[str(name).split()[0]][:2]
        assert row["value"] == pytest.approx(values.mean())
        # A resample has one of the two, the other, or both.
        assert (row["low"], row["high"]) == pytest.approx((values.min(), values.max()))


def test_the_interval_of_the_mean_is_about_groups() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(80).astype(str), 12)
    target = rng.normal(size=960)
    prediction = target + rng.normal(size=960) * np.repeat(rng.uniform(0.2, 3, size=80), 12)
    values = correlation_within_groups(prediction, target, group)["PLCC"]
    found = agreement_with_intervals(prediction, target, group, within=True, resamples=4000)
    mean = found.set_index("metric").loc["PLCC within"]
    low, high = stats.t.interval(0.95, 79, values.mean(), values.std(ddof=1) / np.sqrt(80))
    assert (mean["low"], mean["high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_no_group_with_a_correlation() -> None:
    names = np.array(["a", "b", "c"])
    found = agreement_with_intervals(np.arange(3.0), np.arange(3.0), names, within=True)
    within = found.set_index("metric").loc[list(WITHIN_MEASURES)]
    assert within.isna().all(axis=None)
