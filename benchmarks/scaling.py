"""What a step costs by the samples, features and targets of a batch, by processes, and by pieces.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py    # about ten minutes

prints the tables of docs/scaling.md:

- A loss, forward and backward, of n samples with d features and t targets: time, and memory
  beside its arguments.
- The same over processes of this machine, which gloo connects and which have n samples together:
  time, and the bytes that each hands over.
- A step of 512 images through MONAI's resnet18, in pieces: its time; the same in the time of
  batches of that size, each with a loss and a gradient of its own; and memory.

Each line is measured in a process of its own; times are medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from monai.networks.nets import resnet18
from torch import Tensor, nn

from finecorr import InPieces, losses
from finecorr.losses import GlobalBatch

LOSSES = ("pearson", "spearman", "robust_pearson", "fine_grained", "similarity_rank")
SAMPLES = (64, 256, 1024, 4096, 16384)
SHAPES = ((512, 1), (64, 1), (512, 8))
"""Features and targets: the first with all numbers of samples, the others with all but the last."""
PROCESSES = (1, 2, 4)
IMAGES, SIDE = 512, 64
PIECES = (4, 8, 16, 32, 64, 128, 512)
SECONDS = 5.0
"""For the repetitions of a line."""


def median_seconds(step: Callable[[], None]) -> float:
    step()
    times: list[float] = []
    while not times or (sum(times) < SECONDS and len(times) < 200):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def most_bytes() -> int:
    """That this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def batch(n: int, features: int, targets: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    target = torch.randn(n, targets)
    prediction = target + 0.5 * torch.randn(n, targets)
    representation = torch.randn(n, features) + target[:, :1]
    if targets == 1:
        prediction, target = prediction[:, 0], target[:, 0]
    return prediction.requires_grad_(), target, representation.requires_grad_()


def of_loss(name: str, n: int, features: int, targets: int) -> list[str]:
    loss, (prediction, target, representation) = losses.build(name), batch(n, features, targets)

    def step() -> None:
        prediction.grad = representation.grad = None
        loss(prediction, target, representation).backward()

    losses.build(name)(*(values.detach() for values in batch(64, features, targets)))
    before = most_bytes()
    seconds = median_seconds(step)
    return [milliseconds(seconds), f"{(most_bytes() - before) / 2**20:.0f}"]


def of_processes(name: str, n: int, features: int, processes: int) -> list[str]:
    """By this script, called once for each of them."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["rank", name, str(n), str(features), str(processes), folder]
        running = [
            subprocess.Popen(
                [sys.executable, __file__, *arguments, str(rank)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(processes)
        ]
        printed = [process.communicate()[0] for process in running]
    return printed[0].split()


def of_rank(name: str, n: int, features: int, processes: int, folder: str, rank: int) -> list[str]:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=processes)
    loss, sent = GlobalBatch(losses.build(name)), [0]
    arguments = [values.detach()[rank::processes] for values in batch(n, features, 1)]
    prediction, target, representation = arguments
    prediction.requires_grad_(), representation.requires_grad_()
    for function, place in (("all_gather", 1), ("all_reduce", 0)):
        count(function, place, sent)

    def step() -> None:
        prediction.grad = representation.grad = None
        loss(prediction, target, representation).backward()

    step()
    sent[0] = 0
    step()
    of_step = sent[0]
    # Each process makes the same number of steps.
    times = []
    for _ in range(10):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    dist.destroy_process_group()
    return [milliseconds(statistics.median(times)), str(of_step)]


def count(name: str, place: int, sent: list[int]) -> None:
    """Adds the bytes of a tensor that is handed to a function of torch.distributed."""
    function = getattr(dist, name)

    def counting(*arguments: object, **options: object) -> object:
        values = arguments[place]
        assert isinstance(values, Tensor)
        sent[0] += values.numel() * values.element_size()
        return function(*arguments, **options)

    setattr(dist, name, counting)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = resnet18(
            spatial_dims=2, n_input_channels=1, conv1_t_stride=2, feed_forward=False
        )
        self.head = nn.Linear(512, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        return self.head(features).squeeze(1), features


def of_pieces(size: int) -> list[str]:
    network, loss = Network(), losses.build("fine_grained")
    image, target = torch.randn(IMAGES, 1, SIDE, SIDE), torch.randn(IMAGES)
    before = most_bytes()
    pieces = InPieces(network, size)

    def population() -> None:
        network.zero_grad()
        prediction, features = pieces(image)
        loss(prediction, target, features).backward()

    def batches() -> None:
        network.zero_grad()
        for start in range(0, IMAGES, size):
            prediction, features = network(image[start : start + size])
            loss(prediction, target[start : start + size], features).backward()

    population()
    memory = most_bytes() - before
    times: dict[Callable[[], None], list[float]] = {population: [], batches: []}
    for _ in range(3):
        for step, seconds in times.items():
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    ours, plain = map(statistics.median, times.values())
    return [f"{ours:.2f}", f"{ours / plain:.2f}", f"{memory / 2**20:.0f}"]


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"


def in_own_process(kind: str, *arguments: object) -> list[str]:
    command = [sys.executable, __file__, kind, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def table(head: str, rows: list[list[str]]) -> None:
    print(f"| {head} |\n|{' --- |' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("line", nargs="*", help="what this script calls itself with")
    kind, *arguments = parser.parse_args().line or [""]
    if kind == "loss":
        found = of_loss(arguments[0], *map(int, arguments[1:]))
    elif kind == "rank":
        name, n, features, processes, folder, rank = arguments
        found = of_rank(name, int(n), int(features), int(processes), folder, int(rank))
    elif kind == "pieces":
        found = of_pieces(int(arguments[0]))
    else:
        tables()
        return
    print(*found)


def tables() -> None:
    rows = [
        [f"`{name}`", str(n), str(d), str(t), *in_own_process("loss", name, n, d, t)]
        for name in LOSSES
        for d, t in (SHAPES if name in ("fine_grained", "similarity_rank") else SHAPES[:1])
        for n in (SAMPLES if (d, t) == SHAPES[0] else SAMPLES[:-1])
    ]
    table("loss | n | d | t | ms | MB", rows)
    rows = [
        [f"`{name}`", str(n), str(count_), *of_processes(name, n, 512, count_)]
        for name in LOSSES
        for n in (64, 1024, 4096)
        for count_ in PROCESSES
    ]
    table("loss | n | processes | ms | bytes sent by each", rows)
    rows = [[str(size), *in_own_process("pieces", size)] for size in PIECES]
    table("piece | seconds | of batches of that size | MB", rows)


if __name__ == "__main__":
    main()
