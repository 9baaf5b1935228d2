"""What it means for a training that a process of it has ended."""

from __future__ import annotations

import torch.distributed as dist

from finecorr.errors import Stopped


def stopped_by(error: RuntimeError) -> Stopped | None:
    """The error in words, where torch reports that another process of the training has ended."""
    said = str(error)
    if isinstance(error, dist.DistError) or "gloo" in said:
        return Stopped("a process of the training ended: see what it said, or what the system logs")
    if "DataLoader worker" not in said:
        return None
    if "shared memory" in said or "shm" in said:
        return Stopped(
            "a process of --loading-workers was killed: there is too little shared memory. Give "
            "the machine, or its container, more (--shm-size), or use --loading-workers 0"
        )
    return Stopped(
        "a process of --loading-workers was killed, perhaps because memory ran out: use fewer, or "
        "a lower --cache-mb"
    )
