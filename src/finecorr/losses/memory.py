"""The latest samples of a training, which fill small batches up to a population."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from finecorr.losses.base import Batch, Loss, Wrapper, with_gradient


class Memory(Wrapper):
    """A loss over a batch and the latest samples before it.

    A correlation over a few samples is mostly chance. A batch of fewer than `size` samples is
    filled up to that number with the latest ones, as they were predicted then. The value is that of
    all together. No gradient is taken of the remembered samples; that of the batch is multiplied by
    the number of all over that of the batch, so that it is as large as that of a batch of this
    size.

    It fills, and remembers, in training mode and where gradients are taken. What is remembered is
    the rows of each call whose predictions and features are finite. A loop that evaluates a batch
    twice (L-BFGS, SAM) remembers it twice; two heads, or two data sets, want a memory each, or
    `reset()`. A batch of another kind (with weights where there were none, say) starts anew. What
    is remembered is in the state dict, for a training that is to go on exactly as it was.

    Args:
        loss: any other one.
        size: how many samples make a population; 0 for the batch alone.
        unique_groups: whether the numbers of `group` mean the same in all batches. Without, `group`
            is an error, as group 0 of a batch and group 0 of the next would be one.
    """

    def __init__(self, loss: Loss, size: int = 64, *, unique_groups: bool = False) -> None:
        super().__init__(loss)
        if size < 0:
            raise ValueError(f"size must not be negative, not {size}")
        self.size = size
        self.unique_groups = unique_groups
        self.kept: Batch | None = None

    def reset(self) -> None:
        """Forgets all samples."""
        self.kept = None

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        if batch.group is not None and not self.unique_groups:
            raise ValueError(
                "group numbers of one batch would be mixed with those of another: say "
                "unique_groups=True if they mean the same in all batches"
            )
        if not (self.training and torch.is_grad_enabled()):
            return self.loss.evaluate(batch)
        loss, believed = self.loss.evaluate(self._filled(batch))
        self._remember(batch)
        return loss, None if believed is None else believed[: len(batch)]

    def get_extra_state(self) -> dict[str, Tensor | None]:
        return {} if self.kept is None else vars(self.kept).copy()

    def set_extra_state(self, state: dict[str, Tensor | None]) -> None:
        self.kept = Batch(**state) if state else None  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def _filled(self, batch: Batch) -> Batch:
        n, kept = len(batch), self.kept
        if kept is not None and batch.features is None:
            kept = replace(kept, features=None)
        if kept is None or not 0 < n < self.size or not _same_kind(batch, kept):
            return batch
        growth = 1 + min(self.size - n, len(kept)) / n
        scaled = replace(
            batch,
            prediction=with_gradient(batch.prediction, growth),
            features=None if batch.features is None else with_gradient(batch.features, growth),
        )
        return self._joined(scaled, kept)

    def _remember(self, batch: Batch) -> None:
        if self.size == 0 or len(batch) == 0:
            return
        finite = _finite(batch.prediction)
        if batch.features is not None:
            finite = finite & _finite(batch.features)
        rows: dict[str, Any] = {
            name: None if values is None else values.detach()[finite][: self.size]
            for name, values in vars(batch).items()
        }
        latest = Batch(**rows)
        if self.kept is None or not _same_kind(latest, self.kept):
            self.kept = latest
        else:
            self.kept = self._joined(latest, self.kept)

    def _joined(self, batch: Batch, kept: Batch) -> Batch:
        joined: dict[str, Any] = {}
        for name in vars(batch):
            first, second = getattr(batch, name), getattr(kept, name)
            if first is not None:
                second = second[: max(self.size - len(first), 0)]
                first = torch.cat([first, second.to(first)])
            joined[name] = first
        return Batch(**joined)


def _finite(values: Tensor) -> Tensor:
    """`(n,)`: which rows are."""
    return values.detach().isfinite().reshape(len(values), -1).all(1)


def _same_kind(batch: Batch, kept: Batch) -> bool:
    """Whether the samples can stand in one batch."""
    for name in vars(batch):
        a, b = getattr(batch, name), getattr(kept, name)
        if (a is None) != (b is None):
            return False
        if a is not None and a.shape[1:] != b.shape[1:]:
            return False
    return True
