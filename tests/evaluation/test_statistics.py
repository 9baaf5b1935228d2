from __future__ import annotations

import numpy as np
import pytest

from finecorr.evaluation.statistics import (
    MEASURES,
    agreement,
    agreement_with_intervals,
    limits_of_agreement,
)


def test_agreement_by_hand() -> None:
    prediction, target = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 3.0, 5.0, 5.0])
    value = agreement(prediction, target)
    assert list(value) == list(MEASURES)
    x, y = prediction - 2.5, target - 3.5
    assert value["PLCC"] == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)))
    ranks = np.array([1.0, 2.0, 3.5, 3.5]) - 2.5
    assert value["SRCC"] == pytest.approx((x @ ranks) / np.sqrt((x @ x) * (ranks @ ranks)))
    assert value["KRCC"] == pytest.approx(5 / np.sqrt(6 * 5))
    # Lin, 1989: 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2), with the moments over n.
    assert value["CCC"] == pytest.approx(2 * (x @ y / 4) / (x @ x / 4 + y @ y / 4 + 1))
    assert value["MAE"] == 1
    assert value["RMSE"] == pytest.approx(np.sqrt((0 + 1 + 1 + 4) / 4))
    assert value["R2"] == pytest.approx(1 - 6 / (y @ y))


def test_a_constant_has_no_correlation() -> None:
    value = agreement(np.ones(4), np.arange(4.0))
    assert np.isnan(value["SRCC"])
    assert value["MAE"] == 1


def test_intervals_hold_the_value_and_ignore_missing_labels() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=200)
    prediction = target + 0.3 * rng.normal(size=200)
    group = np.arange(200).astype(str)
    result = agreement_with_intervals(prediction, target, group, resamples=300)
    assert (result["low"] < result["value"]).all()
    assert (result["value"] < result["high"]).all()
    holed = np.append(target, np.nan)
    again = agreement_with_intervals(
        np.append(prediction, 9e9), holed, np.append(group, "x"), resamples=300
    )
    np.testing.assert_array_equal(result.iloc[:, 1:], again.iloc[:, 1:])


def test_frames_of_one_subject_are_no_independent_witnesses() -> None:
    """Each sample four times: the interval by subject stays, the one by sample would halve."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=60)
    prediction = target + 0.5 * rng.normal(size=60)
    group = np.arange(60).astype(str)

    def width(repeats: int, by_subject: bool) -> float:
        groups = np.repeat(group, repeats) if by_subject else np.arange(60 * repeats).astype(str)
        result = agreement_with_intervals(
            np.repeat(prediction, repeats), np.repeat(target, repeats), groups, resamples=400
        ).set_index("metric")
        return float((result["high"] - result["low"])["MAE"])

    assert width(4, by_subject=True) == pytest.approx(width(1, by_subject=True), rel=1e-9)
    assert width(4, by_subject=False) < 0.7 * width(1, by_subject=True)


def test_limits_of_agreement() -> None:
    error = np.array([1.0, -1.0, 3.0])
    bias, low, high = limits_of_agreement(error, np.zeros(3))
    assert bias == 1
    assert (low, high) == pytest.approx((1 - 1.96 * 2, 1 + 1.96 * 2))
