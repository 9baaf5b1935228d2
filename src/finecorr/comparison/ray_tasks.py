"""Trainings as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from finecorr.comparison.execution import last_line, log_of, train
from finecorr.comparison.plan import Run
from finecorr.errors import InputError

_STOP_SECONDS = 30.0


@contextmanager
def ray_tasks(workers: int, devices: int) -> Iterator[Callable[[Run, int], _Task]]:
    """Each asks for its GPUs or, in a cluster that has none, for its share of the cores.

    Raises:
        InputError: there is no connection to the cluster.
    """
    with _cluster():
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        cpus, gpus = share([node["Resources"] for node in nodes if node["Alive"]], workers, devices)
        # One call: a process that prints to the log of a training is not for another.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(_train)

        def start(run: Run, _: int) -> _Task:
            return _Task(task.remote(_absolute(run), max(1, cpus)))

        yield start


@dataclass
class _Task:
    exit_code: ray.ObjectRef[int]
    deadline: float = field(default=float("inf"), init=False)

    def ended(self) -> bool:
        return bool(ray.wait([self.exit_code], timeout=0)[0])

    def reason(self) -> str | None:
        try:
            ray.get(self.exit_code)
        except RayTaskError as error:
            return last_line(str(error.cause))
        except RayError as error:
            return str(error).partition("\n")[0]
        return None

    def interrupt(self) -> None:
        ray.cancel(self.exit_code)
        self.deadline = time.monotonic() + _STOP_SECONDS

    def join(self) -> None:
        ended, _ = ray.wait([self.exit_code], timeout=max(0.0, self.deadline - time.monotonic()))
        if not ended:
            ray.cancel(self.exit_code, force=True)


@contextmanager
def _cluster() -> Iterator[None]:
    """The one that this process is connected to, or that Ray finds, or a local one."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise InputError(f"--executor ray: no connection to the cluster: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()  # ends a cluster only if `init` has started it


def share(nodes: list[dict[str, Any]], workers: int, devices: int = 1) -> tuple[int, int]:
    """The cores and GPUs for a training: no more than some node has, so that it can start.

    Raises:
        InputError: no node has as many GPUs as it needs.
    """
    gpus = max((int(node.get("GPU", 0)) for node in nodes), default=0)
    if 0 < gpus < devices:
        raise InputError(f"--devices {devices}, but no node of the cluster has more than {gpus}")
    if gpus:
        able = [node for node in nodes if node.get("GPU", 0) >= devices]
        return min(int(devices * node.get("CPU", 0) // node["GPU"]) for node in able), devices
    cores = [int(node.get("CPU", 0)) for node in nodes]
    return max(1, min(sum(cores) // workers, max(cores))), 0


def _absolute(run: Run) -> Run:
    """As a process that was started in another folder finds it."""
    data = replace(run.data, table=run.data.table.absolute())
    return replace(run, data=data, options=replace(run.options, out=run.folder.absolute()))


def _train(run: Run, threads: int) -> int:
    for path in (run.data.table.table, log_of(run).parent):
        if not path.exists():
            raise InputError(
                f"{path} is not on the node {socket.gethostname()}: the table, its images and "
                "--out must be on a file system that all nodes of the cluster share"
            )
    return train(run, threads)
