"""Losses of a few moments at full speed, where no groups are given.

The moments are taken without autograd, and the gradient, a linear combination of prediction,
target, their difference and a constant, is written down. On a CPU the moments are numbers of
Python; on another device they are taken in float64, and looked at once. What this arithmetic cannot
do to the last digits, such as a constant, it leaves to `Populations`. Those also serve second
derivatives, compilation, and batches in which nothing may be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor

PIECE = 2**16
"""Numbers that are taken at once where a temporary copy of the batch would be a third one."""

SOUND = {
    dtype: (torch.finfo(dtype).tiny ** (2 / 3), (64 * torch.finfo(dtype).eps) ** 2)
    for dtype in (torch.float32, torch.float64)
}
"""How small a sum of squared deviations may be, and its inverse large; and how small beside the sum
of squared means. Beyond, it would lose digits, or its multiples would."""

SOUND_ELSEWHERE = (1e-200, 1e-8)
"""The same for sums over float32 in float64, from which the mean was not taken first."""

Statistic = Any
"""Of one target a float, of several a tensor `(targets,)`. The arithmetic is the same."""


class Moments(NamedTuple):
    """Of a batch."""

    one_minus_correlation: Statistic
    prediction_variance: Statistic
    target_variance: Statistic
    bias: Statistic
    """The mean of `prediction - target`."""
    square: Statistic
    """The mean of its square."""


class Slopes(NamedTuple):
    """A loss, and its derivatives by `Moments`."""

    value: Statistic
    one_minus_correlation: Statistic = 0.0
    prediction_variance: Statistic = 0.0
    bias: Statistic = 0.0
    square: Statistic = 0.0


Formula = Callable[[Moments], Slopes]

General = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Of prediction, target and weight."""


def closed_form_loss(
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None,
    formula: Formula,
    general: General,
    *,
    errors: bool = True,
) -> Tensor | None:
    """The loss, the mean over targets, or None where it has to be taken as
    `general(prediction, target, weight)`.

    Args:
        prediction, target, weight: as a loss has them.
        formula: of one target, or of all at once.
        general: the same loss, however the batch is.
        errors: whether the formula reads `bias` and `square`.
    """
    if not is_plain(prediction, target, weight):
        return None
    loss: Tensor | None = _ClosedForm.apply(  # type: ignore[no-untyped-call]
        prediction, target, weight, formula, general, errors
    )
    return loss


