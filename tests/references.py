"""Slow, obvious references, written from the formulas of the docstrings, in float64.

The references of the losses are differentiable, so that autograd gives reference gradients too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.linalg import vector_norm

Column = Callable[[Tensor, Tensor, Tensor], Tensor | None]
"""The loss of one population, all of it labelled and of positive weight, from its representation,
target and weight; None where it is undefined."""


def over_populations(
    loss: Column,
    columns: Sequence[Tensor],
    target: Tensor,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """The mean over targets of the mean, by weight, over groups of the loss on each group alone.

    `columns` holds the representation, of which gradients are wanted, for each target.
    """
    target = as_columns(target).double()
    n = len(target)
    weights = torch.ones(n).double() if weight is None else weight.double()
    groups = [0] * n if group is None else group.tolist()
    per_target = []
    for column, labels in zip(columns, target.T, strict=True):
        losses, totals = [], []
        for g in sorted(set(groups)):
            rows = [
                i
                for i in range(n)
                if groups[i] == g and not math.isnan(labels[i].item()) and weights[i] > 0
            ]
            if not rows:
                continue
            value = loss(column[rows], labels[rows], weights[rows])
            if value is not None:
                losses.append(value)
                totals.append(weights[rows].sum().item())
        if losses:
            weighted = [value * total for value, total in zip(losses, totals, strict=True)]
            per_target.append(torch.stack(weighted).sum() / sum(totals))
    if not per_target:
        return sum((column.sum() for column in columns), torch.zeros(()).double()) * 0
    return torch.stack(per_target).mean()


def as_columns(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 1 else values


def columns_of(prediction: Tensor) -> list[Tensor]:
    return list(as_columns(prediction).T)


def is_undefined(target: Tensor) -> bool:
    return len(set(target.tolist())) < 2


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (weight * values).sum() / weight.sum()


def weighted_std(values: Tensor, weight: Tensor) -> Tensor:
    """0, with a zero gradient, of a constant."""
    if len(set(values.tolist())) < 2:
        return values.sum() * 0
    return weighted_mean((values - weighted_mean(values, weight)) ** 2, weight).sqrt()


def pearson(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
    if is_undefined(target):
        return None
    p = prediction - weighted_mean(prediction, weight)
    y = target - weighted_mean(target, weight)
    std = weighted_std(target, weight)
    covariance = weighted_mean(p * y, weight)
    if len(set(prediction.tolist())) < 2:
        return 1 - covariance / std**2
    return 1 - covariance / (weighted_std(prediction, weight) * std)


def exact_pearson(
    prediction: Sequence[float], target: Sequence[float]
) -> tuple[float, list[float]]:
    """`1 - PLC` and its gradient, in exact arithmetic until the square root (of 80 digits)."""
    p, y = [Fraction(v) for v in prediction], [Fraction(v) for v in target]
    n = len(p)
    p_mean, y_mean = sum(p, Fraction(0)) / n, sum(y, Fraction(0)) / n
    p, y = [v - p_mean for v in p], [v - y_mean for v in y]
    pp, yy = sum(v * v for v in p), sum(v * v for v in y)
    py = sum((a * b for a, b in zip(p, y, strict=True)), Fraction(0))
    with localcontext() as context:
        context.prec = 80
        root = _decimal(pp * yy).sqrt()
        loss = 1 - _decimal(py) / root
        gradient = [-_decimal(b - py / pp * a) / root for a, b in zip(p, y, strict=True)]
        return float(loss), [float(g) for g in gradient]


def _decimal(value: Fraction | int) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def label_weights(
    prediction: Tensor, target: Tensor, weight: Tensor, features: Tensor | None = None
) -> Tensor:
    """Those of one population, without a gradient."""
    residual = (prediction - target).detach()
    if is_undefined(target) or len(set(residual.tolist())) < 2:
        return torch.ones(len(target)).double()
    z = (residual - weighted_mean(residual, weight)) / weighted_std(residual, weight)
    least = 1e-3 * (weighted_std(target, weight) / weighted_std(residual, weight)).item()
    far = z - weighted_median(z, weight)
    distance = max(weighted_median(far.abs(), weight), least)
    nu = np.repeat([1, 1.5, 2.5, 4, 8, 20, 1000], 9)
    scale = distance / stats.t(nu).ppf(0.75) * 1.15 ** np.tile(np.arange(-4, 5), 7)
    density = torch.from_numpy(stats.t(nu, scale=scale).logpdf(far[:, None]))
    likelihood = torch.stack([weighted_mean(column, weight) for column in density.T])
    share = torch.softmax(1024 * likelihood, 0)
    believed = 1 / (1 + (share / torch.from_numpy(nu * scale**2)).sum() * far**2)
    strength = 1 - 3 * morans_i(z, weight, features) if features is not None else 1.0
    return (believed ** min(max(strength, 0.0), 1.0)).clamp(1e-6, 1)


def weighted_median(values: Tensor, weight: Tensor) -> float:
    """The mean of the lower and the upper one."""
    pairs = sorted(zip(values.tolist(), weight.tolist(), strict=True))
    half, reached = sum(w for _, w in pairs) / 2, 0.0
    middles: list[float] = []
    for value, w in pairs:
        before, reached = reached, reached + w
        if w > 0 and before <= half * (1 + 1e-6) and reached >= half * (1 - 1e-6):
            middles.append(value)
    return (middles[0] + middles[-1]) / 2


def morans_i(scores: Tensor, weight: Tensor, features: Tensor) -> float:
    """With the 8 nearest neighbours, and all that are as near as the last."""
    n, products = len(scores), []
    for i in range(n):
        far = {j: (features[i] - features[j]).square().sum().item() for j in range(n) if j != i}
        reach = sorted(far.values())[min(8, n - 1) - 1]
        near = [scores[j] for j in far if far[j] <= reach]
        products.append(scores[i] * torch.stack(near).mean())
    return weighted_mean(torch.stack(products), weight).item()


def log_errors(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
    """The robust Pearson loss, given the weights."""
    correlation = pearson(prediction, target, weight)
    if correlation is None:
        return None
    square = mse(prediction, target, weight) / weighted_std(target, weight) ** 2
    return (torch.log(correlation + 1e-4) + torch.log(square / 2 + 1e-4)) / 4


def robust_pearson(*, robust: bool = True) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if robust:
            weight = weight * label_weights(prediction, target, weight)
        return log_errors(prediction, target, weight)

    return loss


def huber_of(error: Tensor, delta: float) -> Tensor:
    if abs(error.item()) <= delta:
        return error**2 / 2
    return delta * (error.abs() - delta / 2)


def mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean((prediction - target) ** 2, weight)


def mae(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean((prediction - target).abs(), weight)


def huber(delta: float = 1.0) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        errors = [huber_of(error, delta) for error in prediction - target]
        return weighted_mean(torch.stack(errors), weight)

    return loss


def similarity_correlation(*, log: bool = True) -> Column:
    """Each anchor's distances to the others, one after another."""

    def loss(features: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        losses = []
        for i in range(len(target)):
            others = [j for j in range(len(target)) if j != i]
            truth = torch.stack([(target[j] - target[i]).abs() for j in others])
            guess = torch.stack([distance(features[i], features[j]) for j in others])
            w = weight[others]
            a, b = guess - weighted_mean(guess, w), truth - weighted_mean(truth, w)
            least = 1e-3 * weighted_mean(guess, w)
            variance = weighted_mean(a**2, w)
            std = variance.sqrt() if variance > least**2 else least
            even = weighted_mean(b**2, w).sqrt() <= 1e-4 * weighted_mean(truth, w)
            r = features.sum() * 0
            if not even and std > 0:
                r = weighted_mean(a * b, w) / weighted_mean(b**2, w).sqrt() / std
            losses.append(torch.log(1 - r + 1e-3) / 2 if log else 1 - r)
        return weighted_mean(torch.stack(losses), weight)

    return loss


def distance(a: Tensor, b: Tensor) -> Tensor:
    """0, with a zero gradient, between equal points."""
    return (a - b).square().sum().sqrt() if (a != b).any() else (a - b).sum() * 0


def half_log(error: Column) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        value = error(prediction, target, weight)
        return None if value is None else torch.log(value + 1e-8) / 2

    return loss


def log_mae(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return torch.log(mae(prediction, target, weight) + 1e-4)


def similarity_rank(
    *, levels: int | None = None, temperature: float = 0.1, similarity: str = "cosine"
) -> Column:
    def loss(features: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None

        def similarity_of(i: int, j: int) -> Tensor:
            a, b = features[i], features[j]
            value: Tensor = (
                (a * b).sum() / (vector_norm(a) * vector_norm(b))
                if similarity == "cosine"
                else -vector_norm(a - b)
            )
            return value / temperature

        return _rank(similarity_of, target, weight, levels)

    return loss


def prediction_rank(*, levels: int | None = None, temperature: float = 0.1) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        std = weighted_std(target, weight)
        return _rank(
            lambda i, j: -(prediction[i] - prediction[j]).abs() / (std * temperature),
            target,
            weight,
            levels,
        )

    return loss


def _rank(
    similarity_of: Callable[[int, int], Tensor],
    target: Tensor,
    weight: Tensor,
    levels: int | None,
) -> Tensor:
    n = len(target)
    relative = weight / weight.mean()
    anchors = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        s = {j: similarity_of(i, j) for j in others}
        q = {j: abs((target[i] - target[j]).item()) for j in others}
        if levels is not None:
            q = _bins(q, {j: Fraction(weight[j].item()) for j in others}, levels)
        terms = []
        for j in others:
            far = [relative[k].log() + s[k] for k in others if q[k] >= q[j]]
            terms.append(torch.stack(far).logsumexp(0) - s[j])
        anchors.append(weighted_mean(torch.stack(terms), weight[others]))
    return weighted_mean(torch.stack(anchors), weight)


def _bins(distance: dict[int, float], weight: dict[int, Fraction], levels: int) -> dict[int, float]:
    total = sum(weight.values(), Fraction(0))
    return {
        j: math.floor(levels * sum(weight[k] for k in weight if distance[k] < far) / total)
        for j, far in distance.items()
    }
