"""Metrics that keep moments: memory does not grow with the samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, populations
from finecorr.metrics.correlation import Correlation, widest


class Variable(NamedTuple):
    """The prediction or the target in parts of the data: each `(parts, targets)`."""

    low: Tensor
    """The lowest value."""
    mean: Tensor
    """How far the mean lies above `low`. From a value of the data it keeps its digits, however far
    the data are from 0."""
    std: Tensor
    """The (biased) standard deviation."""


class Moments(NamedTuple):
    """All that is needed of parts of the data to join them: each `(parts, targets)`."""

    weight: Tensor
    prediction: Variable
    target: Variable
    correlation: Tensor
    """0 where one of the two is constant."""


class MomentCorrelation(Correlation):
    """Keeps the moments of each group and target: memory is O(groups x targets)."""

    floats: ClassVar = ("moments",)

    moments: list[Tensor]

    @torch.no_grad()
    def update(
        self,
        preds: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        if isinstance(target, Tensor):  # or `populations` says that it is none
            target = target.to(widest(target.device))
        batch = populations(preds, target, weight, group)
        self.expect(batch.target.shape[1])
        names = torch.zeros(1) if group is None else torch.unique(group)
        zero = torch.zeros_like(batch.weight)
        samples = Moments(
            batch.weight,
            Variable(batch.prediction, zero, zero),
            Variable(batch.target, zero, zero),
            zero,
        )
        self.group = [*self.group, names.to(target.device, torch.int64)]
        self.moments = [*self.moments, pack(join(batch, samples)).flatten()]
        self._compact()

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        super()._reduce_states(incoming_state)
        self._compact()

    def _compact(self) -> None:
        names, moments = self._joined()
        self.targets = [self.state("targets")[:1]]
        self.group, self.moments = [names], [pack(moments).flatten()]

    def _joined(self) -> tuple[Tensor, Moments]:
        """The groups, `(groups,)`, and their moments."""
        group, order = self.state("group").sort(stable=True)
        names, index = torch.unique_consecutive(group, return_inverse=True)
        shape = len(group), PACKED, self.number_of_targets()
        parts = unpack(self.state("moments").reshape(shape)[order])
        low = parts.prediction.low, parts.target.low
        return names, join(Populations(*low, parts.weight, index, len(names), None), parts)

    def compute(self) -> Tensor:
        _, moments = self._joined()
        return self.average(self.value(moments), moments.weight, moments.target.std != 0)

    @abstractmethod
    def value(self, moments: Moments) -> Tensor:
        """`(groups, targets)`."""


class PearsonCorrCoef(MomentCorrelation):
    """Pearson linear correlation (PLC).

    Arguments, results and errors are those of `finecorr.metrics`. Memory is O(groups x targets):
    the moments of batches are joined as in T. F. Chan, G. H. Golub and R. J. LeVeque, Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979, from an origin within
    the data.
    """

    def value(self, moments: Moments) -> Tensor:
        return moments.correlation.clamp(-1, 1)


class ConcordanceCorrCoef(MomentCorrelation):
    """Lin's concordance correlation (CCC).

        2 cov(p, y) / (var(p) + var(y) + (mean(p) - mean(y))^2)

    of prediction p and target y, with the biased moments (L. I. Lin, A Concordance Correlation
    Coefficient to Evaluate Reproducibility, 1989). Arguments, results, errors and memory are those
    of `PearsonCorrCoef`.
    """

    def value(self, moments: Moments) -> Tensor:
        prediction, target = moments.prediction, moments.target
        bias = prediction.low - target.low + (prediction.mean - target.mean)
        unit = torch.maximum(torch.maximum(prediction.std, target.std), bias.abs())
        p, y, b = prediction.std / unit, target.std / unit, bias / unit
        return 2 * moments.correlation.clamp(-1, 1) * p * y / (p.square() + y.square() + b.square())


def join(parts: Populations, moments: Moments) -> Moments:
    """The moments of populations, `(groups, targets)`, from those of their parts.

    A sample is a part without spread.
    """
    prediction, p_std, p_offset = _join_variable(parts, moments.prediction)
    target, y_std, y_offset = _join_variable(parts, moments.target)
    correlation = parts.mean(moments.correlation * p_std * y_std + p_offset * y_offset)
    return Moments(parts.sum(parts.weight), prediction, target, correlation)


def _join_variable(parts: Populations, variable: Variable) -> tuple[Variable, Tensor, Tensor]:
    """The variable in the populations; and each part's standard deviation and the distance of its
    mean from that of its population, both in standard deviations of the population."""
    low = parts.minimum(variable.low)
    means = variable.low - parts.expand(low) + variable.mean
    mean = parts.mean(means)
    offset = torch.where(parts.weight > 0, means - parts.expand(mean), 0)
    # By the largest deviation first, so that squares neither overflow nor vanish.
    largest = -parts.minimum(-(offset.abs() + variable.std))
    unit = parts.expand(torch.where(largest > 0, largest, 1))
    std = largest * parts.mean((variable.std / unit).square() + (offset / unit).square()).sqrt()
    divisor = parts.expand(torch.where(std > 0, std, 1))
    return Variable(low, mean, std), variable.std / divisor, offset / divisor


PACKED = 8
"""How many numbers `pack` makes of `Moments`."""


def pack(moments: Moments) -> Tensor:
    """`(parts, 8, targets)`: one state instead of eight is sent between processes."""
    weight, prediction, target, correlation = moments
    return torch.stack([weight, *prediction, *target, correlation], 1)


def unpack(packed: Tensor) -> Moments:
    weight, *variables, correlation = packed.unbind(1)
    return Moments(weight, Variable(*variables[:3]), Variable(*variables[3:]), correlation)
