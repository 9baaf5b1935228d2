"""The moments of a batch, without autograd.

On a CPU they are numbers of Python; on another device they are taken in float64, and looked at
once. What this arithmetic cannot do to the last digits, such as a constant, is left to
`Populations`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
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

SOUND_ELSEWHERE = (1e-200, 1e-8)
"""The same for sums over float32 in float64, from which the mean was not taken first."""

Statistic = Any
"""Of one population a float. Of several targets on a CPU a tensor `(targets,)`, and otherwise of
several populations an array `(groups, targets)`. The arithmetic is the same."""


class Moments(NamedTuple):
    """Of a batch."""

    one_minus_correlation: Statistic
    prediction_variance: Statistic
    target_variance: Statistic
    bias: Statistic
    """The mean of `prediction - target`."""
    square: Statistic
    """The mean of its square."""


class PlainBatch(NamedTuple):
    moments: Moments
    samples: tuple[Tensor, ...]
    """Prediction, target, and their difference where it is needed; the first two perhaps
    shifted."""
    means: tuple[Statistic, Statistic]
    """Of the first two."""
    weight: Tensor | None
    total: Statistic
    """The sum of the weights."""
    share: Statistic
    """How much each population counts in the mean."""
    group: Tensor | None = None
    """`(n,)`: which of the groups a sample is in; None for one group."""


def moments_of(
    p: Tensor, y: Tensor, w: Tensor | None, group: Tensor | None, *, errors: bool
) -> PlainBatch | None:
    """Of prediction, target and weights in one dtype; None where the arithmetic does not hold.

    `errors` says whether `bias` and `square` are wanted.
    """
    if group is not None:
        return _by_population(p, y, w, group, errors)
    take = _on_cpu if p.is_cpu else _elsewhere
    batch = take(p, y, w, errors)
    if batch is None and w is None and p.is_cpu and bool(y.isnan().any()):
        batch = take(p, y, torch.ones_like(y), errors)
    return batch


def all_of(condition: Any) -> bool:
    """Of a bool or a tensor."""
    return condition if condition is True or condition is False else bool(condition.all())


# On a CPU


class _Variable(NamedTuple):
    values: Tensor
    """`(n,)` or `(n, targets)`: shifted where the mean is large beside the spread."""
    mean: Statistic
    """Of `values`."""
    square: Statistic
    """The weighted sum of the squared deviations from the mean."""


def _on_cpu(p: Tensor, y: Tensor, w: Tensor | None, errors: bool) -> PlainBatch | None:
    if w is not None:
        missing = y.isnan() | (w == 0)
        if missing.any():
            p, y, w = (values.masked_fill(missing, 0) for values in (p, y, w))
    total: Statistic = len(p) if w is None else _statistic(w.sum(0))
    if w is not None and not all_of(total > 0):
        return None
    guess, truth = _variable(p, w, total), _variable(y, w, total)
    if guess is None or truth is None:
        return None
    ratio = (guess.square / truth.square) ** 0.5
    product = _dot(guess.values, truth.values, w) - total * guess.mean * truth.mean
    loss = 1 - product / (truth.square * ratio)
    if not all_of(loss > 0.1):
        loss = _half_square_difference(guess, truth, w, ratio)
    variances = guess.square / total, truth.square / total
    samples, means = (guess.values, truth.values), (guess.mean, truth.mean)
    share = 1 / p[0].numel()
    if not errors:
        return PlainBatch(Moments(loss, *variances, 0.0, 0.0), samples, means, w, total, share)
    error = p - y
    bias = _statistic(error.sum(0) if w is None else (error * w).sum(0)) / total
    moments = Moments(loss, *variances, bias, _dot(error, error, w) / total)
    return PlainBatch(moments, (*samples, error), means, w, total, share)


def _variable(values: Tensor, w: Tensor | None, total: Statistic) -> _Variable | None:
    mean = _statistic(values.sum(0) if w is None else (values * w).sum(0)) / total
    offset = total * mean * mean
    square = _dot(values, values, w) - offset
    if not all_of(offset <= square):
        values = values - mean
        if not all_of(offset <= 256 * square):
            values -= _statistic(values.sum(0) if w is None else (values * w).sum(0)) / total
        mean, square = 0.0, _dot(values, values, w)
    smallest, least = SOUND[values.dtype]
    sound = (
        all_of(square > smallest)
        and all_of(square < 1 / smallest)
        and all_of(square > least * offset)
    )
    return _Variable(values, mean, square) if sound else None


def _half_square_difference(
    guess: _Variable, truth: _Variable, w: Tensor | None, ratio: Statistic
) -> Statistic:
    """Half the mean squared difference of the standard scores."""
    shift, sum_ = guess.mean - ratio * truth.mean, 0.0
    rows = max(1, PIECE // guess.values[0].numel())
    weights = [None] * -(-len(guess.values) // rows) if w is None else torch.split(w, rows)
    pieces = torch.split(guess.values, rows), torch.split(truth.values, rows)
    for u, v, part in zip(*pieces, weights, strict=True):
        difference = u - v * ratio - shift
        sum_ = sum_ + _dot(difference, difference, part)
    return sum_ / (2 * guess.square)


def _statistic(values: Tensor) -> Statistic:
    return values if values.ndim else values.item()


def _dot(a: Tensor, b: Tensor, w: Tensor | None) -> Statistic:
    if w is not None:
        a = a * w
    if a.ndim == 2:
        return (a * b).sum(0)
    if len(a) <= PIECE:
        return a.dot(b).item()
    # One running sum over a million numbers would lose digits.
    pieces = zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)
    return sum(x.dot(y).item() for x, y in pieces)


# On another device


def _elsewhere(p: Tensor, y: Tensor, w: Tensor | None, errors: bool) -> PlainBatch | None:
    if p.ndim == 2:
        return _by_population(p, y, w, None, errors)
    if p.dtype is not torch.float32:
        return None
    samples, weight = samples_of(p, y, w, errors)
    weighted = samples if w is None else samples * weight
    products = weighted @ samples.T
    sums = torch.cat([products.flatten(), weighted.sum(1), weight.sum(0, keepdim=True)])
    k, numbers = len(samples), sums.tolist()
    squares, product = numbers[: k * k : k + 1], numbers[1]
    return batch_of_sums(tuple(samples), weight, squares, product, numbers[k * k : -1], numbers[-1])


def _by_population(
    p: Tensor, y: Tensor, w: Tensor | None, group: Tensor | None, errors: bool
) -> PlainBatch | None:
    """Of each group and target; on a CPU, too, where there are groups."""
    if p.dtype is not torch.float32:
        return None
    if p.ndim == 1:
        p, y, w = p[:, None], y[:, None], None if w is None else w[:, None]
    samples, weight = samples_of(p, y, w, errors)
    k, targets = len(samples), p.shape[1]
    weighted = samples * weight
    product = weighted[0] * samples[1]
    rows = torch.cat(
        [weighted * samples, product[None], weighted, weight[None], (weight > 0)[None]]
    )
    if group is None:
        sums = rows.sum(1, keepdim=True)
    else:
        known, group = torch.unique(group, return_inverse=True)
        sums = rows.new_zeros(len(rows), len(known), targets).index_add_(1, group, rows)
    host = sums.cpu().numpy()
    if not np.isfinite(host).all():
        return None
    squares, (product_,), totals, (total,), (count,) = np.split(
        host, [k, k + 1, 2 * k + 1, 2 * k + 2]
    )
    # Of fewer than two samples nothing is known.
    several = count > 1
    counted = np.where(several, total, 0)
    share = counted / np.maximum(counted.sum(0), 1e-300) / max(1, several.any(0).sum())
    for square in squares:
        square[~several] = 1
    for values in (product_, *totals):
        values[~several] = 0
    total = np.where(several, total, 1)
    return batch_of_sums(
        tuple(samples), weight, list(squares), product_, list(totals), total, share, group
    )


def samples_of(p: Tensor, y: Tensor, w: Tensor | None, errors: bool) -> tuple[Tensor, Tensor]:
    """`(2 or 3, n, targets)`: prediction, target and perhaps their difference, and the weights of
    the labels, in float64, with 0 for a missing one."""
    missing = y.isnan()
    weight = (~missing if w is None else w.masked_fill(missing, 0)).double()
    samples = torch.stack((p, y, p - y) if errors else (p, y)).double()
    return samples.masked_fill(missing if w is None else weight == 0, 0), weight


def batch_of_sums(
    samples: tuple[Tensor, ...],
    weight: Tensor,
    squares: list[Statistic],
    product: Statistic,
    totals: list[Statistic],
    total: Statistic,
    share: Statistic = 1.0,
    group: Tensor | None = None,
) -> PlainBatch | None:
    """Of weighted sums over float32 in float64; None where these have lost digits.

    Args:
        samples: prediction, target, and perhaps their difference.
        weight: of the samples.
        squares: of each of them, the sum of its squares.
        product: of the first two.
        totals: of each, the sum.
        total: of the weights.
        share, group: as in `PlainBatch`.
    """
    if not all_of(total > 0):
        return None
    means = [sum_ / total for sum_ in totals]
    deviations = [squares[i] - total * means[i] * means[i] for i in range(2)]
    smallest, least = SOUND_ELSEWHERE
    for i, square in enumerate(deviations):
        sound = all_of(square > smallest) and all_of(square < 1 / smallest)
        if not sound or not all_of(square > least * total * means[i] * means[i]):
            return None
    covariance = product - total * means[0] * means[1]
    loss = 1 - covariance / (deviations[0] * deviations[1]) ** 0.5
    loss = np.maximum(loss, 0) if isinstance(loss, np.ndarray) else max(loss, 0.0)
    variances = deviations[0] / total, deviations[1] / total
    of_errors = (means[2], squares[2] / total) if len(samples) == 3 else (0.0, 0.0)
    moments = Moments(loss, *variances, *of_errors)
    return PlainBatch(moments, samples, (means[0], means[1]), weight, total, share, group)
