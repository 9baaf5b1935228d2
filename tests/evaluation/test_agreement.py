from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import references_statistics as references
from finecorr.evaluation.agreement import (
    MAPPED_MEASURES,
    MEASURES,
    Agreement,
    agreement,
    limits_of_agreement,
)
from finecorr.evaluation.ranks import Array


def sample(n: int, seed: int, *, ties: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=n)
    prediction = 0.3 + 0.8 * target + 0.6 * rng.normal(size=n)
    return (np.round(prediction, 0), np.round(target * 2)) if ties else (prediction, target)


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
    assert value["bias"] == -1
    # The errors deviate from it by 1, 0, 0 and -1.
    assert value["LLoA"] == pytest.approx(-1 - 1.96 * np.sqrt(2 / 3))
    assert limits_of_agreement(prediction, target) == (-1, value["LLoA"], value["ULoA"])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 3, 17, 64, 65])
def test_agreement_is_that_of_scipy(n: int, ties: bool) -> None:
    prediction, target = sample(n, n, ties=ties)
    if n == 2:
        prediction, target = np.array([1.0, 3.0]), np.array([2.0, 1.5])
    assert agreement(prediction, target) == pytest.approx(
        references.agreement(prediction, target), rel=1e-12
    )


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=2),
)
@settings(max_examples=300, deadline=None)
def test_a_sample_that_counts_twice_is_there_twice(rows: list[tuple[int, int, int]]) -> None:
    prediction, target, times = np.array(rows, float).T
    p, y = references.repeated(prediction, times), references.repeated(target, times)
    if len(p) < 2 or np.ptp(p) == 0 or np.ptp(y) == 0:
        return
    weight = np.stack([np.ones(len(times)), times], axis=1)
    found = Agreement(prediction, target)(weight)[:, 1]
    assert found == pytest.approx(list(references.agreement(p, y).values()), rel=1e-9, abs=1e-12)


def test_many_sets_at_once_are_each_for_itself() -> None:
    prediction, target = sample(40, 0)
    times = np.random.default_rng(0).poisson(1, size=(40, 30)).astype(float)
    found = Agreement(prediction, target)(times)
    for column, values in zip(times.T, found.T, strict=True):
        p, y = (references.repeated(v, column) for v in (prediction, target))
        assert values == pytest.approx(list(references.agreement(p, y).values()), rel=1e-10)


def test_perfect_predictions() -> None:
    target = np.random.default_rng(0).normal(size=1000)
    value = agreement(target, target)
    assert list(value.values()) == [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]
    assert agreement(-target, target)["KRCC"] == -1


@pytest.mark.parametrize("constant", [1.0, 0.1])
def test_a_constant_has_no_correlation(constant: float) -> None:
    target = np.arange(7.0)
    value = agreement(np.full(7, constant), target)
    assert np.isnan([value[name] for name in ("PLCC", "SRCC", "KRCC", "CCC")]).all()
    assert value["R2"] == pytest.approx(1 - ((target - constant) ** 2).mean() / target.var())
    assert value["bias"] == pytest.approx(constant - 3)
    value = agreement(target, np.full(7, constant))
    assert np.isnan([value[name] for name in ("PLCC", "SRCC", "KRCC", "CCC", "R2")]).all()
    # A set of which only equal values are drawn, of a sample that is not constant.
    times = np.array([[0.0], [3.0], [0.0], [2.0]])
    drawn = Agreement(np.array([5.0, 0.1, 2.0, 0.1]), np.array([1.0, 2.0, 3.0, 4.0]))(times)
    assert np.isnan(drawn[:4, 0]).all()
    assert np.isfinite(drawn[4:, 0]).all()


def test_of_a_prediction_that_is_nan_nothing_is_known() -> None:
    prediction, target = np.random.default_rng(0).normal(size=(2, 20))
    prediction[3] = np.nan
    assert np.isnan([*agreement(prediction, target, mapped=True).values()]).all()


