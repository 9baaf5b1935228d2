"""Losses of how similar each sample is to the others, value and gradient at once.

Nothing of the size of all pairs is kept: some samples at a time are *anchors*, whose similarities
to all others are in memory. Where they are not all taken at once, processes may share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor

from finecorr.functional.moments import Populations, Scores
from finecorr.functional.sharing import share_of_anchors

Similarity = Literal["cosine", "euclidean"]

_Kind = Literal["cosine", "differences", "products", "distances"]
"""How similarities are computed: all but the first are Euclidean."""

CHUNK = 2**20
"""How many pairs are in memory at once."""


class Samples(NamedTuple):
    """What a loss knows of the samples beside their features; no gradient is taken of it."""

    target: Tensor
    """`(targets, n)`"""
    weight: Tensor
    """`(targets, n)`: with a mean of 1 in each population."""
    share: Tensor
    """`(targets, n)`: how much each counts as an anchor."""
    group: Tensor | None
    """`(n,)`"""


class Relation(NamedTuple):
    """What is asked of the similarities."""

    similarity: Similarity
    """Cosine of the directions, or negative Euclidean distance."""
    prepare: Callable[[Samples], Any]
    """What is the same for all anchors."""
    anchors: Callable[[Tensor, slice, Samples, Any, Any], tuple[Tensor, Tensor]]
    """Of similarities `(targets, anchors, n)`, where the anchors are among the samples, the
    samples, what `prepare` returned and the options: the sum of the anchors' losses by their
    shares, and its gradient."""
    options: Any


def relation_loss(points: Tensor, samples: Samples, relation: Relation) -> Tensor:
    """The sum of the anchors' losses by their shares.

    `points` are `(targets, n, d)`, or `(1, n, d)` where all targets share them.
    """
    differentiate = (torch.is_grad_enabled() and points.requires_grad) or has_tangent(points)
    function = _WithTangent if in_forward_mode() else _RelationLoss
    loss: Tensor = function.apply(points, *samples, relation, differentiate)[0]  # type: ignore[no-untyped-call]
    return loss


def in_forward_mode() -> bool:
    """Whether something may be differentiated in forward mode."""
    return fwAD._current_level >= 0


def has_tangent(values: Tensor) -> bool:
    """Whether forward mode differentiates them."""
    return in_forward_mode() and fwAD.unpack_dual(values).tangent is not None  # type: ignore[no-untyped-call]


def anchor_samples(batch: Populations, truth: Scores) -> Samples:
    """The samples, each counting as an anchor by its weight; `truth` are the targets' scores."""
    total = batch.sum(batch.weight)
    share = batch.share(~truth.constant) / torch.where(total > 0, total, 1)
    return Samples(
        batch.target.T,
        batch.relative_weight().T,
        (batch.weight * batch.expand(share)).T,
        batch.group,
    )


def distances(points: Tensor, others: Tensor) -> Tensor:
    """`(points, others)`: Euclidean, without a gradient; equal ones where they are exactly equal.

    In units of the largest entry, so that squares neither overflow nor vanish.
    """
    points, others, dtype = points.detach(), others.detach(), points.dtype
    largest = others.abs().amax()
    unit = torch.where(largest > 0, largest, 1)
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        kind = _kind(points, "euclidean")
        if kind == "products":
            points, others = points.double(), others.double()
        found = _similarities(points[None] / unit, others[None] / unit, kind)
    return -found[0].to(dtype)


class _RelationLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        points: Tensor,
        target: Tensor,
        weight: Tensor,
        share: Tensor,
        group: Tensor | None,
        relation: Relation,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor | None]:
        samples = Samples(target, weight, share, group)
        return _loss_and_gradient(points, samples, relation, differentiate)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]
    ) -> None:
        ctx.relation, gradient = inputs[5], output[1]
        ctx.save_for_backward(*inputs[:5], gradient)
        ctx.save_for_forward(gradient)
        if gradient is not None:
            ctx.mark_non_differentiable(gradient)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        points, target, weight, share, group, gradient = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # Its own derivative is asked for: once more, every operation being recorded.
            samples = Samples(target, weight, share, group)
            gradient = _loss_and_gradient(points, samples, ctx.relation, True)[1]
        return upstream[0] * gradient, None, None, None, None, None, None


