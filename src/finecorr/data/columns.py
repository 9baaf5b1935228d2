"""The feature columns of a table: numbers and categories, as its cells have them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.frames import Frame
from finecorr.data.numbers import Numbers, looks_like_number, wrong_cells
from finecorr.errors import InputWarning, spelled

_MOSTLY = 0.5
"""The share of a column's cells from which on it is of numbers, and the others are mistakes."""
_SHOWN = 12
"""Columns in a sentence, and values of a row."""


@dataclass(frozen=True)
class Columns:
    """The values of some rows."""

    cells: pd.DataFrame
    """Of a column of numbers float64, NaN for a missing one; of categories their names, "" for a
    missing one."""

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in their order."""
        return tuple(self.cells.columns)

    @property
    def categories(self) -> tuple[str, ...]:
        """The columns that are categories."""
        return tuple(name for name in self.names if self.cells[name].dtype != np.float64)

    def take(self, rows: NDArray[np.intp]) -> Columns:
        """Those of these rows, by their positions."""
        return Columns(self.cells.iloc[rows].reset_index(drop=True))

    def fingerprints(self) -> list[str]:
        """Of each row, of all that is in it: equal rows have the same."""
        cells = pd.DataFrame(
            # -0 is 0, and each NaN the same.
            {n: c + 0.0 if c.dtype == np.float64 else c for n, c in self.cells.items()}
        )
        hashes = pd.util.hash_pandas_object(cells, index=False)
        return [f"x{number:016x}" for number in hashes]

    def texts(self) -> list[str]:
        """Of each row, for a person."""
        shown = [
            [f"{name} {value:.5g}" if value == value else f"{name} missing" for value in column]
            if column.dtype == np.float64
            else [f"{name} {value or 'missing'}" for value in column]
            for name, column in self.cells.iloc[:, :_SHOWN].items()
        ]
        more = len(self.names) - len(shown)
        end = f" and {more} more" if more else ""
        return [f"{', '.join(row)}{end}" for row in zip(*shown, strict=True)]

    def note(self, source: Path) -> None:
        """Says with an `InputWarning` which columns these are."""
        numbers = [name for name in self.names if name not in self.categories]
        said = [
            f"{len(names)} {kind} ({listed(names)})"
            for kind, names in (("of numbers", numbers), ("of categories", self.categories))
            if names
        ]
        warnings.warn(
            f"{source}: --feature-columns * takes {' and '.join(said)}", InputWarning, stacklevel=2
        )


def of_numbers(
    frame: Frame, columns: Sequence[str], categories: Collection[str], faults: list[str]
) -> list[str]:
    """Which columns are of numbers: those of whose cells, but for missing ones, all are numbers. If
    more than half are, the others are added to the faults."""
    found = []
    for name in columns:
        if name in categories:
            continue
        looks, missing = looks_like_number(frame.cells[name])
        there = ~missing
        if looks[there].all():
            found.append(name)
        elif looks[there].mean() > _MOSTLY:
            wrong = there & ~looks
            more = "a number, as most in its column (or say --category-columns, if all are names)"
            faults += wrong_cells(frame, name, wrong, more)
    return found


def columns_of(
    frame: Frame, columns: Sequence[str], numbers: Mapping[str, Numbers], faults: list[str]
) -> Columns:
    """The values of feature columns; what is no finite number is added to the faults.

    Args:
        frame: the table.
        columns: their names.
        numbers: of those that are of numbers.
        faults: of rows.
    """
    cells: dict[str, NDArray[np.float64] | pd.Series[str]] = {}
    for name in columns:
        if name in numbers:
            faults += wrong_cells(frame, name, numbers[name].wrong, "a number")
            cells[name] = numbers[name].values
        else:
            cells[name] = frame.cells[name].str.strip().str.normalize("NFC").astype(object)
    return Columns(pd.DataFrame(cells, index=range(len(frame.rows))))


def listed(names: Sequence[str]) -> str:
    """Some of them, and how many more."""
    more = len(names) - _SHOWN
    shown = ", ".join(spelled(name) for name in names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
