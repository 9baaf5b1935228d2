from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation

from finecorr.evaluation.contradiction import contradiction

Array = NDArray[np.float64]


def reference(prediction: Array, label: Array) -> Array:
    """Slowly: for each sample the 100 around it in the order of predictions."""
    n = len(label)
    order = sorted(range(n), key=lambda i: (prediction[i], i))
    error = label - prediction
    least = 0.5 * median_abs_deviation(error, scale="normal")
    scores = np.zeros(n)
    for place, i in enumerate(order):
        first = min(max(place - min(100, n) // 2, 0), n - min(100, n))
        near = error[order[first : first + 100]]
        distance = abs(error[i] - np.median(near))
        spread = max(median_abs_deviation(near, scale="normal"), least)
        if distance > 0:
            scores[i] = distance / spread if spread > 0 else np.inf
    return scores


@given(st.integers(1, 260), st.integers(0, 2**32 - 1), st.booleans())
def test_it_is_the_reference(n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    prediction = rng.normal(100, 30, n)
    # Where the spread is small among neighbours, half of that of all counts.
    label = prediction + rng.normal(0, np.where(prediction > 110, 0.5, 10), n)
    if ties:
        prediction, label = np.round(prediction, -1), np.round(label, -1)
    expected = reference(prediction, label)
    np.testing.assert_allclose(contradiction(prediction, label), expected, rtol=1e-9)
    # The unit does not matter.
    np.testing.assert_allclose(contradiction(2 * prediction, 2 * label), expected, rtol=1e-9)


def test_wrong_labels_come_first_where_labels_spread_differently() -> None:
    """Among large sizes an error of 30 is common, among small ones one of 6 is not."""
    rng = np.random.default_rng(0)
    size = np.repeat([50.0, 300.0], 400) + rng.uniform(0, 20, 800)
    label = size + rng.normal(0, np.repeat([1.0, 10.0], 400))
    wrong = rng.choice(400, 20, replace=False)
    label[wrong] += 8 * rng.choice([-1, 1], 20)
    first = np.argsort(-contradiction(size, label))[:20]
    assert len(set(first) & set(wrong)) >= 18
    assert len(set(np.argsort(-np.abs(label - size))[:20]) & set(wrong)) == 0


@pytest.mark.parametrize("n", [1, 2, 60])
def test_where_all_labels_are_as_predicted_there_is_no_suspect(n: int) -> None:
    prediction = np.arange(float(n))
    assert (contradiction(prediction, prediction) == 0).all()
    assert (contradiction(prediction, prediction + 3) == 0).all()


def test_the_one_that_is_not_as_predicted() -> None:
    prediction = np.arange(60.0)
    label = prediction.copy()
    label[7] = 9.0
    scores = contradiction(prediction, label)
    assert scores[7] == np.inf
    assert (np.delete(scores, 7) == 0).all()
