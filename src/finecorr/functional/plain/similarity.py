"""The similarity correlation of one target, some anchors at a time.

What is of the size of all pairs is in float32, but for the squares of distances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finecorr.functional.plain.batch import is_plain, without_column
from finecorr.functional.plain.distances import Distances, at_once, centred, distances, fits
from finecorr.functional.sharing import share_of_anchors

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


class Found(NamedTuple):
    """Value and gradient are these, times numbers that `scales` makes of the `facts`."""

    gradient: Tensor
    facts: Tensor
    """A few numbers, to be looked at."""


class Scales(NamedTuple):
    value: float
    gradient: float


def plain_similarity_correlation(
    features: Tensor, target: Tensor, weight: Tensor | None, limits: Limits, general: General
) -> Tensor | None:
    """The loss, or None where it has to be taken as `general(features)`."""
    given, target = target, without_column(target)
    if target is not given and weight is not None:
        weight = without_column(weight)
    if not isinstance(target, Tensor) or target.dtype is torch.float64:
        return None
    if not fits(features, target) or not is_plain(features[:, 0], target, weight):
        return None
    weight = None if weight is None else weight.float()
    all_at_once = at_once(len(features)) == len(features)
    if not all_at_once and bool(target.isnan().any()):
        return None  # which of many samples would show late
    with torch.no_grad():
        apart = distances(features) if all_at_once else None
        found = value_and_gradient(features, apart, target.float(), weight, limits)
        scales_ = scales(found.facts.tolist(), found, limits)
    if scales_ is None:
        return None
    loss: Tensor = _Linked.apply(features, found.gradient, scales_, general)  # type: ignore[no-untyped-call]
    return loss


class _Linked(torch.autograd.Function):
    """The value, of which the features get that gradient."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, gradient: Tensor, scales: Scales, general: General
    ) -> Tensor:
        ctx.save_for_backward(features, gradient)
        ctx.scale, ctx.general = scales.gradient, general
        return gradient.new_full((), scales.value)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        features, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(features)
            (gradient,) = torch.autograd.grad(loss, features, upstream[0], create_graph=True)
            return gradient, None, None, None
        return (gradient * (upstream[0] * ctx.scale)).to(features.dtype), None, None, None


def value_and_gradient(
    features: Tensor,
    apart: Distances | None,
    target: Tensor,
    weight: Tensor | None,
    limits: Limits,
) -> Found:
    """Of float32 targets and weights; `apart`, where all pairs are in memory at once."""
    points = centred(features) if apart is None else apart.points
    norms = points.square().sum(1) if apart is None else apart.norms
    n, single = len(points), points.float()
    total = None if weight is None else weight.sum()
    with torch.autocast(points.device.type, enabled=False):
        if apart is not None:
            slope, facts = _of_anchors(apart.squares, slice(n), target, weight, total, limits.log)
            slope = slope + slope.T  # of anchors and others at once
            gradient = torch.addmm(single * slope.sum(1, keepdim=True), slope, single, alpha=-1)
        else:
            share = share_of_anchors(n, at_once(n))
            gradient, pieces = torch.zeros_like(single), []
            for rows in share.slices(n, at_once(n)):
                squares = norms[rows, None] + norms
                squares.addmm_(points[rows], points.T, alpha=-2).clamp_(min=0)
                squares[:, rows.start :].fill_diagonal_(0)
                slope, facts = _of_anchors(squares, rows, target, weight, total, limits.log)
                pieces.append(torch.cat(facts))
                gradient += slope.sum(0)[:, None] * single - slope.T @ single[rows]
                gradient[rows] += slope.sum(1, keepdim=True) * single[rows] - slope @ single
            facts = _together(torch.stack(pieces))
            if share.processes > 1:
                gradient, of_processes = share.joined(gradient, torch.cat(facts))
                facts = _together(of_processes)
    if limits.least_std is not None:
        facts.append(norms.mean()[None])
    if total is not None:
        facts.append(total[None])
    return Found(gradient, torch.cat(facts))


def _together(facts: Tensor) -> list[Tensor]:
    """Of all anchors, from those of some in each row."""
    return [facts[:, :1].sum(0), facts[:, 1:].amin(0)]


def scales(facts: list[float], found: Found, limits: Limits) -> Scales | None:
    """Of the facts, as numbers; None where the arithmetic did not hold."""
    samples, width = found.gradient.shape
    value, even_features, even_targets, *more = facts
    norm = 0.0 if limits.least_std is None else more.pop(0)
    total = more[0] if more else float(samples)
    sound = (
        abs(value) < float("inf")
        and even_features > limits.even_features**2
        and even_targets > limits.even_targets**2
    )
    if not sound:
        return None
    half = 1.0 if limits.log is None else 0.5
    scale = half / total
    if limits.least_std is not None:
        std = (norm / width) ** 0.5
        scale *= min(1.0, std / limits.least_std)
    return Scales(value * half / total, scale)


def _of_anchors(
    squares: Tensor,
    rows: slice,
    target: Tensor,
    weight: Tensor | None,
    total: Tensor | None,
    log: float | None,
) -> tuple[Tensor, list[Tensor]]:
    """The slope, `(anchors, n)`: the derivative by the distances, over these. And the sum of the
    losses, and the least variances of an anchor's distances, in features and in targets, in units
    of the squares of their means.

    Both are for losses that are not halved, and weights that are not divided by their sum.
    """
    distance = squares.sqrt().float()
    truth = (target[rows, None] - target).abs_()
    both = torch.stack((distance, truth))
    others: Tensor | float
    if weight is None or total is None:
        own, others = None, float(len(target) - 1)
        sums = both.sum(-1, keepdim=True)
    else:
        own = weight[rows]
        others = (total - own)[:, None]
        sums = both @ weight[:, None]
    # From their mean, and over it and the number of the others.
    u = (both / sums).sub_(1 / others)
    u[:, :, rows.start or 0 :].diagonal(dim1=1, dim2=2).fill_(0)
    by_anchor = u.movedim(1, 0)
    weighed = by_anchor if weight is None else by_anchor * weight
    products = torch.bmm(weighed, by_anchor.mT)
    features, both_, targets = products[:, 0, 0], products[:, 0, 1], products[:, 1, 1]
    spread = (features * targets).rsqrt()
    correlation = both_ * spread
    factor = sums[0, :, 0]
    if log is None:
        error = (1 - correlation).clamp_(min=0)
    else:
        error = 1 + log - correlation
        factor = factor * error
        error = error.log()
    factor = factor.reciprocal() if own is None else own / factor
    value = error.sum() if own is None else error.dot(own)
    slope = u[0] * (factor * correlation / features)[:, None]
    slope.addcmul_(u[1], (factor * spread)[:, None], value=-1)
    if weight is not None:
        slope *= weight
    slope.div_(distance).nan_to_num_(0, 0, 0)  # of a sample from itself, and from its copies
    variances = (products.diagonal(dim1=1, dim2=2) * others).amin(0)
    return slope, [value[None], variances]
