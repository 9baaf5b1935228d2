"""Features of a batch, compared by direction: what RankSim and ConR have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, populations


def feature_batch(
    features: Tensor,
    prediction: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    group: Tensor | None,
) -> tuple[Populations, Tensor]:
    """The batch, and the direction of the features of each of its samples, `(n, d)`."""
    if not features.is_floating_point():
        raise TypeError(f"features must be floating point, not {features.dtype}")
    if target.ndim not in (1, 2):
        raise ValueError(f"target must be (n,) or (n, targets), not {tuple(target.shape)}")
    if features.ndim != 2 or len(features) != len(target) or features.shape[1] == 0:
        raise ValueError(
            f"features must be (n, d) with the n = {len(target)} of target and d >= 1, "
            f"not {tuple(features.shape)}"
        )
    if prediction is None:
        prediction = features.new_zeros(target.shape)
    elif isinstance(prediction, Tensor) and prediction.is_floating_point():
        prediction = prediction.to(torch.promote_types(prediction.dtype, features.dtype))
    batch = populations(prediction, target, weight, group)
    features = features.to(batch.target.dtype)
    features = features if batch.order is None else features[batch.order]
    features = torch.where((batch.weight > 0).any(1, keepdim=True), features, 0)
    # By the largest entry first, so that squares neither overflow nor vanish.
    largest = features.detach().norm(torch.inf, dim=1, keepdim=True)
    features = features / torch.where(largest > 0, largest, 1)
    length = features.norm(dim=1, keepdim=True)
    return batch, features / torch.where(length > 0, length, 1)


def same_group(batch: Populations, rows: slice) -> Tensor:
    """`(rows, n)`, or a scalar where all are in one group."""
    if batch.group is None:
        return torch.ones((), dtype=torch.bool, device=batch.weight.device)
    return batch.group[rows, None] == batch.group


def products(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right.T` in the precision of these, under autocast and in its gradient, too."""
    product: Tensor = _Products.apply(left, right)  # type: ignore[no-untyped-call]
    return product


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        with torch.autocast(left.device.type, enabled=False):
            return left @ right.T

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return products(upstream[0], right.T), products(upstream[0].T, left.T)
