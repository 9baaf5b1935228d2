"""Ranking by similarity: samples that are closer in target should be closer in representation.

The idea of learning the rank order through similarity relationships, from coarse to fine, is that
of the local level of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022,
arXiv 2207.00347); the formulas are our own. With `levels=None` the loss is that of Rank-N-Contrast
(Zha et al., NeurIPS 2023, arXiv 2210.01189, equation 1).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from finecorr.functional.moments import (
    RUNNING_SUM_ROUNDING,
    Populations,
    populations,
    running_sum_terms,
)

Similarity = Literal["cosine", "euclidean"]


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

    Time is O(n^2 (d + log n)) and memory O(n^2) for n samples with d features: each anchor's row is
    sorted once, and the sums over k are running ones from the far end.

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
    with torch.autocast(features.device.type, enabled=False):
        similarities = _similarities(features, similarity)
        return _rank_loss(batch, [similarities] * batch.target.shape[1], levels, temperature)


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
    similarities = [_similarities(column[:, None], "euclidean") for column in scaled.T]
    return _rank_loss(batch, similarities, levels, temperature)


def _rank_loss(
    batch: Populations, similarities: list[Tensor], levels: int | None, temperature: float
) -> Tensor:
    if levels is not None and levels < 2:
        raise ValueError(f"levels must be at least 2, or None for the exact order, not {levels}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    columns = zip(similarities, batch.target.T, batch.relative_weight().T, strict=True)
    anchors = [_anchor_losses(s / temperature, y, w, batch.group, levels) for s, y, w in columns]
    return batch.average(batch.mean(torch.stack(anchors, 1)), batch.defined())


def _similarities(features: Tensor, similarity: Similarity) -> Tensor:
    """`(n, n)`, without the temperature."""
    if similarity == "euclidean":
        if features.shape[1] == 1:
            return -(features - features.T).abs()
        # The products that cdist would take otherwise lose the digits of small distances.
        return -torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    # By the largest entry first, so that squares neither overflow nor vanish.
    largest = features.detach().norm(torch.inf, dim=1, keepdim=True)
    features = features / torch.where(largest > 0, largest, 1)
    length = features.norm(dim=1, keepdim=True)
    features = features / torch.where(length > 0, length, 1)
    return features @ features.T


def _anchor_losses(
    similarities: Tensor, target: Tensor, weight: Tensor, group: Tensor | None, levels: int | None
) -> Tensor:
    """`(n,)`: the loss of each sample as the anchor; 0 for one without a partner."""
    n = len(target)
    partner = (weight > 0) & ~torch.eye(n, dtype=torch.bool, device=target.device)
    if group is not None:
        partner = partner & (group[:, None] == group)
    distance = torch.where(partner, (target[:, None] - target).abs(), torch.inf)
    distance, order = distance.sort(1)
    partner = partner.gather(1, order)
    weights = torch.where(partner, weight[order], 0)
    total = weights.sum(1, keepdim=True)
    total = torch.where(total > 0, total, 1)

    first = _first_of_run(distance)
    if levels is not None:
        precise = running_sum_terms(weights)
        nearer = (precise.cumsum(1) - precise).gather(1, first)
        share = nearer / total * (1 + RUNNING_SUM_ROUNDING)
        first = _first_of_run((levels * share).floor())

    similarities = similarities.gather(1, order)
    # A finite stand-in for minus infinity, which would make the gradient NaN.
    terms = torch.where(partner, similarities + weights.clamp(min=1e-30).log(), -1e30)
    from_far_end = terms.flip(1).logcumsumexp(1).flip(1)
    loss = torch.where(partner, from_far_end.gather(1, first) - similarities, 0)
    return (weights * loss).sum(1) / total.squeeze(1)


def _first_of_run(keys: Tensor) -> Tensor:
    """For each entry of ascending rows, the position of the first that equals it."""
    position = torch.arange(keys.shape[1], device=keys.device).expand_as(keys)
    starts = torch.ones_like(keys, dtype=torch.bool)
    starts[:, 1:] = keys[:, 1:] != keys[:, :-1]
    return torch.where(starts, position, 0).cummax(1).values if keys.numel() else position
