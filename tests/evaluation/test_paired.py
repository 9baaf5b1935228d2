from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import references_statistics as references
from finecorr.errors import InputError
from finecorr.evaluation.agreement import MEASURES, agreement
from finecorr.evaluation.bootstrap import Method
from finecorr.evaluation.correlations import pearson_difference
from finecorr.evaluation.paired import compare, holm
from finecorr.evaluation.ranks import Array

methods = pytest.mark.parametrize("method", ["percentile", "bca"])


def models(n: int, seed: int = 0) -> tuple[dict[str, Array], Array]:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=n)
    shared = 0.4 * rng.normal(size=n)
    return {
        name: target + shared + spread * rng.normal(size=n)
        for name, spread in (("good", 0.2), ("fair", 0.4), ("poor", 1.0))
    }, target


@methods
def test_compare_each_two_models(method: Method) -> None:
    predictions, target = models(300)
    group = np.arange(300).astype(str)
    frame = compare(predictions, target, group, method=method, resamples=1000)
    assert list(frame.columns) == [
        *("first", "second", "metric", "difference", "low", "high", "p", "p_holm")
    ]
    pairs = frame.groupby(["first", "second"], sort=False)
    assert [of for of, _ in pairs] == [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    for names, rows in pairs:
        assert list(rows["metric"]) == list(MEASURES)
        values = [agreement(predictions[str(name)], target) for name in names]
        expected = [values[0][name] - values[1][name] for name in MEASURES]
        assert list(rows["difference"]) == pytest.approx(expected, abs=1e-12)
    assert (frame["low"] < frame["difference"]).all()
    assert (frame["difference"] < frame["high"]).all()
    # The interval holds 0 where p is large, and only there.
    assert ((frame["p"] > 0.05) == ((frame["low"] < 0) & (frame["high"] > 0))).all()
    for _, rows in frame.groupby("metric"):
        assert list(rows["p_holm"]) == pytest.approx(references.holm(list(rows["p"])))


def test_the_bootstrap_is_paired() -> None:
    """As narrow as Zou's interval, which knows how the two correlations depend on each other."""
    predictions, target = models(400)
    del predictions["poor"]
    frame = compare(predictions, target, np.arange(400).astype(str), resamples=3000).set_index(
        "metric"
    )
    expected = pearson_difference(predictions["good"], predictions["fair"], target)
    width = expected.high - expected.low
    assert frame.loc["PLCC", "low"] == pytest.approx(expected.low, abs=0.1 * width)
    assert frame.loc["PLCC", "high"] == pytest.approx(expected.high, abs=0.1 * width)


@methods
def test_equal_models_differ_by_nothing(method: Method) -> None:
    predictions, target = models(30)
    target[3] = np.nan
    same = {"a": predictions["good"], "b": predictions["good"]}
    frame = compare(same, target, np.arange(30).astype(str), method=method, resamples=200)
    assert (frame[["difference", "low", "high"]] == 0).all(axis=None)
    assert list(frame["p"]) == pytest.approx([1] * len(frame))


def test_p_is_uniform_where_models_are_equally_good() -> None:
    """200 comparisons: a level of 5 % is met with a standard error of 1.5 %, one of 50 % with
    3.5 %."""
    found = []
    for trial in range(200):
        rng = np.random.default_rng(10_000 + trial)
        target, first, second = rng.normal(size=(3, 50))
        frame = compare(
            {"a": target + 0.5 * first, "b": target + 0.5 * second},
            target,
            np.arange(50).astype(str),
            resamples=200,
            seed=trial,
        )
        found.append(frame.set_index("metric")["p"][["PLCC", "SRCC", "MAE"]].to_numpy())
    p = np.array(found)
    assert np.abs((p < 0.05).mean(0) - 0.05).max() < 0.04
    assert np.abs((p < 0.5).mean(0) - 0.5).max() < 0.09


def test_what_cannot_be_compared() -> None:
    predictions, target = models(10)
    group = np.arange(10).astype(str)
    with pytest.raises(InputError, match="two models"):
        compare({"a": predictions["good"]}, target, group)
    with pytest.raises(InputError, match="b has 3 predictions for 10 samples"):
        compare({"a": predictions["good"], "b": np.arange(3.0)}, target, group)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_procedure(p_values: list[float]) -> None:
    assert list(holm(np.array(p_values))) == pytest.approx(references.holm(p_values))


def test_holm_by_hand() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
