"""Ranking of pairs: of two samples, the one with the larger target should be predicted larger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from finecorr.functional.moments import Populations, populations, running_sum_terms
from finecorr.functional.sorting import runs

PairLoss = Literal["hinge", "logistic"]
_KINDS = get_args(PairLoss)

MARGIN = 0.3

ROUNDING = 64
"""How many epsilons of its terms a difference of predictions may be off."""

CHUNK = 2**22
"""How many pairs are in memory at once."""


def pairwise_rank_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    kind: PairLoss = "hinge",
    margin: float = MARGIN,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Mean loss of the pairs i, j with `target_i > target_j`.

    With `d = (prediction_i - prediction_j) / std(target)`, the loss of a pair is

        hinge:     max(0, margin - d)
        logistic:  log(1 + exp(-d / margin))

    and the mean is weighted by `weight_i * weight_j`. Equal targets make no pair. As `d` is in
    standard deviations of the target, the unit of the data is irrelevant. The margin is the same
    for all pairs, so that the order is learnt, but not the scale.

    The hinge takes O(n log n) time and O(n) memory for n samples: its gradient is a count of
    the samples that are lower in target and not lower by the margin in prediction, which a wavelet
    matrix gives for all samples at once. The logistic loss takes O(n^2) time and O(n) memory.

    Source: the hinge is that of RankSVM (Herbrich et al., Large Margin Rank Boundaries for Ordinal
    Regression, 2000), the logistic that of RankNet (Burges et al., Learning to Rank using Gradient
    Descent, ICML 2005).

    Args:
        prediction: `(n,)` or `(n, targets)`.
        target: the shape of `prediction`; NaN is a missing label.
        kind: "hinge" or "logistic".
        margin: in standard deviations of the target; positive. The default is 0.3.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: pairs and the standard deviation are within each group; the groups
            are averaged by their weights.

    Returns:
        A scalar, the mean over targets. Groups and targets with fewer than two labelled samples
        or with a constant target are left out; the loss is 0 where nothing is left.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out
            of its range.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {_KINDS}, not {kind!r}")
    if not 0 < margin < float("inf"):
        raise ValueError(f"margin must be positive and finite, not {margin}")
    batch = populations(prediction, target, weight, group)
    dtype = batch.target.dtype
    # Running sums, and whether a pair is past the margin, need all the digits there are.
    precise = replace(
        batch,
        prediction=running_sum_terms(batch.prediction),
        target=running_sum_terms(batch.target),
        weight=running_sum_terms(batch.relative_weight()),
    )
    ranking = _order(precise)
    lower = ranking.weight_before(ranking.first) - ranking.weight_before(ranking.start)
    pairs = precise.sum((ranking.weight * lower).T)
    losses = _hinge(ranking, margin) if kind == "hinge" else _logistic(ranking, margin, dtype)
    loss = batch.sum(losses.T) / torch.where(pairs > 0, pairs, 1)
    return batch.average(loss.to(dtype), batch.defined())


@dataclass(frozen=True)
class _Order:
    """The samples, `(targets, samples)`, in ascending order of target within each population."""

    prediction: Tensor
    """In standard deviations of the target, from the mean."""
    tolerance: Tensor
    """How far two predictions are apart by rounding."""
    weight: Tensor
    start: Tensor
    """Where the population starts, ..."""
    first: Tensor
    """... where the samples with the same target start, ..."""
    stop: Tensor
    """... the position after the last one of these, ..."""
    end: Tensor
    """... and that after the population."""

    def weight_before(self, position: Tensor) -> Tensor:
        return _before(self.weight).gather(-1, position)


def _order(batch: Populations) -> _Order:
    truth = batch.scores(batch.target)
    unit = torch.where(truth.constant, 1, truth.std)
    centre = batch.mean(batch.prediction.detach())
    prediction = (batch.prediction - batch.expand(centre)) / batch.expand(unit)
    largest = -batch.minimum(-prediction.detach().abs())
    tolerance = ROUNDING * torch.finfo(prediction.dtype).eps * batch.expand(largest)

    order = batch.target.argsort(0)
    differs = torch.zeros_like(order, dtype=torch.bool)
    differs[:1] = True
    if batch.group is not None:
        order = order.gather(0, batch.group[order].argsort(dim=0, stable=True))
        differs[1:] = (batch.group[1:] != batch.group[:-1])[:, None]
    target = batch.target.gather(0, order)
    start, end = runs(differs.T)
    differs[1:] |= target[1:] != target[:-1]
    first, stop = runs(differs.T)
    return _Order(
        prediction.gather(0, order).T,
        tolerance.T,
        batch.weight.gather(0, order).T,
        start,
        first,
        stop,
        end,
    )


def _hinge(ranking: _Order, margin: float) -> Tensor:
    """`(targets, samples)`: a share of the sum over pairs for each sample.

    The sum over the pairs within the margin of `margin - (p_i - p_j)` is one over samples: of the
    margin for each pair won, and of the prediction for each pair lost less those won.
    """
    weight = ranking.weight
    with torch.no_grad():
        prediction = ranking.prediction.contiguous()
        ascending, order = prediction.sort(-1)
        position = torch.arange(prediction.shape[-1], device=prediction.device)
        rank = torch.empty_like(order).scatter(-1, order, position.expand_as(order))
        reach = margin - (ranking.tolerance + ROUNDING * torch.finfo(weight.dtype).eps * margin)
        clear = torch.searchsorted(ascending, (prediction - reach).contiguous(), right=True)
        near = torch.searchsorted(ascending, (prediction + reach).contiguous())
        below = _weight_below(
            rank,
            weight,
            torch.cat([ranking.start, ranking.stop], -1),
            torch.cat([ranking.first, ranking.end], -1),
            torch.cat([clear, near], -1),
        )
        cleared, lost = below.chunk(2, -1)
        won = ranking.weight_before(ranking.first) - ranking.weight_before(ranking.start) - cleared
    return weight * ((lost - won) * ranking.prediction + margin * won)


def _logistic(ranking: _Order, margin: float, dtype: torch.dtype) -> Tensor:
    """`(targets, samples)`: for each sample, the sum over the pairs in which it should win."""
    prediction, weight = ranking.prediction.to(dtype), ranking.weight.to(dtype)
    position = torch.arange(prediction.shape[-1], device=prediction.device)

    def anchors(rows: slice) -> Tensor:
        difference = prediction[:, rows, None] - prediction[:, None]
        loss = -torch.nn.functional.logsigmoid(difference / margin)
        lower = (position >= ranking.start[:, rows, None]) & (
            position < ranking.first[:, rows, None]
        )
        return (torch.where(lower, loss, 0) * weight[:, None]).sum(-1) * weight[:, rows]

    return over_anchors(anchors, len(prediction), len(position))


def over_anchors(losses: Callable[[slice], Tensor], targets: int, samples: int) -> Tensor:
    """`(targets, samples)`: what `losses` gives for some of the samples, for all of them.

    It takes about `CHUNK` numbers of memory at a time, also for the gradient: what a part of the
    anchors needs is computed again then.
    """
    step = max(1, CHUNK // max(1, targets * samples))
    parts = [
        checkpoint(losses, slice(i, i + step), use_reentrant=False, preserve_rng_state=False)
        for i in range(0, max(1, samples), step)
    ]
    return torch.cat(parts, -1)


def _before(values: Tensor) -> Tensor:
    """Running sums along rows, without the entry itself: one more than there are entries."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))


