"""Weighted, masked and grouped moments of a batch: the arithmetic that losses and metrics share.

A batch of samples is seen as *populations*, one for each group and target. Statistics of the
populations are `(groups, targets)`; values of the samples are `(samples, targets)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

RUNNING_SUM_ROUNDING = 8 * torch.finfo(torch.float32).eps
"""How far, as a share of the total, a running sum of weights may be from where it should be."""


class Scores(NamedTuple):
    """A variable with its mean and its spread taken out, and what was taken out."""

    values: Tensor
    """`(samples, targets)`: mean 0 and standard deviation 1 in each population. Where the variable
    is constant they are 0, their gradient being that of the deviation from the mean."""
    std: Tensor
    """`(groups, targets)`: the (biased) standard deviation, in the variable's unit."""
    constant: Tensor
    """`(groups, targets)`: whether all the population's samples have the same value."""


@dataclass(frozen=True)
class Populations:
    """The labelled samples of a batch, by group and target, ready for arithmetic.

    Built by `populations`. Samples are ordered by group; a missing label has weight 0 and takes
    part in nothing.
    """

    prediction: Tensor
    """`(samples, targets)`"""
    target: Tensor
    """`(samples, targets)`"""
    weight: Tensor
    """`(samples, targets)`: 0 for a missing label."""
    group: Tensor | None
    """`(samples,)`: ascending numbers from 0, or None for one group."""
    groups: int
    order: Tensor | None
    """`(samples,)`: where in the caller's batch each sample was; None for the same order."""

    def sum(self, values: Tensor) -> Tensor:
        """Sums over each population."""
        if self.group is None:
            return values.sum(0, keepdim=True)
        return values.new_zeros(self.groups, values.shape[1]).index_add(0, self.group, values)

    def mean(self, values: Tensor) -> Tensor:
        """Weighted means over each population; 0 for one without weight."""
        total = self.sum(self.weight)
        return self.sum(self.weight * values) / torch.where(total > 0, total, 1)

    def relative_weight(self) -> Tensor:
        """`(samples, targets)`: the weights, scaled to a mean of 1 over the labelled samples."""
        total, labelled = self.sum(self.weight), self.sum((self.weight > 0).to(self.weight.dtype))
        return self.weight * self.expand(labelled / torch.where(total > 0, total, 1))

    def expand(self, statistic: Tensor) -> Tensor:
        """Each population's statistic at each of its samples."""
        return statistic.expand_as(self.weight) if self.group is None else statistic[self.group]

    def minimum(self, values: Tensor) -> Tensor:
        """Minima over the samples that have weight; 0 for a population without any."""
        values = torch.where(self.weight > 0, values, torch.inf)
        lowest = values.new_full((self.groups, values.shape[1]), torch.inf)
        if self.group is None:
            lowest = torch.minimum(lowest, values.amin(0)) if len(values) else lowest
        else:
            index = self.group[:, None].expand_as(values)
            lowest = lowest.scatter_reduce(0, index, values, "amin")
        return torch.where(lowest < torch.inf, lowest, 0)

    def scores(self, values: Tensor) -> Scores:
        """Standard scores of a variable, exact at any offset and scale that its dtype can hold."""
        # Subtracting the minimum is exact near it, so that a constant stays one; dividing by the
        # range keeps the squares from overflow and underflow. Halves, as a range may overflow.
        low = self.minimum(values.detach())
        half_range = -self.minimum(-values.detach()) / 2 - low / 2
        constant = half_range < torch.finfo(values.dtype).tiny
        unit = torch.where(constant, 0.5, half_range)
        shifted = (values / 2 - self.expand(low / 2)) / self.expand(unit)
        deviation = shifted - self.expand(self.mean(shifted))
        variance = self.mean(deviation.square())
        constant = constant | (variance == 0)
        root = torch.where(constant, 1, variance).sqrt()
        std = torch.where(constant, 0, root * 2 * unit)
        return Scores(deviation / self.expand(root), std, constant)

    def median(self, values: Tensor) -> Tensor:
        """Weighted medians; the mean of the lower and the upper one where they differ."""
        values = torch.where(self.weight > 0, values, torch.inf)
        values, order = values.sort(0)
        if self.group is not None:
            by_group = self.group[order].argsort(dim=0, stable=True)
            values, order = values.gather(0, by_group), order.gather(0, by_group)
        ranked = replace(self, weight=running_sum_terms(self.weight.gather(0, order)))
        total = ranked.sum(ranked.weight)
        reached = ranked.weight.cumsum(0) - self.expand(total.cumsum(0) - total)
        beyond = reached - self.expand(total) / 2
        rounding = RUNNING_SUM_ROUNDING * self.expand(total)
        largest = -ranked.minimum(-values)
        lower = ranked.minimum(torch.where(beyond >= -rounding, values, torch.inf))
        upper = ranked.minimum(torch.where(beyond > rounding, values, ranked.expand(largest)))
        return lower + (upper - lower) / 2

    def defined(self) -> Tensor:
        """`(groups, targets)`: at least two labelled samples, and a target that is not constant."""
        return ~self.scores(self.target).constant

    def share(self, defined: Tensor) -> Tensor:
        """`(groups, targets)`: how much each population counts in `average`."""
        total = torch.where(defined, self.sum(self.weight), 0)
        of_target = total / torch.where(defined.any(0), total.sum(0), 1)
        return of_target / defined.any(0).sum().clamp(min=1)

    def average(self, loss: Tensor, defined: Tensor) -> Tensor:
        """Scalar: `loss` of the defined populations, averaged over groups by their weight, then
        over targets; 0 with a zero gradient where none is defined."""
        return (torch.where(defined, loss, 0) * self.share(defined)).sum()

    def restore(self, values: Tensor) -> Tensor:
        """`(samples, targets)` in the order of the caller's batch."""
        if self.order is None:
            return values
        return torch.empty_like(values).index_copy(0, self.order, values)


