"""How long a pixel, or a voxel, of the network's image is: by the table, or by the image's file."""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finecorr.data.frames import raise_faults
from finecorr.data.table import ImageTable
from finecorr.errors import InputError, InputWarning

SAME = 0.01
"""Relative difference up to which two sizes of a pixel are the same."""
_SHOWN = 3


class Sized(Protocol):
    """What is known of images: see `finecorr.data.images.Images`."""

    @property
    def rows(self) -> NDArray[np.intp]: ...

    @property
    def factors(self) -> NDArray[np.float64]: ...

    @property
    def pixel_sizes(self) -> NDArray[np.float64]: ...

    @property
    def lost(self) -> NDArray[np.bool_]: ...

    def __len__(self) -> int: ...


def pixel_sizes(table: ImageTable, images: Sized) -> NDArray[np.float64]:
    """`(images,)`: the side of a pixel of the network's image, in the unit of the table's column;
    of a voxel, in mm.

    Where the column has none, the image's file says it, in mm. Where both do and they disagree, the
    column counts, with an `InputWarning`.

    Raises:
        InputError: nothing says how large the pixels of an image are; or the file is to say it
            where the column does not, and no other image shows that the column is in mm, too.
    """
    by_file = images.pixel_sizes[:, -1]
    by_table = np.full(len(images), np.nan)
    if table.pixel_sizes is not None:
        by_table = table.pixel_sizes[images.rows]
    ratio = images.pixel_sizes / by_table[:, None]
    differ = np.flatnonzero((np.abs(ratio - 1) > SAME).any(axis=1))
    filled = np.isnan(by_table) & ~np.isnan(by_file)
    unknown = np.isnan(by_table) & np.isnan(by_file) & ~images.lost
    both = int((~np.isnan(ratio[:, 0])).sum())
    if filled.any() and not np.isnan(by_table).all() and (both == 0 or len(differ)):
        raise InputError(
            f"{table.source}: the table has no pixel size for {_examples(table, images, filled)}. "
            "The file's, in mm, is taken only if another image shows that the table's is in mm, "
            f"too. None does{_but(table, images, differ)}: fill the column"
        )
    if len(differ):
        warnings.warn(
            f"{table.source}: the table's pixel size is not the file's in {len(differ)} of {both} "
            f"images that have both, as {_examples(table, images, differ)}. The table's is used.",
            InputWarning,
            stacklevel=2,
        )
    sizes = np.where(np.isnan(by_table), by_file, by_table)
    raise_faults(
        table.source,
        [
            f"row {table.rows[row]}: {table.names[row]} has no pixel size: neither its file nor "
            "the table says it"
            for row in dict.fromkeys(images.rows[unknown])
        ],
        "these rows, or say it with --pixel-size-column (for predict, with --pixel-size)",
    )
    return np.asarray(sizes / images.factors)


def _but(table: ImageTable, images: Sized, differ: NDArray[np.intp]) -> str:
    return f" ({_examples(table, images, differ)})" if len(differ) else ""


def _examples(
    table: ImageTable, images: Sized, chosen: NDArray[np.intp] | NDArray[np.bool_]
) -> str:
    parts = []
    for image in np.arange(len(images))[chosen][:_SHOWN]:
        row, (height, width) = images.rows[image], images.pixel_sizes[image]
        size = f"{width:g}" if abs(height / width - 1) <= SAME else f"{height:g} x {width:g}"
        column = np.nan if table.pixel_sizes is None else table.pixel_sizes[row]
        given = "empty" if np.isnan(column) else f"{column:g}"
        parts.append(f"row {table.rows[row]} ({given}, and {size} mm by its file)")
    return ", ".join(parts)
