from __future__ import annotations

import pandas as pd
import pytest

from finecorr.errors import InputError
from finecorr.evaluation.ranking import ranking


def results() -> pd.DataFrame:
    """SRCC of three losses in two folds with two seeds."""
    values = {
        "ours": [0.9, 0.8, 0.9, 0.9],
        "mse": [0.8, 0.7, 0.9, 0.95],
        "mae": [0.85, 0.6, 0.8, 0.8],
    }
    cells = [(fold, seed) for fold in (1, 2) for seed in (0, 1)]
    return pd.DataFrame(
        [
            (loss, fold, seed, value)
            for loss, row in values.items()
            for (fold, seed), value in zip(cells, row, strict=True)
        ],
        columns=["loss", "fold", "seed", "value"],
    )


def test_ranking_by_hand() -> None:
    """Ranks of ours 1, 1, 1.5, 2; of mse 3, 2, 1.5, 1; of mae 2, 3, 3, 3."""
    frame = ranking(results().sample(frac=1, random_state=0)).set_index("loss")
    assert list(frame.index) == ["ours", "mse", "mae"]
    assert list(frame["mean_rank"]) == pytest.approx([1.375, 1.875, 2.75])
    assert list(frame["best"]) == [3, 2, 0]
    assert frame.loc["ours", "mean"] == pytest.approx(0.875)
    # Of two folds, a resample has one, the other, or both.
    assert tuple(frame.loc["ours", ["low", "high"]]) == pytest.approx((1, 1.75))
    assert tuple(frame.loc["mae", ["low", "high"]]) == pytest.approx((2.5, 3))
    errors = ranking(results(), lower_is_better=True).set_index("loss")
    assert errors.loc["ours", "mean_rank"] == pytest.approx(4 - 1.375)


def test_a_ranking_needs_each_value_once() -> None:
    frame = results()
    with pytest.raises(InputError, match="mae in fold 2 with seed 1 has no value"):
        ranking(frame.iloc[:-1])
    with pytest.raises(InputError, match="mse in fold 1 with seed 0 is there twice"):
        ranking(pd.concat([frame, frame.iloc[[4]]]))
