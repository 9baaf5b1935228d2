from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.evaluation.paired import compare
from finecorr.evaluation.ranks import Array, Index
from finecorr.evaluation.within import (
    CORRELATIONS,
    WITHIN_MEASURES,
    WithinGroups,
    correlation_within_groups,
    groups_within,
)


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
    metrics = agreement_with_intervals(prediction, target, group, within=group, resamples=500)
    mean = metrics.set_index("metric").loc[list(WITHIN_MEASURES)]
    for name, row in mean.iterrows():
        values = within[str(name).split()[0]][:2]
        assert row["value"] == pytest.approx(values.mean())
        # A resample has one of the two, the other, or both.
        assert (row["low"], row["high"]) == pytest.approx((values.min(), values.max()))


@st.composite
def samples(draw: st.DrawFn) -> tuple[Array, Array, Index, Index, Index]:
    """Prediction, target, group and subject of each sample, and how often each subject is drawn;
    values are equal here and there."""
    n = draw(st.integers(1, 14))

    def integers(highest: int, size: int) -> Index:
        values = st.lists(st.integers(0, highest), min_size=size, max_size=size)
        return np.array(draw(values), dtype=np.int64)

    prediction, target = integers(4, n).astype(float), integers(4, n).astype(float)
    group, subject = integers(2, n), integers(4, n)
    if draw(st.booleans()):
        subject = group // 2  # each group of one subject
    return prediction, target, group, subject, integers(3, 5)


@given(samples())
def test_the_mean_of_a_resample_is_that_of_samples_written_out(
    case: tuple[Array, Array, Index, Index, Index],
) -> None:
    """Groups of one subject each are others each time that it is drawn; any others are not."""
    prediction, target, group, subject, times = case
    groups = groups_within(group.astype(str), subject.astype(str))
    assert groups.drawn == all(len(set(subject[group == name])) == 1 for name in set(group))
    found = WithinGroups(prediction, target, groups)(times[subject][:, None].astype(float))
    copies = [
        (rows, str(name), copy if groups.drawn else 0)
        for name in np.unique(group)
        for rows in np.flatnonzero(group == name)
        for copy in range(times[subject[rows]])
    ]
    values = []
    for key in sorted({(name, copy) for _, name, copy in copies}):
        rows = [row for row, *of in copies if tuple(of) == key]
        p, y = prediction[rows], target[rows]
        if len(set(p)) > 1 and len(set(y)) > 1:
            correlations = (stats.pearsonr, stats.spearmanr, stats.kendalltau)
            values.append([correlation(p, y).statistic for correlation in correlations])
    expected = np.mean(values, axis=0) if values else np.full(len(CORRELATIONS), np.nan)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)


def test_the_interval_of_the_mean_is_about_groups() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(80).astype(str), 12)
    target = rng.normal(size=960)
    prediction = target + rng.normal(size=960) * np.repeat(rng.uniform(0.2, 3, size=80), 12)
    values = correlation_within_groups(prediction, target, group)["PLCC"]
    found = agreement_with_intervals(prediction, target, group, within=group, resamples=4000)
    mean = found.set_index("metric").loc["PLCC within"]
    low, high = stats.t.interval(0.95, 79, values.mean(), values.std(ddof=1) / np.sqrt(80))
    assert (mean["low"], mean["high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_interval_is_about_subjects_where_groups_are_other_things() -> None:
    """Three kinds of each of 60 contents: other contents may be drawn, other kinds not."""
    rng = np.random.default_rng(0)
    content, kind = np.repeat(np.arange(60), 3).astype(str), np.tile(["a", "b", "c"], 60)
    target = rng.normal(size=180)
    prediction = target + rng.normal(size=180) * np.tile([0.1, 0.5, 3.0], 60)

    def mean(rows: Index) -> float:
        within = correlation_within_groups(prediction[rows], target[rows], kind[rows])
        return float(within["PLCC"].mean())

    found = agreement_with_intervals(prediction, target, content, within=kind, resamples=2000)
    value, low, high = found.set_index("metric").loc["PLCC within"].to_numpy(dtype=float)
    assert value == pytest.approx(mean(np.arange(180)))
    drawn = 3 * rng.integers(60, size=(300, 60, 1)) + np.arange(3)
    spread = np.std([mean(rows.ravel()) for rows in drawn])
    assert (high - low) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.15)
    shifted = {"a": prediction, "b": prediction + 5 * (kind == "a")}
    compared = compare(shifted, target, content, within=kind, resamples=50)
    difference = compared.set_index("metric")["difference"].to_dict()
    assert difference["PLCC"] > 0.05
    assert abs(difference["PLCC within"]) < 1e-12


def test_of_a_prediction_that_is_nan_nothing_is_known() -> None:
    prediction, target = np.random.default_rng(0).normal(size=(2, 20))
    prediction[3] = np.nan
    subject = np.repeat(list("abcde"), 4)
    for name in (subject, np.tile(list("xy"), 10)):
        measures = WithinGroups(prediction, target, groups_within(name, subject))
        assert np.isnan(measures(np.ones((20, 1)))).all()


def test_no_group_with_a_correlation() -> None:
    names = np.array(["a", "b", "c"])
    found = agreement_with_intervals(np.arange(3.0), np.arange(3.0), names, within=names)
    within = found.set_index("metric").loc[list(WITHIN_MEASURES)]
    assert within.isna().all(axis=None)
