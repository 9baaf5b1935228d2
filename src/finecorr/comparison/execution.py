"""The trainings of a comparison, each in a process of its own, some side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from tqdm import tqdm

from finecorr import runs
from finecorr.comparison.plan import Run
from finecorr.errors import InputError
from finecorr.models.training import Interrupted, epochs_done

LOG = "log.txt"
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Failure:
    run: Run
    reason: str


def execute(todo: Sequence[Run], workers: int) -> list[Failure]:
    """Trains what is not finished, and returns what failed.

    Each process has its share of the processor's cores and, where there are GPUs, one of these in
    turn. What it prints goes to `log.txt` beside the run's folder.

    Raises:
        Interrupted: Ctrl-C; every training has saved its last whole epoch.
    """
    waiting = [run for run in todo if not run.finished]
    # They are independent programs, which a fork of one that has started threads is not.
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    slots: dict[int, tuple[SpawnProcess, Run]] = {}
    failures = []
    progress = tqdm(total=sum(run.training.epochs for run in waiting), unit="epoch", desc="compare")
    done = 0
    try:
        while waiting or slots:
            for slot in range(workers):
                if slot not in slots and waiting:
                    run = waiting.pop(0)
                    process = context.Process(target=_train, args=(run, _device(slot), threads))
                    process.start()
                    slots[slot] = process, run
            time.sleep(_POLL_SECONDS)
            for slot, (process, run) in list(slots.items()):
                if process.exitcode is not None:
                    del slots[slot]
                    done += run.training.epochs
                    if not run.finished:
                        failures.append(Failure(run, _last_line(log_of(run))))
            running = [run for _, run in slots.values()]
            progress.n = done + sum(epochs_done(_text(log_of(run))) for run in running)
            progress.set_postfix_str(", ".join(run.name for run in running))
    except KeyboardInterrupt as stop:
        for process, _ in slots.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)
        for process, _ in slots.values():
            process.join()
        raise Interrupted("; the same command goes on from here") from stop
    finally:
        progress.close()
    return failures


def log_of(run: Run) -> Path:
    """What the training printed; not in its folder, which a run has for itself."""
    return run.folder.with_suffix(f".{LOG}")


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
    torch.set_num_threads(threads)
    log_of(run).parent.mkdir(parents=True, exist_ok=True)
    with log_of(run).open("w", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        data = run.data
        options = replace(run.options, resume=run.started)
        try:
            runs.train(data.table, data.images, data.augmentation, run.training, options)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except (Interrupted, KeyboardInterrupt):
            sys.exit(130)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _last_line(path: Path) -> str:
    lines = [line for line in _text(path).splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
