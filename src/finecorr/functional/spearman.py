"""Differentiable ranks, and the loss on the Spearman rank correlation (SRC) made of them.

Soft ranks are the projection of the values onto the permutahedron, the convex hull of all rankings
(Blondel et al., Fast Differentiable Sorting and Ranking, ICML 2020, arXiv 2002.08871). To project
is to sort and to solve one isotonic regression, which pools neighbours.

The arithmetic is on shares: how much of a population's weight ranks below, half of the own counted.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from finecorr.functional.moments import Populations, populations, running_sum_terms
from finecorr.functional.pearson import pearson_loss
from finecorr.functional.plain.batch import labelled
from finecorr.functional.plain.spearman import plain_spearman
from finecorr.functional.relations import CHUNK
from finecorr.functional.sorting import argsort

Regularization = Literal["l2", "kl"]
_KNOWN = get_args(Regularization)

STRENGTH = 2.0
"""Within 0.004 of the best in each of six trials, by the mean correlation on unseen samples:
batches of 16 and 64 samples, groups of 4 and 8, whole training sets of 300 and 4000 samples. From 1
downwards small groups have too little gradient; upwards, extreme predictions weigh more and more,
and a network without early stopping overfits sooner."""


def soft_rank(
    values: Tensor, *, strength: float = STRENGTH, regularization: Regularization = "l2"
) -> Tensor:
    """Differentiable ranks along the last dimension: 1 for the least value, n for the largest.

    With the standard scores `z = (values - mean) / std` and the permutahedron `P`, the convex hull
    of the permutations of `(1/2, 3/2, ..., n - 1/2) / n`, the ranks are `n * r + 1/2` with

        l2:  r = argmin over r in P of  sum((r - z / strength)^2)
        kl:  r = argmin over r in P of  sum(r * log(r / exp(z / strength)) - r)

    The projection pools neighbours whose scores are close, and in a pool the ranks are linear in
    the scores (kl: in `exp(z / strength)`). A value in no pool has its exact rank, the derivative
    of which is 0. As `strength` nears 0 all ranks are exact, tied values sharing the mean of
    theirs. Of many normally distributed values, l2 pools 45 % at 1, 71 % at 2 and 99 % at 5, most
    of these in one pool from 3 on. Since scores are standardised and ranks are shares of n, that
    is the same in every unit and for every n.

    The gradient is that of this function, through the standardisation too. Equal values all get
    the middle rank, and their gradient is as if `std` were 1.

    Source: Blondel et al., ICML 2020, arXiv 2002.08871. On the CPU l2 takes O(n log n) time, with
    SciPy's isotonic regression. Otherwise the regression is O(log n) torch operations, which do not
    wait for the device, on O(n) numbers, and the time O(n log(n)^2).

    Args:
        values: `(..., n)`.
        strength: how smooth the ranks are; positive. The default is 2.
        regularization: "l2" or "kl".

    Returns:
        `(..., n)`, in the dtype of `values` and at least in float32.

    Raises:
        ValueError: `values` has no dimension, or an option is out of its range.
        TypeError: `values` is not floating point.
    """
    if not values.is_floating_point():
        raise TypeError(f"values must be floating point, not {values.dtype}")
    if values.ndim == 0:
        raise ValueError("values must be (..., n), but has no dimension")
    n = values.shape[-1]
    columns = values.reshape(math.prod(values.shape[:-1]), n).T
    batch = populations(columns, torch.zeros_like(columns))
    ranks = n * _soft_shares(batch, strength, regularization) + (n + 1) / 2
    return ranks.to(batch.weight.dtype).T.reshape(values.shape)


def spearman_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    strength: float = STRENGTH,
    regularization: Regularization = "l2",
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """`1 - SRC` with soft ranks for those of the prediction: about 0 for the right order, 1 for no
    correlation, about 2 for the reverse order.

    It is `pearson_loss` of the prediction's `soft_rank` and the target's exact ranks, tied targets
    sharing the mean of theirs. As `strength` nears 0 it becomes `1 - SRC`, which has no gradient;
    where `strength` is so large that all are in one pool, it is (for l2) `1 - PLC` of the
    predictions and the target's ranks.

    A weight counts as repetitions. A constant prediction has the loss 1, and a gradient towards
    the target's ranks.

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        strength, regularization: see `soft_rank`, also for the cost.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: ranks and correlation within each group, averaged by the groups'
            weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """

    def general(prediction: Tensor) -> Tensor:
        return _spearman(prediction, target, strength, regularization, weight, group)

    if weight is None and group is None and regularization == "l2":
        loss = plain_spearman(prediction, target, strength, _isotonic_of_equals, general)
        if loss is not None:
            return loss
        rows = labelled(prediction, target)
        if rows is not None:
            return spearman_loss(prediction[rows], target[rows], strength=strength)
    return general(prediction)


def _spearman(
    prediction: Tensor,
    target: Tensor,
    strength: float,
    regularization: Regularization,
    weight: Tensor | None,
    group: Tensor | None,
) -> Tensor:
    batch = populations(prediction, target, weight, group)
    # Correlation ignores the factor. It keeps the gradient of a constant from depending on it.
    soft = strength * _soft_shares(batch, strength, regularization)
    truth = _shares(batch).masked_fill(batch.weight == 0, torch.nan)
    soft, truth = (
        batch.restore(values.to(batch.weight.dtype)).reshape(target.shape)
        for values in (soft, truth)
    )
    return pearson_loss(soft, truth, weight=weight, group=group)


class _Ranking(NamedTuple):
    """The samples of one population after the other, each population in ascending order and its
    samples without weight last. All are `(samples * targets,)`."""

    place: Tensor
    """Where in the flattened batch each sample is."""
    weight: Tensor
    """1 for a sample without weight."""
    share: Tensor
    """Of the population's weight, how much is before the middle of this sample."""
    first: Tensor
    """Whether a population begins, or the sample is without weight and ranks with no other."""

    def restore(self, values: Tensor, batch: Populations) -> Tensor:
        """`(samples, targets)`"""
        return torch.empty_like(values).index_copy_(0, self.place, values).view_as(batch.weight)


