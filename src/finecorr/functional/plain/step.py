"""A loss with label weights, these included: a training step, of one target."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finecorr.functional.plain.batch import common_dtype, is_plain, labelled
from finecorr.functional.plain.belief import belief
from finecorr.functional.plain.closed_form import Formula, are_sound, factors_of, gradient_of
from finecorr.functional.plain.distances import at_once, distances, fits
from finecorr.functional.plain.moments import PlainBatch, Statistic, batch_of_sums
from finecorr.functional.plain.similarity import Limits, scales, value_and_gradient

MANY_ON_CPU = 2**10
"""Samples of which a CPU takes the parts sooner one after the other."""

General = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""The same loss of predictions, features and weights of the labels, however the batch is."""


class Parts(NamedTuple):
    """What the loss is the sum of."""

    formula: Formula
    """Of the moments of predictions and targets."""
    general: General
    local: Limits | None = None
    """Of the similarity correlation of the features; None where it is no part."""
    local_weight: float = 0.0


def plain_step(
    prediction: Tensor,
    target: Tensor,
    features: Tensor | None,
    weight: Tensor | None,
    parts: Parts,
) -> tuple[Tensor, Tensor] | None:
    """The loss and its label weights, or None where they have to be taken one after the other.

    A sample without a label, or without weight, is left out.
    """
    n = target.numel() if isinstance(target, Tensor) else 0
    if (
        not is_plain(prediction, target, weight)
        or common_dtype(prediction, target) != torch.float32
        or not 2 <= n == len(target)
        or (prediction.is_cpu and n > MANY_ON_CPU)
        or (features is not None and not (fits(features, target) and at_once(n) == n))
    ):
        return None
    found = _step(prediction, target, features, weight, parts)
    if found is not None:
        return found
    rows = labelled(prediction, target, weight)
    if rows is None:
        return None
    found = _step(
        prediction[rows],
        target[rows],
        None if features is None else features[rows],
        None if weight is None else weight[rows],
        parts,
    )
    if found is None:
        return None
    loss, believed = found
    return loss, torch.ones_like(target, dtype=believed.dtype).index_copy_(0, rows, believed)


def _step(
    prediction: Tensor,
    target: Tensor,
    features: Tensor | None,
    weight: Tensor | None,
    parts: Parts,
) -> tuple[Tensor, Tensor] | None:
    with torch.no_grad():
        # In float64, in which no square of float32 overflows or vanishes.
        guess, truth = prediction.double().view(-1, 1), target.double().view(-1, 1)
        error = guess - truth
        apart = None if features is None else distances(features)
        given = None if weight is None else weight.double().view(-1, 1)
        believed = belief(error, truth, apart, given)
        both = believed if given is None else believed * given
        columns = torch.cat((guess, truth, error, torch.ones_like(guess)), 1)
        sums = ((columns * both).T @ columns).flatten()
        least = both[0] if given is None else given.amin(0)
        single, weight = target.float().view(-1), both.float().view(-1)
        if parts.local is None:
            features = None  # They get no gradient.
        facts, local = [sums, least], None
        if parts.local is not None and features is not None:
            local = value_and_gradient(features, apart, single, weight, parts.local)
            facts.append(local.facts)
        numbers = torch.cat(facts).tolist()
        if not numbers[16] > 0:
            return None
        samples = columns.T[:3].unbind()
        batch = batch_of_sums(
            samples, both.view(-1), numbers[:11:5], numbers[1], numbers[3:12:4], numbers[15]
        )
        if batch is None:
            return None
        slopes = parts.formula(batch.moments)
        factors, value, scale = factors_of(batch, slopes), slopes.value, 0.0
        if local is not None and parts.local is not None:
            of_local = scales(numbers[17:], local, parts.local)
            if of_local is None:
                return None
            value += parts.local_weight * of_local.value
            scale = parts.local_weight * of_local.gradient
    if not are_sound(factors, batch):
        return None
    plan = _Plan(value, batch, factors, scale, parts.general)
    gradient = None if local is None else local.gradient
    loss: Tensor = _Step.apply(prediction, features, weight, gradient, plan)  # type: ignore[no-untyped-call]
    return loss, believed.float().view(target.shape)


class _Plan(NamedTuple):
    value: float
    batch: PlainBatch
    factors: tuple[Statistic, ...]
    """See `finecorr.functional.plain.closed_form`."""
    scale: float
    """What the gradient of the features is multiplied by."""
    general: General


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        features: Tensor | None,
        weight: Tensor,
        gradient: Tensor | None,
        plan: _Plan,
    ) -> Tensor:
        ctx.save_for_backward(prediction, features, weight, gradient)
        ctx.plan = plan
        return weight.new_full((), plan.value)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        prediction, features, weight, gradient = ctx.saved_tensors
        plan: _Plan = ctx.plan
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # for a second derivative
            loss = plan.general(prediction, features, weight.view(prediction.shape))
            inputs = list(compress((prediction, features), needed))
            found = torch.autograd.grad(loss, inputs, upstream[0], create_graph=True)
            gradients = iter(found)
            both = [next(gradients) if each else None for each in needed]
            return *both, None, None, None
        of_prediction = of_features = None
        if needed[0]:
            of_prediction = gradient_of(plan.factors, plan.batch, upstream[0])
            of_prediction = of_prediction.to(prediction.dtype).view(prediction.shape)
        if gradient is not None and features is not None and needed[1]:
            of_features = (gradient * (upstream[0] * plan.scale)).to(features.dtype)
        return of_prediction, of_features, None, None, None
