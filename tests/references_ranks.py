"""Slow, obvious references of ranks, soft ranks and the loss on them, written from the formulas of
the docstrings, in float64. Those of soft ranks and of the loss are differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

import references

Array = npt.NDArray[np.float64]


def exact_ranks(values: Sequence[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def standard_scores(values: Tensor) -> Tensor:
    """Of a constant, the deviation from the mean."""
    deviation = values - values.mean()
    if len(set(values.tolist())) < 2:
        return deviation
    return deviation / (deviation**2).mean().sqrt()


def nearest_of_permutahedron(
    point: Sequence[float], vertex: Sequence[float], regularization: str
) -> Array:
    """By numerical minimisation, under the inequalities of Rado: any k entries have at least the
    sum of the k least of the vertex, and all have the same sum. For n of a few."""
    s, least = np.array(point), np.sort(vertex)
    n = len(s)

    def distance(r: Array) -> tuple[float, Array]:
        if regularization == "l2":
            return ((r - s) ** 2).sum() / 2, r - s
        return (r * (np.log(r) - s) - r).sum(), np.log(r) - s

    constraints = [
        LinearConstraint(
            np.isin(range(n), chosen).astype(float),
            least[:k].sum(),
            np.inf if k < n else least.sum(),
        )
        for k in range(1, n + 1)
        for chosen in combinations(range(n), k)
    ]
    result = minimize(
        distance,
        np.full(n, least.mean()),
        jac=True,
        method="SLSQP",
        bounds=[(least[0] / 2, None)] * n,
        constraints=constraints,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.asarray(result.x)


def soft_ranks(values: Tensor, strength: float, regularization: str) -> Tensor:
    """By the minimum and maximum formula of isotonic regression: entry i is the maximum over starts
    j <= i of the minimum over ends k >= i of the mean from j to k."""
    n = len(values)
    order = sorted(range(n), key=lambda i: values[i].item())
    point = standard_scores(values)[order] / strength
    vertex = (torch.arange(n).double() + 0.5) / n
    rows = []
    for j in range(n):
        row = []
        for k in range(n):
            s, w = point[j : k + 1], vertex[j : k + 1]
            if k < j:
                row.append(torch.tensor(torch.nan).double())
            elif regularization == "l2":
                row.append(s.mean() - w.mean())
            else:
                row.append(s.logsumexp(0) - w.sum().log())
        rows.append(torch.stack(row))
    means = torch.stack(rows)
    fit = torch.stack([means[: i + 1, i:].amin(1).amax() for i in range(n)])
    ranks = point - fit if regularization == "l2" else (point - fit).exp()
    back = [order.index(i) for i in range(n)]
    return n * ranks[back] + 0.5


def spearman(strength: float, regularization: str = "l2") -> references.Column:
    """For weights that are integers: so often is a sample repeated."""

    def loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor | None:
        if references.is_undefined(target):
            return None
        rows = [i for i, times in enumerate(weight.tolist()) for _ in range(int(times))]
        p, y = prediction[rows], target[rows].tolist()
        truth = torch.tensor(exact_ranks(y), dtype=torch.float64) / len(y)
        if len(set(p.tolist())) < 2:
            soft = p if regularization == "l2" else p / 2
        else:
            soft = soft_ranks(p, strength, regularization)
        return references.pearson(soft, truth, torch.ones(len(y)).double())

    return loss


def ascending_in_exponentials(values: Sequence[float], weight: Sequence[float]) -> list[float]:
    """The isotonic regression with logarithms of mean exponentials for means, pooling one violation
    after the other."""
    pools = [([v], [w]) for v, w in zip(values, weight, strict=True)]

    def mean(pool: tuple[list[float], list[float]]) -> float:
        v, w = torch.tensor(pool, dtype=torch.float64)
        return float((v + w.log()).logsumexp(0) - w.sum().log())

    while True:
        means = [mean(pool) for pool in pools]
        descents = [i for i in range(len(pools) - 1) if means[i] > means[i + 1]]
        if not descents:
            return [m for m, pool in zip(means, pools, strict=True) for _ in pool[0]]
        i = descents[0]
        pools[i : i + 2] = [(pools[i][0] + pools[i + 1][0], pools[i][1] + pools[i + 1][1])]