def _ranking(batch: Populations, values: Tensor) -> _Ranking:
    samples, targets = values.shape
    order = argsort(values.masked_fill(batch.weight == 0, torch.inf), 0)
    if batch.group is not None:
        order = order.gather(0, batch.group[order].argsort(dim=0, stable=True))
    place = torch.arange(targets, device=order.device).add(order, alpha=targets).T.reshape(-1)

    weights = running_sum_terms(batch.weight)
    total = batch.sum(weights)
    before = batch.expand(total.cumsum(0) - total).T
    total = batch.expand(torch.where(total > 0, total, 1)).T
    weight = weights.reshape(-1).index_select(0, place).view(targets, samples)
    share = weight.cumsum(1).sub_(weight, alpha=0.5).sub_(before).div_(total)
    first = weight == 0
    weight, share = weight.masked_fill_(first, 1), share.masked_fill_(first, 1)
    first[:, :1] = True
    if batch.group is not None:
        first[:, 1:] |= batch.group[1:] != batch.group[:-1]
    return _Ranking(place, weight.view(-1), share.view(-1), first.view(-1))


class _Pools:
    """Neighbours in a ranking that have the same key."""

    def __init__(self, keys: Tensor, ranking: _Ranking) -> None:
        first = ranking.first.clone()
        first[1:] |= keys[1:] != keys[:-1]
        self.number = first.cumsum(0).sub_(1)
        total = torch.zeros_like(ranking.weight).index_add_(0, self.number, ranking.weight)
        self.weight = ranking.weight / total.index_select(0, self.number)

    def mean(self, values: Tensor) -> Tensor:
        """Weighted means over each pool, at each entry."""
        means = torch.zeros_like(self.weight).index_add_(0, self.number, self.weight * values)
        return means.index_select(0, self.number)


def _shares(batch: Populations) -> Tensor:
    """`(samples, targets)`: the exact ranks of the target."""
    ranking = _ranking(batch, batch.target)
    ties = _Pools(batch.target.reshape(-1).index_select(0, ranking.place), ranking)
    return ranking.restore(ties.mean(ranking.share), batch)


def _soft_shares(batch: Populations, strength: float, regularization: Regularization) -> Tensor:
    """`(samples, targets)`: the soft ranks of the prediction, less 1/2."""
    if not 0 < strength < math.inf:
        raise ValueError(f"strength must be positive and finite, not {strength}")
    if regularization not in _KNOWN:
        raise ValueError(f"regularization must be one of {_KNOWN}, not {regularization!r}")
    scores = batch.scores(batch.prediction).values.masked_fill(batch.weight == 0, 0)
    ranking = _ranking(batch, scores.detach())
    if scores.numel() == 0:
        return scores
    point = running_sum_terms(scores.reshape(-1).index_select(0, ranking.place)) / strength
    vertex, weight = ranking.share, ranking.weight
    if regularization == "kl":
        vertex, weight = vertex.log(), weight * vertex
    # Isotonic regression of all at once: no pool reaches from one population into the next.
    start = point.detach()
    gap = (start[:-1] - start[1:]).add_(vertex.max() - vertex.min() + 1).mul_(ranking.first[1:])
    offset = pad(gap.cumsum(0), (1, 0))
    fit = _isotonic(start + offset - vertex, weight, regularization)
    pools = _Pools(fit, ranking)
    level = pools.mean(ranking.share)
    # It is the same in all of a pool. Without it, small numbers are left, with all their digits.
    difference = point - (fit - offset)
    if regularization == "kl":
        ratio = difference.exp()
        shares = level * ratio / pools.mean(ratio) - 0.5
    else:
        shares = (level - 0.5) + (difference - pools.mean(difference))
    return ranking.restore(shares, batch)


