from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finecorr.data.opinions import Opinions, standard_errors, summarised, weights_of
from finecorr.errors import InputError

TABLE = Path("table.csv")


def test_scores_of_observers_by_hand() -> None:
    nan = np.nan
    found = summarised(np.array([[1.0, 2, 3], [4, nan, 6], [nan, 5, nan], [nan, nan, nan]]))
    np.testing.assert_array_equal(found.mean, [2, 5, 5, nan])
    np.testing.assert_array_equal(found.count, [3, 2, 1, 0])
    np.testing.assert_allclose(found.deviation, [1, np.sqrt(2), nan, nan])
    pooled = (2 * 1 + 1 * 2) / 3
    errors = standard_errors(TABLE, found)
    expected = [(2 + 4 * pooled) / 6 / 3, (2 + 4 * pooled) / 5 / 2, pooled, nan]
    np.testing.assert_allclose(errors**2, expected)


def test_a_deviation_that_is_not_known_is_the_pooled_one() -> None:
    label, deviation = np.array([1.0, 2, np.nan, 4]), np.array([2.0, np.nan, 9, 5])
    errors = standard_errors(TABLE, Opinions(label, deviation, np.array([9.0, 4, 4, 1])))
    np.testing.assert_allclose(errors, [2 / 3, 2 / 2, np.nan, 2])
    with pytest.raises(InputError, match=r"table.csv: no row has the scores of two observers"):
        standard_errors(TABLE, Opinions(label, deviation, np.ones(4)))


def test_weights_are_inverse_variances_with_a_bound() -> None:
    weights = weights_of(np.array([0.0, 1, np.sqrt(2), np.nan, 1]))
    np.testing.assert_allclose(weights, [1, 1 / 2, 1 / 3, 0, 1 / 2])
    np.testing.assert_array_equal(weights_of(np.array([0.0, 0, np.nan])), [1, 1, 0])


def test_weighting_lowers_the_error_of_a_line_through_the_labels() -> None:
    """What weights are for: half of the labels are of 2 opinions, half of 30."""
    rng = np.random.default_rng(0)
    count = np.where(np.arange(200) % 2, 2, 30)
    x = rng.normal(size=200)
    found = []
    for _ in range(200):
        scores = x[:, None] + 2 * rng.normal(size=(200, 30))
        scores[np.arange(30) >= count[:, None]] = np.nan
        opinions = summarised(scores)
        weights = weights_of(standard_errors(TABLE, opinions))
        line = np.polyfit(x, opinions.mean, 1, w=np.sqrt(weights))
        found.append([(line[0] - 1) ** 2, (np.polyfit(x, opinions.mean, 1)[0] - 1) ** 2])
    weighted, plain = np.mean(found, axis=0)
    assert weighted < 0.75 * plain
