"""Trainings as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import (
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)

import torch

from finecorr.comparison.execution import INTERRUPTED, train
from finecorr.comparison.plan import Run

PRELOADED = ("finecorr.runs.run", "monai.networks.nets")
"""What takes a training longer to read than anything else before its first step."""


@contextmanager
def processes(workers: int) -> Iterator[Callable[[Run, int], _Process]]:
    """Each has its share of the processor's cores and of the GPUs, where there are some."""
    # Of what this process may use, which can be less than the machine has.
    threads = max(1, torch.get_num_threads() // workers)
    context = _context()

    def start(run: Run, slot: int) -> _Process:
        devices = _devices(slot, run.training.devices)
        process = context.Process(target=_train, args=(run, devices, threads))
        # Which would let Ctrl-C through again.
        resource_tracker.ensure_running()
        # Ctrl-C in a terminal is for all processes: these must not hear it while they begin.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Process(process)

    yield start


def _context() -> SpawnContext | ForkServerContext:
    """Of processes that share nothing with this one: a fork of a program that has started threads
    is no independent program. On Linux they are forks of a server that has only read modules."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


@dataclass(frozen=True)
class _Process:
    process: SpawnProcess | ForkServerProcess

    def ended(self) -> bool:
        return self.process.exitcode is not None

    def reason(self) -> str | None:
        code = self.process.exitcode
        if code is None or code >= 0:
            return None
        return f"it was killed ({signal.Signals(-code).name}), as where memory runs out"

    def interrupt(self) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)

    def join(self) -> None:
        self.process.join()


def _devices(slot: int, count: int) -> str | None:
    """The GPUs for a slot, as CUDA_VISIBLE_DEVICES names them."""
    if not torch.cuda.is_available():
        return None
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = names.split(",") if names else [str(i) for i in range(torch.cuda.device_count())]
    count = min(count, len(known))  # What is too much, the training says.
    return ",".join(known[(slot * count + i) % len(known)] for i in range(count))


def _train(run: Run, devices: str | None, threads: int) -> None:
    os.setpgrp()  # Ctrl-C is for the process that started this one, which passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        # What the parent has sent in the meantime comes now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = train(run, threads)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _end_with_parent() -> None:
    """A training whose comparison was killed would write to the folder in which the next call
    trains, as would the processes that it has started; every file is whole at any moment."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)
