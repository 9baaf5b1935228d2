"""NIfTI: volumes, one or several in a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.fileslice import fileslice
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.openers import ImageOpener

from finecorr.data.pictures.orientation import Orientation, orientation_of
from finecorr.data.pictures.picture import Header, Picture, Shape, Values

_MILLIMETRES = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""Of the units of length by their numbers in a header; what is not said is in mm."""
_LONGEST = 2048
"""Bytes of a header, without what may follow it."""
_DEFLATED = 1032
"""The most bytes that one of a compressed file stands for."""
_FRAMES = 4
"""Axes of a file that has several volumes."""


def header(path: Path) -> Header:
    """What the file says before it is read: of a volume, or, where it is one slice, of a picture.

    Raises:
        ValueError: it is none, or does not say what its values are, or how large its voxels.
    """
    stored = _header(path)
    shape, frames = _size(stored)
    upright = _orientation(stored).shape(shape)
    if 1 in upright.size:
        upright = _flat(upright)
    _check_length(path, stored)
    return Header([upright], frames, "NIfTI", 8 * stored.get_data_dtype().itemsize)


def read(path: Path, frame: int = 0) -> Picture:
    """One volume, from 0; where it is one slice, a picture.

    Raises:
        ValueError, OSError, EOFError: it cannot be read.
    """
    stored = _header(path)
    shape, frames = _size(stored)
    orientation = _orientation(stored)
    kind = stored.get_data_dtype()
    with ImageOpener(str(path)) as file:
        raw = fileslice(
            file,
            (slice(None), slice(None), slice(None), frame),
            (*shape, frames),
            kind,
            stored.get_data_offset(),
            order="F",
        )
    values: Values = raw.astype(kind.newbyteorder("="), copy=False)
    ends = np.array([np.nan, np.nan])
    if kind.kind in "ui":
        ends[:] = np.iinfo(kind).min, np.iinfo(kind).max
    slope, intercept = stored.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        values, ends = values * float(slope) + float(intercept), ends * slope + intercept
    values = orientation.upright(values)
    upright = orientation.shape(shape)
    if 1 in upright.size:
        values, upright = _as_picture(values), _flat(upright)
    real = bool(np.isnan(ends).any())
    return Picture(
        np.ascontiguousarray(values)[None],
        None if real else float(ends.min()),
        None if real else float(ends.max()),
        pixel_size=upright.pixel_size,
        aspect=upright.aspect,
    )


def _header(path: Path) -> Any:
    with ImageOpener(str(path)) as file:
        begin = file.read(_LONGEST)
    for kind in (Nifti1Header, Nifti2Header):
        if len(begin) >= kind.template_dtype.itemsize and kind.may_contain_header(begin):
            # nibabel's own checks put 1 mm in the place of a size that is not there.
            found: Any = kind(begin[: kind.template_dtype.itemsize], check=False)
            break
    else:
        raise ValueError("it is damaged, or no NIfTI")
    if bytes(found["magic"])[:2] != b"n+":
        raise ValueError("its values are in another file: give it as one, .nii or .nii.gz")
    if found.get_data_dtype().kind not in "uif":
        raise ValueError("its values are no plain numbers, but colours or complex ones")
    return found


def _size(stored: Any) -> tuple[tuple[int, ...], int]:
    """Of a volume as it is stored, and how many there are."""
    count = int(stored["dim"][0])
    if not 1 <= count <= 7:
        raise ValueError(f"it says that it has {count} axes")
    sides = [int(side) for side in stored["dim"][1 : count + 1]]
    if min(sides) < 1:
        raise ValueError(f"it says that its size is {' x '.join(map(str, sides))}")
    sides += [1] * (_FRAMES - len(sides))
    if max(sides[_FRAMES:], default=1) > 1:
        raise ValueError(f"it has {len(sides)} axes, and not three, or four for several volumes")
    return tuple(sides[:3]), sides[3]


def _orientation(stored: Any) -> Orientation:
    """By the sform, or else the qform, or else the sizes of voxels alone, as nibabel has it."""
    unit = _MILLIMETRES.get(int(stored["xyzt_units"]) & 7)
    if unit is None:
        raise ValueError("it gives lengths in a unit that there is not")
    if int(stored["sform_code"]) == 0:
        sides = stored["pixdim"][1:4]
        if not (np.isfinite(sides) & (sides > 0)).all():
            raise ValueError("it does not say how large its voxels are")
    affine = np.asarray(stored.get_best_affine(), dtype=np.float64)
    affine[:3] *= unit
    return orientation_of(affine)


def _check_length(path: Path, stored: Any) -> None:
    """Raises ValueError if a file is too short, as far as that shows before it is decompressed."""
    shape, frames = _size(stored)
    values = math.prod(shape) * frames * stored.get_data_dtype().itemsize
    begin, most = int(stored.get_data_offset()), path.stat().st_size
    if path.suffix.lower() == ".gz":
        most *= _DEFLATED
    if not stored.template_dtype.itemsize <= begin <= most - values:
        raise ValueError("it is shorter than the size that its header says")


def _flat(shape: Shape) -> Shape:
    """Of one slice, as a picture."""
    size, sides = shape.size, shape.pixel_size
    assert sides is not None
    at = size.index(1)
    return Shape.of(size[:at] + size[at + 1 :], sides[:at] + sides[at + 1 :])


def _as_picture(values: Values) -> Values:
    """A slice as it is looked at: its superior end is at its top."""
    axis = values.shape.index(1)
    flat = values.take(0, axis)
    return np.asarray(flat if axis == 0 else flat[::-1])
