"""Contrast of features where predictions are similar and targets are not."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.baselines.anchors import products, same_group
from finecorr.functional.features import directions, feature_batch
from finecorr.functional.pairwise import over_anchors


def conr_loss(
    features: Tensor,
    prediction: Tensor,
    target: Tensor,
    *,
    window: float = 1.0,
    temperature: float = 0.07,
    push: float = 0.01,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """ConR: features are pulled together where targets are close, and pushed apart where only the
    predictions are.

    For an anchor i, the positives P are the other samples with `|y_i - y_j| <= window`, the
    negatives N those of the rest with `|p_i - p_j| <= window`. With `s_ij` the cosine of the
    features over `temperature`, the loss of an anchor is the mean over the positives j of

        log(sum over k in P of exp(s_ik) + sum over k in N of exp(push * |y_i - y_k| + s_ik)) - s_ij

    and 0 for an anchor without positives or without negatives. The loss is the mean over all
    anchors. The predictions only choose the negatives and get no gradient.

    `window` and `1 / push` are in the unit of the target: the defaults are for ages in years.

    Source: Keramati, Meng and Evans, ConR: Contrastive Regularizer for Deep Imbalanced Regression,
    ICLR 2024, arXiv 2309.06651; it is added, times beta, to a loss of each sample. The defaults
    are those of the authors' code, which besides adds to the sums 1 for each sample that is not a
    positive, and has 0 / 0 for an anchor without positives. In the paper, each image is in the
    batch twice, differently augmented.

    Time is O(n^2 (d + targets)) and memory O(n (d + targets)) for n samples with d features.

    Args:
        features: `(n, d)`.
        prediction: the shape of `target`.
        target: `(n,)` or `(n, targets)`; NaN is a missing label.
        window: up to which distance targets, or predictions, are close; not negative.
        temperature: what cosines are divided by; positive.
        push: how fast the weight of negatives grows with the distance of targets; not negative.
        weight: `(n,)`, non-negative: how much each sample counts in the means, and as a factor of
            `exp(s_ik)`, scaled to a mean of 1 in each group.
        group: `(n,)` integers: samples are compared within their group only; the groups are
            averaged by their weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    for name, value in (("window", window), ("push", push)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and not negative, not {value}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    batch, features = feature_batch(features, prediction, target, weight, group)
    unit = directions(features)
    y, p, weights = batch.target.T, batch.prediction.detach().T, batch.relative_weight().T
    position = torch.arange(len(features), device=y.device)

    def anchors(rows: slice) -> Tensor:
        similarity = products(unit[rows], unit) / temperature
        other = same_group(batch, rows) & (position[rows, None] != position)
        other = other & (weights > 0)[:, None]
        distance = (y[:, rows, None] - y[:, None]).abs()
        close = distance <= window
        positive = other & close
        negative = other & ~close & ((p[:, rows, None] - p[:, None]).abs() <= window)
        pushed = similarity + torch.where(negative, push * distance, 0)
        terms = pushed + weights.clamp(min=1e-30).log()[:, None]
        # A finite stand-in for minus infinity, which would make the gradient NaN.
        total = torch.where(positive | negative, terms, -1e30).logsumexp(-1)
        count = torch.where(positive, weights[:, None], 0)
        pull = (count * similarity).sum(-1) / count.sum(-1).clamp(min=1e-30)
        # What is not finite is that also where nothing is pushed.
        hidden = (unit[rows] - unit[rows]).sum(-1)
        return torch.where(positive.any(-1) & negative.any(-1), total - pull, 0) + hidden

    losses = over_anchors(anchors, *y.shape)
    return batch.average(batch.mean(losses.T), batch.defined())
