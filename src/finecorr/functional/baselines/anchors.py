"""Samples as anchors, compared with others: what RankSim and ConR have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finecorr.functional.moments import Populations
from finecorr.functional.relations import in_forward_mode


def same_group(batch: Populations, rows: slice) -> Tensor:
    """`(rows, n)`, or a scalar where all are in one group."""
    if batch.group is None:
        return torch.ones((), dtype=torch.bool, device=batch.weight.device)
    return batch.group[rows, None] == batch.group


def products(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right.T` in the precision of these, under autocast and in its gradient, too."""
    function = _WithTangent if in_forward_mode() else _Products
    product: Tensor = function.apply(left, right)  # type: ignore[no-untyped-call]
    return product


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.save_for_forward(left, right)
        with torch.autocast(left.device.type, enabled=False):
            return left @ right.T

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return products(upstream[0], right.T), products(upstream[0].T, left.T)


class _WithTangent(_Products):
    """Also in forward mode, which a function that is compiled must not know."""

    @staticmethod
    def jvp(ctx: Any, left_tangent: Tensor | None, right_tangent: Tensor | None) -> Tensor:
        left, right = ctx.saved_tensors
        parts = (left_tangent, right), (left, right_tangent)
        return sum(  # type: ignore[return-value]
            products(a, b) for a, b in parts if a is not None and b is not None
        )
