from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from finecorr.data.opinions import Opinions, standard_errors, summarised
from finecorr.errors import InputWarning
from finecorr.evaluation.observers import ceiling
from finecorr.evaluation.ranks import Array


def opinions(
    true: Array,
    spread: Array,
    observers: int,
    rng: np.random.Generator,
    *,
    rounded: bool = False,
) -> Opinions:
    """Of 2 to `observers` of each sample."""
    scores = true[:, None] + spread[:, None] * rng.normal(size=(len(true), observers))
    if rounded:
        scores = np.round(scores)
    asked = rng.integers(2, observers + 1, size=len(true))
    scores[np.arange(observers) >= asked[:, None]] = np.nan
    return summarised(scores)


@pytest.mark.parametrize(
    ("observers", "spread", "accuracy"),
    [(40, 2.0, 0.01), (8, 0.5, 0.01), (8, 1.0, 0.015), (3, 1.0, 0.02)],
)
@pytest.mark.parametrize("kind", ["normal", "uniform", "grades"])
def test_the_ceiling_is_what_the_true_scores_reach(
    kind: str, observers: int, spread: float, accuracy: float
) -> None:
    """Observers agree on some samples more than on others."""
    rng = np.random.default_rng(0)
    n = 30_000
    true = rng.uniform(-1.7, 1.7, size=n) if kind == "uniform" else rng.normal(size=n)
    spreads = spread * rng.uniform(0.5, 1.5, size=n)
    found = opinions(true, spreads, observers, rng, rounded=kind == "grades")
    limit = ceiling(found.mean, standard_errors(Path("t"), found), draws=10)
    reached = [f(true, found.mean).statistic for f in (stats.pearsonr, stats.spearmanr)]
    assert limit == pytest.approx(reached, abs=accuracy)


def test_means_that_are_wider_apart_are_not_more_reliable_for_that() -> None:
    """Drawn to their mean by r and not by its root, the scores would be too close together."""
    rng = np.random.default_rng(1)
    true = rng.normal(size=20_000)
    mean = true + rng.normal(size=20_000)
    limit = ceiling(mean, np.ones(20_000), draws=5)
    assert limit.plcc == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert limit.srcc == pytest.approx(stats.spearmanr(true, mean).statistic, abs=0.01)


def test_the_ceiling_of_few_samples_is_right_on_average() -> None:
    rng = np.random.default_rng(0)
    found, reached = [], []
    for _ in range(100):
        true = rng.normal(size=60)
        scored = opinions(true, np.ones(60), 5, rng)
        found.append(ceiling(scored.mean, standard_errors(Path("t"), scored), draws=50))
        reached.append([f(true, scored.mean).statistic for f in (stats.pearsonr, stats.spearmanr)])
    np.testing.assert_allclose(np.mean(found, axis=0), np.mean(reached, axis=0), atol=0.015)


def test_observers_who_agree_set_no_limit() -> None:
    assert ceiling(np.array([1.0, 2.0, 2.0, 3.0]), np.zeros(4)) == pytest.approx((1, 1))
    text = ceiling(np.arange(9.0), np.zeros(9)).text()
    assert text == "observers' ceiling: PLCC 1.000, SRCC 1.000"


def test_observers_who_agree_on_nothing() -> None:
    rng = np.random.default_rng(0)
    with pytest.warns(InputWarning, match="say nothing that a model could learn"):
        assert ceiling(rng.normal(size=30), np.full(30, 2.0)) == (0, 0)
    assert np.isnan(ceiling(np.ones(5), np.ones(5))).all()


def test_the_same_call_has_the_same_result() -> None:
    mean, error = np.random.default_rng(0).normal(size=(2, 40))
    first, again = (ceiling(mean, np.abs(error) / 2, draws=30) for _ in range(2))
    assert first == again
    assert first != ceiling(mean, np.abs(error) / 2, draws=30, seed=1)
