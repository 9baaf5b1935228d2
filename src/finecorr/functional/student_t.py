"""The noise of residuals as Student's t: which degrees of freedom and scale, by their likelihoods.

Of many distributions at once, so that nothing is iterated.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

NOISES = (
    (1.0, 1.0),
    (1.5, 0.87259466254157),
    (2.5, 0.7850136829923),
    (4.0, 0.74069708411268),
    (8.0, 0.70638661264484),
    (20.0, 0.6869544964488),
    (1000.0, 0.67473516460701),
)
"""The t distributions that are tried, from Cauchy's to Gauss's: degrees of freedom nu, and the
median distance from the middle, in units of the scale."""

FACTORS = tuple(1.15**power for power in range(-4, 5))
"""Times the scale that the median distance says are the scales that are tried."""

SAMPLES = 1024
"""As of how many samples the likelihoods count."""


class Tried(NamedTuple):
    """The distributions, each `(distributions, 1)`. With the mean over samples of
    `log(1 + rate * d^2)`, for distances d in units of their median, `constant - power * mean` is
    the log-likelihood of 1024 samples like these."""

    rate: Tensor
    """`1 / (nu scale^2)`"""
    constant: Tensor
    power: Tensor

    def mean_rate(self, mean: Tensor) -> Tensor:
        """`(1, columns)`, of `(distributions, columns)`: each counts by its likelihood."""
        likelihood = torch.addcmul(self.constant, self.power, mean, value=-1)
        return (self.rate * likelihood.softmax(0)).sum(0, keepdim=True)


def tried(like: Tensor) -> Tried:
    """In the dtype and on the device of `like`."""
    # What compilation makes are no tensors that may be kept.
    make = _tried.__wrapped__ if torch.compiler.is_compiling() else _tried
    return make(like.dtype, like.device)


@cache
def _tried(dtype: torch.dtype, device: torch.device) -> Tried:
    grid = [(nu, factor / quartile) for nu, quartile in NOISES for factor in FACTORS]
    columns = (
        [1 / (nu * scale**2) for nu, scale in grid],
        [SAMPLES * (_log_constant(nu) - math.log(scale)) for nu, scale in grid],
        [SAMPLES * (nu + 1) / 2 for nu, _ in grid],
    )
    return Tried(*(torch.tensor(c, dtype=dtype, device=device)[:, None] for c in columns))


def _log_constant(nu: float) -> float:
    """Of the density."""
    return math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
