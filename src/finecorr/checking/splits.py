"""The splits that a training would have: by the table's column, or as they would be drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from finecorr.checking.findings import Finding, Section, refusals, some
from finecorr.checking.options import CheckOptions
from finecorr.data.splits import check_disjoint, split_rows
from finecorr.data.table import SPLITS, ImageTable
from finecorr.errors import InputError

_UNLIKE = 0.01
"""The p-value below which labels of two splits are distributed differently."""


def look_at_splits(
    table: ImageTable, options: CheckOptions, seed: int
) -> tuple[NDArray[np.str_] | None, Section]:
    """The split of each row, if it is known; and what there is to say.

    Args:
        table: the rows.
        options: how they are split.
        seed: of the training.
    """
    title = "Splits"
    if table.splits is not None and not np.isin(table.splits, SPLITS).all():
        return None, Section(title, ["not looked at, as the split column has faults"])
    try:
        splits = split_rows(table, options, seed)
    except InputError as fault:
        found = [_torn(table, str(fault)) or Finding("impossible split", str(fault), refused=True)]
        if table.splits is None:
            return None, Section(title, ["no split can be drawn"], found)
        splits = table.splits
        return splits, Section(title, [*_sizes(table, splits), *_compared(table, splits)[0]], found)
    drawn = table.splits is None or options.folds is not None
    how = "drawn by subject, as train would with these flags" if drawn else "by the table's column"
    if not drawn and table.splits is not None and not np.array_equal(table.splits, splits):
        how += ", with validation subjects drawn from the training ones"
    lines, found = _compared(table, splits)
    return splits, Section(title, [how, *_sizes(table, splits), *lines], [] if drawn else found)


def _torn(table: ImageTable, fault: str) -> Finding | None:
    """That subjects are in several splits, if that is the fault."""
    if table.splits is None:
        return None
    try:
        check_disjoint(table.splits, table.groups, table.source)
    except InputError as error:
        if str(error) == fault:
            return refusals("subjects in several splits", [fault], table)[0]
    return None


def _sizes(table: ImageTable, splits: NDArray[np.str_]) -> list[str]:
    parts = []
    for name in SPLITS:
        rows = splits == name
        if rows.any():
            subjects = len(set(table.groups[rows]))
            parts.append(f"{name} {some(int(rows.sum()), 'row')} of {some(subjects, 'subject')}")
    return ["; ".join(parts)]


def _compared(table: ImageTable, splits: NDArray[np.str_]) -> tuple[list[str], list[Finding]]:
    """The labels of the test split, beside those of the training split."""
    lines, found = [], []
    for i, name in enumerate(table.target_columns):
        labels = {split: _known(table.targets[splits == split, i]) for split in SPLITS}
        train, test = labels["train"], labels["test"]
        if min(len(train), len(test)) < 2:
            continue
        result = ks_2samp(train, test)
        unlike = result.pvalue < _UNLIKE
        what = (
            f"{name}: median {np.median(train):.4g} in train and {np.median(test):.4g} in test; "
            f"the distributions {'differ' if unlike else 'are alike'} (Kolmogorov-Smirnov "
            f"{result.statistic:.2f}, p = {result.pvalue:.2g}, taking rows for independent)"
        )
        lines.append(what)
        if unlike:
            found.append(Finding("splits with other labels", what))
    return lines, found


def _known(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    return labels[np.isfinite(labels)]
