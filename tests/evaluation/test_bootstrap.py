from __future__ import annotations

import math
import subprocess
import sys
import time
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from finecorr.errors import InputError
from finecorr.evaluation import bootstrap
from finecorr.evaluation.agreement import MAPPED_MEASURES, MEASURES, Agreement, agreement
from finecorr.evaluation.bootstrap import (
    Distribution,
    Method,
    agreement_with_intervals,
    distributions,
)
from finecorr.evaluation.ranks import Array

methods = pytest.mark.parametrize("method", ["percentile", "centred", "bca"])
scipy_methods = pytest.mark.parametrize("method", ["percentile", "bca"])


def sample(n: int, seed: int = 0) -> tuple[Array, Array]:
    target, noise = np.random.default_rng(seed).normal(size=(2, n))
    return 0.2 + 0.8 * target + 0.5 * noise, target


def names(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


@methods
def test_intervals_hold_the_value_and_ignore_missing_labels(method: Method) -> None:
    prediction, target = sample(200)
    group = names(200)
    result = agreement_with_intervals(prediction, target, group, method=method, resamples=300)
    assert list(result.columns) == ["metric", "value", "low", "high"]
    assert list(result["metric"]) == list(MEASURES)
    assert list(result["value"]) == list(agreement(prediction, target).values())
    assert (result["low"] < result["value"]).all()
    assert (result["value"] < result["high"]).all()
    holed = np.append(target, np.nan)
    again = agreement_with_intervals(
        np.append(prediction, 9e9), holed, np.append(group, "x"), method=method, resamples=300
    )
    np.testing.assert_array_equal(result.iloc[:, 1:], again.iloc[:, 1:])
    with pytest.raises(InputError, match="no sample has a target"):
        agreement_with_intervals(prediction, np.full(200, np.nan), group)


@methods
def test_frames_of_one_subject_are_no_independent_witnesses(method: Method) -> None:
    """Each sample four times: the interval by subject stays, the one by sample would halve."""
    prediction, target = sample(60)

    def width(repeats: int, by_subject: bool) -> float:
        group = np.repeat(names(60), repeats) if by_subject else names(60 * repeats)
        result = agreement_with_intervals(
            np.repeat(prediction, repeats),
            np.repeat(target, repeats),
            group,
            method=method,
            resamples=400,
        ).set_index("metric")
        return float((result["high"] - result["low"])["MAE"])

    assert width(4, by_subject=True) == pytest.approx(width(1, by_subject=True), rel=1e-9)
    assert width(4, by_subject=False) < 0.7 * width(1, by_subject=True)


def test_groups_are_drawn_whole_and_equally_often() -> None:
    member = np.array([0, 0, 1, 2, 2, 2])
    seen: list[Array] = []

    def statistic(weight: Array) -> Array:
        seen.append(weight)
        return weight[:1]

    distributions(statistic, member, 3000, "bca", 0)
    value, drawn, without = seen
    assert (value == 1).all()
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[3] == drawn[5]).all()
    of_group = drawn[[0, 2, 3]]
    assert (of_group.sum(0) == 3).all()
    # Each binomial with 3 draws of 1 / 3.
    for counts in of_group:
        share = np.bincount(counts.astype(int), minlength=4) / 3000
        assert share == pytest.approx([8 / 27, 12 / 27, 6 / 27, 1 / 27], abs=0.03)
    assert without.T.tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]]


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, target = sample(30)
    whole = agreement_with_intervals(prediction, target, names(30), method="bca", resamples=100)
    monkeypatch.setattr(bootstrap, "_CHUNK", 30 * 7)
    parts = agreement_with_intervals(prediction, target, names(30), method="bca", resamples=100)
    np.testing.assert_allclose(whole.iloc[:, 1:].to_numpy(), parts.iloc[:, 1:].to_numpy())


def level_of(confidence: float, groups: int) -> float:
    """The confidence of the ordinary interval with the same normal quantile."""
    t = stats.t.ppf((1 + confidence) / 2, groups - 1)
    return float(1 - 2 * stats.norm.sf(t * math.sqrt(groups / (groups - 1))))


@pytest.mark.parametrize("measure", ["PLCC", "RMSE", "KRCC", "ULoA"])
@scipy_methods
def test_intervals_are_those_of_scipy(method: Literal["percentile", "bca"], measure: str) -> None:
    """Of the same resamples, and at the level that the expansion makes of 95 %."""
    n = 25
    prediction, target = sample(n, 4)
    values = Agreement(prediction, target)
    index = values.names.index(measure)

    def statistic(rows: Array) -> float:
        return agreement(prediction[rows], target[rows])[measure]

    result = stats.bootstrap(
        (np.arange(n),),
        statistic,
        vectorized=False,
        n_resamples=499,
        confidence_level=level_of(0.95, n),
        method=method,
        rng=np.random.default_rng(0),
    )
    without = values(1 - np.eye(n))[index] if method == "bca" else np.empty(0)
    value = agreement(prediction, target)[measure]
    found = Distribution(value, result.bootstrap_distribution, without, groups=n)
    assert found.interval(0.95) == pytest.approx(tuple(result.confidence_interval), rel=1e-9)


