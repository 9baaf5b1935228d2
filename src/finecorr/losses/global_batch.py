"""The batch of all processes of a data-parallel training as one population."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from finecorr.functional.sharing import Share, sharing
from finecorr.losses.base import Batch, Loss, Wrapper, with_gradient

ROOM = 40
"""So many numbers of its own a process sends with what its batch is: ten moments of four targets.
More are a second exchange."""

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

    The processes may have batches of different sizes, also none, and groups may straddle them.
    What each of P processes sends to the others in a step, in float32, where t are the targets, d
    the features and m the samples of the largest of their batches, which have n together:

    - The loss is a function of moments, or of mean errors (`pearson`, `concordance`, `mse`, `mae`,
      `huber`, `focal_mse`, `focal_mae`; `robust_pearson` while labels have no weights): 488 bytes
      up to four targets, and `80 t` more beyond, at most. No sample is sent.
    - Other losses, and what moments do not tell to the last digit, such as a constant, or a
      correlation within groups: `m (8 t + 4 d)` more; and for each sample 4 of a weight and 8 of a
      group, where there are some. Features are sent for the losses that read them. Each process
      then takes the loss of all samples.
    - Similarities of so many samples that not all pairs are in memory at once (above 1024, of one
      target): each process takes n / P of them as anchors, and compares these with all. It is
      `fine_grained`, `similarity_rank` and `rank_n_contrast`, and the neighbours of label weights.
      The gradient, `4 n d` bytes, is summed over the processes, and so are the mean residuals of
      the neighbours, `4 n t`. `ranksim`, `conr` and logistic pairs, and the rest of the label
      weights, each process takes in full.

    It does so in training mode and where gradients are taken. Elsewhere, as in validation, which
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
        if not self.loss.reads_features:
            batch = replace(batch, features=None)
        part = self.loss.part(batch)
        others = self._introduced(batch, None if part is None else part.numbers)
        if part is not None and others.numbers is not None:
            loss = part.loss(others.numbers)
            if loss is not None:
                return loss, None
        whole = self._gathered(batch, others.sizes, rank)
        with sharing(Share(rank, processes, self._sum)):
            loss, believed = self.loss.evaluate(whole)
        return loss, None if believed is None else torch.split(believed, others.sizes)[rank]

    def _introduced(self, batch: Batch, numbers: Tensor | None) -> _Processes:
        """What the batch of each process is, and the numbers of its own, where all have some."""
        own = [_kind(values) for values in vars(batch).values()]
        count = 0 if numbers is None else numbers.numel()
        head = torch.tensor([*chain(*own), count], dtype=torch.float64)
        head = head.to(batch.prediction.device)
        sent = head.new_zeros(ROOM)
        if numbers is not None and count <= ROOM:
            sent[:count] = numbers.flatten()
        told = self._of_all(torch.cat((head, sent))).cpu()
        heads, of_all = torch.split(told, [len(head), ROOM], 1)
        kinds = heads[:, :-1].long().reshape(-1, len(own), len(own[0]))
        samples = [[n for n in each if n >= 0] for each in kinds[:, :, 0].tolist()]
        for rank in range(len(kinds)):
            same_kind = torch.equal(kinds[rank, :, 1:], kinds[0, :, 1:])
            if not same_kind or len(set(samples[rank])) > 1:
                raise ValueError(
                    f"process {rank} has a batch that does not fit that of process 0: of "
                    f"{', '.join(vars(batch))} (samples, dtype, dimensions, columns) are "
                    f"{kinds[rank].tolist()}, and in process 0 {kinds[0].tolist()}"
                )
        sizes = [each[0] for each in samples]
        if numbers is None or count == 0 or not (heads[:, -1] == count).all():
            return _Processes(sizes, None)
        if count > ROOM:
            of_all = self._of_all(numbers.flatten())
        return _Processes(sizes, of_all[:, :count].reshape(-1, *numbers.shape))

    def _gathered(self, batch: Batch, sizes: list[int], rank: int) -> Batch:
        """The samples of all processes; its own have a gradient."""
        given = {name: values for name, values in vars(batch).items() if values is not None}
        # As bytes, so that one exchange does for all dtypes.
        parts = [_seen_as(_columns(values), torch.uint8) for values in given.values()]
        own = torch.cat(parts, 1)
        padded = own.new_zeros(max(sizes), own.shape[1])
        padded[: len(own)] = own
        gathered = self._of_all(padded)
        rows = torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])
        columns = torch.split(rows, [part.shape[1] for part in parts], 1)
        start, stop = sum(sizes[:rank]), sum(sizes[: rank + 1])
        whole: dict[str, Any] = dict.fromkeys(vars(batch))
        for (name, values), column in zip(given.items(), columns, strict=True):
            all_ = _seen_as(column, values.dtype).reshape(len(rows), *values.shape[1:])
            if values.requires_grad:
                linked = with_gradient(values, len(sizes))
                all_ = torch.cat((all_[:start], linked, all_[stop:]))
            whole[name] = all_
        return Batch(**whole)

    def _of_all(self, values: Tensor) -> Tensor:
        """`(processes, ...)`: the same of each."""
        all_ = values.new_empty(dist.get_world_size(self.process_group), *values.shape)
        dist.all_gather(list(all_), values, self.process_group)
        return all_

    def _sum(self, values: Tensor) -> Tensor:
        # Not scattered: rows of a gradient may be in the order of their groups, or of some samples.
        dist.all_reduce(values, group=self.process_group)
        return values


class _Processes(NamedTuple):
    sizes: list[int]
    """How many samples each has."""
    numbers: Tensor | None
    """`(processes, ...)`"""


def _columns(values: Tensor) -> Tensor:
    """`(n, columns)`, without a gradient."""
    return values.detach().reshape(len(values), values.shape[1:].numel())


def _seen_as(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The same bytes: of a copy, as a view may not start, or step, where that dtype could."""
    return values.clone(memory_format=torch.contiguous_format).view(dtype)


def _kind(values: Tensor | None) -> tuple[int, int, int, int]:
    """What the processes tell each other of a tensor before they send it: the number of samples,
    dtype, dimensions and columns."""
    if values is None:
        return -1, -1, -1, -1
    shape = values.shape
    columns = shape[1:].numel()
    return shape[0] if shape else 0, _DTYPES.index(values.dtype), len(shape), columns
