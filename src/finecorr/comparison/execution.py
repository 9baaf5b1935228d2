"""The trainings of a comparison, some side by side: what starts, how far it is, what failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from finecorr.comparison.plan import Run
from finecorr.config import config_of, write_config
from finecorr.data.table import read_table
from finecorr.errors import InputError, Interrupted
from finecorr.files import refusal
from finecorr.models.frozen import frozen_features
from finecorr.models.stopping import Held
from finecorr.models.training import epochs_done, new_regressor
from finecorr.runs.run import train as train_run

LOG = "log.txt"
_POLL_SECONDS = 0.5
_FAILED = 1
_USER_ERROR = 2
INTERRUPTED = 130
"""The exit code of a training after Ctrl-C."""


@dataclass(frozen=True)
class Failure:
    run: Run
    reason: str


class Training(Protocol):
    """One that was started."""

    def ended(self) -> bool: ...

    def reason(self) -> str | None:
        """What ended it, if its log does not say so."""

    def interrupt(self) -> None:
        """As Ctrl-C does: what it has is in its last checkpoint."""

    def join(self) -> None:
        """Returns when it has ended after an interrupt."""


Executor = AbstractContextManager[Callable[[Run, int], Training]]
"""Gives what starts a training, in one of the slots from 0."""


def execute(todo: Sequence[Run], workers: int, executor: Executor) -> list[Failure]:
    """Trains what is not finished, at most `workers` at a time, and returns what failed.

    Raises:
        Interrupted: Ctrl-C; every training has saved its last whole epoch.
        InputError: the executor cannot be had.
        OSError: what the system refuses; the trainings are stopped as by Ctrl-C.
    """
    waiting = [run for run in todo if not run.finished]
    if not waiting:
        return []
    if waiting[0].training.frozen:
        _compute_features(waiting[0], replace=not any(run.started for run in todo))
    slots: dict[int, tuple[Training, Run]] = {}
    failures = []
    epochs = sum(run.training.epochs for run in waiting)
    done = 0
    bar = tqdm(total=epochs, unit="epoch", desc="compare", disable=None)
    # A signal between the start of a training and its place in `slots` would lose it.
    with bar as progress, executor as start, Held() as held:
        try:
            while waiting or slots:
                held.check()
                for slot in range(workers):
                    if slot not in slots and waiting:
                        run = waiting.pop(0)
                        log_of(run).parent.mkdir(parents=True, exist_ok=True)
                        slots[slot] = start(run, slot), run
                time.sleep(_POLL_SECONDS)
                for slot, (training, run) in list(slots.items()):
                    if training.ended():
                        del slots[slot]
                        done += run.training.epochs
                        if progress.disable:  # no terminal
                            print(f"compare, {run.name}, {done}/{epochs} epochs", file=sys.stderr)
                        if not run.finished:
                            reason = training.reason() or last_line(_text(log_of(run)))
                            failures.append(Failure(run, reason or "it ended without a word"))
                running = [run for _, run in slots.values()]
                progress.n = done + sum(epochs_done(_text(log_of(run))) for run in running)
                progress.set_postfix_str(", ".join(run.name for run in running))
        except (KeyboardInterrupt, OSError) as stop:
            for training, _ in slots.values():
                training.interrupt()
            for training, _ in slots.values():
                training.join()
            if isinstance(stop, OSError):
                raise
            raise Interrupted("; the same command goes on from here") from stop
    return failures


def _compute_features(run: Run, *, replace: bool) -> None:
    """Those of all trainings, once and before any of them starts."""
    table = read_table(run.data.table)
    regressor = new_regressor(run.data.images, len(table.target_columns), run.training)
    frozen_features(regressor, table, run.data.images, run.features, replace=replace)


def log_of(run: Run) -> Path:
    """What the training printed; not in its folder, which a run has for itself."""
    return run.folder.with_suffix(f".{LOG}")


def train(run: Run, threads: int) -> int:
    """Trains in this process, prints to the log from then on, and returns an exit code."""
    torch.set_num_threads(threads)
    with log_of(run).open("w", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        data = run.data
        options = replace(run.options, resume=run.started)
        parts = (data.table, data.images, data.augmentation, run.training, options)
        try:
            if run.training.processes > 1:
                return _train_as_command(run, threads, *parts)
            train_run(*parts, features=run.features)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return _USER_ERROR
        except OSError as error:
            print(f"error: {refusal(error)}", file=sys.stderr)
            return _USER_ERROR
        except (Interrupted, KeyboardInterrupt):
            return INTERRUPTED
        except Exception:
            traceback.print_exc()
            return _FAILED
    return 0


def _train_as_command(run: Run, threads: int, *parts: Any) -> int:
    """Which Lightning starts once more for each further device."""
    flags = run.folder.with_suffix(".yaml")
    write_config(flags, config_of(*parts))
    command = [sys.executable, "-m", "finecorr", "train", "--config", str(flags)]
    command += ["--out", str(run.folder), *(["--resume"] if run.started else [])]
    threads = max(1, threads // run.training.processes)
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    try:
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)  # Ray's Ctrl-C is not heard in a wait.
    except KeyboardInterrupt:
        process.terminate()  # As good as Ctrl-C, which those whom Ray has started ignore.
    return process.wait()


def last_line(text: str) -> str:
    """The last that is not empty, if there is any."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
