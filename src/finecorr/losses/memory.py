"""The latest samples of a training, which fill small batches up to a population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The arguments of a loss."""

    prediction: Tensor
    target: Tensor
    features: Tensor | None
    weight: Tensor | None
    group: Tensor | None

    def __len__(self) -> int:
        # What is no batch is for the loss to refuse.
        dimensions = getattr(self.prediction, "ndim", 0)
        return len(self.prediction) if dimensions else 0


class Memory:
    """Keeps the latest samples, without their gradients.

    Args:
        size: how many samples make a population; 0 for no memory.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"memory must not be negative, not {size}")
        self.size = size
        self.kept: Batch | None = None

    def fill(self, batch: Batch) -> Batch:
        """The batch, and after it as many of the latest samples as are missing to `size`.

        The value of a mean is that over all of them. Its gradient is multiplied by their number
        over that of the batch, so that it is as large as that of a batch of this size.
        """
        n, kept = len(batch), self.kept
        if kept is not None and batch.features is None:
            kept = replace(kept, features=None)
        if kept is None or not 0 < n < self.size or not _same_kind(batch, kept):
            return batch
        growth = 1 + min(self.size - n, len(kept)) / n
        scaled = replace(
            batch,
            prediction=_with_gradient(batch.prediction, growth),
            features=None if batch.features is None else _with_gradient(batch.features, growth),
        )
        return self._joined(scaled, kept)

    def remember(self, batch: Batch) -> None:
        """Keeps the batch, and of what was there as much as there is room for."""
        if self.size == 0 or len(batch) == 0:
            return
        detached: dict[str, Any] = {
            name: None if values is None else values.detach()[: self.size]
            for name, values in vars(batch).items()
        }
        latest = Batch(**detached)
        if self.kept is None or not _same_kind(latest, self.kept):
            self.kept = latest
        else:
            self.kept = self._joined(latest, self.kept)

    def state(self) -> dict[str, Tensor | None]:
        """What is kept, by the names of the arguments."""
        return {} if self.kept is None else vars(self.kept).copy()

    def restore(self, state: dict[str, Tensor | None]) -> None:
        """Keeps what `state` said."""
        self.kept = Batch(**state) if state else None  # type: ignore[arg-type]

    def _joined(self, batch: Batch, kept: Batch) -> Batch:
        joined: dict[str, Any] = {}
        for name in vars(batch):
            first, second = getattr(batch, name), getattr(kept, name)
            if first is not None:
                second = second[: max(self.size - len(first), 0)]
                first = torch.cat([first, second.to(first)])
            joined[name] = first
        return Batch(**joined)


def _with_gradient(values: Tensor, factor: float) -> Tensor:
    """The same values, whose gradient is multiplied."""
    return values.detach() + factor * (values - values.detach())


def _same_kind(batch: Batch, kept: Batch) -> bool:
    """Whether the samples can stand in one batch."""
    for name in vars(batch):
        a, b = getattr(batch, name), getattr(kept, name)
        if (a is None) != (b is None):
            return False
        if a is not None and a.shape[1:] != b.shape[1:]:
            return False
    return True
