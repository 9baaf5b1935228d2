"""A loss over all pairs of samples, which several processes take together.

Each process knows all samples, and takes some of them as anchors: those that it compares with all
others. How the processes add up what they have found is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """That of one process."""

    rank: int
    processes: int
    sum: Callable[[Tensor], Tensor]
    """Over all processes, which call it one as often as the other, with the same shapes."""

    def slices(self, n: int, step: int) -> Iterator[slice]:
        """Its own of n anchors, `step` at a time."""
        start, stop = (n * rank // self.processes for rank in (self.rank, self.rank + 1))
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop))

    def collected(self, own: Tensor, n: int) -> Tensor:
        """`(n, ...)`: what the processes have found of their own anchors."""
        whole = own.new_zeros(n, *own.shape[1:])
        whole[n * self.rank // self.processes :][: len(own)] = own
        return self.sum(whole)

    def joined(self, gradient: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the gradients, and the numbers `(k,)` of each as `(processes, k)`."""
        # Each has a place of its own among zeros: one exchange does for both.
        places = gradient.new_zeros(self.processes, len(numbers))
        places[self.rank] = numbers
        both = self.sum(torch.cat((gradient.flatten(), places.flatten())))
        of_gradient, of_numbers = torch.split(both, [gradient.numel(), places.numel()])
        return of_gradient.view_as(gradient), of_numbers.view_as(places)


_ALONE = Share(0, 1, lambda values: values)

_share = ContextVar("share", default=_ALONE)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Losses that are called within take only this share of the anchors, where there are more than
    fit in memory at once, and are those of all processes nevertheless."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def share_of_anchors(n: int, step: int) -> Share:
    """That of the process where n are more than `step`, which fit in memory at once. Fewer are
    sooner compared by each process than exchanged."""
    if n <= step or torch.compiler.is_compiling():
        return _ALONE
    share = _share.get()
    return _ALONE if n < share.processes else share
