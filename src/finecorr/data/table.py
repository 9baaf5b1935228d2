"""A table of images and scores, read and validated: targets, groups, weights and pixel sizes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data import names
from finecorr.data.asked import (
    check_columns,
    check_options,
    columns_asked,
    format_of,
    opinion_columns,
    with_every_column,
)
from finecorr.data.columns import Columns, columns_of, of_numbers
from finecorr.data.frames import Frame, frame_of, raise_faults, read_frame
from finecorr.data.layouts import read_layout
from finecorr.data.numbers import checked, read_numbers, wrong_cells
from finecorr.data.opinions import Opinions, standard_errors, weights_of
from finecorr.data.options import EVERY, TableOptions
from finecorr.data.targets import check_target
from finecorr.errors import InputError, InputWarning

SPLITS = ("train", "validation", "test")
SUBJECT = "subject"
"""What --within calls the subjects that no column names."""
_SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "validation", "valid": "validation"}


@dataclass(frozen=True)
class ImageTable:
    """The rows of a valid table."""

    source: Path
    rows: NDArray[np.int64]
    """`(n,)`: the number of the row in its file (see `finecorr.data.frames.Frame`)."""
    images: list[tuple[Path, ...]]
    """The files of each row; none where it has feature columns."""
    names: list[str]
    """The images as the table names them; of rows of feature columns, "row" and its number."""
    target_columns: tuple[str, ...]
    targets: NDArray[np.float64]
    """`(n, targets)`: NaN is a missing label."""
    groups: NDArray[np.str_]
    """`(n,)`: the subject; without a column or pattern for it, each image, or row, is its own."""
    subjects_named: bool = True
    """Whether there was such a column or pattern."""
    splits: NDArray[np.str_] | None = None
    """`(n,)`: the split column, or None."""
    within: NDArray[np.str_] | None = None
    """`(n,)`: the groups within which correlations are asked for, or None."""
    within_column: str | None = None
    """What these groups are, as the table names its column."""
    weights: NDArray[np.float64] | None = None
    standard_errors: NDArray[np.float64] | None = None
    """`(n,)`: of labels that are means of opinions; NaN for a missing label; or None."""
    pixel_sizes: NDArray[np.float64] | None = None
    """`(n,)`: NaN where the image's file is to say it."""
    frames: NDArray[np.int64] | None = None
    """`(n,)`: the frame of the row's files, from 0, and -1 where none is named; or None."""
    all_frames: bool = False
    features: Columns | None = None
    """The feature columns, in the place of images."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """`(n,)`: whether at least one target of the row is there."""
        return np.asarray(np.isfinite(self.targets).any(axis=1))

    @property
    def cases(self) -> dict[str, Any]:
        """What tells the rows apart, as columns of our files: `row`, `image` where there are some,
        and `group`."""
        images = {} if self.features is not None else {"image": self.names}
        return {"row": self.rows, **images, "group": self.groups}

    @property
    def known_by(self) -> tuple[str, list[Any]]:
        """The column by which predictions name a row, and what it holds: its image, or where it has
        feature columns its number."""
        return ("image", self.names) if self.features is None else ("row", self.rows.tolist())

    @property
    def shown(self) -> list[str]:
        """What a person sees of each row: the name of its image, or its number and features."""
        if self.features is None:
            return self.names
        texts = self.features.texts()
        return [f"{name}: {text}" for name, text in zip(self.names, texts, strict=True)]

    @property
    def kind(self) -> str:
        """What its rows are."""
        return "images" if self.features is None else "rows"

    def frame(self, row: int) -> int | None:
        """That of a row's files, from 0; None where none is named."""
        named = -1 if self.frames is None else int(self.frames[row])
        return None if named < 0 else named

    def take(self, rows: NDArray[np.intp]) -> ImageTable:
        """The table of these rows only, by their positions."""
        arrays: dict[str, Any] = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(
            self,
            **arrays,
            images=[self.images[row] for row in rows],
            names=[self.names[row] for row in rows],
            features=None if self.features is None else self.features.take(rows),
        )


