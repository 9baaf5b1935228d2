"""The Pearson losses at full speed, on the CPU, where no weights and groups are given.

The moments are taken without autograd, and the gradient, a linear combination of prediction,
target and a constant, is written down. What this arithmetic cannot do to the last digits, such as
a constant, it leaves to `Populations`. Those also serve second derivatives, compilation, and
accelerators, where the decisions that are made here would wait for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from finecorr.functional.moments import RUNNING_SUM_ROUNDING

LOG_EPSILON = 1e-4
"""What is added to `1 - PLC` before its logarithm is taken: a batch of two, or one that is learnt
by heart, has `PLC = 1`."""

MAD_TO_STD = 1.4826
"""The standard deviation of a normal variable, over its median absolute deviation."""

PIECE = 2**16
"""Numbers that are taken at once where a temporary copy of the batch would be a third one."""

SOUND = {
    dtype: (torch.finfo(dtype).tiny ** (2 / 3), (64 * torch.finfo(dtype).eps) ** 2)
    for dtype in (torch.float32, torch.float64)
}
"""How small a sum of squared deviations may be, and its inverse large; and how small beside the sum
of squared means. Beyond, it would lose digits, or its multiples would."""

Statistic = Any
"""Of one target a float, of several a tensor `(targets,)`. The arithmetic is the same."""


class Terms(NamedTuple):
    """The options of `robust_pearson_loss`; without any, those that make it `pearson_loss`."""

    outlier_threshold: float | None = None
    max_outlier_fraction: float = 0.0
    mean_weight: float = 0.0
    std_weight: float = 0.0
    outlier_weight: float = 0.0
    log: bool = False


PLAIN = Terms()

General = Callable[[Tensor, Tensor, Terms], Tensor]


def closed_form_loss(
    prediction: Tensor, target: Tensor, terms: Terms, general: General
) -> Tensor | None:
    """The loss, or None where it has to be taken as `general(prediction, target, terms)`."""
    if (
        not isinstance(prediction, Tensor)
        or not isinstance(target, Tensor)
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or not prediction.is_cpu
        or not target.is_cpu
        or prediction.shape != target.shape
        or not 1 <= prediction.ndim <= 2
        or not prediction.is_floating_point()
        or terms.outlier_weight
    ):
        return None
    loss: Tensor | None = _ClosedForm.apply(prediction, target, terms, general)  # type: ignore[no-untyped-call]
    return loss


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, prediction: Tensor, target: Tensor, terms: Terms, general: General
    ) -> Tensor | None:
        p, y = prediction, target
        if p.dtype is not y.dtype or p.dtype not in SOUND:
            dtype = torch.promote_types(p.dtype, y.dtype)
            dtype = torch.promote_types(dtype, torch.float32)
            p, y = p.to(dtype), y.to(dtype)
        if p.ndim == 2 and p.shape[1] == 1:
            p, y = p.squeeze(1), y.squeeze(1)
        result = _loss(p, y, terms)
        if result is None:
            return None
        value, ctx.slope, (u, v, normal) = result
        ctx.save_for_backward(prediction, target, u, v, normal)
        ctx.general, ctx.terms = general, terms
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        prediction, target, u, v, normal = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(prediction, target, ctx.terms)
            (gradient,) = torch.autograd.grad(loss, prediction, grad_output, create_graph=True)
        else:
            gradient = _gradient(ctx.slope, u, v, normal, grad_output, len(prediction))
            if gradient.ndim != prediction.ndim:
                gradient = gradient.view(prediction.shape)
        return gradient, None, None, None


class _Slope(NamedTuple):
    """The gradient is `of_u * u + of_v * v + constant`."""

    of_u: Statistic
    of_v: Statistic
    constant: Statistic


_Result = tuple[Tensor, _Slope, tuple[Tensor, Tensor, Tensor | None]]
"""The value, and what the gradient is made of: u, v, and of which samples they are, where they are
not of all."""


def _loss(p: Tensor, y: Tensor, terms: Terms) -> _Result | None:
    if terms.outlier_threshold is None or not terms.max_outlier_fraction:
        return _loss_of_normal(p, y, terms)
    if p.ndim == 2 or len(p) < 2:
        return None
    normal = _normal(p - y, terms.outlier_threshold, terms.max_outlier_fraction)
    if normal is None:
        return _loss_of_normal(p, y, terms)
    result = _loss_of_normal(p[normal], y[normal], terms)
    if result is None:
        return None
    value, slope, (u, v, _) = result
    return value, slope, (u, v, normal)


def _gradient(
    slope: _Slope, u: Tensor, v: Tensor, normal: Tensor | None, grad_output: Tensor, n: int
) -> Tensor:
    scale = grad_output.item() if u.ndim == 1 else grad_output
    of_u, of_v, constant = (c * scale for c in slope)
    if u.ndim == 1:  # the operations that take the least time to start
        gradient = torch.full_like(u, constant).add_(u, alpha=of_u).add_(v, alpha=of_v)
    else:
        gradient = (u * of_u).addcmul_(v, of_v).add_(constant)
    if normal is None:
        return gradient
    return gradient.new_zeros(n).index_copy_(0, normal, gradient)


def _normal(residual: Tensor, threshold: float, max_fraction: float) -> Tensor | None:
    """Which samples are not outliers, as indices; None for all of them."""
    (median,) = _quantiles(residual, 0.5)
    distance = (residual - median).abs_()
    mad, most, furthest = _quantiles(distance, 0.5, 1 - max_fraction, 1.0)
    limit = max(threshold * MAD_TO_STD * mad, most)
    if mad == 0 or not limit < furthest < math.inf:
        return None
    return (distance <= limit).nonzero().squeeze(1)


def _quantiles(values: Tensor, *levels: float) -> list[float]:
    """`Populations.quantile`, for equal weights."""
    n, rounding = len(values), RUNNING_SUM_ROUNDING * len(values)
    lower = [max(0, math.ceil(level * n - rounding) - 1) for level in levels]
    upper = [min(math.floor(level * n + rounding), n - 1) for level in levels]
    ordered = np.partition(values.numpy(), lower + upper)
    pairs = zip(ordered[lower].tolist(), ordered[upper].tolist(), strict=True)
    return [low + (high - low) / 2 for low, high in pairs]


class _Moments(NamedTuple):
    values: Tensor
    """`(n,)` or `(n, targets)`: the variable, shifted where its mean is large beside its spread."""
    mean: Statistic
    """Of `values`."""
    square: Statistic
    """The sum of the squared deviations from the mean."""


def _moments(values: Tensor) -> _Moments | None:
    n, total = len(values), values.sum(0)
    mean = _statistic(total) / n
    offset = n * mean * mean
    square = _dot(values, values) - offset
    if not _all(offset <= square):
        values = values - mean
        if not _all(offset <= 256 * square):
            values -= values.mean(0)
        mean, square = 0.0, _dot(values, values)
    smallest, least = SOUND[values.dtype]
    sound = (
        _all(square > smallest) and _all(square < 1 / smallest) and _all(square > least * offset)
    )
    return _Moments(values, mean, square) if sound else None


def _loss_of_normal(p: Tensor, y: Tensor, terms: Terms) -> _Result | None:
    n = len(p)
    if n < 2 or not p.numel():
        return None
    guess, truth = _moments(p), _moments(y)
    if guess is None or truth is None:
        return None
    (u, u_mean, u_square), (v, v_mean, v_square) = guess, truth
    ratio = (u_square / v_square) ** 0.5
    value = 1 - (_dot(u, v) - n * u_mean * v_mean) / (v_square * ratio)
    if not _all(value > 0.1):
        value = _half_square_difference(guess, truth, ratio)

    of_u, of_v, constant = (1 - value) / u_square, -ratio / u_square, 0.0
    if terms.log:
        of_u, of_v = (c / (2 * (value + LOG_EPSILON)) for c in (of_u, of_v))
        value = _log(value + LOG_EPSILON) / 2
    if terms.mean_weight:
        difference = _statistic((p - y).sum(0)) / n
        value = value + terms.mean_weight * n * difference**2 / v_square
        constant = 2 * terms.mean_weight * difference / v_square
    if terms.std_weight:
        value = value + terms.std_weight * (ratio - 1) ** 2
        of_u = of_u + 2 * terms.std_weight * (ratio - 1) / (ratio * v_square)
    constant = constant - of_u * u_mean - of_v * v_mean
    if not _all(value < 1 / SOUND[p.dtype][0]):
        return None

    if p.ndim == 1:
        return p.new_full((), value), _Slope(of_u, of_v, constant), (u, v, None)
    coefficients = (c / p.shape[1] for c in (of_u, of_v, constant))
    return value.mean(), _Slope(*coefficients), (u, v, None)


def _half_square_difference(guess: _Moments, truth: _Moments, ratio: Statistic) -> Statistic:
    """Half the mean squared difference of the standard scores."""
    shift, total = guess.mean - ratio * truth.mean, 0.0
    rows = max(1, PIECE // guess.values[0].numel())
    for u, v in _pieces(guess.values, truth.values, rows):
        difference = u - v * ratio - shift
        total = total + _dot(difference, difference)
    return total / (2 * guess.square)


def _statistic(values: Tensor) -> Statistic:
    return values if values.ndim else values.item()


def _dot(a: Tensor, b: Tensor) -> Statistic:
    if a.ndim == 2:
        return (a * b).sum(0)
    if len(a) <= PIECE:
        return a.dot(b).item()
    # One running sum over a million numbers would lose digits.
    return sum(x.dot(y).item() for x, y in _pieces(a, b, PIECE))


def _pieces(a: Tensor, b: Tensor, rows: int) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(torch.split(a, rows), torch.split(b, rows), strict=True)


def _log(value: Statistic) -> Statistic:
    return math.log(value) if isinstance(value, float) else value.log()


def _all(condition: Any) -> bool:
    return condition if condition is True or condition is False else bool(condition.all())
