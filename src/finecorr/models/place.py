"""Which of the processes of a training this one is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch.distributed as dist

from finecorr.errors import InputError
from finecorr.models.ended import stopped_by


class Place(NamedTuple):
    """Of a process among those of its training."""

    rank: int = 0
    processes: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def share(self, values: Sequence[int]) -> Sequence[int]:
        """What this process does of what all do together."""
        return values[self.rank :: self.processes]

    def gathered(self, values: Any) -> list[Any]:
        """Those of all processes.

        Raises:
            Stopped: another one has ended.
        """
        if self.processes == 1:
            return [values]
        found: list[Any] = [None] * self.processes
        try:
            dist.all_gather_object(found, values)
        except RuntimeError as error:
            raise (stopped_by(error) or error) from error
        return found

    @contextmanager
    def the_same_in_all(self) -> Iterator[None]:
        """What all do alike: a mistake that one of them finds is said by the first."""
        try:
            yield
        except InputError:
            if self.leads:
                raise
            sys.exit(2)

    def leave(self) -> None:
        """Ends all processes but the first, when nothing is left to be done together."""
        if self.processes > 1:
            dist.destroy_process_group()
        if not self.leads:
            sys.exit()


ALONE = Place()