def _isotonic(values: Tensor, weight: Tensor, regularization: Regularization) -> Tensor:
    """`(n,)`: the ascending sequence nearest to the values: neighbours that descend are pooled to
    their weighted mean, for kl the logarithm of that of their exponentials."""
    if regularization == "l2" and values.device.type == "cpu":
        fit: Tensor = _isotonic_by_scipy(values, weight)
        return fit
    return _isotonic_by_halves(values, weight, regularization)


def _isotonic_of_equals(values: Tensor) -> Tensor:
    """`_isotonic` for l2, of entries that weigh the same."""
    if values.device.type == "cpu":
        return _isotonic(values, torch.ones_like(values), "l2")
    n = len(values)
    if n * n > CHUNK:
        return _isotonic_by_halves(values, torch.ones_like(values), "l2")
    return _isotonic_by_means(values)


def _isotonic_by_means(values: Tensor) -> Tensor:
    """Of those that start at or before an entry, the largest, each being the least mean of those
    that end at it or after: of all means at once, in few operations.

    Source: Robertson, Wright and Dykstra, Order Restricted Statistical Inference, 1988, theorem
    1.4.4.
    """
    n = len(values)
    sums = pad(values.cumsum(0), (1, 0))
    position = torch.arange(n, device=values.device)
    counts = position - position[:, None] + 1
    means = ((sums[1:] - sums[:-1, None]) / counts).masked_fill_(counts <= 0, torch.inf)
    least = means.flip(1).cummin(1).values.flip(1)
    return least.masked_fill_(counts <= 0, -torch.inf).amax(0)


@torch.library.custom_op("finecorr::isotonic_regression", mutates_args=(), device_types="cpu")
def _isotonic_by_scipy(values: Tensor, weight: Tensor) -> Tensor:
    # Importing it takes a third of a second, which `import finecorr` shall not.
    from scipy.optimize import isotonic_regression

    return torch.from_numpy(isotonic_regression(values.numpy(), weights=weight.numpy()).x)


@_isotonic_by_scipy.register_fake
def _(values: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(values)


def _isotonic_by_halves(values: Tensor, weight: Tensor, regularization: Regularization) -> Tensor:
    """Ascending neighbours of 1, then of 2, 4, ... entries are merged, each time all at once.

    A merger pools the largest of the left and the smallest of the right: an entry of the left if it
    is above the mean of what it would be pooled with, which is the larger ones of the left and the
    smaller ones of the right. Entries of the right mirror that.
    """
    n = len(values)
    size = 1 << (n - 1).bit_length()
    fit = torch.cat([values, values.max().expand(size - n)])
    weight = pad(weight, (0, size - n))
    sign = weight.new_tensor([[-1], [1]])
    half = 1
    while half < size:
        pair = fit.view(-1, 2, half)
        middle = pair[:, :1, -1:]
        terms = pair - middle
        if regularization == "kl":
            terms = terms.clamp(max=0).exp()  # what is above the middle is not pooled
        terms, weights = sign * _outwards(terms), _outwards(weight.view(-1, 2, half))
        before = torch.searchsorted(terms, torch.cat([terms, -terms.flip(1)], 2))
        sums, counts = (
            pad(values.cumsum(2), (1, 0)).gather(2, before) for values in (weights * terms, weights)
        )
        mean = (sums[..., :half] - sums[..., half:].flip(1)) / (
            counts[..., :half] + counts[..., half:].flip(1)
        )
        pooled = mean > terms
        weights = torch.where(pooled, weights, 0)
        level = (sign * weights * terms).sum((1, 2)) / weights.sum((1, 2))
        if regularization == "kl":
            level = level.log()
        fit = torch.where(_outwards(pooled), middle + level[:, None, None], pair).view(-1)
        half *= 2
    return fit[:n]


def _outwards(pair: Tensor) -> Tensor:
    """`(..., 2, half)`: both halves in the order of the distance from the middle, or back."""
    return torch.stack([pair[:, 0].flip(1), pair[:, 1]], 1)
