"""Loss on the concordance correlation: association, mean and spread in one number."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, populations
from finecorr.functional.plain.closed_form import Slopes, closed_form_loss, where
from finecorr.functional.plain.moments import Moments
from finecorr.functional.plain.parts import moments_part


def concordance_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """`1 - CCC`, with Lin's concordance correlation coefficient: 0 where all predictions are right.

        CCC = 2 cov(p, y) / (var(p) + var(y) + (mean(p) - mean(y))^2)

    with biased moments. A constant prediction has the loss 1; predictions that fall as the targets
    rise have up to 2. `1 - CCC` is also `mean((p - y)^2)` over the same denominator, which is how
    it is computed where CCC is above 1/2, as it keeps its digits near 1.

    Source: L. I-K. Lin, A Concordance Correlation Coefficient to Evaluate Reproducibility,
    Biometrics 45, 1989.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: concordance within each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in
        `finecorr.functional.pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.
    """
    loss = closed_form_loss(prediction, target, weight, group, _of_moments, _of_populations)
    if loss is not None:
        return loss
    return _of_populations(prediction, target, weight, group)


def _of_moments(moments: Moments) -> Slopes:
    spread = moments.prediction_variance + moments.target_variance
    denominator = spread + moments.bias * moments.bias
    near = moments.square / denominator
    spreads = (moments.prediction_variance * moments.target_variance) ** 0.5
    double_covariance = 2 * (1 - moments.one_minus_correlation) * spreads
    slope = double_covariance / denominator / denominator
    by_covariance = Slopes(
        1 - double_covariance / denominator,
        one_minus_correlation=2 * spreads / denominator,
        prediction_variance=slope
        - double_covariance / (2 * denominator * moments.prediction_variance),
        bias=2 * moments.bias * slope,
    )
    slope = -near / denominator
    by_square = Slopes(
        near, prediction_variance=slope, bias=2 * moments.bias * slope, square=1 / denominator
    )
    return Slopes(*(where(near < 0.5, a, b) for a, b in zip(by_square, by_covariance, strict=True)))


concordance_part = partial(moments_part, formula=_of_moments)
"""See `finecorr.functional.plain.parts`."""


def _of_populations(
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    batch = populations(prediction, target, weight, group)
    truth = batch.scores(batch.target)
    # Halves, as a difference may overflow; in the unit of the largest, so that no square does.
    error = batch.prediction / 2 - batch.target / 2
    largest = -batch.minimum(-error.detach().abs())
    unit = torch.where(truth.constant, 1, torch.maximum(largest, truth.std / 2))
    error = error / batch.expand(unit)
    p, y = _deviation(batch, batch.prediction, unit), _deviation(batch, batch.target, unit)
    denominator = batch.mean(p.square() + y.square()) + batch.mean(error).square()
    denominator = torch.where(truth.constant, 1, denominator)
    near = batch.mean(error.square()) / denominator
    loss = torch.where(near < 0.5, near, 1 - 2 * batch.mean(p * y) / denominator)
    return batch.average(loss, ~truth.constant)


def _deviation(batch: Populations, values: Tensor, unit: Tensor) -> Tensor:
    """Half the deviation from the mean, exact at any offset."""
    low = batch.minimum(values.detach())
    shifted = (values / 2 - batch.expand(low / 2)) / batch.expand(unit)
    return shifted - batch.expand(batch.mean(shifted))
