"""A CSV file that grows, and goes on where an interruption or a kill has left it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pandas as pd

from finecorr.data.records import write_rows
from finecorr.errors import InputError
from finecorr.files import remove_temporary, replacing

SUFFIX = ".partial"
_CHUNK = 10_000
"""Rows that are read at a time."""


class Partial:
    """The rows of `out` as they come, in `OUT.partial` beside it, until all are there.

    Args:
        out: the file that it becomes.
        key: what it is of: only a call with the same one goes on with it. In its first line.
        step: rows that are added at a time; what is there of others is computed again.
        overwrite: replace one of another key.

    Raises:
        InputError: there is one of another key.
    """

    def __init__(self, out: Path, key: str, step: int, *, overwrite: bool) -> None:
        self._out, self.path = out, out.with_name(out.name + SUFFIX)
        self._first = f"# finecorr {key}\n"
        self.rows = end = 0
        """That are there already."""
        if self.path.exists():
            with self.path.open("rb") as file:
                if file.readline() == self._first.encode():
                    self.rows, end = _whole(file, step)
                elif not overwrite:
                    raise InputError(
                        f"{self.path} is what another command, or one with other images, has "
                        "begun: remove it, or use --overwrite"
                    )
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_temporary(out.parent, out.name)
        if self.rows > 0:
            with self.path.open("rb+") as file:
                file.truncate(end)

    def add(self, frame: pd.DataFrame) -> None:
        """Writes further rows."""
        try:
            with self.path.open("a" if self.rows else "w", encoding="utf-8", newline="") as file:
                if self.rows == 0:
                    file.write(self._first)
                write_rows(file, frame, header=self.rows == 0)
        except OSError as error:
            error.filename = str(self.path)  # What fails to write does not say where.
            raise
        self.rows += len(frame)

    def frames(self) -> Iterator[pd.DataFrame]:
        """What is there, as text, in parts."""
        if self.rows:
            with self.path.open("rb") as file:
                file.seek(len(self._first))
                yield from pd.read_csv(
                    file, dtype=str, keep_default_na=False, chunksize=_CHUNK, encoding="utf-8"
                )

    def finish(self) -> None:
        """Gives the file its name."""
        with self.path.open("rb") as file, replacing(self._out) as temporary:
            file.seek(len(self._first))
            with temporary.open("wb") as whole:
                shutil.copyfileobj(file, whole)
        self.remove()

    def remove(self) -> None:
        """Takes it away."""
        self.path.unlink(missing_ok=True)


def _whole(file: IO[bytes], step: int) -> tuple[int, int]:
    """How many rows are there, in whole steps, and where the last of them ends."""
    rows, end, place, quotes, reached = 0, 0, file.tell(), 0, -1
    for line in file:
        place += len(line)
        quotes += line.count(b'"')
        # A line that ends within quotes is not the end of its row.
        if line.endswith(b"\n") and quotes % 2 == 0:
            reached += 1  # from -1: the header is no row
            if reached > 0 and reached % step == 0:
                rows, end = reached, place
    return rows, end
