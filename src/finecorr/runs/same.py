"""Whether a table is still the one that a run was started with."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.records import read_record
from finecorr.data.table import ImageTable
from finecorr.errors import InputError
from finecorr.runs.folder import SPLITS


def check_same_table(folders: Sequence[Path], table: ImageTable, weights: str) -> None:
    """Raises InputError if a run in one of the folders was started with other rows, labels, weights
    or pixel sizes, or with another file of `--weights`."""
    started = [folder for folder in folders if (folder / SPLITS).exists()]
    record = {"row": table.rows, "image": table.names, "group": table.groups}
    check_same(started, pd.DataFrame({**record, "content": contents(table, weights)}), weights)


def check_same(folders: Sequence[Path], record: pd.DataFrame, weights: str) -> None:
    """As `check_same_table`, of the columns of `splits.csv` that must be the same."""
    now = record.astype(str).to_numpy().tolist()
    for folder in folders:
        before = read_record(folder / SPLITS, list(record.columns))
        if before.to_numpy().tolist() != now:
            file = ", or the file of --weights," if Path(weights).is_file() else ""
            raise InputError(
                f"the table{file} is no longer the one that {folder} was started with: choose "
                "another --out"
            )


def contents(table: ImageTable, weights: str) -> list[str]:
    """A fingerprint of what each row says beside its image and subject, and of the weights that
    its training starts from."""
    start = 0
    if Path(weights).is_file():
        with Path(weights).open("rb") as file:
            start = zlib.crc32(hashlib.file_digest(file, "sha256").digest())
    numbers: list[NDArray[Any]] = [table.targets]
    for column in (table.weights, table.pixel_sizes, table.frames):
        numbers.append(np.full((len(table), 1), -1.0) if column is None else column[:, None])
    rows = np.concatenate(numbers, axis=1, dtype=np.float64)
    return [f"x{zlib.crc32(row.tobytes(), start):08x}" for row in rows]
