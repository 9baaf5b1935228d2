"""Order, and runs of equal values in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def argsort(values: Tensor, dim: int) -> Tensor:
    """`values.argsort(stable=True, dim=dim)`, on the CPU by NumPy, which is several times as fast,
    most so where the values are almost in order."""
    if not _is_plain(values):
        return values.argsort(stable=True, dim=dim)
    return torch.from_numpy(np.argsort(values.detach().numpy(), dim, kind="stable"))


def runs(starts: Tensor) -> tuple[Tensor, Tensor]:
    """For each entry of rows, where its run starts, and the position after the run.

    `starts` says which entries start one; the first of a row does.
    """
    length = starts.shape[-1]
    position = torch.arange(length, device=starts.device).expand_as(starts)
    if not starts.numel():
        return position, position
    if _is_plain(starts):
        others = (~starts).reshape(-1).nonzero().squeeze(1)
        if 8 * len(others) < starts.numel():
            return _short_runs(position, others)
    first = torch.where(starts, position, 0).cummax(-1).values
    following = torch.where(starts, position, length).roll(-1, -1)
    following[..., -1] = length
    return first, following.flip(-1).cummin(-1).values.flip(-1)


def _short_runs(position: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """`runs`, given the entries, counted through all rows, that do not start one."""
    first, stop = position.clone(), position + 1
    if len(others):
        new = torch.ones_like(others, dtype=torch.bool)
        new[1:] = others[1:] != others[:-1] + 1
        run = new.cumsum(0) - 1
        start = others[new] - 1
        end = others[new.roll(-1)] + 1
        length = position.shape[-1]
        row = start - start % length
        first.view(-1)[others] = (start - row)[run]
        stop.view(-1)[others] = (end - row)[run]
        stop.view(-1)[start] = end - row
    return first, stop


def _is_plain(values: Tensor) -> bool:
    """Whether values may be looked at while one decides what to do with them."""
    return (
        values.is_cpu
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )
