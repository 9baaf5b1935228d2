"""Ranking by similarity: samples that are closer in target should be closer in representation.

The idea of learning the rank order through similarity relationships, from coarse to fine, is that
of the local level of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022,
arXiv 2207.00347); the formulas are our own. With `levels=None` the loss is that of Rank-N-Contrast
(Zha et al., NeurIPS 2023, arXiv 2210.01189, equation 1).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from finecorr.functional.moments import (
    RUNNING_SUM_ROUNDING,
    Populations,
    populations,
    running_sum_terms,
)
from finecorr.functional.sorting import argsort, runs

Similarity = Literal["cosine", "euclidean"]

CHUNK = 2**20
"""How many pairs are in memory at once; on the CPU, the fastest of the powers of 2."""

MISSING = -1e30
"""A finite stand-in for minus infinity, which would make gradients NaN."""


def similarity_rank_loss(
    features: Tensor,
    target: Tensor,
    *,
    levels: int | None = None,
    temperature: float = 0.1,
    similarity: Similarity = "cosine",
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood that each sample is the most similar among those at least as far.

    For an anchor i, `s_ij` is the similarity of the features of i and j over `temperature`
    (cosine, or negative Euclidean distance), and `q_ij` is `|target_i - target_j|`:

        loss_i = mean over j of  log(sum over k with q_ik >= q_ij of exp(s_ik)) - s_ij

    where j and k are the samples other than i; the loss is the mean over anchors. With `levels`,
    `q_ij` is the bin of that distance among the anchor's, `levels` bins of equal shares: with
    r_ij the share of samples that are strictly nearer, `q_ij = floor(levels * r_ij)`. So 2 levels
    ask only near or far, and as many as there are samples ask for the exact order. Equal
    distances (in the dtype of the computation) fall into the same bin and impose no order.

    Weights are scaled to a mean of 1 in each group. They count in the means over anchors and over
    j, in the shares, and as factors of `exp(s_ik)`.

    Time is O(n^2 (d + targets * log n)) and memory O(n (d + targets)) for n samples with d
    features: some anchors at a time, each one's row is sorted once, and the sums over k are running
    ones from the far end. The gradient is taken at the same time. A second derivative takes O(n^2)
    memory, and there is none with "euclidean", for which PyTorch raises NotImplementedError.

    Args:
        features: `(n, d)`.
        target: `(n,)` or `(n, targets)`; NaN is a missing label.
        levels: number of bins, at least 2, or None for the exact order.
        temperature: what similarities are divided by; positive. For "euclidean" it is in the unit
            of the features.
        similarity: "cosine" or "euclidean".
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: samples are compared within their group only; the groups are
            averaged by their weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    if similarity not in get_args(Similarity):
        raise ValueError(f"similarity must be one of {get_args(Similarity)}, not {similarity!r}")
    if not features.is_floating_point():
        raise TypeError(f"features must be floating point, not {features.dtype}")
    if target.ndim not in (1, 2):
        raise ValueError(f"target must be (n,) or (n, targets), not {tuple(target.shape)}")
    if features.ndim != 2 or len(features) != len(target) or features.shape[1] == 0:
        raise ValueError(
            f"features must be (n, d) with the n = {len(target)} of target and d >= 1, "
            f"not {tuple(features.shape)}"
        )
    # Every target ranks the same features, so that the predictions' place stays empty.
    batch = populations(features.new_zeros(target.shape), target, weight, group)
    features = features.to(batch.target.dtype)
    features = features if batch.order is None else features[batch.order]
    if similarity == "cosine":
        features = _directions(features)
    return _rank_loss(features[None], batch, _Ranking(levels, temperature, similarity))


def prediction_rank_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    levels: int | None = None,
    temperature: float = 0.1,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """`similarity_rank_loss` with the predictions themselves as the representation.

    Each target has its own column of `prediction`, and the similarity of i and j is
    `-|prediction_i - prediction_j| / (std(target) * temperature)`: the order of the distances is
    learnt, but neither the scale nor the sign of the predictions.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        levels, temperature, weight, group: see `similarity_rank_loss`.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in
        `similarity_rank_loss`.

    Raises:
        ValueError, TypeError: as `similarity_rank_loss`.
    """
    batch = populations(prediction, target, weight, group)
    truth = batch.scores(batch.target)
    scaled = batch.prediction / batch.expand(torch.where(truth.constant, 1, truth.std))
    return _rank_loss(scaled.T[:, :, None], batch, _Ranking(levels, temperature, "euclidean"))


class _Ranking(NamedTuple):
    """The options."""

    levels: int | None
    temperature: float
    similarity: Similarity


class _Samples(NamedTuple):
    """What the loss knows of the samples beside their features; no gradient is taken of it."""

    target: Tensor
    """`(targets, n)`"""
    weight: Tensor
    """`(targets, n)`: with a mean of 1 in each population."""
    share: Tensor
    """`(targets, n)`: how much each counts as an anchor."""
    group: Tensor | None
    """`(n,)`"""


def _rank_loss(points: Tensor, batch: Populations, ranking: _Ranking) -> Tensor:
    """`points` are `(targets, n, d)`, or `(1, n, d)` where all targets share them."""
    if ranking.levels is not None and ranking.levels < 2:
        raise ValueError(
            f"levels must be at least 2, or None for the exact order, not {ranking.levels}"
        )
    if not ranking.temperature > 0:
        raise ValueError(f"temperature must be positive, not {ranking.temperature}")
    total = batch.sum(batch.weight)
    share = batch.share(batch.defined()) / torch.where(total > 0, total, 1)
    samples = _Samples(
        batch.target.T,
        batch.relative_weight().T,
        (batch.weight * batch.expand(share)).T,
        batch.group,
    )
    differentiate = torch.is_grad_enabled() and points.requires_grad
    loss: Tensor = _RankLoss.apply(points, *samples, ranking, differentiate)[0]  # type: ignore[no-untyped-call]
    return loss


class _RankLoss(torch.autograd.Function):
    """The loss and its gradient at once, so that nothing of the size of all pairs is kept."""

    @staticmethod
    def forward(
        points: Tensor,
        target: Tensor,
        weight: Tensor,
        share: Tensor,
        group: Tensor | None,
        ranking: _Ranking,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor | None]:
        samples = _Samples(target, weight, share, group)
        return _loss_and_gradient(points, samples, ranking, differentiate)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]
    ) -> None:
        ctx.ranking, gradient = inputs[5], output[1]
        ctx.save_for_backward(*inputs[:5], gradient)
        if gradient is not None:
            ctx.mark_non_differentiable(gradient)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        points, target, weight, share, group, gradient = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # Its own derivative is asked for: once more, every operation being recorded.
            samples = _Samples(target, weight, share, group)
            gradient = _loss_and_gradient(points, samples, ctx.ranking, True)[1]
        return upstream[0] * gradient, None, None, None, None, None, None


def _loss_and_gradient(
    points: Tensor, samples: _Samples, ranking: _Ranking, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    targets, n = samples.target.shape
    loss = samples.share.new_zeros(())
    gradient = torch.zeros_like(points) if differentiate else None
    step = max(1, CHUNK // max(1, targets * n))
    with torch.autocast(points.device.type, enabled=False):
        for start in range(0, n if targets else 0, step):
            rows = slice(start, start + step)

            def similarities(anchors: Tensor, others: Tensor, rows: slice = rows) -> Tensor:
                found = _similarities(anchors, others, ranking.similarity) / ranking.temperature
                return found.expand(targets, -1, -1)

            if gradient is None:
                found = similarities(points[:, rows], points)
                loss = loss + _anchors(found, rows, samples, ranking.levels, False)[0]
                continue
            found, pull_back, *_ = torch.func.vjp(similarities, points[:, rows], points)
            part, slope = _anchors(found, rows, samples, ranking.levels, True)
            of_anchors, of_others = pull_back(slope)
            loss = loss + part
            gradient += of_others
            gradient[:, rows] += of_anchors
    return loss, gradient


def _directions(features: Tensor) -> Tensor:
    # By the largest entry first, so that squares neither overflow nor vanish.
    largest = features.detach().norm(torch.inf, dim=1, keepdim=True)
    features = features / torch.where(largest > 0, largest, 1)
    length = features.norm(dim=1, keepdim=True)
    return features / torch.where(length > 0, length, 1)


def _similarities(anchors: Tensor, others: Tensor, similarity: Similarity) -> Tensor:
    """`(..., anchors, others)`, without the temperature."""
    if similarity == "cosine":
        return anchors @ others.mT
    if others.shape[-1] == 1:
        return -(anchors - others.mT).abs()
    # The products that cdist would take otherwise lose the digits of small distances.
    return -torch.cdist(anchors, others, compute_mode="donot_use_mm_for_euclid_dist")


def _anchors(
    similarities: Tensor, rows: slice, samples: _Samples, levels: int | None, differentiate: bool
) -> tuple[Tensor, Tensor]:
    """The sum of the anchors' losses by their shares, and its gradient, `(targets, rows, n)`."""
    target, weight, share, group = samples
    position = torch.arange(target.shape[1], device=target.device)
    partner = (weight > 0)[:, None] & (position[rows, None] != position)
    if group is not None:
        partner = partner & (group[rows, None] == group)
    distance = torch.where(partner, (target[:, rows, None] - target[:, None]).abs(), torch.inf)
    order = argsort(distance, -1)
    distance = distance.gather(-1, order)
    weights = torch.where(partner, weight[:, None], 0).gather(-1, order)
    partner = weights > 0
    total = weights.sum(-1, keepdim=True)
    total = torch.where(total > 0, total, 1)

    first, stop = runs(_starts(distance))
    if levels is not None:
        precise = running_sum_terms(weights)
        nearer = (precise.cumsum(-1) - precise).gather(-1, first)
        bins = (levels * (nearer / total * (1 + RUNNING_SUM_ROUNDING))).floor()
        bins = torch.where(partner, bins.clamp(max=levels - 1), levels)
        first, stop = runs(_starts(bins))

    similarities = similarities.gather(-1, order)
    logarithms = weights.clamp(min=1e-30).log()
    terms = torch.where(partner, similarities + logarithms, MISSING)
    far = _running_logsumexp(terms.flip(-1)).flip(-1).gather(-1, first)
    losses = weights * torch.where(partner, far - similarities, 0)
    loss = (share[:, rows] * losses.sum(-1) / total.squeeze(-1)).sum()
    if not differentiate:
        return loss, similarities

    near = _running_logsumexp(torch.where(partner, logarithms - far, MISSING)).gather(-1, stop - 1)
    slope = torch.where(partner, (terms + near).exp() - weights, 0) * share[:, rows, None] / total
    return loss, torch.zeros_like(slope).scatter(-1, order, slope)


def _starts(keys: Tensor) -> Tensor:
    """Which entries of rows differ from the one before."""
    starts = torch.ones_like(keys, dtype=torch.bool)
    starts[..., 1:] = keys[..., 1:] != keys[..., :-1]
    return starts


def _running_logsumexp(terms: Tensor) -> Tensor:
    """`terms.logcumsumexp(-1)`, on the CPU at a tenth of the time where no exponential underflows.

    It is undefined before the first term of a row that is not missing.
    """
    if not terms.is_cpu or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return terms.logcumsumexp(-1)
    largest = terms.amax(-1, keepdim=True)
    relative = terms - largest
    lowest = torch.where(terms > MISSING, relative, 0).amin()
    if lowest < math.log(torch.finfo(terms.dtype).tiny):
        return terms.logcumsumexp(-1)
    sums = relative.exp_().cumsum(-1, dtype=torch.float64)
    return sums.to(terms.dtype).log_().add_(largest)
