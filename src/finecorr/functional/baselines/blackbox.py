"""Ranks by blackbox differentiation, and a Spearman loss on them.

Rolinek et al., Optimizing Rank-based Metrics with Blackbox Differentiation, CVPR 2020,
arXiv 1912.03500. A loss L of the ranks r of scores s has a gradient of 0. Instead of it, s gets
`-(r - r') / lambda`, where r' are the ranks of `s + lambda * dL/dr`, descending. It is the
gradient of an interpolation of L, which is the smoother the larger lambda.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from finecorr.functional.moments import populations, running_sum_terms
from finecorr.functional.pearson import one_minus_correlation
from finecorr.functional.relations import in_forward_mode
from finecorr.functional.sorting import runs

ROUNDING = 16
"""How many epsilons of the largest may be between scores that are the same but for rounding."""


def blackbox_spearman_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    interpolation: float = 1.0,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """`1 - SRC`, with Spearman's rank correlation, and the gradient of blackbox differentiation.

    With u and v the standard scores of the ranks of prediction and target, SRC is `mean(u * v)`.
    With z those of the predictions themselves, the gradient with respect to z is, for n samples,

        (u - u') / (n * interpolation)

    where u' are the ranks of `z + interpolation * (v - SRC * u)`, in the unit of u. That is the
    gradient of the paper with `lambda = interpolation * n * std(r)` for ranks r, so that it
    depends neither on the number of samples nor on the unit of the predictions. It is then
    multiplied by what the loss is multiplied by. With equal predictions, which have no scores, z
    is the prediction in standard deviations of the target.

    Equal values share the mean of their ranks. The paper moves the scores of the retrieval losses
    by a margin and by noise, to set ties apart; there is neither here.

    Source: Rolinek et al., Optimizing Rank-based Metrics with Blackbox Differentiation, CVPR 2020,
    arXiv 1912.03500, for recall and average precision.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        interpolation: how far the gradient looks, as above; positive.
        weight: `(n,)`, non-negative: how much each sample counts, in the ranks, too.
        group: `(n,)` integers: correlation within each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in
        `finecorr.functional.pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
        RuntimeError: the gradient is differentiated.
    """
    check_interpolation(interpolation)
    batch = populations(prediction, target, weight, group)
    truth, guess = batch.scores(batch.target), batch.scores(batch.prediction)
    unit = torch.where(guess.constant & ~truth.constant, truth.std, 1)
    scores = guess.values / batch.expand(unit)
    with torch.no_grad():
        precise = replace(
            batch,
            prediction=running_sum_terms(batch.prediction),
            target=running_sum_terms(batch.target),
            weight=running_sum_terms(batch.weight),
        )

        def ranks_of(values: Tensor, rounding: float = 0.0) -> Tensor:
            largest = precise.expand(-precise.minimum(-values.abs()))
            return ranks(values.T, precise.weight.T, rounding * largest.T, batch.group).T

        rank = ranks_of(precise.prediction)
        u, v = precise.scores(rank), precise.scores(ranks_of(precise.target))
        loss = one_minus_correlation(precise, u, v)
        towards = v.values - precise.expand(1 - loss) * u.values
        moved = precise.scores(precise.prediction).values + interpolation * towards
        change = rank - ranks_of(moved, ROUNDING * torch.finfo(moved.dtype).eps)
        std = torch.where(u.constant, v.std, u.std) * interpolation
        total = precise.sum(precise.weight)
        share = precise.weight / precise.expand(torch.where(total > 0, total, 1))
        gradient = share * change / precise.expand(torch.where(std > 0, std, 1))
    linked = batch.sum(with_gradient(scores, gradient.to(scores.dtype)))
    # What is not finite has a rank, too.
    hidden = batch.mean(scores.detach() - scores.detach())
    return batch.average(loss.to(scores.dtype) + linked + hidden, ~truth.constant)


def check_interpolation(interpolation: float) -> None:
    if not 0 < interpolation < float("inf"):
        raise ValueError(f"interpolation must be positive and finite, not {interpolation}")


def ranks(values: Tensor, weight: Tensor, tolerance: Tensor, group: Tensor | None) -> Tensor:
    """`(..., samples)`: for each, the share of the weight that is lower, and half of that equal.

    Neighbours within the tolerance, `(..., samples)`, are equal. With `group`, ascending numbers,
    the ranks are within the groups.
    """
    weight = weight.expand_as(values)
    values = torch.where(weight > 0, values, torch.inf)
    order = values.argsort(-1)
    differs = torch.zeros_like(order, dtype=torch.bool)
    differs[..., :1] = True
    if group is not None:
        order = order.gather(-1, group[order].argsort(dim=-1, stable=True))
        differs[..., 1:] = group[1:] != group[:-1]
    start, end = runs(differs)
    values = values.gather(-1, order)
    differs[..., 1:] |= values.diff(dim=-1) > tolerance.gather(-1, order)[..., 1:]
    first, stop = runs(differs)
    reached = torch.nn.functional.pad(weight.gather(-1, order).cumsum(-1), (1, 0))
    low, high = reached.gather(-1, start), reached.gather(-1, end)
    middle = (reached.gather(-1, first) + reached.gather(-1, stop)) / 2
    share = (middle - low) / torch.where(high > low, high - low, 1)
    return torch.empty_like(share).scatter(-1, order, share)


def with_gradient(values: Tensor, gradient: Tensor) -> Tensor:
    """Zeros, of which `values` gets that gradient."""
    function = _WithTangent if in_forward_mode() else _WithGradient
    zeros: Tensor = function.apply(values, gradient)  # type: ignore[no-untyped-call]
    return zeros


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(values, gradient)
        ctx.save_for_forward(gradient)
        return torch.zeros_like(values)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        values, gradient = ctx.saved_tensors
        return _NoDerivative.apply(upstream[0] * gradient, values), None  # type: ignore[no-untyped-call]


class _WithTangent(_WithGradient):
    """Also in forward mode, which a function that is compiled must not know."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Tensor | None) -> Tensor:
        (gradient,) = ctx.saved_tensors
        return gradient * tangent  # type: ignore[no-any-return]


class _NoDerivative(torch.autograd.Function):
    """Without it, the gradient would silently be a constant."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, values: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None]:
        raise RuntimeError(
            "the gradient of blackbox differentiation is a difference of ranks, and cannot be "
            "differentiated again"
        )