def running_sum_terms(weight: Tensor) -> Tensor:
    """Weights in the widest dtype of their device: a running sum over all groups of a batch has to
    keep the digits of a small one."""
    return weight if weight.device.type == "mps" else weight.double()


def populations(
    prediction: Tensor, target: Tensor, weight: Tensor | None = None, group: Tensor | None = None
) -> Populations:
    """Checks a batch and lays it out as populations.

    Arithmetic is in the wider of the two dtypes, and at least in float32.

    Args:
        prediction: `(n,)` or `(n, targets)`, floating point.
        target: the shape of `prediction`; NaN is a missing label.
        weight: `(n,)`, or in the shape of `target` one of each label; non-negative. None for equal
            weights.
        group: `(n,)` integers, or None for one group.

    Raises:
        ValueError: shapes or devices do not agree, or a weight is negative or not finite.
        TypeError: something is not a tensor, `prediction` is not floating point, or `group` not
            integers.
    """
    _check(prediction, target, weight, group)
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    if prediction.ndim == 1:
        prediction, target = prediction[:, None], target[:, None]
    prediction, target = prediction.to(dtype), target.detach().to(dtype)
    labelled = ~target.isnan()
    if weight is None:
        weights = labelled.to(dtype)
    else:
        given = weight.detach().to(dtype)
        weights = torch.where(labelled, given if given.ndim == 2 else given[:, None], 0)
    present = weights > 0
    prediction, target = torch.where(present, prediction, 0), torch.where(present, target, 0)
    if group is None:
        return Populations(prediction, target, weights, None, 1, None)
    known, index = torch.unique(group, return_inverse=True)
    index, order = index.sort(stable=True)
    return Populations(prediction[order], target[order], weights[order], index, len(known), order)


def check_no_gradient(name: str, values: Tensor) -> None:
    """Raises ValueError where a gradient is expected that nobody would take."""
    if values.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name} requires a gradient, and gets none: hand {name}.detach() over, and where two "
            "networks are to agree, add the loss with both the other way round"
        )


def _check(prediction: Tensor, target: Tensor, weight: Tensor | None, group: Tensor | None) -> None:
    given = {"prediction": prediction, "target": target, "weight": weight, "group": group}
    for name, tensor in given.items():
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(tensor).__name__}")
    if not prediction.is_floating_point():
        raise TypeError(f"prediction must be floating point, not {prediction.dtype}")
    check_no_gradient("target", target)
    if prediction.ndim not in (1, 2) or prediction.shape != target.shape:
        hint = ""
        if prediction.numel() == target.numel() and prediction.ndim != target.ndim:
            hint = "; a last dimension of 1 goes away with .squeeze(-1)"
        raise ValueError(
            "prediction and target must both be (n,) or (n, targets), but have the shapes "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}{hint}"
        )
    for name, tensor in (("weight", weight), ("group", group)):
        shapes = [prediction.shape[:1], *([prediction.shape] if name == "weight" else [])]
        if tensor is not None and tensor.shape not in shapes:
            raise ValueError(
                f"{name} must have the shape ({len(prediction)},), one value a sample, "
                f"not {tuple(tensor.shape)}"
            )
    for name, tensor in (("target", target), ("weight", weight), ("group", group)):
        if tensor is not None and tensor.device != prediction.device:
            raise ValueError(
                f"{name} is on {tensor.device}, but prediction is on {prediction.device}"
            )
    if group is not None and (group.is_floating_point() or group.is_complex()):
        raise TypeError(f"group must be integers, not {group.dtype}")
    # On an accelerator this check would wait for the device, and under compile break the graph.
    if weight is None or weight.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if not bool(((weight >= 0) & (weight < torch.inf)).all()):
        raise ValueError("weight must be finite and not negative")
