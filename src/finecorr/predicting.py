"""A trained run on tables and folders of images: predictions, from options to a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr import bundle
from finecorr.data.dataset import ImageDataset
from finecorr.data.folder import read_folder
from finecorr.data.frames import raise_faults
from finecorr.data.images import Images, note_smaller
from finecorr.data.names import subjects
from finecorr.data.options import Per, TableOptions
from finecorr.data.records import write_record
from finecorr.data.table import ImageTable, check_options, read_table
from finecorr.errors import InputError
from finecorr.files import check_writable, remove_temporary
from finecorr.models import prediction


def predict(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    *,
    pixel_size: float | Literal["file"] | None = None,
    predict_per: Per = "row",
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predicts for every row of a table or every image of a folder, and writes a CSV file.

    Args:
        run: the run folder.
        overrides: fields of `TableOptions` that differ from the run's; `table` may be a folder.
        out: the CSV file.
        pixel_size: of all images, for a model of lengths where no column gives it; "file" for what
            the images' files say, in mm.
        predict_per: "subject" for the mean prediction of each subject.
        overwrite: replace the file if it is there.

    Returns:
        What was written: `image` (and `frame`, where a column names it), or `group` and the number
        of its `rows`; and a column for each target.

    Raises:
        InputError: the run, the table or an image is at fault; nothing was written.
    """
    check_writable(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another name, or use --overwrite")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file")
    model = bundle.load(run)
    options = overridden(model.table, overrides)
    if pixel_size is not None and pixel_size != "file" and not 0 < pixel_size < float("inf"):
        raise InputError(f"--pixel-size must be positive, or file, not {pixel_size}")
    if pixel_size is not None and not any(options.lengths):
        raise InputError("--pixel-size is for lengths, and the model predicts none")
    table = _unlabelled(options, pixel_size is None, predict_per)
    if isinstance(pixel_size, float):
        table = replace(table, pixel_sizes=np.full(len(table), pixel_size))
    elif pixel_size is None and options.pixel_size_column and table.pixel_sizes is None:
        raise InputError(
            f"the model predicts {', '.join(options.target_columns)} in units of length, and a "
            "folder has no pixel sizes: give --pixel-size, or a table with a column "
            f"{options.pixel_size_column!r}; or --pixel-size file if that column was in mm and "
            "the files of the images say it"
        )
    predictions = predictions_of(model, table, options)
    if predict_per == "subject":
        rows = Counter(table.groups.tolist())
        table, predictions = by_subject(table, predictions)
        names = table.groups.tolist()
        frame = pd.DataFrame({"group": names, "rows": [rows[name] for name in names]})
    else:
        frame = pd.DataFrame({"image": table.names})
        if table.frames is not None:
            frame["frame"] = np.maximum(table.frames, 0) + 1
    for column, values in zip(options.target_columns, predictions.T, strict=True):
        frame[column] = values
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_temporary(out.parent, out.name)
    write_record(out, frame)
    return frame


def _unlabelled(options: TableOptions, with_pixel_sizes: bool, predict_per: Per) -> ImageTable:
    """The rows of a table, or the images of a folder."""
    by_subject = predict_per == "subject"
    if by_subject and options.group_column is None and options.group_pattern is None:
        raise InputError("--predict-per subject: who is it? Say --group-column or --group-pattern")
    if options.layout is None and options.table.is_dir():
        table = read_folder(options.table, options)
        if not by_subject:
            return table
        if options.group_pattern is None:
            raise InputError("--predict-per subject: a folder has no columns: say --group-pattern")
        groups, faults = subjects(
            [row[0] for row in table.images], table.names, options.group_pattern
        )
        raise_faults(table.source, faults, "these files")
        return replace(table, groups=groups)
    # What only an evaluation asks for.
    options = replace(options, within=None, score_columns=None, sd_column=None, observers=None)
    if not with_pixel_sizes:
        options = replace(options, pixel_size_column=None, length_columns=None)
    if not by_subject:
        # Each image is predicted for itself, whoever it is of.
        options = replace(options, group_column=None, group_pattern=None)
    return read_table(options, need_targets=False)


def by_subject(
    table: ImageTable, predictions: NDArray[np.float64]
) -> tuple[ImageTable, NDArray[np.float64]]:
    """For each subject its first row, with the means of its labels and of its predictions.

    Raises:
        InputError: a group to correlate within would have a part of a subject, or never two.
    """
    _, first, member = np.unique(table.groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    if table.within is not None:
        _check_within_of_subjects(table, first[member])

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        by_group = pd.DataFrame(values).groupby(member).mean()  # without missing ones
        return by_group.to_numpy()[order]

    subjects = replace(table.take(first[order]), targets=means(table.targets))
    if table.standard_errors is not None:
        count = np.bincount(member, table.labelled)[order]
        squares = np.bincount(member, np.nan_to_num(table.standard_errors) ** 2)[order]
        errors = np.sqrt(squares) / np.where(count > 0, count, np.nan)
        subjects = replace(subjects, standard_errors=errors)
    return subjects, means(predictions)


def _check_within_of_subjects(table: ImageTable, first: NDArray[np.intp]) -> None:
    """`first` is `(n,)`: for each row the first of its subject."""
    assert table.within is not None
    torn = np.flatnonzero(table.within != table.within[first])
    if len(torn):
        row, other = torn[0], first[torn[0]]
        raise InputError(
            f"--predict-per subject: {table.groups[row]!s} has rows in several groups of --within "
            f"{table.within_column} ({table.within[other]!s} and {table.within[row]!s})"
        )
    if len(np.unique(table.within)) == len(np.unique(first)):
        raise InputError(
            f"--within {table.within_column} needs several predictions in a group, and with "
            "--predict-per subject each has one"
        )


def overridden(trained: TableOptions, overrides: dict[str, Any]) -> TableOptions:
    """The options of the training with others in their place.

    Another table has its own root, format, groups to correlate within and opinions, as has another
    target, and one way to name the subject, or the frame, takes the place of the other. What only
    training needs is not asked for.
    """
    implied: dict[str, Any] = {"split_column": None, "weight_column": None}
    if "table" in overrides:
        own = ("layout", "image_root", "encoding", "separator", "decimal", "sheet", "within")
        implied |= dict.fromkeys(own)
    opinions = ("score_columns", "sd_column", "observers")
    if not {"table", "target_columns", *opinions}.isdisjoint(overrides):
        implied |= dict.fromkeys(opinions)
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
        lengths = [name for name, length in zip(before, trained.lengths, strict=True) if length]
        raise InputError(
            f"the model has learnt {', '.join(lengths) or 'no target'} as a length: that cannot be "
            "changed with --pixel-size-column or --length-columns"
        )
    return options


def predictions_of(
    model: bundle.Bundle, table: ImageTable, options: TableOptions
) -> NDArray[np.float64]:
    images = Images(table, model.images)
    note_smaller(table.source, images)
    dataset = ImageDataset(table, images, options.lengths)
    return prediction.predict(model.regressor, dataset)[1]
