"""The columns of a table that flags ask for, and flags that contradict each other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from finecorr.data.frames import Format, Frame
from finecorr.data.opinions import OpinionColumns
from finecorr.data.options import EVERY, TableOptions
from finecorr.errors import InputError, spelled
from finecorr.files import check_unicode

RECORDED = ("row", "image", "group", "frame", "rows", "novel", "fault")
"""Columns of our own beside those of the targets."""
OF_TARGET = ("predicted", "low", "high", "sd")
"""What the names of columns of our own begin with that are of a target, whose name follows."""
_SHOWN = 12


def opinion_columns(options: TableOptions) -> OpinionColumns:
    """Where those of several observers are."""
    return OpinionColumns(options.score_columns, options.sd_column, options.observers)


def format_of(options: TableOptions) -> Format:
    """What is known of the table's file."""
    return Format(options.encoding, options.separator, options.decimal, options.sheet)


def columns_asked(options: TableOptions) -> dict[str, list[str]]:
    """The columns that are asked for, by the flag that does it."""
    single = {
        "--group-column": options.group_column,
        "--split-column": options.split_column,
        "--within": options.within,
        "--weight-column": options.weight_column,
        "--pixel-size-column": options.pixel_size_column,
        "--frame-column": options.frame_column,
    }
    features = options.feature_columns
    inputs = (
        {"--image-columns": list(options.image_columns)}
        if features is None
        else {"--feature-columns": list(features)}
    )
    return {
        **inputs,
        "--target-columns": list(options.target_columns),
        **opinion_columns(options).flags,
        **{flag: [name] for flag, name in single.items() if name is not None},
    }


def with_every_column(options: TableOptions, columns: Sequence[str], source: Path) -> TableOptions:
    """With the names of all columns that no other flag names as features."""
    others = replace(options, feature_columns=None, category_columns=None, image_columns=())
    named = {name for columns in columns_asked(others).values() for name in columns}
    found = tuple(dict.fromkeys(name for name in columns if name and name not in named))
    if not found:
        raise InputError(f"{source}: --feature-columns *: the flags name all of its columns")
    options = replace(options, feature_columns=found)
    check_options(options)
    return options


def check_columns(frame: Frame, source: Path, wanted: dict[str, list[str]]) -> None:
    """Raises InputError, with the names that are near, if columns are not there."""
    columns = frame.columns
    faults = []
    for flag, asked in wanted.items():
        for name in asked:
            if name not in columns:
                near = difflib.get_close_matches(name, columns, 3, cutoff=0.4)
                shown = [spelled(column) for column in near or columns[:_SHOWN]]
                more = 0 if near else len(columns) - len(shown)
                hint = f"{'near are' if near else 'the table has'} {shown}"
                faults.append(
                    f"  no column {spelled(name)!r} for {flag}; {hint}"
                    f"{f' and {more} more' if more else ''}"
                )
    if faults:
        raise InputError("\n".join([f"{source}: columns are missing:", *faults]))


def check_options(options: TableOptions) -> None:
    """Raises InputError if options contradict each other."""
    check_unicode(options.image_root or options.table)
    _check_features(options)
    if options.layout is not None and format_of(options) != Format():
        raise InputError(
            "--layout says what the files are: leave out --encoding, --separator, --decimal and "
            "--sheet"
        )
    if options.group_column is not None and options.group_pattern is not None:
        raise InputError("give --group-column or --group-pattern, not both")
    if options.frame_column is not None and options.all_frames:
        raise InputError("give --frame-column or --all-frames, not both")
    for flag, columns in (
        ("--length-columns", options.length_columns),
        ("--volume-columns", options.volume_columns),
    ):
        stray = [name for name in columns or () if name not in options.target_columns]
        if stray:
            raise InputError(f"{flag}: {stray[0]!r} is none of --target-columns")
    both = set(options.length_columns or ()) & set(options.volume_columns or ())
    if both:
        raise InputError(
            f"{min(both)!r} is in --length-columns and in --volume-columns: name it in one of them"
        )
    opinion_columns(options).check(options.target_columns)
    if options.units is not None and len(options.units) != len(options.target_columns):
        raise InputError(
            f"--units must name one for each of --target-columns, and names {len(options.units)}"
        )
    for flag, asked in (
        ("--target-columns", options.target_columns),
        ("--image-columns", options.image_columns),
        (
            "--feature-columns",
            (EVERY,) if options.feature_columns is None else options.feature_columns,
        ),
    ):
        if len(set(asked)) < len(asked):
            raise InputError(f"{flag} names a column twice")
        if not asked:
            raise InputError(f"{flag} names no column")
    written = [
        *RECORDED,
        *(f"{what} {name}" for what in OF_TARGET for name in options.target_columns),
    ]
    taken = [name for name in options.target_columns if name in written]
    if taken:
        raise InputError(
            f"--target-columns: the predictions have a column {taken[0]!r} of their own: give the "
            "target another name in the table"
        )


def _check_features(options: TableOptions) -> None:
    """Raises InputError if flags do not go together with --feature-columns."""
    features, categories = options.feature_columns, options.category_columns
    if features is None:
        if categories is not None:
            raise InputError("--category-columns are some of --feature-columns, which names none")
        return
    of_images = {
        "--image-columns": options.image_columns != TableOptions.image_columns,
        "--image-root": options.image_root is not None,
        "--frame-column": options.frame_column is not None,
        "--all-frames": options.all_frames,
        "--group-pattern": options.group_pattern is not None,
        "--pixel-size-column": options.pixel_size_column is not None,
        "--length-columns": options.length_columns is not None,
        "--volume-columns": options.volume_columns is not None,
        "--layout": options.layout is not None,
    }
    given = [flag for flag, is_given in of_images.items() if is_given]
    if given:
        raise InputError(
            f"{given[0]} is for images, and --feature-columns for tables without images: "
            "leave out one of them"
        )
    if EVERY in features:
        if len(features) > 1:
            raise InputError(f"--feature-columns {EVERY} stands for all columns: give it alone")
        return
    stray = [name for name in categories or () if name not in features]
    if stray:
        raise InputError(f"--category-columns: {stray[0]!r} is none of --feature-columns")
    others = columns_asked(replace(options, feature_columns=(), within=None))
    for flag, names_ in others.items():
        double = [name for name in names_ if name in features]
        if double:
            raise InputError(
                f"{flag} and --feature-columns both name {double[0]!r}: what is predicted from "
                "must be something else"
            )