def _weight_below(
    rank: Tensor, weight: Tensor, start: Tensor, stop: Tensor, limit: Tensor
) -> Tensor:
    """The weight, at the positions from `start` to before `stop`, of ranks below `limit`.

    `rank` and `weight` are `(targets, samples)`, the ranks a permutation; the queries `start`,
    `stop` and `limit` are `(targets, queries)`.

    It walks down a wavelet matrix (Claude, Navarro and Ordonez, The Wavelet Matrix, 2015). From
    the highest bit of the ranks to the lowest, those with a 0 are moved to the front, otherwise
    keeping their order. Positions that were adjacent, and agree in the bits so far, stay adjacent.
    """
    samples = rank.shape[-1]
    position = torch.arange(samples, device=rank.device)
    below = torch.zeros_like(start, dtype=weight.dtype)
    for bit in reversed(range(samples.bit_length())):
        one = (rank >> bit) & 1
        ones = _before(one)
        zeros = samples - ones[..., -1:]
        weight_of_zeros = _before(torch.where(one == 0, weight, 0))
        high = (limit >> bit) & 1 == 1
        passed = weight_of_zeros.gather(-1, stop) - weight_of_zeros.gather(-1, start)
        below = below + torch.where(high, passed, 0)
        start, stop = (
            torch.where(high, zeros + ones.gather(-1, p), p - ones.gather(-1, p))
            for p in (start, stop)
        )
        place = torch.where(one == 1, zeros + ones[..., :-1], position - ones[..., :-1])
        rank = torch.empty_like(rank).scatter(-1, place, rank)
        weight = torch.empty_like(weight).scatter(-1, place, weight)
    return below
