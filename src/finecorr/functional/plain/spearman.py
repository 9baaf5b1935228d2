"""The Spearman loss of one target; see `finecorr.functional.spearman`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from finecorr.functional.plain.batch import common_dtype, is_plain

LEAST_STRENGTH = 1e-6
"""Of weaker ones, the difference of two large numbers would be left."""

EQUAL = 1e-12
"""Levels of neighbouring pools differ by more than that, as a share of the largest."""

General = Callable[[Tensor], Tensor]
"""The same loss, of predictions, however the batch is."""


def plain_spearman(
    prediction: Tensor,
    target: Tensor,
    strength: float,
    isotonic: Callable[[Tensor], Tensor],
    general: General,
) -> Tensor | None:
    """The loss, or None where it has to be taken as `general(prediction)`.

    `isotonic` is the ascending sequence nearest to one in float64.
    """
    if (
        not is_plain(prediction, target)
        or common_dtype(prediction, target) != torch.float32
        or not 2 <= prediction.numel() == len(prediction)
        or not LEAST_STRENGTH <= strength < math.inf
    ):
        return None
    loss: Tensor | None = _Spearman.apply(prediction, target, strength, isotonic, general)  # type: ignore[no-untyped-call]
    return loss


class _Spearman(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        target: Tensor,
        strength: float,
        isotonic: Callable[[Tensor], Tensor],
        general: General,
    ) -> Tensor | None:
        n = len(prediction)
        values, truth = prediction.double().view(-1), target.float().view(-1)
        deviation, order = (values - values.mean()).sort()
        std = deviation.square().mean().sqrt()
        scores = deviation / std
        point = scores / strength
        # The ranks, from their mean, as shares.
        vertex = torch.linspace((1 / n - 1) / 2, (1 - 1 / n) / 2, n).to(point)
        fit = isotonic(point - vertex)
        soft = point - fit
        known, truth = truth.sort().values, truth[order]
        below = torch.searchsorted(known, truth)
        ranks = (below + torch.searchsorted(known, truth, right=True)).sub_(n).double()
        both = torch.stack((soft, ranks))
        # NaN is the last one.
        facts = torch.cat(((both @ both.T).flatten(), std[None], known[-1:].double()))
        of_soft, product, _, of_ranks, spread, last = facts.tolist()
        sound = of_soft * of_ranks > 0 and spread > 0
        if not sound or not all(map(math.isfinite, (product, of_soft, spread, last))):
            return None
        ctx.save_for_backward(prediction, order, scores, fit, soft, ranks)
        ctx.general, ctx.unit = general, spread * strength
        root = (of_soft * of_ranks) ** 0.5
        ctx.factors = product / (root * of_soft), -1 / root
        return prediction.new_full((), 1 - product / root, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        prediction, order, scores, fit, soft, ranks = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(prediction)
            (gradient,) = torch.autograd.grad(loss, prediction, upstream[0], create_graph=True)
            return gradient, None, None, None, None
        of_soft, of_ranks = ctx.factors
        slope = (soft * of_soft).add_(ranks, alpha=of_ranks)
        # What is common to a pool does not change the ranks; nor do mean and spread.
        first = (fit[1:] - fit[:-1]) > EQUAL * fit[-1:].abs().maximum(fit[:1].abs())
        pool = torch.zeros_like(order)
        torch.cumsum(first, 0, out=pool[1:])
        terms = torch.stack((slope, torch.ones_like(slope)))
        sums = torch.zeros_like(terms).index_add_(1, pool, terms)
        slope -= (sums[0] / sums[1])[pool]
        slope -= scores * (slope.dot(scores) / len(scores))
        gradient = torch.empty_like(slope).index_copy_(0, order, slope)
        gradient = gradient * (upstream[0] / ctx.unit)
        return gradient.to(prediction.dtype).view(prediction.shape), None, None, None, None
