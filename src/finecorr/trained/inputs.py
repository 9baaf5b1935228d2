"""What a trained model is given: the rows of a table or the images of a folder, by the options of
its training and those that are other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data import pictures
from finecorr.data.asked import check_options
from finecorr.data.columns import listed
from finecorr.data.encoding import Encoding
from finecorr.data.folder import read_folder
from finecorr.data.frames import raise_faults
from finecorr.data.image_options import MAX_MEGAPIXELS
from finecorr.data.lengths import SAME
from finecorr.data.names import subjects
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError, InputWarning, spelled

PixelSize = float | Sequence[float] | NDArray[np.float64] | Literal["file"]
_WITNESSES = 200
"""Rows that are looked at to find out whether a table has its pixel sizes in mm, as files have."""
_SHOWN = 3


def overridden(trained: TableOptions, overrides: dict[str, Any]) -> TableOptions:
    """The options of the training with others in their place.

    Another table has its own root, format, groups to correlate within and opinions, as has another
    target, and one way to name the subject, or the frame, takes the place of the other. What only
    training needs is not asked for.
    """
    if trained.table == Path() and "table" not in overrides:
        raise InputError("which table? The model's file does not say where it was trained")
    implied: dict[str, Any] = {"split_column": None, "weight_column": None}
    if "table" in overrides:
        own = ("layout", "image_root", "encoding", "separator", "decimal", "sheet", "within")
        implied |= dict.fromkeys(own)
    opinions = ("score_columns", "sd_column", "observers")
    if not {"table", "target_columns", *opinions}.isdisjoint(overrides):
        implied |= dict.fromkeys(opinions)
    if trained.feature_columns is not None and "image_root" in implied:
        del implied["image_root"]
    if "group_column" in overrides or "group_pattern" in overrides:
        implied |= {"group_column": None, "group_pattern": None}
    if "frame_column" in overrides or "all_frames" in overrides:
        implied |= {"frame_column": None, "all_frames": False}
    options = replace(trained, **{**implied, **overrides}).absolute()
    check_options(options)
    names, before = options.target_columns, trained.target_columns
    if len(names) != len(before) or (names != before and set(names) == set(before)):
        raise InputError(f"the model predicts {list(before)}, in this order")
    if options.lengths != trained.lengths:
        lengths = [name for name, power in zip(before, trained.lengths, strict=True) if power]
        more = ", or a volume" if 3 in (*trained.lengths, *options.lengths) else ""
        raise InputError(
            f"the model has learnt {', '.join(lengths) or 'no target'} as a length{more}: that "
            "cannot be changed with --pixel-size-column or --length-columns"
        )
    return options


def check_filled(table: ImageTable) -> None:
    """Raises InputError where an empty cell of pixel sizes stands for what the file says, in mm,
    and no other image shows that the table's are in mm, too."""
    if table.pixel_sizes is None:
        return
    empty = np.isnan(table.pixel_sizes)
    if not empty.any() or empty.all():
        return
    same = 0
    for row in np.flatnonzero(~empty)[:_WITNESSES]:
        by_file = _pixel_size(table, int(row))
        if by_file is None:
            continue
        ratio = by_file / table.pixel_sizes[row]
        if abs(ratio - 1) > SAME:
            same = 0
            break
        same += 1
    if same == 0:
        first = int(np.flatnonzero(empty)[0])
        raise InputError(
            f"{table.source}: the table has no pixel size for row {table.rows[first]}. The file's, "
            "in mm, is taken only if another image shows that the table's is in mm, too. None "
            "does: fill the column"
        )


def _pixel_size(table: ImageTable, row: int) -> float | None:
    path, frame = table.images[row][0], table.frame(row) or 0
    try:
        pictures.check_size(pictures.header(path), MAX_MEGAPIXELS)
        found = pictures.read(path, frame).pixel_size
    except Exception:  # It is said of its row what is wrong with it.
        return None
    return None if found is None else found[1]


def note_views(
    table: ImageTable, unfit: int, differing: Sequence[int], *, volumes: bool = False
) -> None:
    """Says with an `InputWarning` what was seen of images that may not be what was meant.

    Args:
        table: the rows.
        unfit: how many have images that were smaller than a crop, or volumes that were cut.
        differing: the positions of those whose files say another size of a pixel.
        volumes: whether the images are volumes.
    """
    if unfit:
        what = (
            "volumes larger than --image-size: they are cut at their edges"
            if volumes
            else "images smaller than --crop-size: they are mirrored at their edges"
        )
        warnings.warn(
            f"{table.source}: {unfit} of {len(table)} rows have {what}",
            InputWarning,
            stacklevel=2,
        )
    if differing:
        rows = ", ".join(f"row {table.rows[row]}" for row in differing[:_SHOWN])
        warnings.warn(
            f"{table.source}: the pixel size of the table, or of --pixel-size, is not the file's "
            f"in {len(differing)} rows, as {rows}. The file's is not used.",
            InputWarning,
            stacklevel=2,
        )


