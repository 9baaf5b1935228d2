"""What a table is, and which rows are trained on: flags, known before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

EVERY = "*"
"""Of --feature-columns: all columns that no other flag names."""
LAYOUTS = ("koniq10k", "livec", "spaq", "biq2021", "tid2013", "kadid10k", "csiq", "live")
"""Data sets whose files are read as they are published: see `finecorr.data.layouts`."""
MAX_SEED = 2**32 - 1
"""What NumPy and scikit-learn take."""


@dataclass(frozen=True)
class TableOptions:
    """Where the images and their scores are. Each field is a flag of the command line."""

    table: Path = field(
        metadata={
            "help": "table of images and scores: CSV, TSV, Excel, Parquet or JSON; or, with "
            "--layout, the folder of a published data set"
        }
    )
    image_root: Path | None = field(
        default=None,
        metadata={"help": "folder that image paths start from (default: the table's)"},
    )
    image_columns: tuple[str, ...] = field(
        default=("image",),
        metadata={
            "help": "column of image paths; with several columns, a row has several images, and "
            "their predictions are averaged"
        },
    )
    frame_column: str | None = field(
        default=None,
        metadata={
            "help": "column with the number of the frame or page in the image's file, from 1"
        },
    )
    all_frames: bool = field(
        default=False,
        metadata={
            "help": "use all frames of a file that has several, and average their predictions"
        },
    )
    feature_columns: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "columns of numbers and categories to predict from, instead of images; '*' "
            "for all that no other flag names (without --task or --config, it means "
            "--task table)"
        },
    )
    category_columns: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "those of --feature-columns that look like numbers and are categories; "
            "columns of text always are"
        },
    )
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
            "help": "regular expression that finds the subject in the name of the image's file: "
            "its first group, or else its whole match"
        },
    )
    split_column: str | None = field(
        default=None,
        metadata={
            "help": "column that says train, validation or test; if no row says validation, some "
            "of the training subjects are used for it"
        },
    )
    within: str | None = field(
        default=None,
        metadata={
            "help": "column of groups, such as parts of a data set, kinds of distortion, or "
            "subjects: adds the mean of the correlations within each group; 'subject' for "
            "the subjects of --group-pattern"
        },
    )
    weight_column: str | None = field(
        default=None, metadata={"help": "column of non-negative weights of the rows"}
    )
    score_columns: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "one column of scores for each observer; their mean becomes the target, under "
            "the name of --target-columns, and rows on which the observers agree weigh "
            "more"
        },
    )
    sd_column: str | None = field(
        default=None,
        metadata={
            "help": "column with the standard deviation of the observers' scores, where the "
            "target is their mean, in the same unit; needs --observers"
        },
    )
    observers: str | None = field(
        default=None, metadata={"help": "how many observers have scored: a number, or a column"}
    )
    pixel_size_column: str | None = field(
        default=None,
        metadata={
            "help": "column with the side of a pixel, in the unit of the targets: the targets are "
            "then lengths, learnt in pixels; if a cell is empty, the image's file says "
            "it, in mm"
        },
    )
    length_columns: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "targets that are lengths, learnt in pixels (default with "
            "--pixel-size-column: all of them; without it, the images' files say how "
            "large a pixel is, in mm)"
        },
    )
    volume_columns: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "targets that are volumes, in ml or any other unit: they are learnt in voxels, "
            "whose size the files of the images say"
        },
    )
    units: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "the unit of each target, for those who get the model (default: what is in "
            "brackets at the end of its name)"
        },
    )
    encoding: str | None = field(
        default=None,
        metadata={
            "help": "encoding of a text table, as Python names it: latin-1, cp1252 ... (default: "
            "UTF-8, or what its first bytes say)"
        },
    )
    separator: str | None = field(
        default=None,
        metadata={
            "help": "what separates the cells of a text table: one character, or 'tab' (default: "
            "found in its header)"
        },
    )
    decimal: Literal[".", ","] | None = field(
        default=None,
        metadata={"help": "decimal mark of numbers (default: found in their columns)"},
    )
    sheet: str | None = field(
        default=None, metadata={"help": "sheet of an Excel file, if several have something in them"}
    )
    layout: str | None = field(
        default=None,
        metadata={"help": f"published data set whose folder the table is: {', '.join(LAYOUTS)}"},
    )

    @property
    def root(self) -> Path:
        """The folder that image paths start from."""
        if self.image_root is not None:
            return self.image_root
        return self.table.parent if self.layout is None else self.table

    def absolute(self) -> TableOptions:
        """The same from any folder."""
        options = replace(self, table=self.table.absolute())
        if self.feature_columns is not None:
            return options
        return replace(options, image_root=options.root.absolute())

    @property
    def lengths(self) -> tuple[int, ...]:
        """For each target, how it grows with the side of a pixel: 1 for a length, which is learnt
        in pixels; 3 for a volume, which is learnt in voxels; 0 for what is neither."""
        lengths, volumes = self.length_columns, self.volume_columns or ()
        if lengths is None:
            lengths = self.target_columns if self.pixel_size_column is not None else ()
        return tuple(
            3 if column in volumes else int(column in lengths) for column in self.target_columns
        )


@dataclass(frozen=True)
class SplitOptions:
    """Which rows are trained on. Each field is a flag of the command line."""

    split_fractions: tuple[float, float, float] = field(
        default=(0.7, 0.15, 0.15),
        metadata={"help": "shares of the subjects for training, validation (may be 0) and test"},
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "cut the subjects into this many folds, and test on one of them; "
            "--split-fractions says how many of the others are for validation"
        },
    )
    fold: int = field(default=1, metadata={"help": "the fold to test on, from 1"})
    split_seed: int | None = field(
        default=None, metadata={"help": "seed of the splits (default: that of --seed)"}
    )


def name_and_unit(column: str) -> tuple[str, str | None]:
    """`length (mm)` as a table of measurements names its columns."""
    found = re.fullmatch(r"(.+?) [(\[](\S+)[)\]]", column)
    return (found[1], found[2]) if found else (column, None)
