"""A picture, or a volume, as its file describes it, whatever the format."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


class Shape(NamedTuple):
    """Of a frame before it is decoded: what its `Picture` will say."""

    height: int
    """Upright."""
    width: int
    pixel_size: tuple[float, ...] | None = None
    """Height and width of a pixel in mm; depth, height and width of a voxel."""
    aspect: float = 1.0
    """Height of a pixel, in its width; of a volume `pixel_size` says it."""
    depth: int | None = None
    """Of a volume; None for a picture."""

    @classmethod
    def of(cls, size: tuple[int, ...], pixel_size: tuple[float, ...] | None) -> Shape:
        """Of a volume's depth, height and width, or a picture's height and width."""
        *depth, height, width = size
        aspect = 1.0 if depth or pixel_size is None else pixel_size[0] / pixel_size[1]
        return cls(height, width, pixel_size, aspect, depth[0] if depth else None)

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width; of a volume depth, height and width."""
        flat = (self.height, self.width)
        return flat if self.depth is None else (self.depth, *flat)


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded."""

    shapes: Sequence[Shape]
    """Of each frame, or the one that all have."""
    frames: int
    """How many pictures it holds: pages of a TIFF, images of a GIF, frames of a DICOM; or how many
    volumes, over time or whatever else the fourth axis of a NIfTI is."""
    format: str = field(default="", compare=False)
    """PNG, DICOM ..."""
    bits: int = field(default=0, compare=False)
    """Of a value, as it is stored."""

    @property
    def largest(self) -> Shape:
        """That of the frame with the most pixels."""
        return max(self.shapes, key=lambda shape: math.prod(shape.size))

    def shape(self, frame: int) -> Shape:
        """Of one frame, from 0."""
        return self.shapes[frame if len(self.shapes) > 1 else 0]


@dataclass(frozen=True)
class Picture:
    """One frame of a file, and all that its file says about it."""

    values: Values
    """`(channels, height, width)`: 1 channel (grey) or 3 (red, green, blue), upright, in `unit`; of
    a volume `(1, depth, height, width)`, from inferior to superior, from anterior to posterior, and
    from the right of the body to its left."""
    lowest: float | None
    """The lowest value that the type, or a DICOM's bits stored, can hold; None for real numbers."""
    highest: float | None
    unit: str | None = None
    """Of the values: "HU", or what else the file says."""
    inverted: bool = False
    """Whether low values are to be shown bright."""
    window: Callable[[Values], NDArray[np.floating]] | None = None
    """How values are to be shown: those outside of it become black or white."""
    valid: NDArray[np.bool_] | None = None
    """`(height, width)`, or `(depth, height, width)`: False where the file says that there is no
    picture (padding, or full transparency)."""
    pixel_size: tuple[float, ...] | None = None
    """Height and width of a pixel in mm; depth, height and width of a voxel."""
    aspect: float = 1.0
    """Height of a pixel, in its width; of a volume `pixel_size` says it."""
