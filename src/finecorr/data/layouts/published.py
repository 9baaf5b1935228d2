"""The folder of a published data set: what is in it, whatever its case, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.frames import Format, Frame, raise_faults, read_frame
from finecorr.data.numbers import read_numbers, wrong_cells
from finecorr.errors import InputError


class Folder:
    """A folder whose files are found in upper or lower case: copies of a data set differ in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def spelled(self, name: str) -> str:
        """A path in the folder as it is spelled there, or as it is asked for if that is nowhere."""
        parts: list[str] = []
        for part in name.split("/"):
            there = self._listing(self.path.joinpath(*parts)).get(part.lower(), [])
            parts.append(there[0] if len(there) == 1 else part)
        return "/".join(parts)

    def file(self, name: str) -> Path:
        """The path of a file or folder in it, which may not be there."""
        return self.path / self.spelled(name)

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        """What is in it, by its names in small letters."""
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                listing.setdefault(path.name.lower(), []).append(path.name)
            self._listings[folder] = listing
        return self._listings[folder]


@dataclass(frozen=True)
class Layout:
    """How a data set is published."""

    title: str
    files: tuple[tuple[str, ...], ...]
    """The files and folders that its folder holds; of those in one tuple, at least one."""
    published: str
    """Where."""
    read: Callable[[Folder], Frame]

    def missing(self, folder: Folder) -> list[str]:
        """Which of the files the folder does not have."""
        return [
            " or ".join(names)
            for names in self.files
            if not any(folder.file(name).exists() for name in names)
        ]


def read_columns(path: Path, columns: Sequence[str], sheet: str | None = None) -> Frame:
    """Columns of a table of the data set, without rows in which all of them are empty.

    Raises:
        InputError: it cannot be read, or has no such column.
    """
    frame = read_frame(path, columns, Format(sheet=sheet))
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        raise InputError(
            f"{path}: no column {', '.join(map(repr, absent))}: it is another file than the one "
            "that is published"
        )
    filled = (frame.cells != "").any(axis=1).to_numpy()
    cells = frame.cells[filled].reset_index(drop=True)
    return Frame(frame.columns, cells, frame.rows[filled], frame.typed)


def numbers_of(path: Path, frame: Frame, column: str) -> NDArray[np.float64]:
    """`(n,)`: a column as numbers, NaN where one is missing.

    Raises:
        InputError: a cell is no number.
    """
    numbers = read_numbers(path, frame, [column])[column]
    raise_faults(path, wrong_cells(frame, column, numbers.wrong, "a number"))
    return numbers.values


def texts(values: NDArray[np.float64]) -> list[str]:
    """Computed numbers as cells, without the last digits, which are noise."""
    return [f"{value:.12g}" for value in values]


def frame_of(columns: Mapping[str, Iterable[str]], rows: NDArray[np.int64]) -> Frame:
    """The frame of columns of text."""
    cells = pd.DataFrame({name: list(cells) for name, cells in columns.items()}, dtype=object)
    return Frame(list(columns), cells, rows, typed=True)
