"""Correlation of similarities: how far a sample is from each of the others, in representation and
in target.

The idea of learning the rank order through similarity relationships is that of the local level of
"Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022, arXiv 2207.00347); the
formula is our own. Correlations of the distances between samples are those of Mantel (Cancer
Research 27, 1967) and of representational similarity analysis (Kriegeskorte et al., 2008).
"""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.features import (
    LEAST_STD,
    bounded,
    check_features,
    feature_batch,
    first_feature,
)
from finecorr.functional.moments import Populations
from finecorr.functional.plain.batch import labelled
from finecorr.functional.plain.similarity import Limits, plain_similarity_correlation
from finecorr.functional.relations import (
    Relation,
    Samples,
    anchor_samples,
    relation_loss,
)

LOG_EPSILON = 1e-3
"""What is added to `1 - correlation` before the logarithm: its gradient stays finite."""

EVEN_TARGETS = 1e-4
"""An anchor whose distances in target have at most this standard deviation, as a share of their
mean, tells nothing."""

EVEN_FEATURES = 1e-3
"""The least standard deviation of an anchor's distances in features, as a share of their mean, that
they are divided by."""


def similarity_correlation_loss(
    features: Tensor,
    target: Tensor,
    *,
    log: bool = True,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """How badly each sample's distances to the others correlate, in features and in targets.

    For an anchor i, `r_i` is the Pearson correlation, over the samples j other than i, of
    `|features_i - features_j|` (Euclidean) with `|target_i - target_j|`. The loss is the mean over
    anchors of

        log(1 - r_i + 1e-3) / 2

    or, with `log=False`, of `1 - r_i`. It is the lowest where the features of the samples lie as
    their targets do: on a line, in their order, at distances in proportion. Neither a temperature
    nor a scale of the features enters.

    Where the distances of an anchor in features hardly differ, their standard deviation is taken as
    0.001 of their mean, so that the gradient stays finite. Where they are all equal, or where the
    standard deviation of those in target is at most 1e-4 of their mean, `r_i` is 0.

    Weights count in the correlations and in the mean over anchors.

    Time is O(n^2 (d + targets)) and memory O(n (d + targets)) for n samples with d features: some
    anchors at a time. The gradient is taken at the same time. A second derivative takes O(n^2 d)
    memory.

    Args:
        features: `(n, d)`.
        target: `(n,)` or `(n, targets)`; NaN is a missing label.
        log: whether to take half the logarithm.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: samples are compared within their group only; the groups are
            averaged by their weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.
    """
    return similarity_correlation_of(features, target, weight, group, log=log)


def similarity_correlation_of(
    features: Tensor,
    target: Tensor,
    weight: Tensor | None,
    group: Tensor | None,
    *,
    log: bool = True,
    bound: bool = False,
) -> Tensor:
    """`similarity_correlation_loss`; with `bound`, of features whose gradient is bounded."""

    def general(features: Tensor) -> Tensor:
        batch, points = feature_batch(features, None, target, weight, group)
        return similarity_correlation(batch, bounded(points, batch) if bound else points, log)

    if group is None:
        found = limits(log=log, bound=bound)
        loss = plain_similarity_correlation(features, target, weight, found, general)
        if loss is not None:
            return loss
        check_features(features, target)
        rows = labelled(first_feature(features, target), target, weight)
        if rows is not None:
            of_rows = None if weight is None else weight[rows]
            return similarity_correlation_of(
                features[rows], target[rows], of_rows, None, log=log, bound=bound
            )
    return general(features)


def limits(*, log: bool, bound: bool) -> Limits:
    return Limits(
        LOG_EPSILON if log else None, EVEN_FEATURES, EVEN_TARGETS, LEAST_STD if bound else None
    )


def similarity_correlation(batch: Populations, features: Tensor, log: bool = True) -> Tensor:
    """The loss of the batch's samples, which have these features."""
    # Both in a range where neither squares nor quotients overflow or vanish.
    truth = batch.scores(batch.target)
    scores = torch.where(batch.weight > 0, truth.values, 0)
    samples = anchor_samples(batch, truth)._replace(target=scores.T)
    if len(features):
        largest = features.detach().abs().amax()
        features = features / torch.where(largest > 0, largest, 1)
    return relation_loss(features[None], samples, Relation("euclidean", _nothing, _anchors, log))


def _nothing(samples: Samples) -> None:
    """The anchors share nothing."""


def _anchors(
    similarities: Tensor, rows: slice, samples: Samples, prepared: None, log: bool
) -> tuple[Tensor, Tensor]:
    """See `finecorr.functional.relations.Relation`."""
    target, weight, share, group = samples
    position = torch.arange(target.shape[1], device=target.device)
    others = position[rows, None] != position
    if group is not None:
        others = others & (group[rows, None] == group)
    weight = weight[:, None] * others
    total = weight.sum(-1, keepdim=True)
    weight = weight / torch.where(total > 0, total, 1)

    truth, variance, _ = _deviations((target[:, rows, None] - target[:, None]).abs(), weight)
    known = variance > EVEN_TARGETS**2
    v = truth * torch.where(known, torch.where(known, variance, 1).rsqrt(), 0)
    guess, variance, mean = _deviations(-similarities, weight)
    even = variance <= EVEN_FEATURES**2
    std = torch.where(even, EVEN_FEATURES, torch.where(even, 1, variance).sqrt())
    u = guess / std

    # 1 - sum(weight * u * v), which keeps its digits where u and v are nearly the same.
    loss = (weight * (u - v).square()).sum(-1, keepdim=True) / 2
    loss = loss + torch.where(even, 1 - variance / std.square(), 0) / 2
    loss = torch.where(known, loss, 1)
    slope = v - (1 - loss) * torch.where(even, EVEN_FEATURES, u)
    factor = share[:, rows, None] / (std * mean)
    if log:
        factor = factor / (2 * (loss + LOG_EPSILON))
        loss = (loss + LOG_EPSILON).log() / 2
    return (share[:, rows, None] * loss).sum(), slope * weight * factor


def _deviations(distance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the anchor's mean and in units of it, their variance, and the mean, which is 1 where all
    distances are 0."""
    mean = (weight * distance).sum(-1, keepdim=True)
    apart = mean > 0
    mean = torch.where(apart, mean, 1)
    deviation = distance / mean - apart.to(distance.dtype)
    return deviation, (weight * deviation.square()).sum(-1, keepdim=True), mean
