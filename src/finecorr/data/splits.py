"""Training, validation and test rows, split by group."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from finecorr.data.options import MAX_SEED, SplitOptions
from finecorr.data.table import SPLITS, ImageTable
from finecorr.errors import InputError, spelled

MIN_LABELS = 3
"""The fewest labels of a target that a split may have: with two, every correlation is 1 or -1."""


@dataclass(frozen=True)
class Fold:
    """One of the parts of equally many groups that take turns as the test split."""

    number: int
    """From 1."""
    folds: int


def split_table(
    table: ImageTable, fractions: Sequence[float], seed: int, fold: Fold | None = None
) -> NDArray[np.str_]:
    """`(n,)`: for each row "train", "validation" or "test".

    The table's split column is taken as it is; where it has no validation rows, some of the
    training groups become them. Without the column, groups are drawn at random. No group becomes
    validation where its share is 0.

    Args:
        table: the rows.
        fractions: shares of the groups for training, validation and test; their sum is 1.
        seed: of the draw.
        fold: which of the groups are the test split, instead of the third share. All folds of a
            seed are one partition of the groups.

    Raises:
        InputError: a group is in two splits, a split has too few labels, or there are both folds
            and a split column.
    """
    shares = np.array(fractions)
    if (
        len(shares) != 3
        or not (shares[[0, 2]] > 0).all()
        or not (shares[1] >= 0 and abs(shares.sum() - 1) <= 1e-6)
    ):
        raise InputError(
            "--split-fractions must be three positive numbers with the sum 1, of which the second "
            f"may be 0, not {' '.join(f'{fraction:g}' for fraction in fractions)}"
        )
    train, validation, test = fractions
    held_out = validation / (train + validation)
    if fold is not None:
        if table.splits is not None:
            raise InputError(
                "folds are drawn from all rows: leave out --split-column (--split-column null, "
                "where a file of flags names it)"
            )
        splits = np.full(len(table), "train", dtype="<U10")
        splits[_members(table, fold, seed)] = "test"
    elif table.splits is None:
        splits = np.full(len(table), "train", dtype="<U10")
        _draw(splits, table, "test", test, seed)
    else:
        splits = table.splits.astype("<U10")
    if held_out > 0 and "validation" not in splits and "train" in splits:
        _draw(splits, table, "validation", held_out, seed)
    check_disjoint(splits, table.groups, table.source)
    _check_sizes(splits, table)
    return splits


def check_disjoint(splits: NDArray[np.str_], groups: NDArray[np.str_], source: Path) -> None:
    """Raises InputError if a group is in more than one split."""
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1][1:]
    torn = []
    for members in np.split(order, starts):
        names = sorted(set(splits[members]))
        if len(names) > 1:
            torn.append(f"{spelled(groups[members[0]])} ({', '.join(names)})")
    if torn:
        more = f", and {len(torn) - 10} more" if len(torn) > 10 else ""
        raise InputError(
            f"{source}: subjects in more than one split: {', '.join(torn[:10])}{more}; "
            "give every row of a subject the same split"
        )


def _members(table: ImageTable, fold: Fold, seed: int) -> NDArray[np.intp]:
    if not 2 <= fold.folds <= len(set(table.groups)):
        raise InputError(
            f"{table.source}: --folds must be from 2 to {len(set(table.groups))}, the number of "
            f"subjects, not {fold.folds}"
        )
    if not 1 <= fold.number <= fold.folds:
        raise InputError(f"--fold must be from 1 to {fold.folds}, not {fold.number}")
    partition = GroupKFold(fold.folds, shuffle=True, random_state=seed)
    parts = partition.split(np.zeros(len(table)), groups=table.groups)
    _, members = next(itertools.islice(parts, fold.number - 1, None))
    return np.asarray(members)


def _draw(
    splits: NDArray[np.str_], table: ImageTable, name: str, fraction: float, seed: int
) -> None:
    """Gives a share of the groups that are in training to the split `name`."""
    pool = np.flatnonzero(splits == "train")
    groups = len(set(table.groups[pool]))
    if groups < 2:
        raise InputError(
            f"{table.source}: {groups} subject(s) cannot be split for training and {name}: "
            "more subjects are needed"
        )
    # At least one group on each side, however small the table.
    size = min(max(round(fraction * groups), 1), groups - 1)
    draw = GroupShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    _, drawn = next(draw.split(pool, groups=table.groups[pool]))
    splits[pool[drawn]] = name


def _check_sizes(splits: NDArray[np.str_], table: ImageTable) -> None:
    faults = []
    for name in SPLITS:
        if name == "validation" and name not in splits:
            continue
        for column, values in zip(table.target_columns, table.targets.T, strict=True):
            counts = (splits == name) & np.isfinite(values)
            if name == "train" and table.weights is not None:
                counts &= table.weights > 0
            known = values[counts]
            if len(known) < MIN_LABELS:
                faults.append(f"{name} has {len(known)} labels of {column!r}")
            elif known.min() == known.max():
                faults.append(f"{name} has only the value {known[0]:g} of {column!r}")
    if faults:
        raise InputError(
            f"{table.source}: too few rows for a split ({'; '.join(faults)}): each needs at least "
            f"{MIN_LABELS} labels with different values; add rows, or change --split-fractions, "
            "--seed or the split column"
        )


def split_rows(table: ImageTable, options: SplitOptions, seed: int) -> NDArray[np.str_]:
    """As `split_table` does it; `seed` is that of the training."""
    fold = None if options.folds is None else Fold(options.fold, options.folds)
    seed = seed if options.split_seed is None else options.split_seed
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"--split-seed must be from 0 to {MAX_SEED}, not {seed}")
    return split_table(table, options.split_fractions, seed, fold)
