"""A folder of images, without labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finecorr.data.frames import raise_faults
from finecorr.data.options import TableOptions
from finecorr.data.pictures import is_dicom, is_picture, is_slice
from finecorr.data.table import ImageTable
from finecorr.errors import InputError, InputWarning, spelled

_SHOWN = 5


def read_folder(folder: Path, options: TableOptions, *, volumes: bool = False) -> ImageTable:
    """All the images of a folder and its subfolders, without labels.

    Where volumes are read, a folder with slices of DICOM, be it the folder itself, is one. Files
    that are no images by their names are images by their content. Hidden files and folders are left
    out, and others that are no images too, with an `InputWarning` that names them.

    Raises:
        InputError: there is no image in the folder, or a name that is not Unicode.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(_files(folder)):
        (images if _is_picture(path) else others).append(path)
    if volumes:
        series = {path.parent for path in images if _is_slice(path)}
        # What else of DICOM is in such a folder is of its series, which says what is wrong with it.
        alone = {path for path in images if path.parent not in series or not is_dicom(path)}
        images = sorted(alone | series)
    if not images:
        raise InputError(f"{folder}: no image in this folder")
    names = [
        folder.name if image == folder else image.relative_to(folder).as_posix() for image in images
    ]
    raise_faults(
        folder,
        [
            f"{os.fsencode(name)!r}: its name is not Unicode"
            for name in names
            if any("\udc80" <= character <= "\udcff" for character in name)
        ],
        "these files",
    )
    if others:
        shown = ", ".join(spelled(path.relative_to(folder)) for path in others[:_SHOWN])
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        warnings.warn(
            f"{folder}: left out, as they are no images: {shown}{more}", InputWarning, stacklevel=2
        )
    return ImageTable(
        source=folder,
        rows=np.arange(1, len(images) + 1),
        images=[(image,) for image in images],
        names=names,
        target_columns=options.target_columns,
        targets=np.full([len(images), len(options.target_columns)], np.nan),
        groups=np.array(names),
        subjects_named=False,
        all_frames=options.all_frames,
    )


def _files(folder: Path) -> Iterator[Path]:
    seen = set()

    def cannot(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=cannot, followlinks=True):
        # A link may lead back to where it is.
        seen.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in folders
            if not _hidden(name) and os.path.realpath(Path(place, name)) not in seen
        ]
        yield from (Path(place, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _is_slice(path: Path) -> bool:
    try:
        return is_slice(path)
    except Exception:  # It is said of it what it is.
        return False


def _is_picture(path: Path) -> bool:
    if not path.is_file():
        return False  # a link to nowhere, a device
    try:
        return is_picture(path)
    except Exception:  # What is broken is an image, so that it is named as such.
        return True