def is_plain(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> bool:
    """Whether these are a batch, with a weight of each label or none, whose numbers may decide what
    is done with it."""
    if (
        not isinstance(prediction, Tensor)
        or not isinstance(target, Tensor)
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or fwAD._current_level >= 0
        or prediction.device != target.device
        or prediction.shape != target.shape
        or not 1 <= prediction.ndim <= 2
        or not prediction.is_floating_point()
        or (target.requires_grad and torch.is_grad_enabled())
    ):
        return False
    if not prediction.is_cpu and (
        not prediction.is_cuda or torch.cuda.is_current_stream_capturing()
    ):
        return False
    if weight is None:
        return True
    return (
        isinstance(weight, Tensor)
        and weight.device == prediction.device
        and weight.shape in (prediction.shape, prediction.shape[:1])
        # What is no weight, `populations` says. On another device that would be a further look.
        and (not weight.is_cpu or _are_weights(weight))
    )


def labelled(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor | None:
    """Of one target, the positions of the samples that take part, where that is some of them, at
    least two, and one may look."""
    if not is_plain(prediction, target, weight) or target.numel() != len(target):
        return None
    present = target.view(-1) == target.view(-1)  # which NaN is not
    if weight is not None:
        present &= weight.view(-1) > 0
    rows = present.nonzero().squeeze(1)
    return rows if 2 <= len(rows) < len(target) else None


def _are_weights(values: Tensor) -> bool:
    if not values.numel():
        return True
    lowest, highest = torch.aminmax(values)
    return lowest.item() >= 0 and highest.item() < math.inf


def common_dtype(prediction: Tensor, target: Tensor) -> torch.dtype:
    """In which a loss is taken: the wider of the two, and at least float32."""
    both = torch.promote_types(prediction.dtype, target.dtype)
    return torch.promote_types(both, torch.float32)


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        target: Tensor,
        weight: Tensor | None,
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
        take = _on_cpu if p.is_cpu else _elsewhere
        batch = take(p, y, w, errors)
        if batch is None and w is None and p.is_cpu and bool(y.isnan().any()):
            batch = take(p, y, torch.ones_like(y), errors)
        if batch is None:
            return None
        slopes = formula(batch.moments)
        ctx.factors = factors_of(batch, slopes)
        if not are_sound(ctx.factors, batch):
            return None
        ctx.save_for_backward(prediction, target, weight, *batch.samples, batch.weight)
        ctx.general = general
        value = slopes.value
        return value.mean().to(p) if isinstance(value, Tensor) else p.new_full((), value)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        prediction, target, weight, *samples, factor = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(prediction, target, weight)
            (gradient,) = torch.autograd.grad(loss, prediction, grad_output, create_graph=True)
        else:
            gradient = gradient_of(ctx.factors, samples, factor, grad_output).to(prediction.dtype)
            if gradient.shape[-prediction.ndim :] != prediction.shape:
                gradient = gradient.view(prediction.shape)
        return gradient, None, None, None, None, None


class PlainBatch(NamedTuple):
    moments: Moments
    samples: tuple[Tensor, ...]
    """Prediction, target, and their difference where it is needed; the first two perhaps
    shifted."""
    means: tuple[Statistic, Statistic]
    """Of the first two."""
    weight: Tensor | None
    total: Statistic
    """The sum of the weights."""


def factors_of(batch: PlainBatch, slopes: Slopes) -> tuple[Statistic, ...]:
    """The gradient is the sum of the samples times these, and of the last one; times the weight."""
    of, moments = slopes, batch.moments
    targets = batch.samples[0].shape[1] if batch.samples[0].ndim == 2 else 1
    share = 1 / (batch.total * targets)
    spread = (moments.prediction_variance * moments.target_variance) ** 0.5
    u = (1 - moments.one_minus_correlation) / moments.prediction_variance
    u = share * (of.one_minus_correlation * u + 2 * of.prediction_variance)
    v = -share * of.one_minus_correlation / spread
    constant = share * of.bias - u * batch.means[0] - v * batch.means[1]
    return (u, v, constant) if len(batch.samples) == 2 else (u, v, 2 * share * of.square, constant)


def are_sound(factors: tuple[Statistic, ...], batch: PlainBatch) -> bool:
    """Whether the samples' dtype holds them."""
    tiny = torch.finfo(batch.samples[0].dtype).tiny
    return all(_all((factor == 0) | (abs(factor) > tiny)) for factor in factors)


def gradient_of(
    factors: tuple[Statistic, ...],
    samples: list[Tensor],
    weight: Tensor | None,
    grad_output: Tensor,
) -> Tensor:
    if samples[0].ndim == 2:
        *of, constant = (factor.to(grad_output) * grad_output for factor in factors)
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


def log(value: Statistic) -> Statistic:
    """Of a float or a tensor."""
    return value.log() if isinstance(value, Tensor) else math.log(value)


def where(condition: Statistic, yes: Statistic, no: Statistic) -> Statistic:
    """Of floats or tensors."""
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    return yes if condition else no


def _number(values: Tensor) -> float | None:
    """Of a scalar on a CPU, unless it stands for several (`is_grads_batched`)."""
    try:
        return values.item() if values.is_cpu else None
    except RuntimeError:
        return None


# On a CPU


class _Variable(NamedTuple):
    values: Tensor
    """`(n,)` or `(n, targets)`: shifted where the mean is large beside the spread."""
    mean: Statistic
    """Of `values`."""
    square: Statistic
    """The weighted sum of the squared deviations from the mean."""


def _on_cpu(p: Tensor, y: Tensor, w: Tensor | None, errors: bool) -> PlainBatch | None:
    if w is not None:
        missing = y.isnan() | (w == 0)
        p, y, w = (values.masked_fill(missing, 0) for values in (p, y, w))
    total: Statistic = len(p) if w is None else _statistic(w.sum(0))
    if w is not None and not _all(total > 0):
        return None
    guess, truth = _variable(p, w, total), _variable(y, w, total)
    if guess is None or truth is None:
        return None
    ratio = (guess.square / truth.square) ** 0.5
    product = _dot(guess.values, truth.values, w) - total * guess.mean * truth.mean
    loss = 1 - product / (truth.square * ratio)
    if not _all(loss > 0.1):
        loss = _half_square_difference(guess, truth, w, ratio)
    variances = guess.square / total, truth.square / total
    samples, means = (guess.values, truth.values), (guess.mean, truth.mean)
    if not errors:
        return PlainBatch(Moments(loss, *variances, 0.0, 0.0), samples, means, w, total)
    error = p - y
    bias = _statistic(error.sum(0) if w is None else (error * w).sum(0)) / total
    moments = Moments(loss, *variances, bias, _dot(error, error, w) / total)
    return PlainBatch(moments, (*samples, error), means, w, total)


def _variable(values: Tensor, w: Tensor | None, total: Statistic) -> _Variable | None:
    mean = _statistic(values.sum(0) if w is None else (values * w).sum(0)) / total
    offset = total * mean * mean
    square = _dot(values, values, w) - offset
    if not _all(offset <= square):
        values = values - mean
        if not _all(offset <= 256 * square):
            values -= _statistic(values.sum(0) if w is None else (values * w).sum(0)) / total
        mean, square = 0.0, _dot(values, values, w)
    smallest, least = SOUND[values.dtype]
    sound = (
        _all(square > smallest) and _all(square < 1 / smallest) and _all(square > least * offset)
    )
    return _Variable(values, mean, square) if sound else None


def _half_square_difference(
    guess: _Variable, truth: _Variable, w: Tensor | None, ratio: Statistic
) -> Statistic:
    """Half the mean squared difference of the standard scores."""
    shift, sum_ = guess.mean - ratio * truth.mean, 0.0
    rows = max(1, PIECE // guess.values[0].numel())
    weights = [None] * -(-len(guess.values) // rows) if w is None else torch.split(w, rows)
    pieces = torch.split(guess.values, rows), torch.split(truth.values, rows)
    for u, v, part in zip(*pieces, weights, strict=True):
        difference = u - v * ratio - shift
        sum_ = sum_ + _dot(difference, difference, part)
    return sum_ / (2 * guess.square)


def _statistic(values: Tensor) -> Statistic:
    return values if values.ndim else values.item()


def _dot(a: Tensor, b: Tensor, w: Tensor | None) -> Statistic:
    if w is not None:
        a = a * w
    if a.ndim == 2:
        return (a * b).sum(0)
    if len(a) <= PIECE:
        return a.dot(b).item()
    # One running sum over a million numbers would lose digits.
    pieces = zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)
    return sum(x.dot(y).item() for x, y in pieces)


def _all(condition: Any) -> bool:
    return condition if condition is True or condition is False else bool(condition.all())


# On another device


def _elsewhere(p: Tensor, y: Tensor, w: Tensor | None, errors: bool) -> PlainBatch | None:
    if p.dtype is not torch.float32:
        return None
    missing = y.isnan()
    weight = (~missing if w is None else w.masked_fill(missing, 0)).double()
    samples = torch.stack((p, y, p - y) if errors else (p, y)).double()
    samples = samples.masked_fill(missing if w is None else weight == 0, 0)
    weighted = samples if w is None else samples * weight
    if p.ndim == 1:
        products = weighted @ samples.T
        sums = torch.cat([products.flatten(), weighted.sum(1), weight.sum(0, keepdim=True)])
        k, numbers = len(samples), sums.tolist()
        squares, product = numbers[: k * k : k + 1], numbers[1]
        totals, total = numbers[k * k : -1], numbers[-1]
    else:
        squares_ = (weighted * samples).sum(1)
        product_ = (weighted[0] * samples[1]).sum(0)
        rows = [*squares_, product_, *weighted.sum(1), weight.sum(0)]
        host, k = torch.stack(rows).cpu(), len(samples)
        squares, product = list(host[:k]), host[k]
        totals, total = list(host[k + 1 : -1]), host[-1]
    return batch_of_sums(tuple(samples), weight, squares, product, totals, total)


def batch_of_sums(
    samples: tuple[Tensor, ...],
    weight: Tensor,
    squares: list[Statistic],
    product: Statistic,
    totals: list[Statistic],
    total: Statistic,
) -> PlainBatch | None:
    """Of weighted sums over float32 in float64; None where these have lost digits.

    Args:
        samples: prediction, target, and perhaps their difference.
        weight: of the samples.
        squares: of each of them, the sum of its squares.
        product: of the first two.
        totals: of each, the sum.
        total: of the weights.
    """
    if not _all(total > 0):
        return None
    means = [sum_ / total for sum_ in totals]
    deviations = [squares[i] - total * means[i] * means[i] for i in range(2)]
    smallest, least = SOUND_ELSEWHERE
    for i, square in enumerate(deviations):
        sound = _all(square > smallest) and _all(square < 1 / smallest)
        if not sound or not _all(square > least * total * means[i] * means[i]):
            return None
    covariance = product - total * means[0] * means[1]
    loss = 1 - covariance / (deviations[0] * deviations[1]) ** 0.5
    loss = loss.clamp(min=0) if isinstance(loss, Tensor) else max(loss, 0.0)
    variances = deviations[0] / total, deviations[1] / total
    of_errors = (means[2], squares[2] / total) if len(samples) == 3 else (0.0, 0.0)
    moments = Moments(loss, *variances, *of_errors)
    return PlainBatch(moments, samples, (means[0], means[1]), weight, total)
