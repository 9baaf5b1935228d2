from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from finecorr.cli import main
from finecorr.evaluation.sureness import coverage, error_by_spread_correlation, errors_in_bins

TARGET = "head circumference (mm)"


def test_each_subject_counts_once() -> None:
    truth = np.array([0.0, 0.0, 0.0, 5.0, 0.0, np.nan])
    group = np.array(["a", "a", "a", "a", "b", "c"])
    found = coverage(truth, truth * 0 - 1, truth * 0 + 1, group)
    assert found.value == pytest.approx((3 / 4 + 1) / 2)
    assert found.low <= found.value <= found.high


def test_limits_belong_to_the_interval() -> None:
    truth, group = np.array([1.0, 2.0]), np.array(["a", "b"])
    assert coverage(truth, truth, truth + 1, group).value == 1
    assert coverage(truth, truth - 1, truth, group).value == 1
    assert coverage(truth, truth + 1e-9, truth + 1, group).value == 0


def test_its_interval_is_that_of_a_mean_over_subjects() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([f"s{i}" for i in range(200)], 3)
    truth = rng.normal(size=600)
    found = coverage(truth, np.full(600, -1.0), np.full(600, 1.0), group)
    shares = (np.abs(truth) <= 1).reshape(200, 3).mean(1)
    error = shares.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(shares.mean())
    assert found.high - found.low == pytest.approx(2 * 1.97 * error, rel=0.1)


def test_spread_and_error_by_rank() -> None:
    rng = np.random.default_rng(1)
    spread, group = rng.exponential(size=300), np.arange(300).astype(str)
    error = rng.normal(size=300) * spread
    error[::10] = np.nan
    known = np.isfinite(error)
    told = error_by_spread_correlation(error, spread, group)
    assert told.value == pytest.approx(spearmanr(np.abs(error[known]), spread[known])[0])
    assert 0 < told.low < told.value < told.high
    nothing = error_by_spread_correlation(rng.permutation(error), spread, group)
    assert nothing.low < 0 < nothing.high


def test_bins_have_about_as_many_cases() -> None:
    spread = np.arange(100.0)
    found = errors_in_bins("spread", spread, -2 * spread)
    assert found["cases"].tolist() == [12, 13, 12, 13, 12, 13, 12, 13]
    assert found["absolute"].tolist() == (2 * found["spread"]).tolist()
    assert found["spread"].is_monotonic_increasing
    assert len(errors_in_bins("spread", np.zeros(5), np.ones(5))) == 1


def test_error_by_size() -> None:
    rng = np.random.default_rng(0)
    truth, error = rng.permutation(np.arange(80.0)), rng.normal(size=80)
    result = errors_in_bins("truth", truth, error)
    order = np.argsort(truth).reshape(8, 10)
    np.testing.assert_allclose(result["truth"], truth[order].mean(1))
    np.testing.assert_allclose(result["bias"], error[order].mean(1))
    np.testing.assert_allclose(result["absolute"], np.abs(error[order]).mean(1))
    assert result["cases"].tolist() == [10] * 8
    few = errors_in_bins("truth", truth[:19], error[:19])
    assert few["cases"].tolist() == [19]
    constant = errors_in_bins("truth", np.ones(80), error)
    assert constant["cases"].tolist() == [80]


def test_an_evaluation_says_whether_intervals_hold(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["evaluate", str(run), "--all-rows", "--out", str(tmp_path / "out")]
    assert main([*flags, "--interval", "0.5"]) == 0
    found = pd.read_csv(tmp_path / "out" / "predictions.csv")
    truth, predicted = found[TARGET], found[f"predicted {TARGET}"]
    low, high = found[f"low {TARGET}"], found[f"high {TARGET}"]
    np.testing.assert_allclose(high - predicted, predicted - low)
    held = ((truth >= low) & (truth <= high)).groupby(found["group"]).mean().mean()
    sentence = f"hold the truth of {100 * held:.1f} % of the samples"
    assert f"The 50 % intervals, {(high - low)[0] / 2:.4g} to either side, {sentence}" in (
        capsys.readouterr().out
    )
    assert sentence in (tmp_path / "out" / "report.html").read_text()
    assert "Error by predicted uncertainty" not in (tmp_path / "out" / "report.html").read_text()


def test_an_evaluation_says_whether_the_spread_tells(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["evaluate", str(run), "--all-rows", "--tta", "4", "--out", str(out)]) == 0
    found = pd.read_csv(out / "predictions.csv")
    error = (found[f"predicted {TARGET}"] - found[TARGET]).abs()
    told = spearmanr(error, found[f"sd {TARGET}"])[0]
    assert f"have an SRCC of {told:.2f} (" in capsys.readouterr().out
    assert "Error by predicted uncertainty" in (out / "report.html").read_text()
