"""Losses of how similar each sample is to the others, value and gradient at once.

Nothing of the size of all pairs is kept: some samples at a time are *anchors*, whose similarities
to all others are in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, Scores

Similarity = Literal["cosine", "euclidean"]

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
    differentiate = torch.is_grad_enabled() and points.requires_grad
    loss: Tensor = _RelationLoss.apply(points, *samples, relation, differentiate)[0]  # type: ignore[no-untyped-call]
    return loss


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


def _loss_and_gradient(
    points: Tensor, samples: Samples, relation: Relation, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    targets, n = samples.target.shape
    dtype, similarity = points.dtype, relation.similarity
    by_products = similarity == "euclidean" and _by_products(points)
    if by_products:
        points = points.double()
    loss = samples.share.new_zeros(())
    gradient = torch.zeros_like(points) if differentiate else None
    step = max(1, CHUNK // max(1, targets * n))
    prepared = relation.prepare(samples)
    with torch.autocast(points.device.type, enabled=False):
        for start in range(0, n if targets else 0, step):
            rows = slice(start, start + step)
            anchors = points[:, rows]
            if by_products:
                found = -_distances(anchors, points).to(dtype)
            else:
                found = _similarities(anchors, points, similarity)
            part, slope = relation.anchors(
                found.expand(targets, -1, -1), rows, samples, prepared, relation.options
            )
            loss = loss + part
            if gradient is None:
                continue
            if len(points) < targets:
                slope = slope.sum(0, keepdim=True)
            if step >= n:  # of anchors and others at once
                slope = slope + slope.mT
            if by_products:
                pull = torch.where(found < 0, slope / found, 0).double()
                if step < n:
                    _add_by_products(gradient, pull.mT, points, anchors)
                _add_by_products(gradient[:, rows], pull, anchors, points)
            else:
                if step < n:
                    gradient += _of_anchors(slope.mT, found.mT, points, anchors, similarity)
                gradient[:, rows] += _of_anchors(slope, found, anchors, points, similarity)
    return loss, None if gradient is None else gradient.to(dtype)


def _similarities(anchors: Tensor, others: Tensor, similarity: Similarity) -> Tensor:
    """`(..., anchors, others)`, without the temperature."""
    if similarity == "cosine":
        return anchors @ others.mT
    if others.shape[-1] == 1:
        return -(anchors - others.mT).abs()
    if torch.is_grad_enabled():  # cdist has no second derivative
        squares = (anchors[..., :, None, :] - others[..., None, :, :]).square().sum(-1)
        apart = squares > 0
        return -torch.where(apart, torch.where(apart, squares, 1).sqrt(), 0)
    # The products that cdist would take otherwise lose the digits of small distances.
    return -torch.cdist(anchors, others, compute_mode="donot_use_mm_for_euclid_dist")


def _of_anchors(
    slope: Tensor, similarities: Tensor, anchors: Tensor, others: Tensor, similarity: Similarity
) -> Tensor:
    """The gradient of `sum(slope * similarities)` with respect to the anchors."""
    if similarity == "cosine":
        return slope @ others
    if others.shape[-1] == 1:
        return (slope * (others.mT - anchors).sign()).sum(-1, keepdim=True)
    _, pull_back, *_ = torch.func.vjp(lambda at: _similarities(at, others, similarity), anchors)
    (gradient,) = pull_back(slope)
    return gradient  # type: ignore[no-any-return]


def _by_products(points: Tensor) -> bool:
    """Whether Euclidean distances are taken in float64 by products: the way that takes the least
    time on a CPU, with more than the digits of float32."""
    exact = points.is_cpu and points.dtype == torch.float32 and points.shape[-1] > 1
    return exact and not torch.is_grad_enabled()


def _distances(anchors: Tensor, others: Tensor) -> Tensor:
    squares = anchors.square().sum(-1)[..., None] + others.square().sum(-1)[..., None, :]
    return torch.baddbmm(squares, anchors, others.mT, alpha=-2).clamp_(min=0).sqrt_()


def _add_by_products(gradient: Tensor, pull: Tensor, anchors: Tensor, others: Tensor) -> None:
    """Adds the gradient with respect to the anchors; `pull` is that with respect to the negative
    distances, divided by these."""
    gradient.addcmul_(pull.sum(-1, keepdim=True), anchors).baddbmm_(pull, others, alpha=-1)