def read_table(
    options: TableOptions,
    *,
    need_targets: bool = True,
    need_images: bool = True,
    frame: pd.DataFrame | None = None,
    found: list[str] | None = None,
) -> ImageTable:
    """Reads and validates a table.

    Args:
        options: which columns mean what.
        need_targets: whether missing target columns are an error; without it they may be absent.
        need_images: whether a file that is not there is an error.
        frame: the table, if it is in memory; its rows count from 0.
        found: to which the faults of rows and labels are added, in the place of an error.

    Raises:
        InputError: the table or something in it is missing or wrong; all the rows at fault are
            named.
    """
    check_options(options)
    source = options.table if frame is None else Path("the table")
    every = options.feature_columns == (EVERY,)
    if every:
        columns = _cells(options, frame, options.target_columns).columns
        options = with_every_column(options, columns, source)
    cells = _asked(options, frame, source, need_targets)
    faults: list[str] = []
    table, opinions = _table_of(options, source, cells, need_images, faults)
    if every and table.features is not None:
        table.features.note(source)
    if need_targets:
        faults += names.images_of_two_subjects(cells, table.images, table.groups)
    if found is None:
        raise_faults(source, faults)
    else:
        found += faults
    if opinions is not None:
        with _noted(found):
            table = _weighted_by_opinions(table, opinions)
    if need_targets:
        for name, values in zip(options.target_columns, table.targets.T, strict=True):
            with _noted(found):
                check_target(source, name, values)
        with _noted(found):
            _check_weights(table, options.weight_column)
    return table


def _asked(
    options: TableOptions, frame: pd.DataFrame | None, source: Path, need_targets: bool
) -> Frame:
    """The columns that are asked for, all of which are there."""
    asked = columns_asked(options)
    cells = _cells(options, frame, [name for columns in asked.values() for name in columns])
    opinion_columns(options).check_columns(source, cells.columns, options.target_columns[0])
    if _within_subjects(options, cells):
        del asked["--within"]
    if options.score_columns is not None or not need_targets:
        del asked["--target-columns"]
    check_columns(cells, source, asked)
    if len(cells.rows) == 0:
        raise InputError(f"{source}: the table has no rows")
    return cells


def _table_of(
    options: TableOptions, source: Path, cells: Frame, need_images: bool, faults: list[str]
) -> tuple[ImageTable, Opinions | None]:
    """The rows, and what their observers say; what is wrong in a cell is added to the faults."""
    chosen = options.feature_columns
    images, of_images, groups = _images_and_subjects(options, cells, need_images, faults)
    targets = [name for name in options.target_columns if name in cells.columns]
    columns = [options.weight_column, options.pixel_size_column, options.frame_column]
    columns += itertools.chain.from_iterable(opinion_columns(options).flags.values())
    columns += of_numbers(cells, chosen or (), options.category_columns or (), faults)
    numbers = read_numbers(source, cells, [*targets, *filter(None, columns)], options.decimal)

    def column(name: str | None, *needed: Any) -> NDArray[np.float64] | None:
        return None if name is None else checked(cells, name, numbers, faults, *needed)

    nothing = np.full(len(cells.rows), np.nan)
    labels = [
        checked(cells, name, numbers, faults) if name in targets else nothing
        for name in options.target_columns
    ]
    opinions = opinion_columns(options).read(cells, labels[0], numbers, faults)
    if opinions is not None:
        labels[0] = opinions.mean
    table = ImageTable(
        source=source,
        rows=cells.rows,
        images=images,
        names=of_images,
        target_columns=options.target_columns,
        targets=np.stack(labels, axis=1),
        groups=groups,
        subjects_named=options.group_column is not None or options.group_pattern is not None,
        splits=_splits(cells, options.split_column, faults),
        within=_within(cells, options, groups, faults),
        within_column=options.within,
        # Each row has a weight, and need not have a pixel size or a frame.
        weights=column(options.weight_column, "a number of at least 0", lambda v: ~(v >= 0)),
        pixel_sizes=column(options.pixel_size_column, "a number above 0", lambda v: v <= 0),
        frames=_frames(column(options.frame_column, "a number of a frame, from 1", _no_frame)),
        all_frames=options.all_frames,
        features=None if chosen is None else columns_of(cells, chosen, numbers, faults),
    )
    return table, opinions


