"""A function of a test in several processes, which are one group of torch.distributed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

SCRIPT = """
import importlib, sys
rank, processes, tests, folder, module, name = sys.argv[1:]
sys.path.insert(0, tests)
import processes as group
function = getattr(importlib.import_module(module), name)
group.in_a_process(int(rank), int(processes), folder, function)
"""


def in_processes(function: Callable[[int, int], Any], processes: int, folder: Path) -> list[Any]:
    """What `function(rank, processes)`, at the top of its module, returns in each of them."""
    tests, module = str(Path(__file__).parent), function.__module__
    arguments = [str(processes), tests, str(folder), module, function.__name__]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert not any(process.returncode for process in running), errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


def in_a_process(
    rank: int, processes: int, folder: str, function: Callable[[int, int], Any]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=processes)
    torch.save(function(rank, processes), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
