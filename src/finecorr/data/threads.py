"""Files read by several threads, and images in the memory that is there for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from tqdm import tqdm

_T = TypeVar("_T")
_R = TypeVar("_R")
_AT_ONCE = 1024
"""Files or images that wait for a thread."""


class Turns:
    """Lets threads decode side by side as long as their images together are not too large.

    Args:
        pixels: of these images, at most; one that has more is decoded alone.
    """

    def __init__(self, pixels: float) -> None:
        self._most, self._now = pixels, 0
        self._free = threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: self._now == 0 or self._now + pixels <= self._most)
            self._now += pixels
        try:
            yield
        finally:
            with self._free:
                self._now -= pixels
                self._free.notify_all()

    def __reduce__(self) -> tuple[type[Turns], tuple[float]]:
        # A process that loads images has turns of its own.
        return Turns, (self._most,)


def side_by_side(
    work: Callable[[_T], _R], items: Sequence[_T], progress: str | None = None
) -> Iterator[_R]:
    """The results in their order, by as many threads as the process may use."""
    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        # None: no terminal
        tqdm(
            None,
            progress,
            len(items),
            leave=False,
            unit="image",
            disable=True if progress is None else None,
        ) as bar,
    ):
        try:
            # All at once, those of a million would be gigabytes of tasks.
            for start in range(0, len(items), _AT_ONCE):
                for result in pool.map(work, items[start : start + _AT_ONCE]):
                    bar.update()
                    yield result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for all of them
            raise
