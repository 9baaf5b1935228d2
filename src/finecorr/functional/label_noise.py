"""How far a label is to be believed: the noise of the labels, as a batch shows it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from finecorr.functional.closed_form import common_dtype, is_plain
from finecorr.functional.features import batch_with_features
from finecorr.functional.moments import Populations, populations
from finecorr.functional.relations import CHUNK, distances
from finecorr.functional.student_t import tried

LEAST_SCALE = 1e-3
"""The least scale of the noise, as a share of the targets' standard deviation: where most of the
labels are met exactly, the rest are not wrong for that."""

NEIGHBOURS = 8
"""Samples with which each one's residual is compared."""

SHARED = 3.0
"""Times what neighbours share is how much the weights are weakened: all are 1 where it is a third
of the residuals' variance."""

LEAST_WEIGHT = 1e-6
"""A weight of 0 would be a missing label."""

FARTHEST = 1e15
"""In median distances; its square does not overflow."""

MANY, DRAWN = 2**11, 2**10
"""Of more labelled samples than the first, without groups, so many tell the noise."""


def label_weights(
    prediction: Tensor,
    target: Tensor,
    features: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """How far each label is to be believed, from 0 to 1: in the shape of `target`.

    With the residual `e = prediction - target`,

        (1 / (1 + c (e - m)^2)) ^ max(0, 1 - 3 I)

    m is the median of the residuals. Where noise has Student's t distribution with nu degrees of
    freedom and scale s, `1 / (1 + (e - m)^2 / (nu s^2))` is the weight of a sample in the
    likelihood, over that of one in its middle. c is the mean of `1 / (nu s^2)` over nu of 1, 1.5,
    2.5, 4, 8, 20 and 1000, each with nine scales, in steps of 15 % around the one that the median
    of `|e - m|` says (taken as at least 0.001 of the standard deviation of the targets). Each
    counts by its likelihood for 1024 samples like these: with Gaussian residuals a large nu
    prevails, and all label weights are near 1; with a few gross errors a small one does, and these
    errors have weights near 0.

    `I` is Moran's: the mean product of a sample's residual with the mean residual of the 8 samples
    (and those at the same distance as the last) whose features are nearest to its own, over the
    variance of the residuals. A wrong label is wrong alone. What neighbours share is the network's
    error, not the labels': such samples are hard, and are to be learnt. Without features, `I` is 0.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        features: `(n, d)`, or None.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: each group has its own noise, and its own neighbours.

    Returns:
        The weights, without a gradient; 1 for a missing label, and where all residuals or all
        targets are equal, or a prediction is not finite. Of more than 2048 samples without groups,
        1024 tell c.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.

    Sources: the noise as Lange, Little and Taylor, Robust Statistical Modeling Using the t
    Distribution, JASA 1989; P. A. P. Moran, Notes on Continuous Stochastic Phenomena, Biometrika
    1950.
    """
    if weight is None and group is None and is_plain(prediction, target):
        found = _plain_belief(prediction, target, features)
        if found is not None:
            return found
    batch, features = batch_with_features(features, prediction, target, weight, group)
    return batch.restore(_belief(batch, features)).reshape(target.shape)


def believed_weight(
    prediction: Tensor,
    target: Tensor,
    *,
    believed: Tensor,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Weights of the labels, times how far they are believed: in the shape of `target`.

    Each group as a whole weighs what it did.

    Args:
        prediction, target, weight, group: as in `label_weights`.
        believed: what that returned.
    """
    if group is None:
        if weight is None:
            return believed
        return believed * (weight if weight.ndim == believed.ndim else weight[:, None])
    batch = populations(prediction, target, weight, group)
    columns = believed.reshape(batch.target.shape)
    columns = columns if batch.order is None else columns[batch.order]
    after = batch.weight * columns
    growth = batch.sum(batch.weight) / _positive(batch.sum(after))
    return batch.restore(after * batch.expand(growth)).reshape(target.shape)


@torch.no_grad()
def _belief(batch: Populations, features: Tensor | None) -> Tensor:
    """`(samples, targets)`; `features` are of the batch's samples."""
    truth = batch.scores(batch.target)
    residual = batch.scores(batch.prediction - batch.target)
    alike = residual.constant | truth.constant
    least = LEAST_SCALE * truth.std / torch.where(alike, 1, residual.std)
    middle, unit, factor = _noise(_drawn(batch, residual.values), least)
    far = _far(residual.values, batch.expand(middle), batch.expand(unit))
    believed = 1 / (1 + batch.expand(factor) * far)
    believed = believed.pow(batch.expand(_strength(batch, residual.values, features)))
    # Where a prediction is not finite, so is the loss, and nothing is known of labels.
    believed = believed.clamp(LEAST_WEIGHT, 1).nan_to_num(1.0)
    return torch.where(batch.expand(alike) | (batch.weight == 0), 1, believed)


def _drawn(batch: Populations, residual: Tensor) -> Populations:
    """The batch, its residuals in the place of predictions; of a large one a part."""
    batch = replace(batch, prediction=residual)
    if batch.group is not None or len(residual) <= MANY:
        return batch
    labelled = (batch.weight > 0).any(1).nonzero().squeeze(1)
    if len(labelled) <= MANY:
        return batch
    rows = labelled[_drawn_of(len(labelled)).to(labelled.device)]
    return replace(
        batch, prediction=residual[rows], target=batch.target[rows], weight=batch.weight[rows]
    )


def _drawn_of(n: int) -> Tensor:
    """Multiples of the golden ratio: even, and in step with no order that samples may have."""
    places = torch.arange(DRAWN, dtype=torch.float64) * ((5**0.5 - 1) / 2) % 1
    return (places * n).long()


def _noise(batch: Populations, least: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the residuals, which stand in the place of predictions: m, the median distance from it,
    and c in the unit of that. Each is `(groups, targets)`."""
    residual = batch.prediction
    middle = batch.median(residual)
    unit = torch.maximum(batch.median((residual - batch.expand(middle)).abs()), least)
    unit = torch.where(unit > 0, unit, 1)
    far = _far(residual, batch.expand(middle), batch.expand(unit))
    noises = tried(far)
    share = batch.weight / batch.expand(_positive(batch.sum(batch.weight)))
    means = [
        batch.sum((share * torch.log1p(rates[..., None] * far)).movedim(0, 1).flatten(1))
        for rates in torch.split(noises.rate, max(1, CHUNK // max(1, far.numel())))
    ]
    mean = torch.cat(means, dim=1).reshape(batch.groups, len(noises.rate), far.shape[1])
    rate = noises.mean_rate(mean.movedim(1, 0).flatten(1))
    return middle, unit, rate.reshape(batch.groups, far.shape[1])


def _far(residual: Tensor, middle: Tensor, unit: Tensor) -> Tensor:
    """Squared distances from the middle."""
    return ((residual - middle) / unit).clamp(-FARTHEST, FARTHEST).square()


def _strength(batch: Populations, residual: Tensor, features: Tensor | None) -> Tensor:
    """`(groups, targets)`: from 1, where residuals are the labels' noise, to 0."""
    if features is None or len(features) < 2:
        return torch.ones_like(batch.sum(batch.weight))
    product = batch.mean(residual * _mean_of_neighbours(batch, residual, features))
    return (1 - SHARED * product).clamp(0, 1)


def _mean_of_neighbours(batch: Populations, values: Tensor, features: Tensor) -> Tensor:
    """`(samples, targets)`: of those in the same group that have a label; 0 where none has."""
    n, targets = values.shape
    labelled = (batch.weight > 0).T
    position = torch.arange(n, device=features.device)
    means = []
    for rows in torch.split(position, max(1, CHUNK // (n * max(1, targets)))):
        others = (rows[:, None] != position) & labelled[:, None]
        if batch.group is not None:
            others = others & (batch.group[rows, None] == batch.group)
        apart = distances(features[rows], features).where(others, torch.inf)
        reach = apart.topk(min(NEIGHBOURS, n - 1), largest=False).values[..., -1:]
        near = (others & (apart <= reach)).to(values.dtype)
        means.append((near @ values.T[..., None]).squeeze(-1) / _positive(near.sum(-1)))
    return torch.cat(means, dim=1).T


@torch.no_grad()
def _plain_belief(prediction: Tensor, target: Tensor, features: Tensor | None) -> Tensor | None:
    """The same in few operations, for what float32 holds, where no label is missing; else None."""
    n = len(prediction)
    if common_dtype(prediction, target) != torch.float32 or n < 2:
        return None
    if features is not None and not _fit(features, prediction):
        return None
    # In float64, in which no square of float32 overflows or vanishes.
    truth = target.double().view(n, -1)
    residual = prediction.double().view(n, -1) - truth
    if not math.isfinite(residual.sum().item()):
        return None
    drawn = residual if n <= MANY else residual[_drawn_of(n).to(residual.device)]
    middle = _plain_median(drawn)
    std = truth.std(0, correction=0, keepdim=True)
    distance = (drawn - middle).abs()
    unit = torch.maximum(_plain_median(distance), LEAST_SCALE * std)
    unit = unit + (unit == 0)
    far = (distance / unit).square()
    noises = tried(far)
    mean = torch.log1p(noises.rate[..., None] * far).mean(1)
    # Where all targets are equal, all labels are believed.
    rate = noises.mean_rate(mean) * (std > 0)
    if n > MANY:
        far = ((residual - middle) / unit).square()
    believed = 1 / (1 + rate * far)
    if features is not None:
        believed = believed.pow(_plain_strength(residual, features.double()))
    return believed.clamp(LEAST_WEIGHT, 1).float().view(target.shape)


def _fit(features: Tensor, prediction: Tensor) -> bool:
    """Whether all pairs can be compared at once."""
    n = len(prediction)
    return (
        isinstance(features, Tensor)
        and features.device == prediction.device
        and features.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and features.ndim == 2
        and len(features) == n
        and features.shape[1] > 0
        and n * n <= CHUNK
    )


def _plain_median(values: Tensor) -> Tensor:
    n = len(values)
    return values.sort(0).values[(n - 1) // 2 : n // 2 + 1].mean(0, keepdim=True)


def _plain_strength(residual: Tensor, features: Tensor) -> Tensor:
    scores = residual - residual.mean(0)
    features = features - features.mean(0)
    with torch.autocast(features.device.type, enabled=False):
        products = features @ features.T
        squares = products.diagonal()
        apart = (squares[:, None] + squares).sub_(products, alpha=2)
        apart.fill_diagonal_(torch.inf)
        reach = apart.topk(min(NEIGHBOURS, len(apart) - 1), largest=False).values[:, -1:]
        near = (apart <= reach).double()
        shared = scores * (near @ scores) / near.sum(1, keepdim=True)
    moran = shared.sum(0) / scores.square().sum(0)
    # Where all residuals are equal, all labels are believed, however strongly.
    return (1 - SHARED * moran.nan_to_num(0.0)).clamp(0, 1)


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)
