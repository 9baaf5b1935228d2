"""Slow, obvious references of the concordance, pairwise and baseline losses, in float64.

Each is the loss of one population: see `references.Column`. Those that a surrogate gradient
belongs to carry it: autograd gives the surrogate.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor
from torch.linalg import vector_norm

from references import Column, is_undefined, weighted_mean, weighted_std

TIE = 1e-10
"""Numbers of order 1 that are nearer are meant to be equal."""


def concordance(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
    if is_undefined(target):
        return None
    p_mean, y_mean = weighted_mean(prediction, weight), weighted_mean(target, weight)
    p, y = prediction - p_mean, target - y_mean
    covariance = weighted_mean(p * y, weight)
    return 1 - 2 * covariance / (
        weighted_mean(p**2, weight) + weighted_mean(y**2, weight) + (p_mean - y_mean) ** 2
    )


def exact_concordance(prediction: list[float], target: list[float]) -> tuple[float, list[float]]:
    """`1 - CCC` and its gradient, in exact arithmetic."""
    p, y = [Fraction(v) for v in prediction], [Fraction(v) for v in target]
    n = len(p)
    p_mean, y_mean = sum(p, Fraction(0)) / n, sum(y, Fraction(0)) / n
    covariance = sum(((a - p_mean) * (b - y_mean) for a, b in zip(p, y, strict=True)), Fraction(0))
    spread = sum(((a - p_mean) ** 2 for a in p), Fraction(0))
    spread += sum(((b - y_mean) ** 2 for b in y), Fraction(0))
    denominator = spread / n + (p_mean - y_mean) ** 2
    ccc = 2 * covariance / n / denominator
    gradient = [
        2 * (ccc * (a - p_mean + p_mean - y_mean) - (b - y_mean)) / n / denominator
        for a, b in zip(p, y, strict=True)
    ]
    return float(1 - ccc), [float(g) for g in gradient]


def pairwise(*, kind: str = "hinge", margin: float = 0.3) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        std = weighted_std(target, weight)
        losses, weights = [], []
        for i in range(len(target)):
            for j in range(len(target)):
                if target[i] > target[j]:
                    d = (prediction[i] - prediction[j]) / std
                    if kind == "logistic":
                        losses.append(torch.log1p(torch.exp(-d / margin)))
                    else:
                        losses.append(margin - d if margin - d > TIE else 0 * d)
                    weights.append(weight[i] * weight[j])
        return weighted_mean(torch.stack(losses), torch.stack(weights))

    return loss


def norm_in_norm(*, p: float = 1.0, q: float = 2.0) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        w, n = weight / weight.mean(), len(target)

        def normalised(values: Tensor) -> Tensor:
            deviation = values - weighted_mean(values, weight)
            return deviation / (w * deviation.abs() ** q).sum() ** (1 / q)

        v = normalised(target)
        if len(set(prediction.tolist())) < 2:
            std = weighted_std(target, weight)
            u = (prediction - weighted_mean(prediction, weight)) / std / n ** (1 / q)
        else:
            u = normalised(prediction)
        terms = [abs(a - b) ** p if abs(a - b) > TIE else 0 * a for a, b in zip(u, v, strict=True)]
        largest = 2 ** max(1, 1 / q) * n ** max(0, 1 / p - 1 / q)
        total: Tensor = (w * torch.stack(terms)).sum() / largest**p
        return total

    return loss


def gradient_aligned(*, alpha: float = 0.5) -> Column:
    """The second and third of the losses as the means over pairs that they come from."""

    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        constant = len(set(prediction.tolist())) < 2
        y_std = weighted_std(target, weight)
        p_std = y_std if constant else weighted_std(prediction, weight)
        absolute = weighted_mean((prediction - target).abs(), weight)
        difference, normalised = torch.zeros(()).double(), torch.zeros(()).double()
        for i in range(len(target)):
            for j in range(len(target)):
                share = weight[i] * weight[j] / weight.sum() ** 2
                p, y = prediction[i] - prediction[j], target[i] - target[j]
                difference = difference + share * (p - y) ** 2 / 2
                normalised = normalised + share * (p / p_std - y / y_std) ** 2 / 4
        if constant:
            normalised = normalised + 0.5
        powers = [(x + 1e-7) ** (1 / alpha) for x in (absolute, difference, normalised)]
        return alpha * torch.log(sum(powers, torch.zeros(()).double()) / 3)

    return loss


def focal(
    power: int, *, activation: str = "sigmoid", beta: float = 0.2, gamma: float = 1
) -> Column:
    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        error = (prediction - target).abs()
        if activation == "tanh":
            factor = torch.tanh(beta * error)
        else:
            factor = 2 * torch.sigmoid(beta * error) - 1
        return weighted_mean(error**power * factor**gamma, weight)

    return loss


def rank_shares(values: list[float], weight: list[float]) -> list[float]:
    """For each, the share of the weight that is lower, and half of that of equal values."""
    total = sum(weight)
    shares = []
    for value in values:
        lower = sum(w for v, w in zip(values, weight, strict=True) if v < value - TIE)
        equal = sum(w for v, w in zip(values, weight, strict=True) if abs(v - value) <= TIE)
        shares.append((lower + equal / 2) / total)
    return shares


def _double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_surrogate(value: float, at: Tensor, gradient: Tensor) -> Tensor:
    return value + (gradient.detach() * (at - at.detach())).sum()


def blackbox_spearman(*, interpolation: float = 1.0) -> Column:
    """With the lambda of the paper, and the gradient of its equations for ascending ranks."""

    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        w = weight.tolist()
        constant = len(set(prediction.tolist())) < 2
        unit = weighted_std(target if constant else prediction, weight)
        z = (prediction - weighted_mean(prediction, weight)) / unit
        q = _double(rank_shares(target.tolist(), w))
        r = _double(rank_shares(prediction.tolist(), w))
        q, r = q - weighted_mean(q, weight), r - weighted_mean(r, weight)
        q_std, r_std = weighted_std(q, weight), weighted_std(r, weight)
        spread = q_std if constant else r_std
        correlation = weighted_mean(q * r, weight) / (q_std * spread)
        total = weight.sum()
        # Of 1 - correlation, by one of the repetitions that a weight stands for.
        slope = (correlation * r / spread - q / q_std) / (total * spread)
        lam = interpolation * total * spread
        moved = _double(rank_shares((z - lam * slope).tolist(), w))
        moved = moved - weighted_mean(moved, weight)
        gradient = weight * (r - moved) / lam
        return with_surrogate(1 - correlation.item(), z, gradient)

    return loss


def ranksim(*, interpolation: float = 200.0) -> Column:
    def loss(features: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        n, labels = len(target), target.tolist()
        w = [
            a / labels.count(y)
            for a, y in zip((weight / weight.mean()).tolist(), labels, strict=True)
        ]
        m = sum(w)
        unit = [row / vector_norm(row) for row in features]
        total = torch.zeros(()).double()
        for i in range(n):
            s = torch.stack([(unit[i] * unit[j]).sum() for j in range(n)])
            # Descending ranks, as in the paper.
            wanted = rank_shares([abs(labels[i] - y) for y in labels], w)
            found = rank_shares([-v for v in s.tolist()], w)
            value = sum(w[j] * (found[j] - wanted[j]) ** 2 for j in range(n)) / m
            slope = [2 * (found[j] - wanted[j]) / m for j in range(n)]
            moved = [v + interpolation * g for v, g in zip(s.tolist(), slope, strict=True)]
            ranks = rank_shares([-v for v in moved], w)
            gradient = [-w[j] * (found[j] - ranks[j]) / interpolation for j in range(n)]
            total = total + w[i] * with_surrogate(value, s, _double(gradient))
        return total

    return loss


def conr(*, window: float = 1.0, temperature: float = 0.07, push: float = 0.01) -> Column:
    """The last of the columns of the features is the prediction."""

    def loss(columns: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if is_undefined(target):
            return None
        features, prediction = columns[:, :-1], columns[:, -1].detach()
        n, w = len(target), weight / weight.mean()
        unit = [row / vector_norm(row) for row in features]

        def likeness(i: int, j: int) -> Tensor:
            return torch.exp((unit[i] * unit[j]).sum() / temperature)

        anchors = []
        for i in range(n):
            positives, total = [], torch.zeros(()).double()
            negatives = 0
            for j in range(n):
                distance = abs(target[i] - target[j])
                if j != i and distance <= window:
                    positives.append(j)
                    total = total + w[j] * likeness(i, j)
                elif j != i and abs(prediction[i] - prediction[j]) <= window:
                    negatives += 1
                    total = total + w[j] * torch.exp(push * distance) * likeness(i, j)
            if positives and negatives:
                terms = torch.stack([-torch.log(likeness(i, j) / total) for j in positives])
                anchors.append(weighted_mean(terms, w[positives]))
            else:
                anchors.append(features.sum() * 0)
        return weighted_mean(torch.stack(anchors), weight)

    return loss
