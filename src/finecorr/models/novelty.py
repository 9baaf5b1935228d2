"""How unlike an image is to those of the training, by its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SAMPLES = 4096
"""Training images that it is fitted to, at most."""
_MOST_AXES = 64
_AXES_PER_SAMPLE = 0.25
_LEAST = 1e-8
"""Of a variance, as a share of the mean one: below it, it is rounding."""


class Novelty(nn.Module):
    """The Mahalanobis distance to the training images under probabilistic principal components

        d(x)^2 = sum_i z_i^2 / v_i + |x - m - sum_i z_i a_i|^2 / r,    z_i = a_i . (x - m)

    where m is the mean of their features, a_i are their first principal axes, v_i the variances
    along them, and r the mean variance along all others (Tipping and Bishop, "Probabilistic
    principal component analysis", Journal of the Royal Statistical Society B, 1999).

    Args:
        features: how many there are.
        axes: how many of them are principal.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, features: int, axes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("axes", torch.zeros(axes, features))
        self.register_buffer("variances", torch.ones(axes))
        self.register_buffer("rest", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """`(n, features)` to distances `(n,)`, float64."""
        centred = features.double() - self.mean.double()
        along = centred @ self.axes.double().T
        off = centred - along @ self.axes.double()
        squares = (along.square() / self.variances.double()).sum(1)
        return (squares + off.square().sum(1) / self.rest.double()).sqrt()


def novelty_of(features: Tensor) -> Novelty | None:
    """Fitted to the features `(n, d)` of training images; None where all of them are the same."""
    count, width = features.shape
    kept = max(min(_MOST_AXES, int(count * _AXES_PER_SAMPLE), width), 1)
    values = features.double()
    mean = values.mean(0)
    _, singular, axes = torch.linalg.svd(values - mean, full_matrices=False)
    variances = singular.square() / max(count - 1, 1)
    total = variances.sum()
    if not total > 0:
        return None
    least = _LEAST * total / width
    # Where no axis is left, there is only rounding off them.
    rest = variances[kept:].sum() / (width - kept) if kept < width else total / width
    fitted = Novelty(width, kept)
    fitted.mean.copy_(mean)
    fitted.axes.copy_(axes[:kept])
    fitted.variances.copy_(variances[:kept].clamp_min(least))
    fitted.rest.copy_(rest.clamp_min(least))
    return fitted
