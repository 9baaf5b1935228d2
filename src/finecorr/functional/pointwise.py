"""Losses on the error of each sample, under the contract of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, populations


def mse_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean squared error, `mean((prediction - target)^2)`, in the squared unit of the target.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers. Groups are averaged by their weights, which for an error of each
            sample is the mean over all.

    Returns:
        A scalar, the mean over targets; targets without a label are left out.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.
    """
    batch = populations(prediction, target, weight, group)
    return _average(batch, (batch.prediction - batch.target).square())


def mae_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean absolute error, `mean(|prediction - target|)`. Arguments are those of `mse_loss`."""
    batch = populations(prediction, target, weight, group)
    return _average(batch, (batch.prediction - batch.target).abs())


def huber_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    delta: float = 1.0,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean of `e^2 / 2` for errors up to `delta` and of `delta * (|e| - delta / 2)` beyond.

    Source: P. J. Huber, Robust Estimation of a Location Parameter, 1964. `delta` is positive and
    in the unit of the target; the other arguments are those of `mse_loss`.
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, not {delta}")
    batch = populations(prediction, target, weight, group)
    error = torch.nn.functional.huber_loss(
        batch.prediction, batch.target, reduction="none", delta=delta
    )
    return _average(batch, error)


def _average(batch: Populations, loss: Tensor) -> Tensor:
    return batch.average(batch.mean(loss), batch.sum(batch.weight) > 0)
