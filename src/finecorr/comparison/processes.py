"""Trainings as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess

import torch

from finecorr.comparison.execution import train
from finecorr.comparison.plan import Run


@contextmanager
def processes(workers: int) -> Iterator[Callable[[Run, int], _Process]]:
    """Each has its share of the processor's cores and, where there are GPUs, one of these."""
    # They are independent programs, which a fork of one that has started threads is not.
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)

    def start(run: Run, slot: int) -> _Process:
        process = context.Process(target=_train, args=(run, _device(slot), threads))
        process.start()
        return _Process(process)

    yield start


@dataclass(frozen=True)
class _Process:
    process: SpawnProcess

    def ended(self) -> bool:
        return self.process.exitcode is not None

    def reason(self) -> str | None:
        return None

    def interrupt(self) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)

    def join(self) -> None:
        self.process.join()


def _device(slot: int) -> str | None:
    """The GPU for a slot, as CUDA_VISIBLE_DEVICES names it."""
    if not torch.cuda.is_available():
        return None
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = names.split(",") if names else [str(i) for i in range(torch.cuda.device_count())]
    return known[slot % len(known)]


def _train(run: Run, device: str | None, threads: int) -> None:
    os.setpgrp()  # Ctrl-C is for the process that started this one, which passes it on
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    sys.exit(train(run, threads))
