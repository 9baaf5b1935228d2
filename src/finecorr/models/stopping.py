"""Ctrl-C while a model trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

import lightning as L


class Held:
    """While it is entered, Ctrl-C, or SIGTERM where that does the same, takes effect in `check`
    and at the end only; a second one at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # the main thread alone is told of signals
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
        self._listen()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if error is None:
            self.check()  # It may have come after the last one.

    def _listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._ask)

    def check(self) -> None:
        """Raises KeyboardInterrupt if there was one."""
        if self.asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class StopBetweenSteps(Held, L.Callback):
    """Held, but between two steps, which are the same in all processes of a training: in the middle
    of one, Ctrl-C may leave a log half written, whose thread then waits for ever."""

    def on_train_start(self, *_: Any) -> None:
        # Lightning's own handler of SIGTERM sends to other processes in the middle of a step, which
        # then wait for ever.
        self._listen()

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def on_validation_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.world_size == 1:  # Others may have no such batch.
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def _stop(self, trainer: L.Trainer) -> None:
        # What comes while the processes agree is for the next step: they would not stop together.
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            raise KeyboardInterrupt


@contextmanager
def writing_logs(folder: Path) -> Iterator[None]:
    """Names the folder where the system refuses to write what nobody else names, and says it once:
    TensorBoard writes in a thread, whose error is raised again in this one."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, OSError):
            before(args)

    threading.excepthook = hook
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise
    finally:
        threading.excepthook = before
