"""The Pearson loss at full speed, on the CPU, where no weights and groups are given.

The moments are taken without autograd, and the gradient, a linear combination of prediction,
target and a constant, is written down. What this arithmetic cannot do to the last digits, such as
a constant, it leaves to `Populations`. Those also serve second derivatives, compilation, and
accelerators, where the decisions that are made here would wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

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

General = Callable[[Tensor, Tensor], Tensor]


def closed_form_loss(prediction: Tensor, target: Tensor, general: General) -> Tensor | None:
    """The loss, or None where it has to be taken as `general(prediction, target)`."""
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
    ):
        return None
    loss: Tensor | None = _ClosedForm.apply(prediction, target, general)  # type: ignore[no-untyped-call]
    return loss


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, general: General) -> Tensor | None:
        p, y = prediction, target
        if p.dtype is not y.dtype or p.dtype not in SOUND:
            dtype = torch.promote_types(p.dtype, y.dtype)
            dtype = torch.promote_types(dtype, torch.float32)
            p, y = p.to(dtype), y.to(dtype)
        if p.ndim == 2 and p.shape[1] == 1:
            p, y = p.squeeze(1), y.squeeze(1)
        result = _loss(p, y)
        if result is None:
            return None
        value, ctx.slope, (u, v) = result
        ctx.save_for_backward(prediction, target, u, v)
        ctx.general = general
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        prediction, target, u, v = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            loss = ctx.general(prediction, target)
            (gradient,) = torch.autograd.grad(loss, prediction, grad_output, create_graph=True)
        else:
            gradient = _gradient(ctx.slope, u, v, grad_output)
            if gradient.ndim != prediction.ndim:
                gradient = gradient.view(prediction.shape)
        return gradient, None, None


class _Slope(NamedTuple):
    """The gradient is `of_u * u + of_v * v + constant`."""

    of_u: Statistic
    of_v: Statistic
    constant: Statistic


_Result = tuple[Tensor, _Slope, tuple[Tensor, Tensor]]
"""The value, and what the gradient is made of: u and v."""


def _gradient(slope: _Slope, u: Tensor, v: Tensor, grad_output: Tensor) -> Tensor:
    scale = grad_output.item() if u.ndim == 1 else grad_output
    of_u, of_v, constant = (c * scale for c in slope)
    if u.ndim == 1:  # the operations that take the least time to start
        gradient = torch.full_like(u, constant).add_(u, alpha=of_u).add_(v, alpha=of_v)
    else:
        gradient = (u * of_u).addcmul_(v, of_v).add_(constant)
    return gradient


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


def _loss(p: Tensor, y: Tensor) -> _Result | None:
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

    of_u, of_v = (1 - value) / u_square, -ratio / u_square
    constant = -of_u * u_mean - of_v * v_mean
    if p.ndim == 1:
        return p.new_full((), value), _Slope(of_u, of_v, constant), (u, v)
    coefficients = (c / p.shape[1] for c in (of_u, of_v, constant))
    return value.mean(), _Slope(*coefficients), (u, v)


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


def _all(condition: Any) -> bool:
    return condition if condition is True or condition is False else bool(condition.all())
