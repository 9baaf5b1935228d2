"""Error, differences between samples, and normalised differences, aggregated robustly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finecorr.functional.moments import populations
from finecorr.functional.pearson import one_minus_correlation, square

EPSILON = 1e-7
"""What the authors add to each of the three losses: their logarithms are taken."""


def gradient_aligned_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Gradient aligned regression: `alpha * log(mean of the l^(1 / alpha))` of three losses l.

        mean |p - y|                the mean absolute error
        var(p - y)                  half the mean squared difference, over all pairs of samples, of
                                    `p_i - p_j` and `y_i - y_j`
        1 - PLC                     the same for p and y over their standard deviations

    The pairs need not be formed: this takes O(n). `alpha` near 0 gives the logarithm of the
    largest of the three, `alpha = 1` that of their mean, a large one the mean of their logarithms.

    The first is in the unit of the target and the second in its square, so that their balance
    depends on it: the loss is meant for targets with a standard deviation of about 1.

    Source: Zhu, Yang and Jerby, Gradient Aligned Regression via Pairwise Losses, ICML 2025,
    arXiv 2402.06104. The authors' code takes half of the variance, the paper all of it, as here.
    1e-7 is added to each of the three losses, as in their code.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        alpha: positive.
        weight: `(n,)`, non-negative: how much each sample counts in all moments.
        group: `(n,)` integers: the loss on each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in
        `finecorr.functional.pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be positive and finite, not {alpha}")
    batch = populations(prediction, target, weight, group)
    truth, guess = batch.scores(batch.target), batch.scores(batch.prediction)
    error = batch.prediction - batch.target
    losses = [
        batch.mean(error.abs()),
        batch.mean(square(error - batch.expand(batch.mean(error)))),
        one_minus_correlation(batch, guess, truth),
    ]
    logarithms = (torch.stack(losses) + EPSILON).log()
    loss = alpha * ((logarithms / alpha).logsumexp(0) - math.log(len(losses)))
    return batch.average(loss, ~truth.constant)
