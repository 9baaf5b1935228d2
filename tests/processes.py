"""Functions of test modules, called in several processes of this machine that know each other."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import getfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def in_processes(function: Callable[[int, int], Any], processes: int, folder: Path) -> list[Any]:
    """What the function of a module returns for rank and number of processes, in each of them."""
    code = "import sys; sys.path[:0] = sys.argv[1].split(); import processes; processes.main()"
    name = function.__module__.rpartition(".")[2], function.__name__
    paths = f"{Path(__file__).parent} {Path(getfile(function)).parent}"
    where = paths, *name, str(processes), str(folder)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *where, str(rank)], stderr=subprocess.PIPE, text=True
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert not any(process.returncode for process in running), errors
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(processes)]


def main() -> None:
    module, function, processes, folder, rank = sys.argv[2:]
    torch.set_num_threads(1)
    call = int(rank), int(processes)
    store = f"file://{Path(folder) / 'store'}"
    dist.init_process_group("gloo", store, rank=call[0], world_size=call[1])
    found = getattr(import_module(module), function)(*call)
    (Path(folder) / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    dist.destroy_process_group()
