"""The feature columns: what is missing or constant, what gives the target away, and rows that are
the same in two splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from finecorr.checking.findings import Finding, Section, refusals, some
from finecorr.data.encoding import encoding_of
from finecorr.data.table import ImageTable
from finecorr.errors import InputError, spelled

_TOLD = 0.999
"""SRCC with a target, or the share of its variance, from which on a column tells it."""
_LEAST = 10
"""Rows from which on that is no chance."""
_MOSTLY = 0.5


def look_at_columns(
    table: ImageTable, faults: Sequence[str], splits: NDArray[np.str_] | None
) -> Section:
    """What there is to say of the columns of a table that has some.

    Args:
        table: the rows.
        faults: of the table, as its reader found them.
        splits: of each row, if they are known.
    """
    assert table.features is not None
    features = table.features
    trained = np.ones(len(table), dtype=np.bool_) if splits is None else splits == "train"
    trained &= table.labelled
    numbers = len(features.names) - len(features.categories)
    lines = [
        f"{some(numbers, 'column')} of numbers, {len(features.categories)} of categories",
    ]
    found = refusals("fault in the table", faults, table)
    try:
        encoding = encoding_of(table.source, features.take(np.flatnonzero(trained)))
        lines.append(f"a network sees {encoding.description}")
    except InputError as fault:
        found.append(Finding("column of names", str(fault), refused=True))
    for name in features.names:
        cells = features.cells[name]
        missing = (cells.isna() | (cells == "")).to_numpy(dtype=np.bool_)
        if missing.any():
            lines.append(f"{spelled(name)}: {missing.sum()} of {some(len(cells), 'row')} missing")
        if missing.mean() > _MOSTLY:
            what = f"{spelled(name)} is missing in {missing.sum()} of {some(len(cells), 'row')}"
            found.append(Finding("column mostly missing", what))
        found += _constant(name, cells[trained])
        found += _counts_rows(name, cells)
        for target, labels in zip(table.target_columns, table.targets.T, strict=True):
            found += _tells(name, cells, target, labels)
    if splits is not None:
        found += _same_rows(table, splits)
    return Section("Columns", lines, found)


def _constant(name: str, cells: pd.Series) -> list[Finding]:
    values = cells.unique()
    if len(values) > 1 or len(cells) < 2:
        return []
    value = "missing" if pd.isna(values[0]) or values[0] == "" else values[0]
    what = f"{spelled(name)} is {value} in every training row: nothing is learnt from it"
    return [Finding("constant column", what)]


def _counts_rows(name: str, cells: pd.Series) -> list[Finding]:
    if cells.dtype != np.float64 or len(cells) < _LEAST or (cells.diff()[1:] != 1).any():
        return []
    what = f"{spelled(name)} counts the rows: leave it out, unless new rows have such a number, too"
    return [Finding("column that counts rows", what)]


def _tells(name: str, cells: pd.Series, target: str, labels: NDArray[np.float64]) -> list[Finding]:
    """Whether a column alone tells the target, as one does that was made from it."""
    values, how = cells, ""
    known = np.isfinite(labels) & (cells.notna() & (cells != "")).to_numpy(dtype=np.bool_)
    if cells.dtype == np.float64:
        values, labels = cells[known], labels[known]
        if len(labels) < _LEAST or values.nunique() < 2 or len(np.unique(labels)) < 2:
            return []
        told = abs(float(spearmanr(values, labels).statistic))
        how = f"has an SRCC of {told:.4f} with {spelled(target)}"
    else:
        of_rows = pd.Series(labels[known])
        groups = of_rows.groupby(cells[known].to_numpy())
        if 2 * groups.ngroups > len(of_rows) or len(of_rows) < _LEAST or not of_rows.var() > 0:
            return []
        told = 1 - float((of_rows - groups.transform("mean")).var() / of_rows.var())
        how = f"explains {100 * told:.1f} % of the variance of {spelled(target)}"
    if told < _TOLD:
        return []
    what = f"{spelled(name)} {how}: is it known before the target, or made from it?"
    return [Finding("column that tells the target", what)]


def _same_rows(table: ImageTable, splits: NDArray[np.str_]) -> list[Finding]:
    """Rows of other splits with the features of a training row."""
    assert table.features is not None
    prints = pd.Series(table.features.fingerprints())
    trained = prints[splits == "train"].drop_duplicates()
    first = pd.Series(trained.index, index=trained)
    rest = prints[splits != "train"]
    return [
        Finding(
            "the same features in two splits",
            f"in {splits[case]}, it has the features of row {table.rows[first[key]]} in train: if "
            "both are of one subject, name it with --group-column",
            int(case),
            int(first[key]),
        )
        for case, key in rest[rest.isin(trained)].items()
    ]
