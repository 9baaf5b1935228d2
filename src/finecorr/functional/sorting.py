"""Order, and runs of equal values in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def argsort(values: Tensor, dim: int) -> Tensor:
    """`values.argsort(dim)`, not stable, on the CPU by NumPy, which is several times as fast."""
    if (
        not values.is_cpu
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    ):
        return values.argsort(dim)
    return torch.from_numpy(np.argsort(values.detach().numpy(), dim))


def runs(starts: Tensor) -> tuple[Tensor, Tensor]:
    """For each entry of rows, where its run starts, and the position after the run.

    `starts` says which entries start one; the first of a row does.
    """
    length = starts.shape[-1]
    position = torch.arange(length, device=starts.device).expand_as(starts)
    if not starts.numel():
        return position, position
    first = torch.where(starts, position, 0).cummax(-1).values
    following = torch.where(starts, position, length).roll(-1, -1)
    following[..., -1] = length
    return first, following.flip(-1).cummin(-1).values.flip(-1)
