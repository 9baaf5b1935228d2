"""Losses on the Pearson linear correlation (PLC): the plain one, and the robust, regularised one.

The idea of the robust form is that of the global level of "Fine-grained Correlation Loss for
Regression" (Chen et al., MICCAI 2022, arXiv 2207.00347); the formulas are our own.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from finecorr.functional.closed_form import (
    LOG_EPSILON,
    MAD_TO_STD,
    PLAIN,
    Terms,
    closed_form_loss,
)
from finecorr.functional.moments import Populations, Scores, populations


def pearson_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """`1 - PLC`: 0 for a rising line, 1 for no correlation, 2 for a falling line.

    With `u` and `v` the standard scores of prediction and target, `1 - PLC = mean((u - v)^2) / 2`,
    which keeps its digits where PLC is near 1. A constant prediction has the loss 1, and the
    gradient `-v / (n * std(target))`.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: correlation within each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.
    """
    return _loss(prediction, target, PLAIN, weight, group)


def robust_pearson_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    outlier_threshold: float | None = 3.5,
    max_outlier_fraction: float = 0.3,
    mean_weight: float = 0.5,
    std_weight: float = 0.5,
    outlier_weight: float = 0.0,
    log: bool = True,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Pearson loss without the outliers, that also fixes the mean and the spread.

    Over the samples that are not outliers (see `outliers`):

        log(1 - PLC + 1e-4) / 2
        + mean_weight * ((mean(prediction) - mean(target)) / std(target))^2
        + std_weight * ((std(prediction) - std(target)) / std(target))^2

    and, as a mean over all samples, those that are not outliers counting as 0,

        + outlier_weight * huber((prediction - target) / std(target))

    with the mean and the standard deviations of those that are not; `huber(r)` is `r^2 / 2` up to
    `|r| = 1` and `|r| - 1/2` beyond. With `log=False` the first term is `1 - PLC`; with
    `outlier_threshold=None` and all weights 0 besides, this is `pearson_loss`.

    Why half the logarithm: the Gaussian negative log-likelihood of the targets given the
    predictions, per sample and up to a constant, with the affine map between them and the noise
    scale profiled out, is `log(1 - PLC^2) / 2`; `1 + PLC`, which hardly changes near the optimum,
    is left out, so that a negative correlation is not as good as a positive one. Its gradient does
    not fade as PLC nears 1.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        outlier_threshold: robust standard deviations from the median residual beyond which a
            sample is an outlier; None for no outliers.
        max_outlier_fraction: the largest share of the weight of a group that may be set aside.
        mean_weight: weight of the squared difference of means; non-negative.
        std_weight: weight of the squared difference of standard deviations; non-negative.
        outlier_weight: weight of the bounded pull of the outliers to their targets; non-negative.
        log: whether to take half the logarithm of `1 - PLC`.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: everything is within each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in `pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    for name, value in (
        ("mean_weight", mean_weight),
        ("std_weight", std_weight),
        ("outlier_weight", outlier_weight),
    ):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and not negative, not {value}")
    _check_outlier_options(outlier_threshold, max_outlier_fraction)
    terms = Terms(
        outlier_threshold, max_outlier_fraction, mean_weight, std_weight, outlier_weight, log
    )
    return _loss(prediction, target, terms, weight, group)


def _loss(
    prediction: Tensor, target: Tensor, terms: Terms, weight: Tensor | None, group: Tensor | None
) -> Tensor:
    if weight is None and group is None:
        loss = closed_form_loss(prediction, target, terms, _general_loss)
        if loss is not None:
            return loss
    return _general_loss(prediction, target, terms, weight, group)


def _general_loss(
    prediction: Tensor,
    target: Tensor,
    terms: Terms,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    batch = populations(prediction, target, weight, group)
    outlier = _outliers(batch, terms.outlier_threshold, terms.max_outlier_fraction)
    normal = replace(batch, weight=torch.where(outlier, 0, batch.weight))
    truth, guess = normal.scores(normal.target), normal.scores(normal.prediction)
    residual = batch.prediction - batch.target
    unit = torch.where(truth.constant, 1, truth.std)

    loss = one_minus_correlation(normal, guess, truth)
    if terms.log:
        loss = (loss + LOG_EPSILON).log() / 2
    if terms.mean_weight:
        loss = loss + terms.mean_weight * square(normal.mean(residual) / unit)
    if terms.std_weight:
        loss = loss + terms.std_weight * square(guess.std / unit - 1)
    if terms.outlier_weight:
        standardised = residual / batch.expand(unit)
        pull = torch.nn.functional.huber_loss(
            standardised, torch.zeros_like(standardised), reduction="none"
        )
        loss = loss + terms.outlier_weight * batch.mean(torch.where(outlier, pull, 0))
    return batch.average(loss, ~truth.constant)


def outliers(
    prediction: Tensor,
    target: Tensor,
    *,
    outlier_threshold: float | None = 3.5,
    max_outlier_fraction: float = 0.3,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Which samples are outliers: boolean, in the shape of `target`.

    With the residual `e = prediction - target`, an outlier lies further than `outlier_threshold`
    robust standard deviations, `1.4826 * median |e - median(e)|`, from the median residual. At
    most `max_outlier_fraction` of the weight of each group is set aside, the furthest first.
    Nothing is set aside where the robust standard deviation is 0, or where fewer than two
    different targets would be left.

    Arguments and errors are those of `robust_pearson_loss`.
    """
    _check_outlier_options(outlier_threshold, max_outlier_fraction)
    batch = populations(prediction, target, weight, group)
    outlier = _outliers(batch, outlier_threshold, max_outlier_fraction)
    return batch.restore(outlier).reshape(target.shape)


def _check_outlier_options(threshold: float | None, max_fraction: float) -> None:
    if threshold is not None and not threshold > 0:
        raise ValueError(f"outlier_threshold must be positive or None, not {threshold}")
    if not 0 <= max_fraction < 1:
        raise ValueError(f"max_outlier_fraction must be in [0, 1), not {max_fraction}")


def _outliers(batch: Populations, threshold: float | None, max_fraction: float) -> Tensor:
    if threshold is None or max_fraction == 0:
        return torch.zeros_like(batch.weight, dtype=torch.bool)
    residual = batch.prediction.detach() - batch.target
    distance = (residual - batch.expand(batch.quantile(residual, 0.5))).abs()
    robust_std = MAD_TO_STD * batch.quantile(distance, 0.5)
    limit = torch.maximum(threshold * robust_std, batch.quantile(distance, 1 - max_fraction))
    limit = torch.where(robust_std > 0, limit, torch.inf)
    outlier = (distance > batch.expand(limit)) & (batch.weight > 0)
    left = replace(batch, weight=torch.where(outlier, 0, batch.weight))
    return outlier & batch.expand(left.defined())


def square(values: Tensor) -> Tensor:
    """Squares that do not overflow, however far the predictions are from the targets."""
    limit = torch.finfo(values.dtype).max ** 0.5 / 4
    return values.clamp(-limit, limit).square()


def one_minus_correlation(batch: Populations, guess: Scores, truth: Scores) -> Tensor:
    """`(groups, targets)`: `1 - PLC`, never negative."""
    unit = torch.where(guess.constant & ~truth.constant, truth.std, 1)
    difference = guess.values / batch.expand(unit) - truth.values
    return batch.mean(difference.square()) / 2 + guess.constant / 2
