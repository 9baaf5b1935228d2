"""Names in a table: of images, as the files that they are, and of subjects."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finecorr.data.frames import Frame
from finecorr.data.numbers import wrong_cells
from finecorr.errors import InputError, spelled

BETWEEN = " | "
"""Between the names of several images of a row."""
_LONGEST = 1000


def find_images(
    frame: Frame, columns: Sequence[str], root: Path, faults: list[str]
) -> list[tuple[Path, ...]]:
    """The files of each row; what has none, or no name, is added to the faults."""
    found = []
    for column in columns:
        names = frame.cells[column]
        files = {name: find_file(root, name) for name in names.unique()}
        faults += wrong_cells(
            frame, column, (names.str.strip() == "").to_numpy(dtype=np.bool_), "an image"
        )
        faults += [
            f"row {row}: no image {spelled(root / name)}"
            for row, name in zip(frame.rows, names, strict=True)
            if files[name] is None and name.strip()
        ]
        # What is not there has its name all the same, for the subject in it.
        found.append([files[name] or root / name.replace("\0", "") for name in names])
    return list(zip(*found, strict=True))


def find_file(root: Path, name: str) -> Path | None:
    """The file, or the folder of slices, of that name, also where another system spelled it."""
    if not name.strip():
        return None
    spellings = [name, name.strip()]
    spellings += [spelling.replace("\\", "/") for spelling in spellings]
    spellings += [unicodedata.normalize(f, s) for f in ("NFC", "NFD") for s in spellings]
    for spelling in dict.fromkeys(spellings):
        try:
            # A folder is the slices of a volume, or else its reader says what it is not.
            if (path := root / spelling).is_file() or path.is_dir():
                return path
        except OSError:  # No file has that name: it is too long.
            continue
    return None


def real_paths(paths: Iterable[Path]) -> dict[Path, str]:
    """For each path the file that it leads to, whatever links and dots are in it."""
    folders: dict[str, str] = {}
    found = {}
    for path in set(paths):
        folder, name = os.path.split(path)
        # Of a million files, each folder is looked up once.
        if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114
            found[path] = _real(path)
            continue
        if folder not in folders:
            folders[folder] = _real(folder)
        found[path] = os.path.join(folders[folder], name)  # noqa: PTH118
    return found


def _real(path: str | Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # A name with a NUL leads nowhere.
        return str(path)


def image_names(frame: Frame, columns: Sequence[str], faults: list[str]) -> list[str]:
    """The images of each row as the table names them."""
    for column in columns if len(columns) > 1 else []:
        wrong = frame.cells[column].str.contains(BETWEEN, regex=False).to_numpy(dtype=np.bool_)
        faults += wrong_cells(frame, column, wrong, f"a name without {BETWEEN!r}")
    names = [frame.cells[column] for column in columns]
    return [BETWEEN.join(of_row) for of_row in zip(*names, strict=True)]


def subjects_of_rows(
    frame: Frame,
    images: Sequence[tuple[Path, ...]],
    column: str | None,
    pattern: str | None,
    faults: list[str],
) -> NDArray[np.str_]:
    """`(n,)`: the subjects by a column, or by a pattern on the names of the files, or else each
    row's first file; an empty one, or two in a row, are added to the faults."""
    if column is not None:
        return names_in(frame, column, "a subject", faults)
    places = [] if pattern is None else [f"row {row}" for row in frame.rows]
    of_column = []
    for files in zip(*images, strict=True):
        found, missing = subjects(files, places, pattern)
        of_column.append(found)
        faults += missing
    for others in of_column[1:] if pattern is not None else []:
        faults += [
            f"row {row}: its images are of two subjects, {str(one)!r} and {str(other)!r}"
            for row, one, other in zip(frame.rows, of_column[0], others, strict=True)
            if one and other and one != other
        ]
    return of_column[0]


def names_in(frame: Frame, column: str, needed: str, faults: list[str]) -> NDArray[np.str_]:
    """`(n,)`: the names in a column; an empty one, or a very long one, is added to the faults."""
    found = frame.cells[column].map(_name)
    wrong = ((found == "") | (found.str.len() > _LONGEST)).to_numpy(dtype=np.bool_)
    faults += wrong_cells(frame, column, wrong, f"{needed} of 1 to {_LONGEST} characters")
    return np.array(found.to_list(), dtype=np.str_)


def subjects(
    images: Sequence[Path], places: Sequence[str], pattern: str | None
) -> tuple[NDArray[np.str_], list[str]]:
    """`(n,)`: the subjects that `--group-pattern` takes from file names, each file being its own
    without it; and the faults: where, by the place of each image in its source, it takes nothing.

    Raises:
        InputError: the pattern is not a regular expression.
    """
    if pattern is None:
        files = real_paths(images)
        return np.array([files[image] for image in images], dtype=np.str_), []
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-pattern {pattern!r}: {error}") from error
    matches = [compiled.search(image.name) for image in images]
    part = 1 if compiled.groups else 0
    found = [_name(match[part] or "") if match else "" for match in matches]
    faults = [
        f"{place}: {spelled(image.name)} does not match --group-pattern {pattern!r}"
        if match is None
        else f"{place}: --group-pattern {pattern!r} takes an empty subject from "
        f"{spelled(image.name)}"
        for place, image, match, subject in zip(places, images, matches, found, strict=True)
        if not subject
    ]
    return np.array(found, dtype=np.str_), faults


def images_of_two_subjects(
    frame: Frame, images: Sequence[tuple[Path, ...]], groups: NDArray[np.str_]
) -> list[str]:
    """A fault for each: the same picture must not be in two splits."""
    files = real_paths(path for row in images for path in row)
    first: dict[str, int] = {}
    faults = []
    for i, row in enumerate(images):
        for path in row:
            j = first.setdefault(files[path], i)
            if groups[i] != groups[j]:
                faults.append(
                    f"row {frame.rows[i]}: {spelled(path.name)} is an image of "
                    f"{str(groups[i])!r}, and in row {frame.rows[j]} of {str(groups[j])!r}"
                )
    return faults


def _name(cell: str) -> str:
    """Names that look alike are the same."""
    return unicodedata.normalize("NFC", cell.strip())
