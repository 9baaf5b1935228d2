from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from finecorr.evaluation.correlations import (
    pearson_difference,
    pearson_interval,
    spearman_interval,
    steiger_test,
    zou_interval,
)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_pearson_interval_is_that_of_scipy(confidence: float) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    result = stats.pearsonr(x, y)
    expected = result.confidence_interval(confidence)
    assert pearson_interval(result.statistic, 20, confidence) == pytest.approx(tuple(expected))


def test_spearman_interval_of_a_published_example() -> None:
    """The example of `ci.spear` in statpsych, Bonett's R package."""
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    correlation = stats.spearmanr(x, y).statistic
    assert correlation == pytest.approx(0.8699639, abs=5e-8)
    assert spearman_interval(correlation, 15) == pytest.approx((0.5840951, 0.9638297), abs=5e-8)


def test_intervals_at_the_ends() -> None:
    assert pearson_interval(1.0, 10) == (1, 1)
    assert spearman_interval(-1.0, 10) == (-1, -1)
    for samples, correlation in ((3, 0.5), (10, np.nan)):
        assert np.isnan(pearson_interval(correlation, samples)).all()
        assert np.isnan(spearman_interval(correlation, samples)).all()


def test_steiger_of_published_examples() -> None:
    """Silver, Hittner and May, 2006; and Steiger, 1980, p. 249, who rounds the covariance."""
    z, p = steiger_test(0.3, 0.4, 0.5, 100)
    assert (z, p) == pytest.approx((-1.0718, 0.2838), abs=5e-5)
    assert steiger_test(0.4, 0.5, 0.1, 103)[0] == pytest.approx(-0.8913, abs=3e-3)


def test_zou_of_a_published_example() -> None:
    """Zou, 2007, on overlapping correlations."""
    assert zou_interval(0.396, 0.179, 0.088, 66) == pytest.approx((-0.093, 0.517), abs=5e-4)


def test_difference_of_two_models() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=400)
    first, second = (target + spread * rng.normal(size=400) for spread in (0.5, 0.7))
    found = pearson_difference(first, second, target)
    r = np.corrcoef([first, second, target])
    assert found.value == pytest.approx(r[0, 2] - r[1, 2])
    interval = zou_interval(r[0, 2], r[1, 2], r[0, 1], 400)
    assert (found.low, found.high) == pytest.approx(interval)
    assert found.p == pytest.approx(steiger_test(r[0, 2], r[1, 2], r[0, 1], 400)[1])
    swapped = pearson_difference(second, first, target)
    assert swapped[:3] == pytest.approx((-found.value, -found.high, -found.low))


@pytest.mark.parametrize("seed", range(20))
def test_difference_of_models_that_correlate_alike_or_perfectly(seed: int) -> None:
    """In most of these, a sum that is 0 but for rounding is a divisor."""
    target, noise = np.random.default_rng(seed).normal(size=(2, 12))
    model = target + noise
    for first, second in ((model, model), (model, 3 * model + 2), (target, 2 * target + 1)):
        found = pearson_difference(first, second, target)
        assert found.value == pytest.approx(0, abs=1e-12)
        assert found.low <= found.value <= found.high
        assert found.p == pytest.approx(1, abs=1e-6)
    found = pearson_difference(target, model, target)
    assert 0 < found.low < found.value < found.high < 2
    assert found.p < 1e-6
    low, high = pearson_interval(0.5, 12)
    assert zou_interval(1.0, 0.5, 0.5, 12) == pytest.approx((1 - high, 1 - low))


def test_coverage_of_the_closed_forms() -> None:
    """Of 4000 samples, which leaves the coverage a standard error of 0.34 %."""
    n, trials = 50, 4000
    rng = np.random.default_rng(0)
    y, a, b = rng.normal(size=(3, trials, n))
    first, second = y + 0.6 * a, y + 0.4 * a + 0.6 * b
    rho_first, rho_second = 1 / np.sqrt(1.36), 1 / np.sqrt(1 + 0.16 + 0.36)
    ranks_first, ranks_y = stats.rankdata(first, axis=1), stats.rankdata(y, axis=1)

    def correlations(x: np.ndarray, z: np.ndarray) -> list[float]:
        return [float(r) for r in stats.pearsonr(x, z, axis=1).statistic]

    to_first, to_second = correlations(first, y), correlations(second, y)
    between, of_ranks = correlations(first, second), correlations(ranks_first, ranks_y)
    rho_ranks = 6 / np.pi * np.arcsin(rho_first / 2)
    held = np.zeros(3)
    for r1, r2, r12, ranks in zip(to_first, to_second, between, of_ranks, strict=True):
        for i, (truth, (low, high)) in enumerate(
            (
                (rho_first, pearson_interval(r1, n)),
                (rho_ranks, spearman_interval(ranks, n)),
                (rho_first - rho_second, zou_interval(r1, r2, r12, n)),
            )
        ):
            held[i] += low <= truth <= high
    assert (np.abs(held / trials - 0.95) < 0.02).all(), held / trials
