"""Ctrl-C while a model trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning as L


class StopBetweenSteps(L.Callback):
    """While it is entered, Ctrl-C, or SIGTERM where that does the same, takes effect between two
    steps; a second one at once.

    In the middle of one, it may leave a log half written, whose thread then waits for ever. All
    processes of a training stop at the same step.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # which alone is told of signals
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
                signal.signal(number, self._ask)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def on_validation_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.world_size == 1:  # Others may have no such batch.
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def _stop(self, trainer: L.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            raise KeyboardInterrupt
