"""Which batches these are, as the numbers of their tensors tell."""

from __future__ import annotations

import math

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor


def is_plain(
    prediction: Tensor, target: Tensor, weight: Tensor | None = None, group: Tensor | None = None
) -> bool:
    """Whether these are a batch whose numbers may decide what is done with it."""
    if (
        not isinstance(prediction, Tensor)
        or not isinstance(target, Tensor)
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or fwAD._current_level >= 0
        or prediction.device != target.device
        or prediction.shape != target.shape
        or not 1 <= prediction.ndim <= 2
        or not prediction.is_floating_point()
        or (target.requires_grad and torch.is_grad_enabled())
    ):
        return False
    if not prediction.is_cpu and (
        not prediction.is_cuda or torch.cuda.is_current_stream_capturing()
    ):
        return False
    if group is not None and not (
        isinstance(group, Tensor)
        and group.device == prediction.device
        and group.shape == prediction.shape[:1]
        and not group.is_floating_point()
        and not group.is_complex()
    ):
        return False
    if weight is None:
        return True
    return (
        isinstance(weight, Tensor)
        and weight.device == prediction.device
        and weight.shape in (prediction.shape, prediction.shape[:1])
        # What is no weight, `populations` says. On another device that would be a further look.
        and (not weight.is_cpu or _are_weights(weight))
    )


def without_column(target: Tensor) -> Tensor:
    """The `(n, 1)` of one target as `(n,)`; others as they are."""
    one = isinstance(target, Tensor) and target.ndim == 2 and target.shape[1] == 1
    return target.squeeze(1) if one else target


def labelled(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor | None:
    """Of one target, the positions of the samples that take part, where that is some of them, at
    least two, and one may look."""
    if not is_plain(prediction, target, weight) or target.numel() != len(target):
        return None
    present = target.view(-1) == target.view(-1)  # which NaN is not
    if weight is not None:
        present &= weight.view(-1) > 0
    rows = present.nonzero().squeeze(1)
    return rows if 2 <= len(rows) < len(target) else None


def _are_weights(values: Tensor) -> bool:
    if not values.numel():
        return True
    lowest, highest = torch.aminmax(values)
    return lowest.item() >= 0 and highest.item() < math.inf


def common_dtype(prediction: Tensor, target: Tensor) -> torch.dtype:
    """In which a loss is taken: the wider of the two, and at least float32."""
    both = torch.promote_types(prediction.dtype, target.dtype)
    return torch.promote_types(both, torch.float32)
