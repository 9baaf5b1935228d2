"""Training, validation and test rows, split by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from finecorr.data.table import SPLITS, ImageTable
from finecorr.errors import InputError

MIN_LABELS = 3
"""The fewest labels of a target that a split may have: with two, every correlation is 1 or -1."""


def split_table(table: ImageTable, fractions: Sequence[float], seed: int) -> NDArray[np.str_]:
    """`(n,)`: for each row "train", "validation" or "test".

    The table's split column is taken as it is; where it has no validation rows, some of the
    training groups become them. Without the column, groups are drawn at random.

    Args:
        table: the rows.
        fractions: shares of the groups for training, validation and test; their sum is 1.
        seed: of the draw.

    Raises:
        InputError: a group is in two splits, or a split has too few labels.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            "--split-fractions must be three positive numbers with the sum 1, "
            f"not {' '.join(f'{fraction:g}' for fraction in fractions)}"
        )
    train, validation, test = fractions
    if table.splits is None:
        splits = np.full(len(table), "train", dtype="<U10")
        _draw(splits, table, "test", test, seed)
        _draw(splits, table, "validation", validation / (train + validation), seed)
    else:
        splits = table.splits.astype("<U10")
        if "validation" not in splits and "train" in splits:
            _draw(splits, table, "validation", validation / (train + validation), seed)
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
            torn.append(f"{groups[members[0]]} ({', '.join(names)})")
    if torn:
        more = f", and {len(torn) - 10} more" if len(torn) > 10 else ""
        raise InputError(
            f"{source}: subjects in more than one split: {', '.join(torn[:10])}{more}; "
            "give every row of a subject the same split"
        )


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
        for column, values in zip(table.target_columns, table.targets.T, strict=True):
            known = values[(splits == name) & np.isfinite(values)]
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
