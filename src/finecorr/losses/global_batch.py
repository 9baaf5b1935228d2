"""The batch of all processes of a data-parallel training as one population."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from finecorr.losses.base import Batch, Loss, Wrapper, with_gradient

_DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


class GlobalBatch(Wrapper):
    """A loss of the batches of all processes together.

    A correlation is that of a population, and the mean of the correlations in parts of it is
    another number: without this, each process of a data-parallel training learns the correlation
    within its own few samples. With it, the value is that of the whole batch, the same in each
    process. The gradient of its own samples is multiplied by the number of processes, as
    `DistributedDataParallel` and FSDP take the mean over these: the parameters learn as in one
    process that has the whole batch. First derivatives only.

    The processes may have batches of different sizes, also none, and groups may straddle them. Each
    gathers what the others have: predictions, targets, weights and groups, and features if there
    are some, of n samples with d features about `4 n (2 targets + 2 + d)` bytes a step; and each
    takes the loss of all.

    It gathers in training mode and where gradients are taken. Elsewhere, as in validation, which
    may have more batches in one process than in another, and without a process group, it is the
    loss alone.

    Args:
        loss: any other one.
        process_group: of `torch.distributed`; all processes by default.
    """

    def __init__(self, loss: Loss, process_group: Any = None) -> None:
        super().__init__(loss)
        self.process_group = process_group

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Raises ValueError, in all processes, where they have batches of different kinds."""
        together = dist.is_available() and dist.is_initialized()
        if not (together and self.training and torch.is_grad_enabled()):
            return self.loss.evaluate(batch)
        rank, processes = (
            function(self.process_group) for function in (dist.get_rank, dist.get_world_size)
        )
        if processes == 1:
            return self.loss.evaluate(batch)
        sizes = self._sizes(batch, processes)
        whole: dict[str, Any] = {
            name: None if values is None else self._gathered(values, sizes, rank)
            for name, values in vars(batch).items()
        }
        loss, believed = self.loss.evaluate(Batch(**whole))
        return loss, None if believed is None else torch.split(believed, sizes)[rank]

    def _gathered(self, values: Tensor, sizes: list[int], rank: int) -> Tensor:
        """Those of all processes; its own have a gradient."""
        padded = values.new_zeros(max(sizes), *values.shape[1:])
        padded[: len(values)] = values.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, self.process_group)
        parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]
        if values.requires_grad:
            parts[rank] = with_gradient(values, len(sizes))
        return torch.cat(parts)

    def _sizes(self, batch: Batch, processes: int) -> list[int]:
        """How many samples each process has."""
        own = torch.tensor([_kind(values) for values in vars(batch).values()])
        own = own.to(batch.prediction.device)
        all_ = [torch.empty_like(own) for _ in range(processes)]
        dist.all_gather(all_, own, self.process_group)
        rows, kinds = zip(
            *((each[:, 0].tolist(), each[:, 1:].tolist()) for each in all_), strict=True
        )
        for rank in range(processes):
            if kinds[rank] != kinds[0] or len({n for n in rows[rank] if n >= 0}) > 1:
                raise ValueError(
                    f"process {rank} has a batch that does not fit that of process 0: of "
                    f"{', '.join(vars(batch))} (samples, dtype, dimensions, columns) are "
                    f"{all_[rank].tolist()}, and in process 0 {all_[0].tolist()}"
                )
        return [each[0] for each in rows]


def _kind(values: Tensor | None) -> tuple[int, int, int, int]:
    """What the processes tell each other of a tensor before they send it: the number of samples,
    dtype, dimensions and columns."""
    if values is None:
        return -1, -1, -1, -1
    shape = values.shape
    columns = shape[1:].numel()
    return shape[0] if shape else 0, _DTYPES.index(values.dtype), len(shape), columns