def _images_and_subjects(
    options: TableOptions, cells: Frame, need_images: bool, faults: list[str]
) -> tuple[list[tuple[Path, ...]], list[str], NDArray[np.str_]]:
    """The files of each row, what the row is called, and its subject."""
    images: list[tuple[Path, ...]]
    if options.feature_columns is None:
        absent: list[str] = []
        images = names.find_images(cells, options.image_columns, options.root, absent)
        called = names.image_names(cells, options.image_columns, faults)
        if need_images:
            faults += absent
    else:
        images = [()] * len(cells.rows)
        called = [f"row {row}" for row in cells.rows]
        if options.group_column is None:
            return images, called, np.array(called, dtype=np.str_)
    subjects = names.subjects_of_rows(
        cells, images, options.group_column, options.group_pattern, faults
    )
    return images, called, subjects


def _cells(options: TableOptions, frame: pd.DataFrame | None, wanted: Sequence[str]) -> Frame:
    wanted = list(dict.fromkeys(wanted))
    if frame is not None:
        return frame_of(frame, wanted)
    if options.layout is None:
        return read_frame(options.table, wanted, format_of(options))
    return read_layout(options.layout, options.table)


@contextmanager
def _noted(found: list[str] | None) -> Iterator[None]:
    """Adds an InputError to what is found, where that is asked for."""
    try:
        yield
    except InputError as error:
        if found is None:
            raise
        found.append(str(error))


def _check_weights(table: ImageTable, column: str | None) -> None:
    if table.weights is not None and not (table.weights[table.labelled] > 0).any():
        raise InputError(
            f"{table.source}: column {column!r} is 0 in every row with a label: "
            "there is nothing to learn from"
        )


def _weighted_by_opinions(table: ImageTable, opinions: Opinions) -> ImageTable:
    errors = standard_errors(table.source, opinions)
    if table.weights is not None:
        warnings.warn(
            "the rows are weighed by --weight-column, and not by how much the observers agree",
            InputWarning,
            stacklevel=3,
        )
        return replace(table, standard_errors=errors)
    return replace(table, standard_errors=errors, weights=weights_of(errors))


def _frames(numbers: NDArray[np.float64] | None) -> NDArray[np.int64] | None:
    """From 0, and -1 where none is named."""
    return None if numbers is None else (np.nan_to_num(numbers) - 1).astype(np.int64)


def _no_frame(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (values < 1) | (values > 2**31) | (values % 1 > 0)


def _splits(frame: Frame, column: str | None, faults: list[str]) -> NDArray[np.str_] | None:
    if column is None:
        return None
    named = frame.cells[column].str.strip().str.lower().map(_SPLIT_NAMES)
    faults += wrong_cells(frame, column, named.isna().to_numpy(), f"one of {', '.join(SPLITS)}")
    return np.array(named.fillna("").to_list(), dtype=np.str_)


def _within_subjects(options: TableOptions, frame: Frame) -> bool:
    """Whether the groups of --within are the subjects of --group-pattern."""
    return (
        options.within == SUBJECT
        and options.group_pattern is not None
        and SUBJECT not in frame.columns
    )


def _within(
    frame: Frame, options: TableOptions, subjects: NDArray[np.str_], faults: list[str]
) -> NDArray[np.str_] | None:
    if options.within is None:
        return None
    if _within_subjects(options, frame):
        return subjects
    return names.names_in(frame, options.within, "a group", faults)
