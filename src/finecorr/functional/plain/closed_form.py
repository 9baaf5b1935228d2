"""Losses of a few moments at full speed, where no groups are given.

The gradient, a linear combination of prediction, target, their difference and a constant, is
written down. `Populations` serve second derivatives, compilation, and batches in which nothing may
be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from finecorr.functional.plain.batch import common_dtype, is_plain
from finecorr.functional.plain.moments import (
    SOUND,
    Moments,
    PlainBatch,
    Statistic,
    all_of,
    moments_of,
)


class Slopes(NamedTuple):
    """A loss, and its derivatives by `Moments`."""

    value: Statistic
    one_minus_correlation: Statistic = 0.0
    prediction_variance: Statistic = 0.0
    bias: Statistic = 0.0
    square: Statistic = 0.0


Formula = Callable[[Moments], Slopes]

General = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""Of prediction, target, weight and group."""


def closed_form_loss(
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None,
    group: Tensor | None,
    formula: Formula,
    general: General,
    *,
    errors: bool = True,
) -> Tensor | None:
    """The loss, the mean over groups and targets, or None where it has to be taken as
    `general(prediction, target, weight, group)`.

    Args:
        prediction, target, weight, group: as a loss has them.
        formula: of one population, or of all at once.
        general: the same loss, however the batch is.
        errors: whether the formula reads `bias` and `square`.
    """
    if not is_plain(prediction, target, weight, group):
        return None
    loss: Tensor | None = _ClosedForm.apply(  # type: ignore[no-untyped-call]
        prediction, target, weight, group, formula, general, errors
    )
    return loss


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        target: Tensor,
        weight: Tensor | None,
        group: Tensor | None,
        formula: Formula,
        general: General,
        errors: bool,
    ) -> Tensor | None:
        p, y = prediction, target
        if p.dtype is not y.dtype or p.dtype not in SOUND:
            dtype = common_dtype(p, y)
            p, y = p.to(dtype), y.to(dtype)
        w = None if weight is None else weight.to(p.dtype)
        if w is not None and w.ndim < p.ndim:
            w = w[:, None].expand_as(p)
        if p.ndim == 2 and p.shape[1] == 1:
            p, y, w = p.squeeze(1), y.squeeze(1), None if w is None else w.squeeze(1)
        if len(p) < 2 or not p.numel():
            return None
        batch = moments_of(p, y, w, group, errors=errors)
        if batch is None:
            return None
        slopes = formula(batch.moments)
        ctx.factors = factors_of(batch, slopes)
        if not are_sound(ctx.factors, batch):
            return None
        # Of tensors that are saved so, torch notices when they are changed in place.
        ctx.save_for_backward(prediction, target, weight, group, *batch.samples)
        ctx.general, ctx.batch = general, batch._replace(samples=())
        value = slopes.value * batch.share
        if isinstance(value, float):
            return p.new_full((), value)
        return value.sum().to(p) if isinstance(value, Tensor) else p.new_full((), value.sum())

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        prediction, *data = ctx.saved_tensors[:4]
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(prediction, *data)
            (gradient,) = torch.autograd.grad(loss, prediction, grad_output, create_graph=True)
        else:
            batch = ctx.batch._replace(samples=ctx.saved_tensors[4:])
            gradient = gradient_of(ctx.factors, batch, grad_output).to(prediction.dtype)
            if gradient.shape[-prediction.ndim :] != prediction.shape:
                gradient = gradient.view(prediction.shape)
        return gradient, *(None,) * 6


def factors_of(batch: PlainBatch, slopes: Slopes) -> tuple[Statistic, ...]:
    """The gradient is the sum of the samples times these, and of the last one; times the weight."""
    of, moments = slopes, batch.moments
    share = batch.share / batch.total
    spread = (moments.prediction_variance * moments.target_variance) ** 0.5
    u = (1 - moments.one_minus_correlation) / moments.prediction_variance
    u = share * (of.one_minus_correlation * u + 2 * of.prediction_variance)
    v = -share * of.one_minus_correlation / spread
    constant = share * of.bias - u * batch.means[0] - v * batch.means[1]
    return (u, v, constant) if len(batch.samples) == 2 else (u, v, 2 * share * of.square, constant)


def are_sound(factors: tuple[Statistic, ...], batch: PlainBatch) -> bool:
    """Whether the samples' dtype holds them."""
    tiny = torch.finfo(batch.samples[0].dtype).tiny
    return all(all_of((factor == 0) | (abs(factor) > tiny)) for factor in factors)


def gradient_of(factors: tuple[Statistic, ...], batch: PlainBatch, grad_output: Tensor) -> Tensor:
    """By the prediction, times `grad_output`."""
    samples, weight = batch.samples, batch.weight
    if samples[0].ndim == 2:
        *of, constant = _of_samples(factors, batch) * grad_output
        gradient: Tensor = samples[0] * of[0]
        for values, factor in zip(samples[1:], of[1:], strict=True):
            gradient.addcmul_(values, factor)
        gradient += constant
        return gradient if weight is None else gradient.mul_(weight)
    scale = _number(grad_output)
    if scale is not None:
        factors = tuple(factor * scale for factor in factors)
    *of, constant = factors
    # The operations that take the least time to start.
    gradient = torch.full_like(samples[0], constant)
    for values, factor in zip(samples, of, strict=True):
        gradient.add_(values, alpha=factor)
    if weight is not None:
        gradient *= weight
    return gradient * grad_output if scale is None else gradient


def _of_samples(factors: tuple[Statistic, ...], batch: PlainBatch) -> Tensor:
    """`(factors, 1 or n, targets)`"""
    if isinstance(factors[0], Tensor):
        return torch.stack(factors)[:, None]
    of_groups = torch.from_numpy(np.stack(factors)).to(batch.samples[0])
    return of_groups if batch.group is None else of_groups[:, batch.group]


def log(value: Statistic) -> Statistic:
    """Of numbers of any kind."""
    if isinstance(value, Tensor):
        return value.log()
    return np.log(value) if isinstance(value, np.ndarray) else math.log(value)


def where(condition: Statistic, yes: Statistic, no: Statistic) -> Statistic:
    """Of numbers of any kind."""
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return yes if condition else no


def _number(values: Tensor) -> float | None:
    """Of a scalar on a CPU, unless it stands for several (`is_grads_batched`)."""
    try:
        return values.item() if values.is_cpu else None
    except RuntimeError:
        return None
