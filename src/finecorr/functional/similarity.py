"""Ranking by similarity: samples that are closer in target should be closer in representation.

The idea of learning the rank order through similarity relationships, from coarse to fine, is that
of the local level of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022,
arXiv 2207.00347); the formulas are our own. With `levels=None` the loss is that of Rank-N-Contrast
(Zha et al., NeurIPS 2023, arXiv 2210.01189, equation 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from finecorr.functional.features import check_features, directions, feature_batch, first_feature
from finecorr.functional.moments import (
    RUNNING_SUM_ROUNDING,
    Populations,
    Scores,
    populations,
    running_sum_terms,
)
from finecorr.functional.plain.batch import labelled
from finecorr.functional.plain.ranking import plain_similarity_rank
from finecorr.functional.relations import (
    Relation,
    Samples,
    Similarity,
    anchor_samples,
    relation_loss,
)
from finecorr.functional.sorting import argsort, runs

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
    memory, and with "euclidean" O(n^2 d).

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
    ranking = _Ranking(levels, temperature, similarity)
    ranking.check()

    def general(features: Tensor) -> Tensor:
        # Every target ranks the same features, so that the predictions' place stays empty.
        batch, features = feature_batch(features, None, target, weight, group)
        if similarity == "cosine":
            features = directions(features)
        return _rank_loss(features[None], batch, batch.scores(batch.target), ranking)

    if similarity == "cosine" and weight is None and group is None:
        loss = plain_similarity_rank(features, target, levels, temperature, general)
        if loss is not None:
            return loss
        check_features(features, target)
        rows = labelled(first_feature(features, target), target)
        if rows is not None:
            return similarity_rank_loss(
                features[rows], target[rows], levels=levels, temperature=temperature
            )
    return general(features)


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
    ranking = _Ranking(levels, temperature, "euclidean")
    ranking.check()
    batch = populations(prediction, target, weight, group)
    truth = batch.scores(batch.target)
    scaled = batch.prediction / batch.expand(torch.where(truth.constant, 1, truth.std))
    return _rank_loss(scaled.T[:, :, None], batch, truth, ranking)


class _Ranking(NamedTuple):
    """The options."""

    levels: int | None
    temperature: float
    similarity: Similarity

    def check(self) -> None:
        if self.similarity not in get_args(Similarity):
            known = get_args(Similarity)
            raise ValueError(f"similarity must be one of {known}, not {self.similarity!r}")
        if self.levels is not None and self.levels < 2:
            raise ValueError(
                f"levels must be at least 2, or None for the exact order, not {self.levels}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")


def _rank_loss(points: Tensor, batch: Populations, truth: Scores, ranking: _Ranking) -> Tensor:
    """`points` are `(targets, n, d)`, or `(1, n, d)` where all targets share them."""
    relation = Relation(ranking.similarity, _in_order, _anchors, ranking)
    return relation_loss(points, anchor_samples(batch, truth), relation)


class _Ordered(NamedTuple):
    """The samples of each target in ascending order, `(targets, n)`, those of a group together and
    those without weight last. The rows of an anchor are then almost in order, too."""

    sample: Tensor
    place: Tensor
    """Where each sample is in that order."""
    target: Tensor
    """Half of it, so that no difference overflows, and infinite for a sample without weight."""


def _in_order(samples: Samples) -> _Ordered:
    target = torch.where(samples.weight > 0, samples.target / 2, torch.inf)
    order = argsort(target, -1)
    if samples.group is not None:
        order = order.gather(-1, argsort(samples.group[order], -1))
    position = torch.arange(order.shape[-1], device=order.device)
    place = torch.empty_like(order).scatter(-1, order, position.expand_as(order))
    return _Ordered(order, place, target.gather(-1, order))


def _anchors(
    similarities: Tensor, rows: slice, samples: Samples, ordered: _Ordered, ranking: _Ranking
) -> tuple[Tensor, Tensor]:
    """See `finecorr.functional.relations.Relation`."""
    target, weight, share, group = samples
    similarities, levels = similarities / ranking.temperature, ranking.levels
    distance = (target[:, rows, None] / 2 - ordered.target[:, None]).abs()
    distance.scatter_(-1, ordered.place[:, rows, None], torch.inf)
    if group is not None:
        other = group[rows, None] != group[ordered.sample][:, None]
        distance = distance.masked_fill_(other, torch.inf)
    order = argsort(distance, -1)
    distance = distance.gather(-1, order)
    order = ordered.sample[:, None].expand_as(order).gather(-1, order)
    absent = ~(distance < torch.inf)
    weights = weight[:, None].expand_as(distance).gather(-1, order).masked_fill_(absent, 0)
    total = weights.sum(-1, keepdim=True)
    total = torch.where(total > 0, total, 1)

    starts = torch.ones_like(absent)
    starts[..., 1:] = distance[..., 1:] != distance[..., :-1]
    first, stop = runs(starts)
    if levels is not None:
        precise = running_sum_terms(weights)
        nearer = (precise.cumsum(-1) - precise).gather(-1, first)
        bins = (levels * (nearer / total * (1 + RUNNING_SUM_ROUNDING))).long()
        bins = bins.masked_fill_(absent, levels)
        edges = torch.arange(levels + 2, device=bins.device).expand(*bins.shape[:-1], -1)
        edges = torch.searchsorted(bins, edges.contiguous())
        first, stop = edges.gather(-1, bins), edges.gather(-1, bins + 1)

    logarithms = weights.clamp(min=1e-30).log()
    terms = (similarities.gather(-1, order) + logarithms).masked_fill(absent, MISSING)
    terms = terms - terms.detach().amax(-1, keepdim=True)
    far, pull = _running_sums(terms, weights, logarithms, absent, first, stop - 1)
    losses = weights * (far - terms + logarithms).masked_fill(absent, 0)
    share = share[:, rows, None] / total
    loss = (share * losses).sum()
    slope = share * (pull - weights) / ranking.temperature
    return loss, torch.empty_like(slope).scatter(-1, order, slope)


def _running_sums(
    terms: Tensor, weights: Tensor, logarithms: Tensor, absent: Tensor, first: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    """With the sums `S_j = sum(exp(terms_k) for k from first_j on)`, their logarithms, and
    `exp(terms_k) * sum(weights_j / S_j for j up to last_k)`.

    On the CPU by plain sums where these do not underflow, which take a tenth of the time.
    """
    limit = -0.7 * math.log(torch.finfo(terms.dtype).max)
    if (
        terms.is_cpu
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and terms.masked_fill(absent, 0).amin() > limit
    ):
        exponentials = terms.exp()
        sums = exponentials.flip(-1).cumsum(-1, dtype=torch.float64).flip(-1).gather(-1, first)
        sums = sums.to(terms.dtype).clamp_(min=torch.finfo(terms.dtype).tiny)
        pull = (weights / sums).cumsum(-1, dtype=torch.float64).gather(-1, last)
        return sums.log(), pull.mul_(exponentials).to(terms.dtype)
    far = terms.flip(-1).logcumsumexp(-1).flip(-1).gather(-1, first)
    near = (logarithms - far).masked_fill(absent, MISSING).logcumsumexp(-1).gather(-1, last)
    return far, (terms + near).exp()
