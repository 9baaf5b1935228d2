"""What the metrics have in common: states that can be joined, and the average over populations."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class Correlation(Metric):
    """A correlation within groups, from which a metric derives.

    All states are lists of 1-D tensors to be concatenated, so that processes that have seen
    different groups, or nothing, can be joined.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    integers: ClassVar = ("targets", "group")
    floats: ClassVar[tuple[str, ...]]
    """The names of the states."""

    targets: list[Tensor]
    """The number of targets, one or several times."""
    group: list[Tensor]

    def __init__(self, *, per_target: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.per_target = per_target
        for name in (*self.integers, *self.floats):
            self.add_state(name, [], "cat")

    def set_dtype(self, dst_type: str | torch.dtype) -> Correlation:
        """Nothing: the states keep their precision, whatever the batches have."""
        return self

    def reset(self) -> None:
        """Forgets all samples; see `torchmetrics.Metric.reset`."""
        # torchmetrics empties lists in place, also where a wrapper still holds them.
        for name in self._defaults:
            setattr(self, name, [])
        super().reset()

    def sync(self, *args: Any, **options: Any) -> None:
        """Joins the states of all processes; see `torchmetrics.Metric.sync`."""
        # For a process that has seen nothing, torchmetrics would send float32, which those that
        # wait for something else cannot receive.
        for name in self._defaults:
            setattr(self, name, [self.state(name)])
        super().sync(*args, **options)

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        super()._reduce_states(incoming_state)
        self.number_of_targets()
        self._computed = None  # which `merge_state` forgets

    def state(self, name: str) -> Tensor:
        """All parts of a state, `(k,)`."""
        parts: list[Tensor] | Tensor = getattr(self, name)
        if isinstance(parts, Tensor):  # as synchronisation leaves it
            return parts
        if parts:  # of which all but the last may have been moved by `compute_on_cpu`
            return torch.cat([part.to(parts[-1].device) for part in parts])
        dtype = torch.int64 if name in self.integers else widest(self.device)
        return torch.zeros(0, dtype=dtype, device=self.device)

    def number_of_targets(self) -> int:
        """0 where nothing has been seen."""
        numbers = torch.unique(self.state("targets")).tolist()
        if len(numbers) > 1:
            raise ValueError(f"the numbers of targets do not agree: {numbers}")
        return int(numbers[0]) if numbers else 0

    def expect(self, targets: int) -> None:
        """Checks the number of targets of a batch."""
        before = self.number_of_targets()
        if before not in (0, targets):
            raise ValueError(
                f"prediction has {targets} targets, but in the batches before it had {before}"
            )
        self.targets = [torch.tensor([targets], device=self.device)]

    def average(self, value: Tensor, weight: Tensor, defined: Tensor) -> Tensor:
        """The average of `(groups, targets)` that `Populations.average` takes, but NaN where
        nothing is defined; of each target, if so asked."""
        total = torch.where(defined, weight, 0).sum(0)
        per_target = torch.where(defined, value * weight, 0).sum(0) / total
        return per_target if self.per_target else per_target[defined.any(0)].mean()


def widest(device: torch.device) -> torch.dtype:
    """The widest floating point that a device has."""
    return torch.float32 if device.type == "mps" else torch.float64
