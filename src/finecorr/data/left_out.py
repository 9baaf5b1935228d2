"""The images of a run that cannot be read, and are left out of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from finecorr.data.decoding import Frame
from finecorr.data.records import write_record
from finecorr.data.table import ImageTable
from finecorr.errors import InputWarning, Stopped, spelled

FILE = "left_out.csv"


class Lost(NamedTuple):
    """An image that cannot be read."""

    frame: Frame
    reason: str
    row: int
    """A row that has it, by its number in the table's file."""
    decoded: bool = False
    """Whether it could be read at the start."""

    def __str__(self) -> str:
        since = "has changed since the start: it " if self.decoded else ""
        return f"row {self.row}: {spelled(self.frame.path)} {since}{self.reason}"


class Unreadable(Stopped):
    """An image cannot be read, and who asked for it does without, or stops."""

    def __init__(self, source: Path, lost: Lost) -> None:
        super().__init__(f"{source}: {lost}")
        self.lost = lost


class LeftOut:
    """Which images these are, and whether there are too many.

    Args:
        table: whose images they are.
        most: how many there may be.
        says: whether this process says each with an `InputWarning`.
    """

    def __init__(self, table: ImageTable, most: int = 0, *, says: bool = True) -> None:
        self._table, self.most = table, most
        self._says = says
        self.found: dict[Frame, Lost] = {}

    def __len__(self) -> int:
        return len(self.found)

    def add(self, lost: Iterable[Lost]) -> bool:
        """Whether one of them is new.

        Raises:
            Stopped: there are too many.
        """
        before = len(self)
        for one in lost:
            if one.frame in self.found:
                continue
            if len(self) >= self.most:
                most = f"; {self.most} are left out already (--tolerate)" if self.most else ""
                raise Stopped(
                    f"{self._table.source}: {one}{most}; finecorr check --decode all finds all such"
                )
            self.found[one.frame] = one
            if self._says:
                of = f"{len(self)} of --tolerate {self.most}"
                text = f"{self._table.source}: {one}; it is left out ({of})"
                warnings.warn(text, InputWarning, stacklevel=2)
        return len(self) > before

    def record(self) -> pd.DataFrame:
        """`row`, `image` and `reason` of each row that has one of them, in the order of the
        table."""
        table = self._table
        paths = {frame.path for frame in self.found}
        lines = []
        for row, files in enumerate(table.images):
            if paths.isdisjoint(files):
                continue
            named = table.frame(row)
            lines += [
                (table.rows[row], str(frame.path), lost.reason)
                for frame, lost in sorted(self.found.items())
                if frame.path in files and named in (None, frame.number)
            ]
        return pd.DataFrame(lines, columns=["row", "image", "reason"])

    def write(self, folder: Path) -> None:
        """Writes the record into a folder, if there is something to say."""
        if self.found:
            write_record(folder / FILE, self.record())
        else:
            (folder / FILE).unlink(missing_ok=True)
