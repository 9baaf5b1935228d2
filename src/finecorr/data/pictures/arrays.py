"""Pictures that are in memory already, as arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from finecorr.data.pictures.picture import Picture

_CHANNELS = (1, 3)
_SHAPES = (
    "an array is (height, width) or (height, width, 3), or several of these, (n, ...); a tensor is "
    "(channels, height, width) or (n, channels, height, width), of 1 channel or 3"
)


def is_array(values: Any) -> bool:
    """Whether it is one picture in memory, or a batch of them, or a list of them."""
    if isinstance(values, list | tuple):
        return len(values) > 0 and all(isinstance(one, np.ndarray | torch.Tensor) for one in values)
    return isinstance(values, np.ndarray | torch.Tensor)


def pictures_of(values: Any) -> list[Picture]:
    """The pictures of an array, a tensor, or a list of them.

    Args:
        values: NumPy arrays `(height, width)` or `(height, width, 3)`, or `(n, height, width)` or
            `(n, height, width, 3)`; tensors `(channels, height, width)` or `(n, channels, height,
            width)`. What is black and what is white is decided as for files: the range of a type
            is that of whole numbers.

    Raises:
        ValueError: it has another shape, or holds what is no number.
    """
    if isinstance(values, list | tuple):
        return [picture for one in values for picture in pictures_of(one)]
    planes = _of_tensor(values) if isinstance(values, torch.Tensor) else _of_array(values)
    if planes.dtype.kind not in "uif":
        raise ValueError(f"an image of {planes.dtype} has no brightness: give it as numbers")
    limits = np.iinfo(planes.dtype) if planes.dtype.kind in "ui" else None
    lowest, highest = (None, None) if limits is None else (float(limits.min), float(limits.max))
    return [Picture(np.ascontiguousarray(plane), lowest, highest) for plane in planes]


def _of_tensor(values: torch.Tensor) -> np.ndarray[Any, Any]:
    """`(n, channels, height, width)`"""
    if values.layout != torch.strided or values.is_meta:
        raise ValueError("a tensor that does not hold each value is no image: give a dense one")
    shape = tuple(values.shape)
    values = (values[None] if values.ndim == 3 else values).detach().cpu()
    if values.ndim != 4 or values.shape[1] not in _CHANNELS or not values.numel():
        raise ValueError(f"a tensor of the shape {shape} is no image: {_SHAPES}")
    # NumPy has no bfloat16.
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _of_array(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`(n, channels, height, width)`"""
    shape: Sequence[int] = values.shape
    coloured = values.ndim > 2 and shape[-1] in _CHANNELS
    alone = values.ndim == (3 if coloured else 2)
    batch = values[None] if alone else values
    if batch.ndim != (4 if coloured else 3) or not values.size:
        raise ValueError(f"an array of the shape {tuple(shape)} is no image: {_SHAPES}")
    return np.moveaxis(batch, -1, 1) if coloured else batch[:, None]
