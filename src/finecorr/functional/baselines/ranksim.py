"""Ranking similarity of features and targets."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.baselines.anchors import products, same_group
from finecorr.functional.baselines.blackbox import (
    ROUNDING,
    check_interpolation,
    ranks,
    with_gradient,
)
from finecorr.functional.features import directions, feature_batch
from finecorr.functional.moments import running_sum_terms
from finecorr.functional.pairwise import over_anchors


def ranksim_loss(
    features: Tensor,
    target: Tensor,
    *,
    interpolation: float = 200.0,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """RankSim: each sample ranks the others by features as it does by target.

        sum over i of mean over j of (rank_j(cosine(i, j)) - rank_j(-|target_i - target_j|))^2

    with ranks over the number of samples. The gradient is that of blackbox differentiation: with
    r the ranks by the cosines s of one i, L the mean of the squares and `lambda = interpolation`,
    s gets `-(r - r') / lambda`, where r' are the ranks by `s + lambda * dL/dr`. Here it is taken
    of L itself and then multiplied by what the loss is multiplied by, so that the loss may be
    scaled and averaged. In the paper it is taken after the multiplication by a balancing weight
    gamma. Our gradient is the same with `interpolation = lambda * gamma`: the default is that of
    the paper's lambda 2 and gamma 100.

    Equal similarities share the mean of their ranks. Where several samples have the same target,
    the paper draws one of them at random; here each of these counts with its share of one.

    Source: Gong, Mori and Tung, RankSim: Ranking Similarity Regularization for Deep Imbalanced
    Regression, ICML 2022, arXiv 2205.15236; it is added, times gamma, to a loss of each sample.

    Time is O(n^2 (d + targets * log n)) and memory O(n (d + targets)) for n samples with d
    features.

    Args:
        features: `(n, d)`.
        target: `(n,)` or `(n, targets)`; NaN is a missing label.
        interpolation: how far the gradient looks, as above; positive.
        weight: `(n,)`, non-negative: how much each sample counts in the ranks, the sum and the
            mean, scaled to a mean of 1 in each group.
        group: `(n,)` integers: samples are ranked within their group only; the groups are averaged
            by their weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
        RuntimeError: the gradient is differentiated.
    """
    check_interpolation(interpolation)
    batch, features = feature_batch(features, None, target, weight, group)
    unit = directions(features)
    y, labelled = batch.target.T, batch.weight.T > 0

    def same_target(rows: slice) -> Tensor:
        same = (y[:, rows, None] == y[:, None]) & labelled[:, None] & same_group(batch, rows)
        return same.sum(-1)

    equals = over_anchors(same_target, *y.shape)
    weights = batch.relative_weight().T / equals.clamp(min=1)
    epsilon = ROUNDING * torch.finfo(y.dtype).eps

    def anchors(rows: slice) -> Tensor:
        cosine = products(unit[rows], unit)
        cosine = cosine.expand(len(y), *cosine.shape)
        with torch.no_grad():
            count = torch.where(same_group(batch, rows), weights[:, None], 0)
            total = count.sum(-1, keepdim=True)
            total = torch.where(total > 0, total, 1)
            distance = (y[:, rows, None] - y[:, None]).abs()
            precise = running_sum_terms(count)
            wanted = ranks(distance, precise, torch.zeros_like(distance), None)
            found = ranks(-cosine, precise, torch.full_like(distance, epsilon), None)
            difference = (found - wanted).to(y.dtype)
            step = interpolation * 2 * difference / total
            moved = ranks(-cosine - step, precise, epsilon * (1 + step.abs()), None)
            gradient = -count * (found - moved).to(y.dtype) / interpolation
            # What is not finite has a rank, too.
            loss = (count * (difference.square() + cosine - cosine) / total).sum(-1)
        return weights[:, rows] * (loss + with_gradient(cosine, gradient).sum(-1))

    losses = over_anchors(anchors, *y.shape)
    return batch.average(batch.sum(losses.T), batch.defined())
