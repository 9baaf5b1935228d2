"""Losses on the error of each sample, under the contract of the others.

With `log=True` they are negative log-likelihoods of the targets given the predictions, per sample
and up to a constant, with the scale of the noise profiled out: of Gaussian noise for `mse_loss`, of
Laplace noise for `mae_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from finecorr.functional.moments import populations
from finecorr.functional.plain.batch import common_dtype, is_plain, labelled
from finecorr.functional.plain.parts import Part, mean_part

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
    return _mean(F.mse_loss, prediction, target, _half_log if log else None, weight, group)


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
    return _mean(F.l1_loss, prediction, target, _log if log else None, weight, group)


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
    error = partial(F.huber_loss, delta=delta)
    return _mean(error, prediction, target, _half_log if log else None, weight, group)


def _mean(
    error: Callable[..., Tensor],
    prediction: Tensor,
    target: Tensor,
    log: Callable[[Tensor], Tensor] | None,
    weight: Tensor | None,
    group: Tensor | None,
) -> Tensor:
    """The mean of one of torch's losses over each population, and its logarithm; averaged."""
    # The mean of the groups' means, by their weights, is the mean of all.
    plain = (group is None or log is None) and is_plain(prediction, target, weight, group)
    one = plain and prediction.numel() == len(prediction)
    if plain and (one or (log is None and weight is None)):
        dtype = common_dtype(prediction, target)
        both = prediction.to(dtype), target.to(dtype)
        if weight is None:
            mean: Tensor = error(*both)
        else:
            factor = weight.detach().to(dtype).view(target.shape)
            mean = (error(*both, reduction="none") * factor).sum() / factor.sum()
        if math.isfinite(mean.item()):
            return mean if log is None else log(mean)
        rows = labelled(prediction, target, weight)
        if rows is not None:
            of_rows = None if weight is None else weight[rows]
            return _mean(error, prediction[rows], target[rows], log, of_rows, None)
    batch = populations(prediction, target, weight, group)
    mean = batch.mean(error(batch.prediction, batch.target, reduction="none"))
    return batch.average(mean if log is None else log(mean), batch.sum(batch.weight) > 0)


def _half_log(error: Tensor) -> Tensor:
    return (error + LOG_EPSILON).log() / 2


def _log(error: Tensor) -> Tensor:
    return (error + math.sqrt(LOG_EPSILON)).log()


def _part(
    error: Callable[..., Tensor],
    logarithm: Callable[[Tensor], Tensor],
    prediction: Tensor,
    target: Tensor,
    *,
    log: bool = False,
    weight: Tensor | None = None,
    group: Tensor | None = None,
    **options: Any,
) -> Part | None:
    error = partial(error, reduction="none", **options)
    return mean_part(error, prediction, target, logarithm if log else None, weight, group)


# Of a batch in parts; see `finecorr.functional.plain.parts`.
mse_part = partial(_part, F.mse_loss, _half_log)
mae_part = partial(_part, F.l1_loss, _log)
huber_part = partial(_part, F.huber_loss, _half_log)
