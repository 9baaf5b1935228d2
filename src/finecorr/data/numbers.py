"""Texts as numbers: what is missing, what the decimal mark is, and what is no number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.frames import Frame
from finecorr.errors import InputError, spelled

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none")
"""How a missing number is written, in small letters. Of a name, none but the first is missing."""

_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_POINT = rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+){_EXPONENT}"
_COMMA = rf"[+-]?(?:[0-9]+,[0-9]*|,[0-9]+){_EXPONENT}"
_THOUSANDS = r"[+-]?[1-9][0-9]{0,2}[,.][0-9]{3}"
_MINUS = "\u2212"


@dataclass(frozen=True)
class Numbers:
    """A column, read as numbers."""

    values: NDArray[np.float64]
    """`(n,)`: NaN where a cell is empty, or no number."""
    wrong: NDArray[np.bool_]
    """`(n,)`: where it is no finite number, and not missing."""


def read_numbers(
    source: Path, frame: Frame, columns: Sequence[str], decimal: Literal[".", ","] | None = None
) -> dict[str, Numbers]:
    """The columns as numbers.

    The decimal mark is a comma where a cell shows it: in the whole table, or in the column where
    the file knows numbers from texts. In such a file, numbers have a point, whatever is told.

    Raises:
        InputError: it cannot be known whether a comma is a decimal mark.
    """
    texts = {column: _texts(frame.cells[column]) for column in columns}
    alone = frame.typed or not columns
    groups = [[column] for column in columns] if alone else [list(columns)]
    numbers = {}
    for group in groups:
        told = None if frame.typed and _has_points(texts[group[0]]) else decimal
        mark = told or _mark(source, frame, pd.concat([texts[column] for column in group]))
        for column in group:
            numbers[column] = _numbers(texts[column], mark)
    return {column: numbers[column] for column in columns}


def looks_like_number(cells: pd.Series[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`(n,)` each: where a cell is a number, whatever its decimal mark; and where it is missing."""
    texts = _texts(cells)
    looks = texts.str.fullmatch(_POINT) | texts.str.fullmatch(_COMMA)
    return looks.to_numpy(dtype=np.bool_), texts.str.lower().isin(MISSING).to_numpy(dtype=np.bool_)


def _texts(cells: pd.Series[str]) -> pd.Series[str]:
    # As Arrow's texts, where pandas has them, which need no loop of Python over the cells.
    return cells.astype("str").str.strip().str.replace(_MINUS, "-")


def _has_points(texts: pd.Series[str]) -> bool:
    """Whether no cell has a comma, and in some the point cannot be a mark of thousands."""
    with_point = texts[texts.str.contains(".", regex=False)]
    thousands = with_point.str.fullmatch(_THOUSANDS).all()
    return not (thousands or texts.str.contains(",", regex=False).any())


def _mark(source: Path, frame: Frame, texts: pd.Series[str]) -> Literal[".", ","]:
    with_comma = texts[texts.str.contains(",", regex=False)]
    with_comma = with_comma[with_comma.str.fullmatch(_COMMA)]
    if with_comma.empty:
        return "."
    with_point = texts[texts.str.contains(".", regex=False) & texts.str.fullmatch(_POINT)]
    examples = [
        f"{part.iloc[0]!r} in row {frame.rows[part.index[0]]}"
        for part in (with_comma, with_point)
        if len(part)
    ]
    if len(with_point) or with_comma.str.fullmatch(_THOUSANDS).all():
        raise InputError(
            f"{source}: is a comma the decimal mark? ({' and '.join(examples)}) "
            "Say --decimal , or --decimal ."
        )
    return ","


def _numbers(texts: pd.Series[str], mark: Literal[".", ","]) -> Numbers:
    missing = texts.str.lower().isin(MISSING).to_numpy()
    if mark == ",":
        right = texts.str.fullmatch(_COMMA) | texts.str.fullmatch(r"[+-]?[0-9]+" + _EXPONENT)
        texts = texts.str.replace(",", ".", regex=False)
    else:
        right = texts.str.fullmatch(_POINT)
    known = right.to_numpy(dtype=np.bool_)
    values = np.full(len(texts), np.nan)
    values[known] = [float(text) for text in texts[known]]
    infinite = np.isinf(values)
    values[infinite] = np.nan
    return Numbers(values, ~missing & (~known | infinite))


def wrong_cells(frame: Frame, column: str, wrong: NDArray[np.bool_], needed: str) -> list[str]:
    """A fault for each cell that is not what is needed."""
    cells = frame.cells[column].to_numpy()[wrong]
    return [
        f"row {row}: column {column!r} is {repr(spelled(cell)) if cell.strip() else 'empty'}, "
        f"not {needed}"
        for row, cell in zip(frame.rows[wrong], cells, strict=True)
    ]


def checked(
    frame: Frame,
    name: str,
    numbers: Mapping[str, Numbers],
    faults: list[str],
    needed: str = "a number",
    outside: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None = None,
) -> NDArray[np.float64]:
    """A column of numbers; what is none, or outside of what is needed, is added to the faults."""
    found = numbers[name]
    wrong = found.wrong if outside is None else found.wrong | outside(found.values)
    faults += wrong_cells(frame, name, wrong, needed)
    return found.values
