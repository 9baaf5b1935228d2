"""Where the axes of a volume point in the body, and the one order that all are brought to.

A volume is `(depth, height, width)`: from inferior to superior, from anterior to posterior, and
from the right of the body to its left, as ITK orders LPS. Where it lies obliquely, each of its axes
counts as the one that is closest, and it keeps its own grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from finecorr.data.pictures.picture import Shape, Values

_ORDER = axcodes2ornt(("S", "P", "L"))
_OBLIQUE = 0.01
"""The cosine between two axes up to which they are at right angles."""
_DIGITS = 6
"""Of a length that count."""
_MOST = 1e6
"""Millimetres of a voxel's side, and, inverted, the fewest."""


class Orientation(NamedTuple):
    """How the axes of an array are to be permuted and turned, and how long a step along each is."""

    axes: NDArray[np.float64]
    """`(3, 2)`, as nibabel has it: of each axis its place, and -1 where it is turned."""
    spacing: tuple[float, float, float]
    """In mm, of the axes of the array as it is stored."""

    def shape(self, stored: tuple[int, ...]) -> Shape:
        """That of a volume, by the size of its array as it is stored."""
        return Shape.of(tuple(map(int, self._placed(stored))), self.pixel_size)

    @property
    def pixel_size(self) -> tuple[float, ...]:
        """Depth, height and width of a voxel in mm."""
        return self._placed(self.spacing)

    def upright(self, stored: Values) -> Values:
        """The array in the order that all volumes have."""
        return np.asarray(apply_orientation(stored, self.axes))

    def _placed(self, values: tuple[float, ...]) -> tuple[float, ...]:
        places = self.axes[:, 0].astype(int).tolist()
        return tuple(value for _, value in sorted(zip(places, values, strict=True)))


def orientation_of(affine: NDArray[np.float64]) -> Orientation:
    """That of an array whose indices the affine `(4, 4)` takes to mm to the right, anterior and
    superior.

    Raises:
        ValueError: its axes have no length, or are not at right angles.
    """
    steps = affine[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    if not np.isfinite(affine[:3]).all() or not ((lengths > 1 / _MOST) & (lengths < _MOST)).all():
        raise ValueError("it does not say where its axes point, and how large its voxels are")
    directions = steps / lengths
    if (np.abs(directions.T @ directions - np.eye(3)) > _OBLIQUE).any():
        raise ValueError(
            "its axes are not at right angles (it is sheared): resample it to a grid that is"
        )
    # A NIfTI has them in float32: a volume is the same in it and in DICOM, which has decimals.
    first, second, third = (float(f"{length:.{_DIGITS}g}") for length in lengths)
    return Orientation(ornt_transform(io_orientation(affine), _ORDER), (first, second, third))
