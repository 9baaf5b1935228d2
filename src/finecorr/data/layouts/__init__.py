"""Data sets that people have, read as they are published: names, scores, references, splits.

The scores of all of them are higher where the quality is: those that are not are turned, and their
column says so (`100 - DMOS`). What else the columns mean is in docs/datasets.md.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from finecorr.data.frames import Frame, raise_faults
from finecorr.data.layouts import distortions, photographs
from finecorr.data.layouts.published import Folder, Layout
from finecorr.errors import InputError, InputWarning, spelled

LAYOUTS: dict[str, Layout] = {**photographs.LAYOUTS, **distortions.LAYOUTS}

_SHOWN = 5


def read_layout(name: str, path: Path) -> Frame:
    """All rows and columns of a published data set.

    Args:
        name: one of `LAYOUTS`.
        path: its folder.

    Returns:
        The column `image` (a path from the folder, whose file may not be there), one of scores, and
        others that the data set has. Rows have the numbers of its file of scores, or run from 1
        where that has none, or where there are several.

    Raises:
        InputError: the name is unknown, a file is missing, or something in one is wrong.
    """
    if name not in LAYOUTS:
        raise InputError(f"unknown layout {name!r}; there are {', '.join(LAYOUTS)}")
    layout, folder = LAYOUTS[name], Folder(path)
    missing = layout.missing(folder)
    if missing:
        raise InputError(
            f"{spelled(path)} {'has no' if path.is_dir() else 'is no folder: no'} "
            f"{', no '.join(missing)}\n"
            f"  expected is the folder of {layout.title} as it is published, with "
            f"{', '.join(' or '.join(names) for names in layout.files)}"
            f"{_elsewhere(layout, path)}\n"
            f"  (it is published at {layout.published})"
        )
    frame = layout.read(folder)
    _check(path, frame)
    return frame


def _check(path: Path, frame: Frame) -> None:
    """Raises InputError where an image has two rows, or is elsewhere; notes empty cells."""
    images = frame.cells["image"]
    faults = [
        *(
            f"row {frame.rows[row]}: {spelled(images[row])} has a row already"
            for row in np.flatnonzero(images.duplicated()).tolist()
        ),
        *(
            f"row {frame.rows[row]}: {spelled(image)} is not in the folder"
            for row, image in enumerate(images)
            if ".." in Path(image).parts
        ),
    ]
    raise_faults(path, faults)
    empty = frame.cells.apply(lambda cells: cells.str.strip().str.lower().isin(("", "nan")))
    places = [
        f"row {frame.rows[row]} of {frame.columns[column]!r}"
        for row, column in np.argwhere(empty.to_numpy()).tolist()
    ]
    if places:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        warnings.warn(
            f"{path}: there is nothing in {', '.join(places[:_SHOWN])}{more}",
            InputWarning,
            stacklevel=3,
        )


def _elsewhere(layout: Layout, path: Path) -> str:
    """Archives have a folder in which all is."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    found = [one for one in inside if one.is_dir() and not layout.missing(Folder(one))]
    return f"\n  {spelled(found[0])} has these files: give that folder" if found else ""
