from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finecorr.data.splits import Fold, check_disjoint, split_table
from finecorr.data.table import ImageTable
from finecorr.errors import InputError

FRACTIONS = (0.7, 0.15, 0.15)


def _table(groups: list[str], splits: list[str] | None = None) -> ImageTable:
    n = len(groups)
    return ImageTable(
        source=Path("table.csv"),
        rows=np.arange(2, n + 2),
        images=[(Path(f"{i}.png"),) for i in range(n)],
        names=[f"{i}.png" for i in range(n)],
        target_columns=("target",),
        targets=np.arange(n, dtype=float)[:, None],
        groups=np.array(groups),
        splits=None if splits is None else np.array(splits),
        weights=None,
        pixel_sizes=None,
    )


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.integers(3, 6), min_size=3, max_size=60), st.integers(0, 10_000))
def test_a_subject_is_on_one_side(frames: list[int], seed: int) -> None:
    groups = [str(subject) for subject, count in enumerate(frames) for _ in range(count)]
    splits = split_table(_table(groups), FRACTIONS, seed)
    for subject in set(groups):
        assert len(set(splits[np.array(groups) == subject])) == 1
    assert set(splits) == {"train", "validation", "test"}


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_take_turns_as_the_test_split(folds: int) -> None:
    groups = [str(i // 3) for i in range(120)]
    splits = [
        split_table(_table(groups), FRACTIONS, 0, Fold(number, folds))
        for number in range(1, folds + 1)
    ]
    tested = np.array([split == "test" for split in splits])
    assert (tested.sum(0) == 1).all()
    for split in splits:
        assert set(split) == {"train", "validation", "test"}
        check_disjoint(split, np.array(groups), Path("table.csv"))
        # Of what is not tested, 0.15 / (0.7 + 0.15).
        share = (split == "validation").sum() / (split != "test").sum()
        assert share == pytest.approx(0.15 / 0.85, abs=0.04)
    other = split_table(_table(groups), FRACTIONS, 1, Fold(1, folds))
    assert (other != splits[0]).any()


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (Fold(1, 1), "--folds must be from 2 to 30"),
        (Fold(1, 31), "--folds must be from 2 to 30"),
        (Fold(0, 5), "--fold must be from 1 to 5"),
        (Fold(6, 5), "--fold must be from 1 to 5"),
    ],
)
def test_folds_that_cannot_be(fold: Fold, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_table(_table([str(i) for i in range(30)]), FRACTIONS, 0, fold)


def test_folds_and_a_split_column() -> None:
    table = _table([str(i) for i in range(30)], ["train"] * 20 + ["test"] * 10)
    with pytest.raises(InputError, match="leave out --split-column"):
        split_table(table, FRACTIONS, 0, Fold(1, 5))


def test_fractions_are_of_the_subjects() -> None:
    groups = [str(i // 2) for i in range(400)]
    splits = split_table(_table(groups), FRACTIONS, 0)
    assert [int((splits == name).sum()) for name in ("train", "validation", "test")] == [
        *(280, 60, 60)
    ]


def test_the_seed_decides() -> None:
    table = _table([str(i) for i in range(100)])
    first, again, other = (split_table(table, FRACTIONS, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_given_splits_are_kept_and_validation_drawn_from_training() -> None:
    given_splits = ["train"] * 20 + ["test"] * 5
    splits = split_table(_table([str(i) for i in range(25)], given_splits), FRACTIONS, 0)
    assert (splits[20:] == "test").all()
    assert set(splits[:20]) == {"train", "validation"}


def test_a_subject_in_two_given_splits() -> None:
    given_splits = ["train"] * 10 + ["validation"] * 5 + ["test"] * 5
    groups = [str(i) for i in range(19)] + ["3"]
    with pytest.raises(InputError, match=r"more than one split: 3 \(test, train\);"):
        split_table(_table(groups, given_splits), FRACTIONS, 0)
    with pytest.raises(InputError, match="more than one split"):
        check_disjoint(np.array(["train", "test"]), np.array(["a", "a"]), Path("t"))


def test_too_few_rows() -> None:
    with pytest.raises(InputError, match="too few rows for a split"):
        split_table(_table(["a", "b", "c", "d"]), FRACTIONS, 0)
    with pytest.raises(InputError, match="more subjects are needed"):
        split_table(_table(["a"] * 9), FRACTIONS, 0)


def test_there_need_not_be_validation_rows() -> None:
    groups = [str(i // 2) for i in range(200)]
    fractions = (0.8, 0.0, 0.2)
    drawn = split_table(_table(groups), fractions, 0)
    assert [int((drawn == name).sum()) for name in ("train", "validation", "test")] == [160, 0, 40]
    assert set(split_table(_table(groups), fractions, 0, Fold(1, 4))) == {"train", "test"}
    column = ["train"] * 150 + ["test"] * 50
    assert list(split_table(_table(groups, column), fractions, 0)) == column
    column[:20] = ["validation"] * 20
    assert list(split_table(_table(groups, column), fractions, 0)) == column


@pytest.mark.parametrize(
    "fractions",
    [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.5, 0.5), (1.2, -0.4, 0.2), (0.0, 0.5, 0.5)],
)
def test_fractions_are_checked(fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="--split-fractions"):
        split_table(_table(["a", "b", "c"]), fractions, 0)
