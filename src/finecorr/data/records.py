"""Our own CSV files: names are text and stay what they are, numbers are numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from finecorr.data.frames import read_frame
from finecorr.errors import InputError, spelled
from finecorr.files import replacing


def write_record(path: Path, frame: pd.DataFrame) -> None:
    """Writes a frame as CSV, whole or not at all."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        write_rows(file, frame)


def write_rows(file: IO[str], frame: pd.DataFrame, *, header: bool = True) -> None:
    """Writes rows of CSV into an open file."""
    texts = [str(column) for column in frame.columns]
    texts += [cell for column in frame for cell in frame[column] if isinstance(cell, str)]
    # pandas leaves a cell with a carriage return as it is, which ends a row for readers.
    odd = any("\r" in text for text in texts)
    frame.to_csv(
        file,
        index=False,
        header=header,
        quoting=csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL,
    )


def read_record(
    path: Path,
    texts: Sequence[str],
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads columns of a file that `write_record` has written.

    Args:
        path: of the file.
        texts: columns of names. "NA" is a name as any other.
        numbers: columns of numbers, NaN where they are missing.
        whole: columns of whole numbers.
        optional: columns of numbers that may not be there, and are NaN then.

    Raises:
        InputError: a column is not there, or no number where there should be one.
    """
    columns = [*texts, *numbers, *whole]
    frame = read_frame(path, [*columns, *optional])
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(f"{path} is damaged: it has no column {missing[0]!r}")
    result = frame.cells.reindex(columns=[*columns, *optional], fill_value="")
    for column in (*numbers, *whole, *optional):
        kind = int if column in whole else _number
        values = []
        for row, cell in zip(frame.rows, result[column], strict=True):
            try:
                values.append(kind(cell))
            except ValueError as error:
                raise InputError(
                    f"{path} is damaged: row {row}: column {column!r} is {spelled(cell)!r}"
                ) from error
        try:
            result[column] = np.array(values, dtype=np.int64 if column in whole else np.float64)
        except OverflowError as error:
            raise InputError(f"{path} is damaged: column {column!r}: {error}") from error
    return result


def _number(cell: str) -> float:
    return float(cell) if cell else float("nan")
