"""The norm of the difference of normalised predictions and targets."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, Scores, populations

ROUNDING = 16
"""How many epsilons two equal standard scores may be apart."""


def norm_in_norm_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    p: float = 1.0,
    q: float = 2.0,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """p-th power of the p-norm of the difference of prediction and target, both made q-norm 1.

        sum |u_i - v_i|^p / c,   c = 2^p * n^max(0, 1 - p / q)

    where u and v are prediction and target without their mean and over their q-norm; c keeps the
    loss at most 1. With `p = q = 2` it is `(1 - PLC) / 2`. Neither mean nor scale of the
    predictions is learnt.

    Source: Li, Jiang and Jiang, Norm-in-Norm Loss with Faster Convergence and Better Performance
    for Image Quality Assessment, ACM Multimedia 2020, arXiv 2008.03889; the defaults are theirs.
    They add 1e-8 to the norms. Here instead the predictions are, where they are constant, over
    the target's standard deviation, which gives them a finite gradient in that unit.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        p: the norm of the difference; at least 1.
        q: the norm that is made 1; at least 1.
        weight: `(n,)`, non-negative: factors of the terms of the mean and of the norms, scaled to
            a mean of 1 over the labelled samples.
        group: `(n,)` integers: the loss on each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in
        `finecorr.functional.pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    for name, value in (("p", p), ("q", q)):
        if not 1 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and at least 1, not {value}")
    batch = populations(prediction, target, weight, group)
    truth, guess = batch.scores(batch.target), batch.scores(batch.prediction)
    unit = torch.where(guess.constant & ~truth.constant, truth.std, 1)
    u, v = _normalised(batch, guess, q) / batch.expand(unit), _normalised(batch, truth, q)
    # With p = 1, the sign of a difference that is rounding would be its gradient.
    rounding = ROUNDING * torch.finfo(u.dtype).eps * (u.detach().abs() + v.abs())
    difference = torch.where((u - v).abs() <= rounding, 0, u - v)
    loss = batch.mean(difference.abs().pow(p)) / 2**p
    if p > q:
        samples = batch.sum((batch.weight > 0).to(loss.dtype))
        loss = loss * samples.clamp(min=1).pow(1 - p / q)
    return batch.average(loss, ~truth.constant)


def _normalised(batch: Populations, scores: Scores, q: float) -> Tensor:
    """The mean of their q-th powers, not the sum, is 1."""
    power = batch.mean(scores.values.abs().pow(q))
    return scores.values / batch.expand(torch.where(scores.constant, 1, power).pow(1 / q))