class _WithTangent(_RelationLoss):
    """Also in forward mode, which a function that is compiled must not know."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: None) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * tangent).sum(), None


def _loss_and_gradient(
    points: Tensor, samples: Samples, relation: Relation, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    targets, n = samples.target.shape
    dtype, kind = points.dtype, _kind(points, relation.similarity)
    if kind == "products":
        points = points.double()
    loss = samples.share.new_zeros(())
    step = max(1, CHUNK // max(1, targets * n))
    share = share_of_anchors(n, step)
    # A process may have no samples whose gradient it wants, while others do.
    differentiate = differentiate or share.processes > 1
    gradient = torch.zeros_like(points) if differentiate else None
    prepared = relation.prepare(samples)
    with torch.autocast(points.device.type, enabled=False):
        for rows in share.slices(n if targets else 0, step):
            anchors = points[:, rows]
            found = _similarities(anchors, points, kind).to(dtype)
            part, slope = relation.anchors(
                found.expand(targets, -1, -1), rows, samples, prepared, relation.options
            )
            loss = loss + part
            if gradient is None:
                continue
            if len(points) < targets:
                slope = slope.sum(0, keepdim=True)
            if step < n:
                gradient += _of_anchors(slope.mT, found.mT, points, anchors, kind)
            else:  # of anchors and others at once
                slope = slope + slope.mT
            gradient[:, rows] += _of_anchors(slope, found, anchors, points, kind)
    if gradient is None:
        return loss, None
    gradient = gradient.to(dtype)
    if share.processes == 1:
        return loss, gradient
    gradient, losses = share.joined(gradient, loss[None])
    return losses.sum(), gradient


def _kind(points: Tensor, similarity: Similarity) -> _Kind:
    """Euclidean distances are taken by products in float64 where that takes the least time, with
    more than the digits of float32: on a CPU, without a second derivative."""
    if similarity == "cosine":
        return "cosine"
    if points.shape[-1] == 1:
        return "differences"
    fits = points.is_cpu and points.dtype == torch.float32
    return "products" if fits and not torch.is_grad_enabled() else "distances"


def _similarities(anchors: Tensor, others: Tensor, kind: _Kind) -> Tensor:
    """`(..., anchors, others)`, without the temperature."""
    match kind:
        case "cosine":
            return anchors @ others.mT
        case "differences":
            return -(anchors - others.mT).abs()
        case "products":
            squares = anchors.square().sum(-1)[..., None] + others.square().sum(-1)[..., None, :]
            distances = torch.baddbmm(squares, anchors, others.mT, alpha=-2).clamp_(min=0).sqrt_()
            return -distances
    if torch.is_grad_enabled():  # cdist has no second derivative
        squares = (anchors[..., :, None, :] - others[..., None, :, :]).square().sum(-1)
        apart = squares > 0
        return -torch.where(apart, torch.where(apart, squares, 1).sqrt(), 0)
    # The products that cdist would take otherwise lose the digits of small distances.
    return -torch.cdist(anchors, others, compute_mode="donot_use_mm_for_euclid_dist")


def _of_anchors(
    slope: Tensor, similarities: Tensor, anchors: Tensor, others: Tensor, kind: _Kind
) -> Tensor:
    """The gradient of `sum(slope * similarities)` with respect to the anchors."""
    match kind:
        case "cosine":
            return slope @ others
        case "differences":
            return (slope * (others.mT - anchors).sign()).sum(-1, keepdim=True)
        case "products":
            pull = torch.where(similarities < 0, slope / similarities, 0).double()
            return torch.baddbmm(pull.sum(-1, keepdim=True) * anchors, pull, others, alpha=-1)
    _, pull_back, *_ = torch.func.vjp(lambda at: _similarities(at, others, kind), anchors)
    (gradient,) = pull_back(slope)
    return gradient  # type: ignore[no-any-return]
