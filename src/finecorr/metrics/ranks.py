"""Metrics of ranks: they keep all samples, as a rank in a batch says nothing of that among all."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from finecorr.functional.moments import Populations, populations
from finecorr.metrics.correlation import Correlation, widest


class RankCorrelation(Correlation):
    """Keeps all samples, in the widest dtype of their device."""

    floats: ClassVar = ("prediction", "target", "weight")

    prediction: list[Tensor]
    target: list[Tensor]
    weight: list[Tensor]

    @torch.no_grad()
    def update(
        self,
        preds: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        batch = populations(preds, target, weight, group)
        self.expect(batch.target.shape[1])
        ones = preds.new_ones(len(preds))
        weight = ones if weight is None else weight
        group = torch.zeros_like(ones) if group is None else group
        dtype = widest(preds.device)
        # Copies, as the caller may write over a batch.
        self.prediction.append(preds.flatten().to(dtype, copy=True))
        self.target.append(target.flatten().to(dtype, copy=True))
        self.weight.append(weight.to(dtype, copy=True))
        self.group.append(group.to(torch.int64, copy=True))

    def compute(self) -> Tensor:
        weight, group = self.state("weight"), self.state("group")
        shape = len(weight), self.number_of_targets()
        prediction, target = self.state("prediction"), self.state("target")
        batch = populations(prediction.reshape(shape), target.reshape(shape), weight, group)
        return self.average(self.value(batch), batch.sum(batch.weight), batch.defined())

    @abstractmethod
    def value(self, batch: Populations) -> Tensor:
        """`(groups, targets)`."""


class SpearmanCorrCoef(RankCorrelation):
    """Spearman rank correlation (SRCC): the Pearson correlation of the ranks.

    Ties have the mean of their ranks. With weights, the rank of a sample is the weight of those
    below it and half of the weight of those equal to it, itself among them, and the correlation of
    the ranks is weighted; so a weight counts as repetitions of the sample.

    Arguments, results and errors are those of `finecorr.metrics`. All samples are kept.
    """

    def value(self, batch: Populations) -> Tensor:
        prediction = batch.scores(ranks(batch, batch.prediction))
        target = batch.scores(ranks(batch, batch.target))
        return batch.mean(prediction.values * target.values).clamp(-1, 1)


class KendallRankCorrCoef(RankCorrelation):
    """Kendall rank correlation, tau-b (KRCC).

        (C - D) / sqrt((C + D + P) (C + D + Y))

    with the pairs of samples in the same order (C), in opposite order (D), tied in the prediction
    alone (P) and tied in the target alone (Y). With weights, a pair counts as the product of the
    weights of its two samples; so here, too, a weight counts as repetitions of the sample. Pairs
    that have less than 1e-15 of the weight of all are lost in rounding.

    Arguments, results and errors are those of `finecorr.metrics`. All samples are kept. `compute`
    takes O(n log n) for each group and target, on the host, by `scipy.stats.kendalltau`, or by
    `scipy.stats.weightedtau` where the weights differ.
    """

    def value(self, batch: Populations) -> Tensor:
        assert batch.group is not None
        ends = torch.bincount(batch.group, minlength=batch.groups).cumsum(0).tolist()
        values = torch.stack([batch.prediction, batch.target, batch.weight], 1)
        columns = values.permute(2, 1, 0).double().cpu().numpy()
        taus = [[_tau_b(*column[:, a:b]) for column in columns] for a, b in pairwise([0, *ends])]
        return batch.weight.new_tensor(taus).reshape(batch.groups, len(columns))


def ranks(batch: Populations, values: Tensor) -> Tensor:
    """`(samples, targets)`: the weighted rank of each value in its population; NaN of NaN."""
    assert batch.group is not None
    order = values.argsort(0)
    order = order.gather(0, batch.group[order].argsort(dim=0, stable=True))
    values, weight = values.gather(0, order), batch.relative_weight().gather(0, order)
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = (values[1:] != values[:-1]) | (batch.group[1:] != batch.group[:-1])[:, None]
    last = torch.ones_like(first)
    last[:-1] = first[1:]
    reached = weight.cumsum(0)
    below = torch.where(first, reached - weight, -torch.inf).cummax(0).values
    up_to = torch.where(last, reached, torch.inf).flip(0).cummin(0).values.flip(0)
    middle = torch.where(values.isnan(), torch.nan, (below + up_to) / 2)
    return torch.empty_like(middle).scatter(0, order, middle)


def _tau_b(
    prediction: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> float:
    known = weight > 0
    prediction, target, weight = prediction[known], target[known], weight[known]
    if np.isnan(prediction).any():
        return np.nan
    prediction, target = (stats.rankdata(values, "dense") for values in (prediction, target))
    if not (prediction > 1).any() or not (target > 1).any():
        return 0.0
    if (weight == weight[0]).all():
        return float(stats.kendalltau(prediction, target).statistic)
    share = (weight / weight.mean()).tolist()
    tau = stats.weightedtau(
        prediction, target, rank=False, weigher=share.__getitem__, additive=False
    )
    return float(tau.statistic)