def test_far_from_zero_the_digits_are_those_of_the_input() -> None:
    """A group far away, of which a set has nothing, takes none of them."""
    prediction, target = sample(50, 3)
    expected = references.agreement(prediction, target)
    shifted = agreement(prediction + 1e6, target + 1e6)
    assert shifted == pytest.approx(expected, rel=1e-8, abs=1e-8)
    p, y = np.append(prediction, 1e7), np.append(target, 1e7)
    found = Agreement(p, y)(np.append(np.ones(50), 0)[:, None])[:, 0]
    assert found == pytest.approx(list(expected.values()), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("prediction_unit", [1e-160, 1.0, 1e160])
@pytest.mark.parametrize("target_unit", [1e-160, 1.0, 1e160])
def test_units_that_squares_do_not_hold(prediction_unit: float, target_unit: float) -> None:
    random = np.random.default_rng(1)
    target = random.normal(size=50)
    prediction = target + random.normal(size=50)
    plain = agreement(prediction, target, mapped=True)
    scaled = agreement(prediction * prediction_unit, target * target_unit, mapped=True)
    free = ["PLCC", "SRCC", "KRCC"]
    if prediction_unit == target_unit:
        for name in ("MAE", "RMSE", "bias", "LLoA", "ULoA", "RMSE mapped"):
            plain[name] *= target_unit
        free = list(plain)
    assert {name: scaled[name] for name in free} == pytest.approx(
        {name: plain[name] for name in free}, rel=1e-9, abs=0
    )


@pytest.mark.parametrize("curve", [np.tanh, lambda x: np.exp(x / 2), lambda x: -np.tanh(3 * x)])
def test_logistic_mapping_is_that_of_vqeg(curve: np.ufunc) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200)
    opinions = 50 + 20 * curve(scores) + 3 * rng.normal(size=200)
    for prediction in (scores, 1e-3 * scores + 7):
        value = agreement(prediction, opinions, mapped=True)
        assert list(value) == [*MEASURES, *MAPPED_MEASURES]
        expected = references.mapped_agreement(prediction, opinions)
        assert {name: value[name] for name in expected} == pytest.approx(expected, rel=1e-5)
        assert value["PLCC mapped"] > abs(value["PLCC"])


def test_each_set_has_a_mapping_of_its_own() -> None:
    rng = np.random.default_rng(0)
    prediction = rng.normal(size=150)
    target = np.tanh(2 * prediction) + 0.3 * rng.normal(size=150)
    times = rng.poisson(1, size=(150, 8)).astype(float)
    statistic = Agreement(prediction, target, mapped=True)
    found = statistic(times)[-2:]
    for column, values in zip(times.T, found.T, strict=True):
        p, y = (references.repeated(v, column) for v in (prediction, target))
        expected = references.mapped_agreement(p, y)
        assert values == pytest.approx(list(expected.values()), abs=2e-4)
    # That of all samples would be further off.
    assert np.ptp(found[0]) > 0.01


def test_a_mapping_of_few_or_equal_values() -> None:
    target = np.array([1.0, 2.0, 3.0, 5.0])
    assert np.isnan(agreement(np.ones(4), target, mapped=True)["PLCC mapped"])
    assert np.isnan(agreement(target, np.ones(4), mapped=True)["RMSE mapped"])
    # With four parameters it fits any four values.
    assert np.isnan(agreement(np.array([2.0, 1.0, 4.0, 3.0]), target, mapped=True)["PLCC mapped"])
    two = agreement(np.repeat([0.0, 1.0], 4), np.repeat(target, 2), mapped=True)
    assert two["PLCC mapped"] == pytest.approx(two["PLCC"], rel=1e-6)


def test_the_mapping_is_the_best_where_there_is_little_to_find() -> None:
    """Against all centres and slopes of a grid; a single start ends in a lesser maximum."""
    for seed in (5, 11, 17, 23):
        prediction, target = np.random.default_rng(seed).normal(size=(2, 40))
        centre, slope = np.meshgrid(np.linspace(-3, 3, 25), np.exp(np.linspace(-1, 3, 15)))
        score = (prediction - prediction.mean())[:, None] / prediction.std()
        logistic = 1 / (1 + np.exp(-(score - centre.ravel()) * slope.ravel()))
        best = np.abs(np.corrcoef(np.column_stack([logistic, target]).T)[-1, :-1]).max()
        found = agreement(prediction, target, mapped=True)["PLCC mapped"]
        assert found > best - 1e-6
