"""How far a label is to be believed: the noise of the labels, as a batch shows it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from finecorr.functional.features import batch_with_features
from finecorr.functional.moments import Populations, populations
from finecorr.functional.plain.belief import (
    LEAST_SCALE,
    LEAST_WEIGHT,
    MANY,
    NEIGHBOURS,
    SHARED,
    drawn,
    plain_label_weights,
)
from finecorr.functional.relations import CHUNK, distances
from finecorr.functional.sharing import share_of_anchors
from finecorr.functional.student_t import tried

FARTHEST = 1e15
"""In median distances; its square does not overflow."""

ROUNDING = 64
"""How many epsilons two distances that are equal may be apart."""


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
        weight: `(n,)`, non-negative: how much each sample counts. With features, a weight of 2 is
            not the same as the sample twice: it would be its own neighbour.
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
    if group is None:
        found = plain_label_weights(prediction, target, features, weight)
        if found is not None:
            return found
    batch, features = batch_with_features(features, prediction, target, weight, group)
    return batch.restore(_belief(batch, features)).reshape(target.shape)


def weigh(
    prediction: Tensor,
    target: Tensor,
    features: Tensor | None,
    weight: Tensor | None,
    group: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The label weights, and the weights of the labels that are times these."""
    data = {"weight": weight, "group": group}
    known = label_weights(prediction, target, features, **data)
    return known, believed_weight(prediction, target, believed=known, **data)


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
    rows = drawn(labelled)
    return replace(
        batch, prediction=residual[rows], target=batch.target[rows], weight=batch.weight[rows]
    )


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
    rounded = 1 + ROUNDING * torch.finfo(features.dtype).eps
    step = max(1, CHUNK // (n * max(1, targets)))
    share, means = share_of_anchors(n, step), []
    for part in share.slices(n, step):
        rows = position[part]
        others = (rows[:, None] != position) & labelled[:, None]
        if batch.group is not None:
            others = others & (batch.group[rows, None] == batch.group)
        apart = distances(features[rows], features).where(others, torch.inf)
        reach = apart.topk(min(NEIGHBOURS, n - 1), largest=False).values[..., -1:]
        near = (others & (apart <= reach * rounded)).to(values.dtype)
        means.append((near @ values.T[..., None]).squeeze(-1) / _positive(near.sum(-1)))
    own = torch.cat(means, dim=1).T
    return own if share.processes == 1 else share.collected(own, n)


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)
