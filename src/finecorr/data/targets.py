"""Whether there is something to learn in the labels of a target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finecorr.errors import InputError

_DIGITS = 1e-3
"""The share of the labels' spread that float32 must be able to tell apart."""
_LARGEST = 1e30
"""Labels beyond it, and spreads below its inverse, leave float32 when they are squared."""


def check_target(source: Path, column: str, values: NDArray[np.float64]) -> None:
    """Raises InputError if there is nothing to learn in labels, or float32 cannot hold them."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        raise InputError(f"{source}: target column {column!r} has no value at all")
    if known.min() == known.max():
        raise InputError(
            f"{source}: target column {column!r} is {known[0]:g} in every row: "
            "there is nothing to learn"
        )
    largest = np.abs(known).max()
    if largest > _LARGEST or known.max() - known.min() < 1 / _LARGEST:
        raise InputError(
            f"{source}: target column {column!r} is from {known.min():g} to {known.max():g}, which "
            "is beyond what float32 can compute with: give it in another unit"
        )
    spread = known.std()
    if np.spacing(np.float32(largest)) > _DIGITS * spread:
        raise InputError(
            f"{source}: target column {column!r} is from {known.min():.12g} to {known.max():.12g}, "
            f"and has a standard deviation of {spread:.3g}, which float32 cannot tell apart: "
            "subtract a constant"
        )
