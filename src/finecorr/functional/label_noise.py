"""How far a label is to be believed: the noise of the labels, as a batch shows it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from finecorr.functional.features import batch_with_features
from finecorr.functional.moments import Populations
from finecorr.functional.relations import CHUNK, distances

DEGREES = (1.0, 1.5, 2.5, 4.0, 8.0, 20.0, 1000.0)
"""Degrees of freedom of Student's t that are tried: from Cauchy's noise to Gauss's."""

STEPS = 8
"""Of the fixed point for the noise's place and scale."""

SAMPLES = 1024
"""As of how many samples the likelihoods of the degrees count."""

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

        (mean over nu of 1 / (1 + ((e - m) / s)^2 / nu)) ^ max(0, 1 - 3 I)

    `1 / (1 + ((e - m) / s)^2 / nu)` is the weight of a sample where noise has Student's t
    distribution with nu degrees of freedom, over that of one in its middle; m and s are the
    likeliest place and scale, s at least 0.001 of the standard deviation of the targets. The mean
    is over nu of 1, 1.5, 2.5, 4, 8, 20 and 1000, weighed by their likelihoods for 1024 samples like
    these: with Gaussian residuals large ones prevail, and all label weights are near 1; with a few
    gross errors small ones do, and these errors have weights near 0.

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
        The weights, without a gradient; 1 for a missing label, and where all residuals are equal.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`.

    Sources: the noise as Lange, Little and Taylor, Robust Statistical Modeling Using the t
    Distribution, JASA 1989; P. A. P. Moran, Notes on Continuous Stochastic Phenomena, Biometrika
    1950.
    """
    batch, features = batch_with_features(features, prediction, target, weight, group)
    return batch.restore(_belief(batch, features)).reshape(target.shape)


def believed(batch: Populations, features: Tensor | None) -> Populations:
    """The batch with each label weighed by how far it is to be believed; a population as a whole
    weighs what it did."""
    weight = batch.weight * _belief(batch, features)
    before, after = batch.sum(batch.weight), batch.sum(weight)
    return replace(batch, weight=weight * batch.expand(before / _positive(after)))


@torch.no_grad()
def _belief(batch: Populations, features: Tensor | None) -> Tensor:
    """`(samples, targets)`; `features` are of the batch's samples."""
    truth = batch.scores(batch.target)
    residual = batch.scores(batch.prediction - batch.target)
    alike = residual.constant | truth.constant
    least = LEAST_SCALE * truth.std / torch.where(alike, 1, residual.std)
    believed = _student_t(batch, residual.values, least)
    believed = believed.pow(batch.expand(_strength(batch, residual.values, features)))
    believed = believed.clamp(LEAST_WEIGHT, 1)
    return torch.where(batch.expand(alike) | (batch.weight == 0), 1, believed)


def _student_t(batch: Populations, residual: Tensor, least: Tensor) -> Tensor:
    """The weights by the noise alone; the residuals are standard scores."""
    tried, targets = len(DEGREES), residual.shape[1]
    # One beside the other, as the columns of a batch with more targets.
    nu = residual.new_tensor(DEGREES).repeat_interleave(targets)
    share = batch.weight / batch.expand(_positive(batch.sum(batch.weight)))
    wide = replace(batch, weight=share.repeat(1, tried))
    values, least = residual.repeat(1, tried), least.square().repeat(1, tried)
    deviation, variance = values, torch.ones_like(least)
    for _ in range(STEPS):
        pull = wide.weight * (nu + 1) / (nu + deviation.square() / wide.expand(variance))
        deviation = values - wide.expand(wide.sum(pull * values) / _positive(wide.sum(pull)))
        variance = _positive(torch.maximum(wide.sum(pull * deviation.square()), least))
    distance = deviation.square() / wide.expand(variance) / nu
    constants = [
        math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - math.log(n * math.pi) / 2 for n in DEGREES
    ]
    likelihood = nu.new_tensor(constants).repeat_interleave(targets) - variance.log() / 2
    likelihood = likelihood - (nu + 1) / 2 * wide.sum(wide.weight * distance.log1p())
    likely = (SAMPLES * likelihood).reshape(len(likelihood), tried, targets).softmax(1)
    weights = wide.expand(likely.flatten(1)) / (1 + distance)
    return weights.reshape(len(weights), tried, targets).sum(1)


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


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)
