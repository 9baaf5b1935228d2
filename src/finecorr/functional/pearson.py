"""Losses on the Pearson linear correlation (PLC): the plain one, and the robust, regularised one.

The idea of the robust form is that of the global level of "Fine-grained Correlation Loss for
Regression" (Chen et al., MICCAI 2022, arXiv 2207.00347); the formulas are our own.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from finecorr.functional.features import check_features
from finecorr.functional.label_noise import weigh
from finecorr.functional.moments import Populations, Scores, populations
from finecorr.functional.plain.closed_form import Slopes, closed_form_loss, log
from finecorr.functional.plain.moments import Moments
from finecorr.functional.plain.parts import moments_part
from finecorr.functional.plain.step import Parts, plain_step

LOG_EPSILON = 1e-4
"""What is added to an error before its logarithm is taken: a batch of two, or one that is learnt by
heart, has `PLC = 1`."""


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
    loss = closed_form_loss(
        prediction, target, weight, group, pearson_of_moments, of_populations, errors=False
    )
    if loss is not None:
        return loss
    return of_populations(prediction, target, weight, group)


def pearson_of_moments(moments: Moments) -> Slopes:
    return Slopes(moments.one_minus_correlation, one_minus_correlation=1.0)


pearson_part = partial(moments_part, formula=pearson_of_moments, errors=False)
"""See `finecorr.functional.plain.parts`."""


def of_populations(
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """`pearson_loss`, whatever the batch is."""
    batch = populations(prediction, target, weight, group)
    truth, guess = batch.scores(batch.target), batch.scores(batch.prediction)
    return batch.average(one_minus_correlation(batch, guess, truth), ~truth.constant)


def robust_pearson_loss(
    prediction: Tensor,
    target: Tensor,
    features: Tensor | None = None,
    *,
    robust: bool = True,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Pearson loss that also fixes the mean and the spread, with each label weighed by how far it
    is to be believed.

    With those weights (see `finecorr.functional.label_weights`) in all moments,

        log(1 - PLC + 1e-4) / 4 + log(mean((prediction - target)^2) / (2 var(target)) + 1e-4) / 4

    Why logarithms: with Gaussian noise, `log(1 - PLC^2) / 2` is the negative log-likelihood of the
    targets given the predictions, per sample and up to a constant, with the affine map between them
    and the noise's scale profiled out; `log(mean square) / 2` is the same where the map is known to
    be the identity. The loss is the mean of both; `1 + PLC`, which hardly changes near the optimum,
    is left out, so that a negative correlation is not as good as a positive one. The gradient of a
    logarithm does not fade as PLC nears 1. As

        mean((p - y)^2) / (2 var y) = (1 - PLC) std p / std y
                                      + ((mean p - mean y)^2 + (std p - std y)^2) / (2 var y)

    the second fixes mean and spread, the tighter, the smaller the noise is.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        features: `(n, d)`, for the label weights; no gradient is taken of them.
        robust: whether labels have weights.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: everything is within each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in `pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.
    """
    if features is not None:
        check_features(features, target)
    if robust:
        return robust_pearson_and_belief(prediction, target, features, weight, group)[0]
    call = prediction, target, weight, group
    loss = closed_form_loss(*call, log_errors_of_moments, _log_errors)
    return _log_errors(*call) if loss is None else loss


def robust_pearson_and_belief(
    prediction: Tensor,
    target: Tensor,
    features: Tensor | None,
    weight: Tensor | None,
    group: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`robust_pearson_loss`, and its label weights."""
    if group is None:
        parts = Parts(log_errors_of_moments, lambda p, _, w: _log_errors(p, target, w))
        found = plain_step(prediction, target, features, weight, parts)
        if found is not None:
            return found
    known, weight = weigh(prediction, target, features, weight, group)
    loss = robust_pearson_loss(prediction, target, robust=False, weight=weight, group=group)
    return loss, known


def log_errors_of_moments(moments: Moments) -> Slopes:
    correlation = moments.one_minus_correlation + LOG_EPSILON
    error = moments.square / (2 * moments.target_variance) + LOG_EPSILON
    return Slopes(
        (log(correlation) + log(error)) / 4,
        one_minus_correlation=1 / (4 * correlation),
        square=1 / (8 * moments.target_variance * error),
    )


robust_pearson_part = partial(moments_part, formula=log_errors_of_moments)
"""Of the loss without label weights; see `finecorr.functional.plain.parts`."""


def _log_errors(
    prediction: Tensor, target: Tensor, weight: Tensor | None, group: Tensor | None = None
) -> Tensor:
    return log_errors(populations(prediction, target, weight, group))


def log_errors(batch: Populations) -> Tensor:
    """Half the mean of the logarithms of `1 - PLC` and of the squared error that goes with it."""
    truth, guess = batch.scores(batch.target), batch.scores(batch.prediction)
    unit = torch.where(truth.constant, 1, truth.std)
    error = batch.mean(square((batch.prediction - batch.target) / batch.expand(unit))) / 2
    correlation = one_minus_correlation(batch, guess, truth)
    loss = ((correlation + LOG_EPSILON).log() + (error + LOG_EPSILON).log()) / 4
    return batch.average(loss, ~truth.constant)


def square(values: Tensor) -> Tensor:
    """Squares that do not overflow, however far the predictions are from the targets."""
    limit = torch.finfo(values.dtype).max ** 0.5 / 4
    return values.clamp(-limit, limit).square()


def one_minus_correlation(batch: Populations, guess: Scores, truth: Scores) -> Tensor:
    """`(groups, targets)`: `1 - PLC`, never negative."""
    unit = torch.where(guess.constant & ~truth.constant, truth.std, 1)
    difference = guess.values / batch.expand(unit) - truth.values
    return batch.mean(difference.square()) / 2 + guess.constant / 2
