"""Losses on the error of each sample, under the contract of the others.

With `log=True` they are negative log-likelihoods of the targets given the predictions, per sample
and up to a constant, with the scale of the noise profiled out: of Gaussian noise for `mse_loss`, of
Laplace noise for `mae_loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, populations

LOG_EPSILON = 1e-8
"""What is added to a mean error whose logarithm is taken: its gradient stays finite."""


def mse_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    log: bool = False,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean squared error, `mean((prediction - target)^2)`, in the squared unit of the target.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        log: whether to take `log(error + 1e-8) / 2`, of each group and target.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers. Groups are averaged by their weights, which for an error of each
            sample, without its logarithm, is the mean over all.

    Returns:
        A scalar, the mean over targets; targets without a label are left out.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.
    """
    batch = populations(prediction, target, weight, group)
    error = batch.mean((batch.prediction - batch.target).square())
    return _average(batch, _half_log(error) if log else error)


def mae_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    log: bool = False,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean absolute error, `mean(|prediction - target|)`; with `log`, `log(error + 1e-4)`.

    Arguments are those of `mse_loss`.
    """
    batch = populations(prediction, target, weight, group)
    error = batch.mean((batch.prediction - batch.target).abs())
    return _average(batch, (error + LOG_EPSILON**0.5).log() if log else error)


def huber_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    delta: float = 1.0,
    log: bool = False,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean of `e^2 / 2` for errors up to `delta` and of `delta * (|e| - delta / 2)` beyond; with
    `log`, `log(mean + 1e-8) / 2`.

    Source: P. J. Huber, Robust Estimation of a Location Parameter, 1964. `delta` is positive and
    in the unit of the target; the other arguments are those of `mse_loss`.
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, not {delta}")
    batch = populations(prediction, target, weight, group)
    error = batch.mean(
        torch.nn.functional.huber_loss(
            batch.prediction, batch.target, reduction="none", delta=delta
        )
    )
    return _average(batch, _half_log(error) if log else error)


def _half_log(error: Tensor) -> Tensor:
    return (error + LOG_EPSILON).log() / 2


def _average(batch: Populations, loss: Tensor) -> Tensor:
    return batch.average(loss, batch.sum(batch.weight) > 0)