def test_many_groups_are_put_together_for_the_jackknife(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, target = sample(400)
    prediction = np.exp(prediction)
    each = agreement_with_intervals(prediction, target, names(400), method="bca", resamples=2000)
    monkeypatch.setattr(bootstrap, "_PARTS", 100)
    parts = agreement_with_intervals(prediction, target, names(400), method="bca", resamples=2000)
    width = each["high"] - each["low"]
    assert (np.abs(each["low"] - parts["low"]) < 0.05 * width).all()
    assert (np.abs(each["high"] - parts["high"]) < 0.05 * width).all()


@scipy_methods
def test_the_p_value_is_where_the_interval_reaches_zero(method: Method) -> None:
    rng = np.random.default_rng(0)
    samples = 0.3 + 0.2 * rng.gamma(2, size=999) - 0.5
    without = rng.gamma(2, size=20) if method == "bca" else np.empty(0)
    found = Distribution(0.2, samples, without, groups=20)
    p = found.p_value()
    assert 0.01 < p < 0.99
    below, above = found.interval(1 - p * 1.02), found.interval(1 - p / 1.02)
    assert not below[0] < 0 < below[1]
    assert above[0] < 0 < above[1]


def test_p_values_at_the_ends() -> None:
    none, samples = np.empty(0), np.linspace(1, 2, 999)
    least = Distribution(1.5, samples, none, groups=10**6).p_value()
    assert least == pytest.approx(1 / 1000, rel=0.01)
    assert Distribution(-1.5, -samples, none, groups=10**6).p_value() == pytest.approx(least)
    assert Distribution(0.0, np.zeros(999), none, groups=9).p_value() == pytest.approx(1)


@methods
def test_undefined_resamples_are_left_out(method: Method) -> None:
    """Three subjects: one draw in nine has one of them only, and no correlation."""
    prediction, target = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.5])
    result = agreement_with_intervals(prediction, target, names(3), method=method)
    assert np.isfinite(result[["low", "high"]].to_numpy()).all()
    low, high = result[["low", "high"]].to_numpy(dtype=float).T
    assert (low <= high).all()


@methods
def test_where_there_is_no_interval(method: Method) -> None:
    prediction, target = sample(20)
    one = agreement_with_intervals(prediction, target, np.full(20, "a"), method=method)
    assert one["value"].notna().all()
    assert one[["low", "high"]].isna().all(axis=None)
    constant = agreement_with_intervals(np.ones(20), target, names(20), method=method)
    constant = constant.set_index("metric")
    assert constant.loc["SRCC"].isna().all()
    assert constant.loc["MAE"].notna().all()
    perfect = agreement_with_intervals(target, target, names(20), method=method)
    assert (perfect["low"] == perfect["value"]).all()
    assert (perfect["high"] == perfect["value"]).all()


def test_mapped_measures_come_on_request() -> None:
    prediction, target = sample(100)
    result = agreement_with_intervals(
        np.exp(prediction), target, names(100), mapped=True, resamples=400
    ).set_index("metric")
    assert list(result.index) == [*MEASURES, *MAPPED_MEASURES]
    assert result["value"]["PLCC mapped"] > result["value"]["PLCC"]
    assert (result["low"] < result["value"]).all()
    assert (result["value"] < result["high"]).all()


@pytest.mark.parametrize("n", [50, 500])
@methods
def test_coverage(method: Method, n: int) -> None:
    """A short form of benchmarks/coverage.py: of `trials` samples, which leaves the coverage a
    standard error of 1.3 % and 2.4 %."""
    trials = 300 if n == 50 else 80
    plcc = 0.8 / math.sqrt(0.89)
    truth = {
        "PLCC": plcc,
        "SRCC": 6 / math.pi * math.asin(plcc / 2),
        "KRCC": 2 / math.pi * math.asin(plcc),
        "RMSE": math.sqrt(0.33),
        "bias": 0.2,
    }
    held = np.zeros(len(truth))
    for trial in range(trials):
        prediction, target = sample(n, 10_000 + trial)
        result = agreement_with_intervals(
            prediction, target, names(n), method=method, resamples=300, seed=trial
        ).set_index("metric")
        low, high = result.loc[list(truth), ["low", "high"]].to_numpy(dtype=float).T
        held += (low <= list(truth.values())) & (list(truth.values()) <= high)
    error = math.sqrt(0.95 * 0.05 / trials)
    assert (np.abs(held / trials - 0.95) < 0.01 + 2.5 * error).all(), held / trials


def test_ten_thousand_resamples_of_a_thousand_samples() -> None:
    prediction, target = sample(1000)
    start = time.process_time()
    agreement_with_intervals(prediction, target, names(1000), resamples=10_000)
    assert time.process_time() - start < 5


def test_twenty_thousand_samples_need_little_memory() -> None:
    """Some hundred sets of them; more come one after the other."""
    code = """
import resource, numpy as np
from finecorr.evaluation.bootstrap import agreement_with_intervals
target, noise = np.random.default_rng(0).normal(size=(2, 20_000))
group = np.arange(20_000).astype(str)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
agreement_with_intervals(
    target + noise, target, group, method="percentile", mapped=True, resamples=100
)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 300  # MiB
