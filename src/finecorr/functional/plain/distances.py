"""The distances between all samples of a batch, in features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from finecorr.functional.relations import CHUNK


class Distances(NamedTuple):
    """Squares are taken by products in float64, which keeps the digits of small ones."""

    points: Tensor
    """`(n, d)` float64: the features, from their mean."""
    norms: Tensor
    """`(n,)`: the squared lengths of the points."""
    squares: Tensor
    """`(n, n)`: squared distances, 0 of a sample from itself."""


def fits(features: object, target: Tensor) -> bool:
    """Whether these are the features of a batch, in numbers that float32 holds."""
    return (
        isinstance(features, Tensor)
        and features.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and features.device == target.device
        and features.ndim == 2
        and features.shape[1] > 0
        and len(features) == len(target) >= 2
    )


def at_once(n: int) -> int:
    """How many of n samples may be in memory with their distances to all."""
    return min(n, max(1, CHUNK // n))


def centred(features: Tensor) -> Tensor:
    """In float64."""
    points = features.double()
    return points - points.mean(0)


def distances(features: Tensor) -> Distances:
    """Of all pairs."""
    points = centred(features)
    with torch.autocast(points.device.type, enabled=False):
        products = points @ points.T
    norms = products.diagonal()
    squares = (norms[:, None] + norms).sub_(products, alpha=2).clamp_(min=0)
    return Distances(points, norms, squares)
