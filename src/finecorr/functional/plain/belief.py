"""How far labels are to be believed; see `finecorr.functional.label_noise`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finecorr.functional.moments import RUNNING_SUM_ROUNDING
from finecorr.functional.plain.batch import common_dtype, is_plain
from finecorr.functional.plain.distances import Distances, at_once, distances, fits
from finecorr.functional.student_t import tried

LEAST_SCALE = 1e-3
"""The least scale of the noise, as a share of the targets' standard deviation: where most of the
labels are met exactly, the rest are not wrong for that."""

NEIGHBOURS = 8
"""Samples with which each one's residual is compared."""

ROUNDING = 1e-12
"""How far two squared distances that are equal may be apart, as a share of the largest squared
length."""

SHARED = 3.0
"""Times what neighbours share is how much the weights are weakened: all are 1 where it is a third
of the residuals' variance."""

LEAST_WEIGHT = 1e-6
"""A weight of 0 would be a missing label."""

MANY, DRAWN = 2**11, 2**10
"""Of more labelled samples than the first, without groups, so many tell the noise."""

LEAST_UNIT = 1e-100
"""A divisor that no residual of float32 overflows."""


@torch.no_grad()
def plain_label_weights(
    prediction: Tensor, target: Tensor, features: Tensor | None, weight: Tensor | None
) -> Tensor | None:
    """Or None where they have to be taken in the general way."""
    if (
        not is_plain(prediction, target, weight)
        or common_dtype(prediction, target) != torch.float32
    ):
        return None
    n = len(prediction)
    if n < 2 or (features is not None and not (fits(features, target) and at_once(n) == n)):
        return None
    # In float64, in which no square of float32 overflows or vanishes.
    truth = target.double().view(n, -1)
    residual = prediction.double().view(n, -1) - truth
    known = residual.sum()
    if weight is not None:
        weight = weight.double().view(n, -1)
        known = torch.where(weight.amin() > 0, known, torch.nan)
    if not math.isfinite(known.item()):
        return None
    apart = None if features is None else distances(features)
    return belief(residual, truth, apart, weight).float().view(target.shape)


def belief(
    residual: Tensor, truth: Tensor, apart: Distances | None, weight: Tensor | None
) -> Tensor:
    """`(n, targets)`, as all these are, of finite numbers in float64; weights are positive."""
    part = drawn(residual)
    of_part = None if weight is None else drawn(weight)
    middle = _median(part, of_part)
    distance = (part - middle).abs()
    std = _std(truth, weight)
    unit = torch.maximum(_median(distance, of_part), LEAST_SCALE * std).clamp_(min=LEAST_UNIT)
    far = (distance / unit).square()
    noises = tried(far)
    mean = _mean(torch.log1p(noises.rate[..., None] * far), of_part)
    # Where all targets are equal, all labels are believed.
    rate = noises.mean_rate(mean) * (std > 0)
    if part is not residual:
        far = (residual - middle).div_(unit).square_()
    doubt = far.mul_(rate).add_(1)
    if apart is None:
        return doubt.reciprocal_().clamp_(min=LEAST_WEIGHT)
    return doubt.pow(_minus_strength(residual, apart, weight)).clamp_(min=LEAST_WEIGHT)


def drawn(values: Tensor) -> Tensor:
    """Of many rows a part: those at multiples of the golden ratio, which are even, and in step with
    no order that samples may have."""
    n = len(values)
    if n <= MANY:
        return values
    places = torch.arange(DRAWN, dtype=torch.float64) * ((5**0.5 - 1) / 2) % 1
    return values[(places * n).long().to(values.device)]


def _median(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of the lower and the upper one; `(1, targets)`."""
    n = len(values)
    values, order = values.sort(0)
    if weight is None:
        return values[(n - 1) // 2 : n // 2 + 1].mean(0, keepdim=True)
    reached = weight.expand_as(values).gather(0, order).cumsum(0).T.contiguous()
    lower, upper = 0.5 - RUNNING_SUM_ROUNDING, 0.5 + RUNNING_SUM_ROUNDING
    edges = torch.cat((reached[:, -1:] * lower, reached[:, -1:] * upper), 1)
    return values.gather(0, torch.searchsorted(reached, edges).T).mean(0, keepdim=True)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Of the samples, in the last dimension but one."""
    if weight is None:
        return values.mean(-2)
    return (values * weight).sum(-2) / weight.sum(0)


def _std(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values.std(0, correction=0, keepdim=True)
    return _mean((values - _mean(values, weight)).square(), weight).sqrt()[None]


def _minus_strength(residual: Tensor, apart: Distances, weight: Tensor | None) -> Tensor:
    scores = residual - _mean(residual, weight)
    # Its own distance, 0, is among the smallest.
    reach = apart.squares.topk(min(NEIGHBOURS + 1, len(scores)), largest=False).values[:, -1:]
    near = (apart.squares <= reach + ROUNDING * apart.norms.amax()).double().fill_diagonal_(0)
    shared = scores * (near @ scores) / near.sum(1, keepdim=True)
    moran = _mean(shared, weight) / _mean(scores.square(), weight)
    # Where all residuals are equal, all labels are believed, however strongly.
    return (SHARED * moran.nan_to_num_(0.0) - 1).clamp_(-1, 0)
