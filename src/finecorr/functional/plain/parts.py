"""The loss of a batch that is in several parts, by a few numbers of each.

Each part is with another process, which has the samples of its own alone, and learns the numbers of
all. What is exchanged, and how, is not for this module to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finecorr.functional.moments import populations
from finecorr.functional.plain.batch import common_dtype, is_plain
from finecorr.functional.plain.closed_form import Formula, are_sound, factors_of, gradient_of
from finecorr.functional.plain.moments import PlainBatch, batch_of_sums, samples_of


class Part(NamedTuple):
    """One part of a batch."""

    numbers: Tensor
    """`(k, targets)` float64: what the others have to know of it."""
    loss: Callable[[Tensor], Tensor | None]
    """Of the numbers of all parts, `(parts, k, targets)`: the loss of the whole batch. The gradient
    of the part's own samples is multiplied by the number of parts. None where the numbers do not
    give it, which is the same for all parts."""


def mean_part(
    error: Callable[[Tensor, Tensor], Tensor],
    prediction: Tensor,
    target: Tensor,
    of_mean: Callable[[Tensor], Tensor] | None,
    weight: Tensor | None,
    group: Tensor | None,
) -> Part | None:
    """Of a loss that is the mean error of the samples of each target, or `of_mean` of that.

    Two numbers a target: the sums of `weight * error`, and of the weights.

    Args:
        error: of predictions and targets, in their shape.
        prediction, target, weight, group: as a loss has them.
        of_mean: the mean itself, where it is None.

    Returns:
        None where all samples have to be known, or one of the arguments is wrong.
    """
    # The mean of the groups' means, by their weights, is the mean of all.
    if (group is not None and of_mean is not None) or not is_plain(
        prediction, target, weight, group
    ):
        return None
    batch = populations(prediction, target, weight)
    errors = error(batch.prediction, batch.target)
    own = (batch.weight * errors).double().sum(0)

    def loss(parts: Tensor) -> Tensor | None:
        if not parts.isfinite().all():
            return None
        total, count = parts.to(own.device).sum(0)
        mean = (total + len(parts) * (own - own.detach())) / torch.where(count > 0, count, 1)
        value = mean if of_mean is None else of_mean(mean)
        known = count > 0
        average: Tensor = torch.where(known, value, 0).sum() / known.sum().clamp(min=1)
        return average.to(errors.dtype)

    return Part(torch.stack((own.detach(), batch.weight.double().sum(0))), loss)


def moments_part(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None,
    group: Tensor | None,
    formula: Formula,
    errors: bool = True,
) -> Part | None:
    """Of a loss of a few moments; see `finecorr.functional.plain.closed_form`.

    Ten numbers a target, of predictions and targets each: the lowest, the mean over that, and the
    sum of squared deviations from the mean; and the sums of the products of these deviations, of
    the errors, of their squares and of the weights. They are combined as in Chan, Golub and LeVeque
    (Algorithms for Computing the Sample Variance, 1983), in which no large numbers cancel.

    Args:
        prediction, target, weight, group: as a loss has them.
        formula: of the moments of all targets at once.
        errors: whether it reads `bias` and `square`.

    Returns:
        None where all samples have to be known, or one of the arguments is wrong.
    """
    if group is not None or not is_plain(prediction, target, weight):
        return None
    dtype = common_dtype(prediction, target)
    with torch.no_grad():
        p, y = (_columns(values.to(dtype)) for values in (prediction, target))
        w = None if weight is None else _columns(weight.to(dtype)).expand_as(p)
        samples, weights = samples_of(p, y, w, errors=True)
        numbers = _numbers(samples, weights)

    def loss(parts: Tensor) -> Tensor | None:
        batch = _whole(samples if errors else samples[:2], weights, parts.cpu())
        if batch is None:
            return None
        slopes = formula(batch.moments)
        factors = factors_of(batch, slopes)
        if not are_sound(factors, batch):
            return None
        value = prediction.new_full((), (slopes.value * batch.share).sum(), dtype=dtype)
        gradient = gradient_of(factors, batch, samples.new_full((), len(parts)))
        whole: Tensor = _Known.apply(prediction, value, gradient)  # type: ignore[no-untyped-call]
        return whole

    return Part(numbers, loss)


def _columns(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 1 else values


def _numbers(samples: Tensor, weight: Tensor) -> Tensor:
    """`(10, targets)`: weight, lowest, mean over it and squared deviations of both, the product of
    the deviations, and the errors and their squares."""
    error = samples[2]
    total = weight.sum(0)
    # From the lowest, so that a constant stays one, in all parts.
    present = torch.where(weight > 0, samples[:2], torch.inf)
    lowest = present.amin(1) if len(weight) else present.new_full((2, len(total)), torch.inf)
    lowest = torch.where(total > 0, lowest, 0)
    deviation = torch.where(weight > 0, samples[:2] - lowest[:, None], 0)
    mean = (weight * deviation).sum(1) / torch.where(total > 0, total, 1)
    deviation -= mean[:, None]
    squares = (weight * deviation.square()).sum(1)
    product = (weight * deviation[0] * deviation[1]).sum(0)
    errors = torch.stack(((weight * error).sum(0), (weight * error.square()).sum(0)))
    return torch.cat((total[None], lowest, mean, squares, product[None], errors))


def _whole(samples: Tensor, weight: Tensor, parts: Tensor) -> PlainBatch | None:
    """The part's samples, with the moments of all; None where these are not sound."""
    total = parts[:, 0].sum(0)
    if not (parts.isfinite().all() and (total > 0).all()):
        return None
    weights, shifts = parts[:, :1], parts[:, 1:3]
    lowest = torch.where(weights > 0, shifts, torch.inf).amin(0)
    means = shifts - lowest + parts[:, 3:5]
    mean = (weights * means).sum(0) / total
    apart = means - mean
    squares = parts[:, 5:7].sum(0) + (weights * apart.square()).sum(0)
    product = parts[:, 7].sum(0) + (parts[:, 0] * apart[:, 0] * apart[:, 1]).sum(0)
    bias, square = parts[:, 8].sum(0), parts[:, 9].sum(0)
    own = samples[:2] - lowest[:, None].to(samples) - mean[:, None].to(samples)
    of_errors = [(samples[2], square, bias)] if len(samples) == 3 else []
    zero = torch.zeros_like(total)
    columns = [(own[0], squares[0], zero), (own[1], squares[1], zero), *of_errors]
    return batch_of_sums(
        tuple(values for values, _, _ in columns),
        weight,
        [_host(sum_) for _, sum_, _ in columns],
        _host(product),
        [_host(sum_) for _, _, sum_ in columns],
        _host(total),
        1 / len(total),
    )


def _host(values: Tensor) -> Any:
    """`(1, targets)`, of one group."""
    return values[None].numpy()


class _Known(torch.autograd.Function):
    """A value of which the gradient is known."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.dtype, ctx.shape = prediction.dtype, prediction.shape
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("the loss of a batch in parts has no second derivative")
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream).to(ctx.dtype).reshape(ctx.shape), None, None
