"""Volumes of DICOM: a folder of slices, or a file whose frames say where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finecorr.data.pictures import dicom, is_dicom
from finecorr.data.pictures.orientation import Orientation, orientation_of
from finecorr.data.pictures.picture import Header, Picture, Values
from finecorr.errors import spelled

_SAME_DIRECTION = 1e-3
"""How far the cosines of directions differ that are the same."""
_SAME_SIZE = 1e-3
_ROUNDED = 0.02
"""Millimetres between which scanners round positions,"""
_UNEVEN = 0.01
"""and the share of a gap by which it may differ from the others in any case."""
_PLACE = 1e-4
"""Millimetres between two slices at the same place."""
_SHIFTED = 0.05
"""Millimetres by which a slice may lie beside the others, beyond a share of its distance."""


class _Slices(NamedTuple):
    """In their order, and how the array of them lies."""

    where: list[dicom.Place]
    orientation: Orientation

    @property
    def stored(self) -> tuple[int, int, int]:
        first = self.where[0]
        return len(self.where), first.rows, first.columns


def header(path: Path) -> Header:
    """What the slices of a folder, or the frames of a file, say before they are decoded.

    Raises:
        ValueError: they are not one volume.
    """
    slices = _slices(path)
    bits = max(place.bits for place in slices.where)
    return Header([slices.orientation.shape(slices.stored)], 1, "DICOM series", bits)


def read(path: Path, frame: int = 0) -> Picture:
    """The volume; there is no other.

    Raises:
        ValueError, and others by the reader of slices: it cannot be read.
    """
    slices = _slices(path)
    found = [dicom.read(place.path, place.frame) for place in slices.where]
    first = found[0]
    kinds = {(one.unit, one.inverted) for one in found}
    if len(kinds) > 1:
        raise ValueError("its slices are in different units, or some of them are inverted")
    if any(len(one.values) > 1 for one in found):
        raise ValueError("its slices are in colour")
    lows, highs = ([one.lowest for one in found], [one.highest for one in found])
    valid = None
    if any(one.valid is not None for one in found):
        there = [
            np.ones(one.values.shape[1:], bool) if one.valid is None else one.valid for one in found
        ]
        valid = np.ascontiguousarray(slices.orientation.upright(np.stack(there)))
    values: Values = np.stack([one.values[0] for one in found])
    windows = {place.window for place in slices.where}
    return replace(
        first,
        values=np.ascontiguousarray(slices.orientation.upright(values))[None],
        lowest=None if None in lows else min(low for low in lows if low is not None),
        highest=None if None in highs else max(high for high in highs if high is not None),
        # Of windows of their own, the same value would be of another brightness in each slice.
        window=first.window if len(windows) == 1 else None,
        valid=valid,
        pixel_size=slices.orientation.pixel_size,
        aspect=1.0,
    )


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that are DICOM images; what else is in it is none of the volume's.

    Raises:
        ValueError: one of them is damaged.
    """
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [path for path in files if path.is_file() and _is_slice(path)]


def _is_slice(path: Path) -> bool:
    if not is_dicom(path):
        return False
    if dicom.has_pixels(path):
        return True
    if not dicom.is_other(path):
        raise ValueError(f"its {spelled(path.name)} is damaged")
    return False


def _slices(path: Path) -> _Slices:
    folder = path.is_dir()
    files = files_of(path) if folder else [path]
    if not files:
        raise ValueError("this folder holds no DICOM slices")
    places = [place for file in files for place in dicom.places(file)]
    if len(places) == 1:
        raise ValueError(
            "it is a single slice, and no volume"
            + ("" if folder else ": name the folder of its series")
        )
    lacking = sum(place.position is None or place.directions is None for place in places)
    if lacking:
        what = "slices" if folder else "frames (a film?)"
        raise ValueError(
            f"{lacking} of its {len(places)} {what} do not say where they are "
            "(ImagePositionPatient and ImageOrientationPatient)"
        )
    _check_alike(places)
    return _ordered(places)


def _check_alike(places: Sequence[dicom.Place]) -> None:
    """Raises ValueError where slices are not of one volume."""
    first = places[0]
    series = len({place.series for place in places})
    if series > 1:
        raise ValueError(f"this folder holds {series} series: put each into a folder of its own")
    if any(place.size is None for place in places):
        raise ValueError("some of its slices do not say how large their pixels are")
    sizes = {(place.rows, place.columns) for place in places}
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sorted(sizes)[:2]
        raise ValueError(
            f"its slices differ in size: {width} x {height} and {other_width} x {other_height}"
        )
    spacing = np.array([place.size for place in places])
    if not np.allclose(spacing, spacing[0], rtol=_SAME_SIZE, atol=0):
        raise ValueError("its slices differ in the size of their pixels")
    directions = np.array([place.directions for place in places])
    if not np.allclose(directions, directions[0], rtol=0, atol=_SAME_DIRECTION):
        raise ValueError("its slices differ in where they point (a localiser among them?)")
    assert first.directions is not None
    lengths = np.linalg.norm(np.reshape(first.directions, (2, 3)), axis=1)
    if not np.allclose(lengths, 1, rtol=0, atol=10 * _SAME_DIRECTION):
        raise ValueError("its ImageOrientationPatient is none: these are no directions")


def _ordered(places: Sequence[dicom.Place]) -> _Slices:
    along, down = np.reshape(np.array(places[0].directions), (2, 3))
    normal = np.cross(along, down)
    positions = np.array([place.position for place in places])
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    depths, positions = depths[order], positions[order]
    gaps = np.diff(depths)
    same = int((gaps <= _PLACE).sum())
    if same:
        raise ValueError(
            f"{same} of its slices are at the place of another (another time, echo or phase?): put "
            "each volume into a folder of its own"
        )
    gap = float(np.median(gaps))
    uneven = np.abs(gaps - gap) > max(_UNEVEN * gap, min(_ROUNDED, gap / 10))
    if uneven.any():
        at = int(np.flatnonzero(uneven)[0])
        raise ValueError(
            f"its slices are not evenly spaced, or some are missing: {gap:.4g} mm between most, "
            f"and {gaps[at]:.4g} mm between numbers {at + 1} and {at + 2}"
        )
    _check_straight(positions, depths, normal)
    height, width = places[0].size or (np.nan, np.nan)
    step = float(depths[-1] - depths[0]) / (len(places) - 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([normal * step, down * height, along * width], axis=1)
    affine[
        :2
    ] *= -1  # DICOM counts to the left and posterior, and nibabel to the right and anterior.
    return _Slices([places[i] for i in order.tolist()], orientation_of(affine))


def _check_straight(
    positions: NDArray[np.float64], depths: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    """Raises ValueError where slices are shifted against each other."""
    apart = depths - depths[0]
    beside = np.linalg.norm(positions - positions[0] - apart[:, None] * normal, axis=1)
    if (beside > _SHIFTED + _UNEVEN * apart).any():
        raise ValueError(
            f"its slices are shifted against each other, by up to {beside.max():.3g} mm (a tilted "
            "gantry?): resample them to an upright grid"
        )
