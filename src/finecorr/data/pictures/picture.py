"""A picture as its file describes it, whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded."""

    height: int
    width: int
    frames: int
    """How many pictures it holds: pages of a TIFF, images of a GIF, frames of a DICOM."""
    format: str = field(default="", compare=False)
    """PNG, DICOM ..."""
    bits: int = field(default=0, compare=False)
    """Of a value, as it is stored."""
    pixel_size: tuple[float, float] | None = field(default=None, compare=False)
    """Height and width of a pixel of the first frame in mm."""


@dataclass(frozen=True)
class Picture:
    """One frame of a file, and all that its file says about it."""

    values: Values
    """`(channels, height, width)`: 1 channel (grey) or 3 (red, green, blue), upright, in `unit`."""
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
    """`(height, width)`: False where the file says that there is no picture (padding, or full
    transparency)."""
    pixel_size: tuple[float, float] | None = None
    """Height and width of a pixel in mm."""
    aspect: float = 1.0
    """Height of a pixel, in its width."""
