"""Errors that count the more the larger they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor

from finecorr.functional.moments import populations
from finecorr.functional.plain.parts import Part, mean_part

Activation = Literal["sigmoid", "tanh"]
_ACTIVATIONS = get_args(Activation)

_Error = Callable[[Tensor, Tensor], Tensor]
"""Of predictions and targets."""


def focal_mae_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    activation: Activation = "sigmoid",
    beta: float = 0.2,
    gamma: float = 1.0,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Focal-R: mean of `|e| * s(beta * |e|)^gamma`, with `e = prediction - target`.

    The factor s rises from 0 to 1: with "sigmoid" it is `2 * sigmoid(x) - 1`, with "tanh"
    `tanh(x)`. The loss and `1 / beta` are in the unit of the target.

    Source: Yang et al., Delving into Deep Imbalanced Regression, ICML 2021, arXiv 2102.09554; the
    defaults are those of the authors' code, and so is the scaling of the sigmoid to start at 0.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        activation: "sigmoid" or "tanh".
        beta: over which errors the factor rises; positive.
        gamma: the power of the factor; at least 1.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers. Groups are averaged by their weights, which for an error of each
            sample is the mean over all.

    Returns:
        A scalar, the mean over targets; targets without a label are left out.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    return _mean(_absolute(activation, beta, gamma), prediction, target, weight, group)


def focal_mse_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    activation: Activation = "sigmoid",
    beta: float = 0.2,
    gamma: float = 1.0,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean of `e^2 * s(beta * |e|)^gamma`, in the squared unit of the target.

    Source, arguments and errors are those of `focal_mae_loss`.
    """
    return _mean(_squared(activation, beta, gamma), prediction, target, weight, group)


def _absolute(activation: Activation, beta: float, gamma: float) -> _Error:
    def errors(prediction: Tensor, target: Tensor) -> Tensor:
        error = (prediction - target).abs()
        return error * _factor(error, activation, beta, gamma)

    return errors


def _squared(activation: Activation, beta: float, gamma: float) -> _Error:
    def errors(prediction: Tensor, target: Tensor) -> Tensor:
        error = (prediction - target).abs()
        return error.square() * _factor(error, activation, beta, gamma)

    return errors


def _factor(error: Tensor, activation: Activation, beta: float, gamma: float) -> Tensor:
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {_ACTIVATIONS}, not {activation!r}")
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta must be positive and finite, not {beta}")
    if not 1 <= gamma < float("inf"):
        raise ValueError(f"gamma must be finite and at least 1, not {gamma}")
    # 2 * sigmoid(x) - 1 is tanh(x / 2), which keeps its digits for small errors.
    slope = beta / 2 if activation == "sigmoid" else beta
    return (slope * error).tanh().pow(gamma)


def _mean(
    error: _Error, prediction: Tensor, target: Tensor, weight: Tensor | None, group: Tensor | None
) -> Tensor:
    batch = populations(prediction, target, weight, group)
    mean = batch.mean(error(batch.prediction, batch.target))
    return batch.average(mean, batch.sum(batch.weight) > 0)


def _part(
    errors: Callable[..., _Error],
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    group: Tensor | None = None,
    **options: Any,
) -> Part | None:
    return mean_part(errors(**options), prediction, target, None, weight, group)


# Of a batch in parts; see `finecorr.functional.plain.parts`.
focal_mae_part = partial(_part, _absolute)
focal_mse_part = partial(_part, _squared)