def check_features(table: ImageTable, encoding: Encoding | None) -> None:
    """Says with an `InputWarning` what is in the feature columns that the training has not seen.

    Raises:
        InputError: they are not of the same kind.
    """
    if encoding is not None and table.features is not None:
        encoding.check_kinds(table.source, table.features, table.rows)
        encoding.note_strange(table.source, table.features, table.rows)


def unlabelled(
    columns: TableOptions,
    *,
    by_subject: bool = False,
    sizes: bool = True,
    volumes: bool = False,
    frame: pd.DataFrame | None = None,
) -> ImageTable:
    """The rows of a table, the images of a folder, or one image.

    An image that is not there is no mistake yet: there may be others.

    Args:
        columns: of the table.
        by_subject: whether the subjects are asked for.
        sizes: whether the sizes of pixels are.
        volumes: whether the images are volumes.
        frame: the table, if it is in memory.

    Raises:
        InputError: something else is missing or wrong.
    """
    if by_subject and columns.group_column is None and columns.group_pattern is None:
        raise InputError(
            "--predict-per subject: which subject? Give --group-column or --group-pattern"
        )
    of_columns = columns.feature_columns is not None
    if of_columns and frame is None and (columns.table.is_dir() or is_image(columns.table)):
        raise InputError(
            f"{columns.table} is no table, and the model predicts from the columns of one: "
            f"{listed(columns.feature_columns or ())}"
        )
    if frame is None and columns.layout is None and is_image(columns.table):
        table = of_paths([columns.table], columns)
        return replace(table, names=[columns.table.name])
    if frame is None and columns.layout is None and columns.table.is_dir():
        table = read_folder(columns.table, columns, volumes=volumes)
        if not by_subject:
            return table
        if columns.group_pattern is None:
            raise InputError("--predict-per subject: a folder has no columns: say --group-pattern")
        groups, faults = subjects(
            [row[0] for row in table.images], table.names, columns.group_pattern
        )
        raise_faults(table.source, faults, "these files")
        return replace(table, groups=groups)
    # What only an evaluation asks for.
    columns = replace(columns, within=None, score_columns=None, sd_column=None, observers=None)
    if not sizes:
        columns = replace(columns, pixel_size_column=None, length_columns=None)
    if not by_subject:
        # Each image is predicted for itself, whoever it is of.
        columns = replace(columns, group_column=None, group_pattern=None)
    return read_table(columns, need_targets=False, need_images=False, frame=frame)


def of_paths(paths: Sequence[Path], columns: TableOptions) -> ImageTable:
    """Images that no table names."""
    names = [str(path) for path in paths]
    return ImageTable(
        source=Path("the images"),
        rows=np.arange(len(paths)),
        images=[(path,) for path in paths],
        names=names,
        target_columns=columns.target_columns,
        targets=np.full([len(paths), len(columns.target_columns)], np.nan),
        groups=np.array(names, dtype=np.str_),
        all_frames=columns.all_frames,
    )


def is_image(path: Path) -> bool:
    """Whether it is one, and no table or folder."""
    try:
        return path.is_file() and pictures.is_picture(path)
    except Exception:  # What is broken is an image, so that it is named as such.
        return True


def sized(
    table: ImageTable, columns: TableOptions, given: PixelSize | None, *, volumes: bool = False
) -> ImageTable:
    """The table with the sizes of its images' pixels: NaN, or none, for those that the files say.

    Args:
        table: the rows.
        columns: those of the model.
        given: the side of a pixel in the unit of the targets, of all images or of each; "file" for
            what the files say; None for those of the table.
        volumes: whether the images are volumes, whose files say it.

    Raises:
        InputError: nothing says how large the pixels are, or the model does not ask.
    """
    given_here = given is not None and not isinstance(given, str)
    if volumes and (given_here or columns.pixel_size_column is not None):
        raise InputError(
            "--pixel-size and --pixel-size-column are for pictures: the files of volumes say how "
            "large voxels are"
        )
    if not any(columns.lengths):
        if given is not None:
            raise InputError("--pixel-size is for lengths, and the model predicts none")
        return replace(table, pixel_sizes=None)
    if isinstance(given, str):
        if given != "file":
            raise InputError(f"a pixel size is a number, or 'file', not {spelled(given)!r}")
        return replace(table, pixel_sizes=None)
    if given is not None:
        try:
            sizes = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"a pixel size is a number: {spelled(error)}") from error
        if sizes.shape not in ((), (len(table),)):
            raise InputError(
                f"pixel sizes are one for all {len(table)} images, or one for each, not "
                f"{sizes.shape}"
            )
        sizes = np.broadcast_to(sizes, len(table)).copy()
        if not (np.isfinite(sizes) & (sizes > 0)).all():
            raise InputError("a pixel size must be positive")
        return replace(table, pixel_sizes=sizes)
    if columns.pixel_size_column and table.pixel_sizes is None:
        raise InputError(
            f"the model predicts {', '.join(columns.target_columns)} in units of length, and "
            "images alone have no pixel sizes: give --pixel-size, or a table with a column "
            f"{columns.pixel_size_column!r}; or --pixel-size file if that column was in mm and "
            "the files of the images say it"
        )
    check_filled(table)
    return table
