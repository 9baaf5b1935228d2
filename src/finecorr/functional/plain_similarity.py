"""The similarity correlation in few operations: of float32 features and one target, where no label
is missing.

Value and gradient at once, some anchors at a time. The distances are taken by products in float64,
which keeps the digits of small ones; all else in float32. What this arithmetic cannot do it leaves
to `similarity_correlation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finecorr.functional.closed_form import is_plain
from finecorr.functional.relations import CHUNK

General = Callable[[Tensor], Tensor]
"""The same loss, of features, however the batch is."""


class Limits(NamedTuple):
    """See `finecorr.functional.similarity_correlation`."""

    log: float | None
    """What is added before the logarithm; None for none."""
    even_features: float
    even_targets: float
    least_std: float | None
    """See `finecorr.functional.features.bounded`; None for no bound of the gradient."""


def plain_similarity_correlation(
    features: Tensor, target: Tensor, weight: Tensor | None, limits: Limits, general: General
) -> Tensor | None:
    """The loss, or None where it has to be taken as `general(features)`."""
    if (
        not isinstance(features, Tensor)
        or features.dtype not in (torch.float32, torch.float16, torch.bfloat16)
        or features.ndim != 2
        or features.shape[1] == 0
        or len(features) < 2
        or not is_plain(features[:, 0], target, weight)
        or target.dtype is torch.float64
    ):
        return None
    weight = None if weight is None else weight.float()
    found = _value_and_gradient(features, target.float(), weight, limits)
    if found is None:
        return None
    loss: Tensor = _Linked.apply(features, *found, general)  # type: ignore[no-untyped-call]
    return loss


class _Linked(torch.autograd.Function):
    """The value, of which the features get that gradient."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, value: Tensor, gradient: Tensor, general: General
    ) -> Tensor:
        ctx.save_for_backward(features, gradient)
        ctx.general = general
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        features, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(features)
            (gradient,) = torch.autograd.grad(loss, features, upstream[0], create_graph=True)
            return gradient, None, None, None
        return upstream[0].to(gradient.dtype) * gradient, None, None, None


@torch.no_grad()
def _value_and_gradient(
    features: Tensor, target: Tensor, weight: Tensor | None, limits: Limits
) -> tuple[Tensor, Tensor] | None:
    n = len(features)
    points = features.double()
    points = points - points.mean(0)
    squares = points.square().sum(1)
    single = points.float()
    gradient = torch.zeros_like(single)
    step = max(1, CHUNK // n)
    value, least_features, least_targets = [], [], []
    with torch.autocast(features.device.type, enabled=False):
        for start in range(0, n, step):
            rows = slice(start, start + step)
            anchors = _Anchors(points, squares, target, weight, rows)
            loss, slope = anchors.loss_and_slope(limits)
            value.append(loss)
            least_features.append(anchors.u_variance.amin())
            least_targets.append(anchors.v_variance.amin())
            if step < n:
                gradient += slope.sum(0)[:, None] * single - slope.T @ single[rows]
            else:  # of anchors and others at once
                slope = slope + slope.T
            gradient[rows] += slope.sum(1, keepdim=True) * single[rows] - slope @ single
    if limits.least_std is not None:
        std = (squares.mean() / features.shape[1]).sqrt()
        gradient *= (std / limits.least_std).clamp(max=1)
    total = torch.stack(value).sum()
    looked_at = torch.stack([total, *least_features, *least_targets]).tolist()
    k = len(value)
    sound = (
        math.isfinite(looked_at[0])
        and all(variance > limits.even_features**2 for variance in looked_at[1 : k + 1])
        and all(variance > limits.even_targets**2 for variance in looked_at[k + 1 :])
    )
    return (total, gradient.to(features.dtype)) if sound else None


class _Anchors:
    """Some of the samples, with their distances to all."""

    def __init__(
        self, points: Tensor, squares: Tensor, target: Tensor, weight: Tensor | None, rows: slice
    ) -> None:
        n = len(points)
        self.start, self.weight = rows.start, weight
        apart = squares[rows, None] + squares
        apart = apart.sub_(points[rows] @ points.T, alpha=2).clamp_(min=0)
        self.distance = self.of_others(apart).sqrt_().float()
        self.total: Tensor | int = n - 1
        self.share: Tensor | float = 1 / n
        if weight is not None:
            own = weight[rows, None]
            self.total, self.share = weight.sum() - own, own / weight.sum()
        self.mean = self.average(self.distance)
        self.u = self.of_others((self.distance / self.mean).sub_(1))
        truth = (target[rows, None] - target).abs_()
        self.v = self.of_others((truth / self.average(truth)).sub_(1))
        self.u_variance = self.average(self.u.square())
        self.v_variance = self.average(self.v.square())

    def of_others(self, values: Tensor) -> Tensor:
        """With 0 for the anchor itself."""
        values[:, self.start :].fill_diagonal_(0)
        return values

    def average(self, values: Tensor) -> Tensor:
        """`(anchors, 1)`: over the others, the anchor itself having 0."""
        if self.weight is None:
            return values.sum(1, keepdim=True) / self.total
        return values @ self.weight[:, None] / self.total

    def loss_and_slope(self, limits: Limits) -> tuple[Tensor, Tensor]:
        """The sum of the losses by the anchors' shares, and its derivative by the distances, over
        these."""
        spread = (self.u_variance * self.v_variance).rsqrt()
        correlation = self.average(self.u * self.v) * spread
        loss = (1 - correlation).clamp(min=0)
        factor = self.share / (self.mean * self.total)
        if limits.log is not None:
            loss = loss + limits.log
            factor = factor / (2 * loss)
            loss = loss.log() / 2
        slope = self.u * (factor * correlation / self.u_variance)
        slope.addcmul_(self.v, factor * spread, value=-1)
        if self.weight is not None:
            slope *= self.weight
        slope /= self.distance.masked_fill(self.distance == 0, torch.inf)
        return (self.share * loss).sum(), slope
