"""Ranking by similarity, of directions and one target; see `finecorr.functional.similarity`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from finecorr.functional.plain.batch import is_plain, without_column
from finecorr.functional.plain.distances import at_once, fits
from finecorr.functional.sorting import argsort

LEAST_TEMPERATURE = 1 / 40
"""`exp(cosine / temperature)`, and its inverse, are far from the limits of float32."""

General = Callable[[Tensor], Tensor]
"""The same loss, of features, however the batch is."""


def plain_similarity_rank(
    features: Tensor, target: Tensor, levels: int | None, temperature: float, general: General
) -> Tensor | None:
    """The loss, or None where it has to be taken as `general(features)`."""
    target = without_column(target)
    if (
        not isinstance(target, Tensor)
        or target.dtype is torch.float64
        or not fits(features, target)
        or not is_plain(features[:, 0], target)
        or at_once(len(target)) < len(target)
        or not LEAST_TEMPERATURE <= temperature < math.inf
    ):
        return None
    loss: Tensor | None = _SimilarityRank.apply(features, target, levels, temperature, general)  # type: ignore[no-untyped-call]
    return loss


class _SimilarityRank(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        target: Tensor,
        levels: int | None,
        temperature: float,
        general: General,
    ) -> Tensor | None:
        n = len(target)
        # In the order of the target, in which the rows of an anchor are almost sorted.
        target = target.float()
        order = argsort(target, 0)
        target = target[order]
        points = features[order].double()
        length = points.norm(dim=1, keepdim=True)
        directions = (points / length).float()
        with torch.autocast(features.device.type, enabled=False):
            similarities = (directions @ directions.T).div_(temperature)
        distance = (target[:, None] - target).abs_().fill_diagonal_(torch.inf)
        distance.nan_to_num_(torch.inf, torch.inf)  # NaN would lead out of the rows.
        # Each row from near to far; the last one is the anchor itself, which takes no part.
        rows = argsort(distance, 1)
        terms = similarities.gather(1, rows)
        exponentials = terms.exp()
        exponentials[:, -1].fill_(0)
        bins = distance.gather(1, rows)
        first = torch.searchsorted(bins, bins)
        if levels is not None:
            bins = (first * levels).div_(n - 1, rounding_mode="floor")
            first = torch.searchsorted(bins, bins)
        last = torch.searchsorted(bins, bins, right=True).sub_(1)
        sums = exponentials.flip(1).cumsum(1, dtype=torch.float64).flip(1).gather(1, first)
        sums[:, -1].fill_(torch.inf)
        losses = sums[:, :-1].log().sum() - terms[:, :-1].sum(dtype=torch.float64)
        pull = sums.reciprocal().cumsum(1).gather(1, last).mul_(exponentials).sub_(1)
        pull[:, -1].fill_(0)
        slope = torch.empty_like(terms).scatter_(1, rows, pull.float())
        slope = slope + slope.T  # of anchors and others at once
        with torch.autocast(features.device.type, enabled=False):
            gradient = (slope @ directions).div_(length)
        value, apart = torch.stack((losses, (target[-1] - target[0]).double())).tolist()
        if not (math.isfinite(value) and 0 < apart < math.inf):
            return None
        share = 1 / (n * (n - 1))
        ctx.save_for_backward(features, order, directions, gradient)
        ctx.scale, ctx.general = share / temperature, general
        return features.new_full((), value * share, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        features, order, directions, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(features)
            (gradient,) = torch.autograd.grad(loss, features, upstream[0], create_graph=True)
            return gradient, None, None, None, None
        # The length of a direction does not change.
        along = (gradient * directions).sum(1, keepdim=True)
        gradient = (gradient - along * directions) * (upstream[0] * ctx.scale)
        gradient = torch.empty_like(gradient).index_copy_(0, order, gradient)
        return gradient.to(features.dtype), None, None, None, None
