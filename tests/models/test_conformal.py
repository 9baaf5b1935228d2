from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finecorr.models.conformal import Calibration, calibration


def _subjects(*counts: int) -> np.ndarray:
    return np.repeat([f"s{i}" for i in range(len(counts))], counts)


def test_of_one_sample_each_it_is_split_conformal_prediction() -> None:
    scores = np.random.default_rng(0).exponential(size=99)
    found = calibration(scores, _subjects(*[1] * 99))
    assert found is not None
    found.check()
    # The ceil((n + 1) level)-th of n scores.
    for level, place in ((0.5, 50), (0.9, 90), (0.95, 95), (0.99, 99)):
        assert found.quantile(level) == np.sort(scores)[place - 1]
    assert found.quantile(0.995) == np.inf


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32 - 1),
)
def test_by_its_definition(counts: list[int], level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    subjects = _subjects(*counts)
    scores = rng.integers(0, 6, len(subjects)).astype(float)
    found = calibration(scores, subjects)
    assert found is not None

    def below(limit: float) -> float:
        parts = [(scores[subjects == name] <= limit).mean() for name in np.unique(subjects)]
        return float(sum(parts) / (len(counts) + 1))

    quantile = found.quantile(level)
    if np.isfinite(quantile):
        assert below(quantile) >= level - 1e-9
        smaller = scores[scores < quantile]
        assert len(smaller) == 0 or below(smaller.max()) < level + 1e-9
    else:
        assert below(scores.max()) < level + 1e-9
    for score in np.arange(-1.0, 7):
        parts = [(scores[subjects == name] >= score).mean() for name in np.unique(subjects)]
        expected = (1 + sum(parts)) / (len(counts) + 1)
        assert found.p_values(np.array([score]))[0] == pytest.approx(expected)


def test_new_subjects_are_covered_as_often_as_is_said() -> None:
    """Where the samples of a subject are alike, a quantile of all samples as if each were a witness
    of its own covers less."""
    rng = np.random.default_rng(1)
    covered, naive = [], []
    for _ in range(2000):
        counts = rng.choice([1, 40], 12)  # Those with many samples are no worse.
        spread = rng.lognormal(0, 1, 13) * np.where(np.append(counts, 0) == 40, 0.3, 1)
        spread[-1] = rng.lognormal() * rng.choice([0.3, 1])
        subjects = _subjects(*counts)
        scores = np.abs(rng.normal(size=len(subjects)) * np.repeat(spread[:-1], counts))
        new = abs(rng.normal() * spread[-1])
        found = calibration(scores, subjects)
        assert found is not None
        covered.append(new <= found.quantile(0.8))
        naive.append(new <= np.quantile(scores, 0.8))
    assert 0.8 - 0.02 < np.mean(covered) < 0.9
    assert np.mean(naive) < 0.75


def test_many_scores_are_thinned_to_no_less() -> None:
    scores = np.random.default_rng(2).exponential(size=50_000)
    found = calibration(scores, _subjects(*[5] * 10_000))
    assert found is not None
    found.check()
    assert len(found.scores) <= 2000
    for level, more in ((0.5, 1.01), (0.9, 1.01), (0.99, 1), (0.999, 1)):
        exact = np.sort(scores)[int(np.ceil(level * 10_001 / 10_000 * 50_000)) - 1]
        assert exact <= found.quantile(level) <= exact * more


def test_missing_scores_do_not_count() -> None:
    scores = np.array([1.0, np.nan, 3.0, np.nan])
    subjects = np.array(["a", "a", "b", "c"])
    assert calibration(scores, subjects) == Calibration((1.0, 3.0), (0.5, 0.5), 2)
    assert calibration(np.array([np.nan]), np.array(["a"])) is None


@pytest.mark.parametrize(
    "wrong",
    [
        Calibration((), (), 1),
        Calibration((1.0,), (1.0,), 0),
        Calibration((2.0, 1.0), (0.5, 0.5), 2),
        Calibration((1.0, 2.0), (0.5, 0.4), 2),
        Calibration((1.0, 2.0), (1.5, -0.5), 2),
        Calibration((1.0, float("nan")), (0.5, 0.5), 2),
        Calibration((1.0,), (0.5, 0.5), 2),
    ],
)
def test_what_is_none_is_refused(wrong: Calibration) -> None:
    with pytest.raises(ValueError, match="calibration"):
        wrong.check()
