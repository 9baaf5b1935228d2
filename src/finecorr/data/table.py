"""A table on disk, read and validated: images, targets, groups, weights and pixel sizes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")
SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "validation", "valid": "validation"}
_FAULTS_SHOWN = 20


@dataclass(frozen=True)
class TableOptions:
    """Where the images and their scores are. Each field is a flag of the command line."""

    table: Path = field(metadata={"help": "table of images and scores: CSV, Parquet or Excel"})
    image_root: Path | None = field(
        default=None,
        metadata={"help": "folder that image paths start from (default: the table's)"},
    )
    image_column: str = field(default="image", metadata={"help": "column of image paths"})
    target_columns: tuple[str, ...] = field(
        default=("target",),
        metadata={"help": "columns to predict; an empty cell is a missing label"},
    )
    group_column: str | None = field(
        default=None,
        metadata={"help": "column of the subject: rows of one subject are never in two splits"},
    )
    group_pattern: str | None = field(
        default=None,
        metadata={
            "help": "regular expression that takes the subject from the image's file name: its "
            "first group, or else its whole match"
        },
    )
    split_column: str | None = field(
        default=None,
        metadata={
            "help": "column with train, validation or test (without validation rows, some of the "
            "training subjects serve)"
        },
    )
    weight_column: str | None = field(
        default=None, metadata={"help": "column of non-negative weights of the rows"}
    )
    pixel_size_column: str | None = field(
        default=None,
        metadata={
            "help": "column with the side of a pixel, in the length unit of the targets: "
            "they are then learnt in pixels"
        },
    )
    length_columns: tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "targets that are lengths (default with pixel sizes: all of them)"},
    )

    @property
    def lengths(self) -> tuple[bool, ...]:
        """For each target, whether it is a length that is learnt in pixels."""
        if self.pixel_size_column is None:
            return (False,) * len(self.target_columns)
        if self.length_columns is None:
            return (True,) * len(self.target_columns)
        return tuple(column in self.length_columns for column in self.target_columns)


@dataclass(frozen=True)
class ImageTable:
    """The rows of a valid table."""

    source: Path
    rows: NDArray[np.int64]
    """`(n,)`: the row in the file, as an editor or a spreadsheet numbers it (the header is 1)."""
    images: list[Path]
    names: list[str]
    """The images as the table names them."""
    target_columns: tuple[str, ...]
    targets: NDArray[np.float64]
    """`(n, targets)`: NaN is a missing label."""
    groups: NDArray[np.str_]
    """`(n,)`: the subject; without a column or pattern for it, each image is its own."""
    splits: NDArray[np.str_] | None
    """`(n,)`: the split column, or None."""
    weights: NDArray[np.float64] | None
    pixel_sizes: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """`(n,)`: whether at least one target of the row is there."""
        return np.asarray(np.isfinite(self.targets).any(axis=1))

    def take(self, rows: NDArray[np.intp]) -> ImageTable:
        """The table of these rows only, by their positions."""
        return replace(
            self,
            rows=self.rows[rows],
            images=[self.images[row] for row in rows],
            names=[self.names[row] for row in rows],
            targets=self.targets[rows],
            groups=self.groups[rows],
            splits=None if self.splits is None else self.splits[rows],
            weights=None if self.weights is None else self.weights[rows],
            pixel_sizes=None if self.pixel_sizes is None else self.pixel_sizes[rows],
        )


def read_table(options: TableOptions, *, need_targets: bool = True) -> ImageTable:
    """Reads and validates a table.

    Args:
        options: which columns mean what.
        need_targets: whether missing target columns are an error; without it they may be absent.

    Raises:
        InputError: the table or something in it is missing or wrong; all the rows at fault are
            named.
    """
    frame = _read_frame(options.table)
    if not need_targets:
        absent = [column for column in options.target_columns if column not in frame]
        frame = frame.assign(**dict.fromkeys(absent, np.nan))
    _check_columns(frame, options)
    rows = np.arange(2, len(frame) + 2)
    names = frame[options.image_column].astype("string")
    faults = _empty_cells(names, rows)
    root = options.image_root if options.image_root is not None else options.table.parent
    images = [root / name for name in names.fillna("")]
    faults += [
        f"row {row}: no image {image}"
        for row, image, blank in zip(rows, images, names.isna(), strict=True)
        if not blank and not image.is_file()
    ]

    targets = np.stack(
        [_numbers(frame, column, rows, faults) for column in options.target_columns], axis=1
    )
    if options.group_column is None:
        places = [f"row {row}" for row in rows]
        groups, group_faults = subjects(images, places, options.group_pattern)
    else:
        cells = frame[options.group_column]
        groups = cells.astype("string").fillna("").to_numpy(dtype=str)
        group_faults = _empty_cells(cells, rows)
    faults += group_faults
    splits = _splits(frame, options.split_column, rows, faults)
    weights = pixel_sizes = None
    if options.weight_column is not None:
        weights = _numbers(frame, options.weight_column, rows, faults, lowest=0.0)
    if options.pixel_size_column is not None:
        pixel_sizes = _numbers(frame, options.pixel_size_column, rows, faults, above=0.0)
    raise_faults(options.table, faults)
    if need_targets:
        for column, values in zip(options.target_columns, targets.T, strict=True):
            _check_target(options.table, column, values)
    return ImageTable(
        source=options.table,
        rows=rows,
        images=images,
        names=[str(name) for name in names],
        target_columns=options.target_columns,
        targets=targets,
        groups=groups,
        splits=splits,
        weights=weights,
        pixel_sizes=pixel_sizes,
    )


def read_folder(folder: Path, options: TableOptions) -> ImageTable:
    """All the images of a folder and its subfolders, without labels.

    Raises:
        InputError: there is no image in the folder.
    """
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InputError(f"{folder}: no image ({', '.join(IMAGE_SUFFIXES)}) in this folder")
    names = [image.relative_to(folder).as_posix() for image in images]
    return ImageTable(
        source=folder,
        rows=np.arange(1, len(images) + 1),
        images=images,
        names=names,
        target_columns=options.target_columns,
        targets=np.full((len(images), len(options.target_columns)), np.nan),
        groups=np.array(names),
        splits=None,
        weights=None,
        pixel_sizes=None,
    )


def subjects(
    images: Sequence[Path], places: Sequence[str], pattern: str | None
) -> tuple[NDArray[np.str_], list[str]]:
    """`(n,)`: the subjects that `--group-pattern` takes from file names, each image being its own
    without it; and the faults: where, by the place of each image in its source, it does not match.

    Raises:
        InputError: the pattern is not a regular expression.
    """
    if pattern is None:
        return np.array([str(image) for image in images]), []
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-pattern {pattern!r}: {error}") from error
    matches = [compiled.search(image.name) for image in images]
    faults = [
        f"{place}: {image.name} does not match --group-pattern {pattern!r}"
        for place, image, match in zip(places, images, matches, strict=True)
        if match is None
    ]
    part = 1 if compiled.groups else 0
    return np.array([match[part] if match else "" for match in matches]), faults


def raise_faults(source: Path, faults: Sequence[str]) -> None:
    """Raises one InputError for all the faults, if there are any."""
    if not faults:
        return
    shown = [f"  {fault}" for fault in faults[:_FAULTS_SHOWN]]
    if len(faults) > _FAULTS_SHOWN:
        shown.append(f"  and {len(faults) - _FAULTS_SHOWN} more")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise InputError("\n".join([f"{source}: {count}; correct or remove these rows:", *shown]))


def _read_frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _siblings(path), 3)
        hint = f"; in that folder there are: {', '.join(near)}" if near else ""
        raise InputError(f"no table {path}{hint}")
    kind = path.suffix.lower()
    if kind not in (".csv", ".xlsx", ".parquet"):
        raise InputError(f"{path}: a table is a .csv, .xlsx or .parquet file")
    try:
        # As text, so that a subject 007 keeps its zeros and a fault its spelling.
        if kind == ".csv":
            frame = pd.read_csv(path, dtype="string")
        elif kind == ".xlsx":
            frame = pd.read_excel(path, dtype="string")
        else:
            frame = pd.read_parquet(path)
    except (ValueError, OSError, ImportError) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}") from error
    if frame.empty:
        raise InputError(f"{path}: the table has no rows")
    return frame


def _siblings(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _check_columns(frame: pd.DataFrame, options: TableOptions) -> None:
    if options.group_column is not None and options.group_pattern is not None:
        raise InputError("give --group-column or --group-pattern, not both")
    if options.length_columns is not None:
        stray = [name for name in options.length_columns if name not in options.target_columns]
        if stray or options.pixel_size_column is None:
            raise InputError("--length-columns needs --pixel-size-column, and names of targets")
    if len(set(options.target_columns)) < len(options.target_columns):
        raise InputError("--target-columns names a column twice")
    wanted = {
        "--image-column": [options.image_column],
        "--target-columns": options.target_columns,
        "--group-column": [options.group_column],
        "--split-column": [options.split_column],
        "--weight-column": [options.weight_column],
        "--pixel-size-column": [options.pixel_size_column],
    }
    columns = [str(column) for column in frame.columns]
    faults = []
    for flag, names in wanted.items():
        for name in names:
            if name is not None and name not in columns:
                near = difflib.get_close_matches(name, columns, 3, cutoff=0.4)
                hint = f"; near are {near}" if near else f"; the table has {columns}"
                faults.append(f"  no column {name!r} for {flag}{hint}")
    if faults:
        raise InputError("\n".join([f"{options.table}: columns are missing:", *faults]))


def _numbers(
    frame: pd.DataFrame,
    column: str,
    rows: NDArray[np.int64],
    faults: list[str],
    *,
    lowest: float | None = None,
    above: float | None = None,
) -> NDArray[np.float64]:
    """The column as numbers. A bound makes an empty cell a fault, too."""
    text = frame[column]
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = (np.isnan(numbers) & text.notna().to_numpy()) | np.isinf(numbers)
    needed = "a number"
    if lowest is not None:
        wrong, needed = ~(numbers >= lowest) | np.isinf(numbers), f"a number of at least {lowest:g}"
    if above is not None:
        wrong, needed = ~(numbers > above) | np.isinf(numbers), f"a number above {above:g}"
    faults += _wrong_cells(text, wrong, rows, needed)
    return numbers


def _wrong_cells(
    cells: pd.Series, wrong: NDArray[np.bool_], rows: NDArray[np.int64], needed: str
) -> list[str]:
    spelled = ["empty" if pd.isna(cell) else f"{str(cell)!r}" for cell in cells[wrong]]
    return [
        f"row {row}: column {cells.name!r} is {given}, not {needed}"
        for row, given in zip(rows[wrong], spelled, strict=True)
    ]


def _empty_cells(cells: pd.Series, rows: NDArray[np.int64]) -> list[str]:
    return [f"row {row}: column {cells.name!r} is empty" for row in rows[cells.isna().to_numpy()]]


def _splits(
    frame: pd.DataFrame, column: str | None, rows: NDArray[np.int64], faults: list[str]
) -> NDArray[np.str_] | None:
    if column is None:
        return None
    named = frame[column].astype("string").str.strip().str.lower().map(_SPLIT_NAMES)
    wrong = named.isna().to_numpy()
    faults += _wrong_cells(frame[column], wrong, rows, f"one of {', '.join(SPLITS)}")
    return named.fillna("").to_numpy(dtype=str)


def _check_target(source: Path, column: str, values: NDArray[np.float64]) -> None:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        raise InputError(f"{source}: target column {column!r} has no value at all")
    if known.min() == known.max():
        raise InputError(
            f"{source}: target column {column!r} is {known[0]:g} in every row: "
            "there is nothing to learn"
        )
