"""The processes of a training, one for each device, as Lightning or a cluster starts them."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from finecorr.errors import InputError
from finecorr.models.options import Sharing
from finecorr.models.place import ALONE, Place
from finecorr.models.quiet import quiet


def trainer_options(
    devices: int, nodes: int, strategy: Sharing, *, static: bool = True
) -> dict[str, Any]:
    """Those of Lightning's trainer; `static` says whether the same weights learn in all steps."""
    if devices * nodes == 1:
        return {"devices": 1}
    # Either way, some may have no gradient: a loss may use features alone, without the head.
    ddp: dict[str, Any] = {"static_graph" if static else "find_unused_parameters": True}
    chosen: Strategy = DDPStrategy(**ddp)
    if strategy == "fsdp":
        chosen = ModelParallelStrategy(devices * nodes, 1, save_distributed_checkpoint=False)
    return {"devices": devices, "num_nodes": nodes, "strategy": chosen}


def place_of(devices: int, nodes: int, strategy: Sharing) -> Place:
    """Of this process, as Lightning, torchrun or SLURM has started it.

    Raises:
        InputError: there are fewer devices, or another number of processes was started.
    """
    count = devices * nodes
    started = _started()
    if started is not None and started.processes != count:
        with started.the_same_in_all():
            raise InputError(
                f"{started.processes} processes were started, but --devices {devices} and "
                f"--num-nodes {nodes} make {count}: --devices is the number for each node"
            )
    if count == 1:
        return ALONE
    if nodes > 1 and started is None and "NODE_RANK" not in os.environ:
        raise InputError(
            f"--num-nodes {nodes}: start the command with torchrun, or with srun, on each of them"
        )
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and devices > torch.accelerator.device_count():
        raise InputError(
            f"--devices {devices}, but this machine has {torch.accelerator.device_count()} "
            f"({accelerator.type})"
        )
    options = trainer_options(devices, nodes, strategy)
    with quiet():
        trainer = L.Trainer(**options, logger=False, enable_checkpointing=False)
    if started is None and trainer.local_rank > 0:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    return Place(trainer.global_rank, trainer.world_size)


def _end_with(parent: int) -> None:
    """Ends a process that Lightning has started when the one is killed that started it: it would
    wait for that one for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _started() -> Place | None:
    """As torchrun, or SLURM's srun, says it; None if it was neither."""
    known = os.environ
    if dist.is_torchelastic_launched():
        return Place(int(known["RANK"]), int(known["WORLD_SIZE"]))
    if "SLURM_STEP_NUM_TASKS" in known:
        return Place(int(known["SLURM_PROCID"]), int(known["SLURM_STEP_NUM_TASKS"]))
    return None
