"""Time and memory of the losses, forward and backward, beside what else one would do.

    python benchmarks/losses.py [--device cuda] [--rounds 30] [--only pearson]

Each line is measured in one run: all its candidates in turn, round after round. Times are the
medians of the rounds, ratios the medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from finecorr import functional, losses
from finecorr.functional import (
    concordance_loss,
    pearson_loss,
    robust_pearson_loss,
    similarity_correlation_loss,
    similarity_rank_loss,
    spearman_loss,
)
from finecorr.functional.relations import Similarity

Loss = Callable[..., Tensor]

ROUND = 0.02
"""Seconds that a candidate runs for in a round, at least."""


def obvious_pearson(prediction: Tensor, target: Tensor) -> Tensor:
    """What one writes, for `(n,)` and `(n, targets)`."""
    p = prediction - prediction.mean(0)
    y = target - target.mean(0)
    return (1 - (p * y).sum(0) / ((p * p).sum(0).sqrt() * (y * y).sum(0).sqrt())).mean()


def published_loop(
    features: Tensor, target: Tensor, similarity: Similarity, temperature: float
) -> Tensor:
    """The form in which Rank-N-Contrast is published: for each k, all samples as anchors.

    There, it has the Euclidean distance only.
    """
    n = len(target)
    others = ~torch.eye(n, dtype=torch.bool, device=target.device)
    if similarity == "euclidean":
        similarities = -(features[:, None] - features[None]).norm(2, dim=-1)
    else:
        directions = torch.nn.functional.normalize(features, dim=1)
        similarities = directions @ directions.T
    similarities = similarities / temperature
    similarities = similarities - similarities.max(1, keepdim=True).values.detach()
    exponentials = similarities.exp()[others].view(n, n - 1)
    similarities = similarities[others].view(n, n - 1)
    distances = (target[:, None] - target).abs()[others].view(n, n - 1)
    loss: Tensor = similarities.new_zeros(())
    for k in range(n - 1):
        far = (distances >= distances[:, k : k + 1]).to(similarities.dtype)
        loss = loss - (similarities[:, k] - (far * exponentials).sum(1).log()).sum()
    return loss / (n * (n - 1))


def safe_loop(
    features: Tensor, target: Tensor, similarity: Similarity, temperature: float
) -> Tensor:
    """The same with a logsumexp, which neither overflows nor underflows."""
    n = len(target)
    others = ~torch.eye(n, dtype=torch.bool, device=target.device)
    if similarity == "euclidean":
        similarities = -torch.cdist(features, features)
    else:
        directions = torch.nn.functional.normalize(features, dim=1)
        similarities = directions @ directions.T
    similarities = similarities / temperature
    distances = (target[:, None] - target).abs()
    loss: Tensor = similarities.new_zeros(())
    for k in range(n):
        far = (distances >= distances[:, k : k + 1]) & others
        total = similarities.masked_fill(~far, -torch.inf).logsumexp(1)
        loss = loss + ((total - similarities[:, k]) * others[:, k]).sum()
    return loss / (n * (n - 1))


def obvious_similarity_correlation(features: Tensor, target: Tensor) -> Tensor:
    """What one writes."""
    n = len(target)
    others = ~torch.eye(n, dtype=torch.bool, device=target.device)
    u = torch.cdist(features, features)[others].view(n, n - 1)
    v = (target[:, None] - target).abs()[others].view(n, n - 1)
    u = u - u.mean(1, keepdim=True)
    v = v - v.mean(1, keepdim=True)
    correlation = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))
    loss: Tensor = ((1 - correlation + 1e-3).log() / 2).mean()
    return loss


def both_ways(loss: Loss, inputs: Tensor, target: Tensor) -> Callable[[], None]:
    def run() -> None:
        inputs.grad = None
        loss(inputs, target).backward()  # type: ignore[no-untyped-call]

    return run


def side_by_side(
    candidates: Sequence[Callable[[], object]], rounds: int, device: torch.device
) -> list[list[float]]:
    """Seconds of each candidate in each round."""

    def seconds(candidate: Callable[[], object], calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            candidate()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    calls = []
    for candidate in candidates:
        seconds(candidate, 3)
        calls.append(max(1, math.ceil(ROUND / seconds(candidate, 3))))
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds):
        for candidate, count, found in zip(candidates, calls, times, strict=True):
            found.append(seconds(candidate, count))
    return times


def ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def shown(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print(flush=True)


def extra_vectors(run: Callable[[], None], size: int) -> float:
    """The most memory that the run holds at once besides its inputs and its gradient, in vectors of
    the inputs' size."""
    run()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / size - 1


def pearson(device: torch.device, rounds: int) -> None:
    rows = []
    for shape, offset in (
        ((64,), 0.0),
        ((4096,), 0.0),
        ((10**6,), 0.0),
        ((64,), 5.0),
        ((4096,), 5.0),
        ((10**6,), 5.0),
        ((256, 20_000), 0.0),
    ):
        target = torch.randn(shape, device=device)
        prediction = (target + torch.randn(shape, device=device) + offset).requires_grad_()
        gradient = torch.empty(shape, device=device)
        data = prediction.detach()

        move = partial(torch.add, data, target, out=gradient)
        ours: list[Any] = [pearson_loss, concordance_loss, functional.mse_loss]
        if len(shape) == 1:
            ours.append(robust_pearson_loss)
        candidates = [*ours, obvious_pearson, mse_loss]
        runs = [both_ways(loss, prediction, target) for loss in candidates]
        times = side_by_side([*runs, move], rounds, device)
        *_, formula, error, moving = times
        for loss, found, run in zip(ours, times, runs, strict=False):
            name = f"`{loss.__name__}`" if loss is not functional.mse_loss else "ours of `mse_loss`"
            memory = (
                ""
                if device.type == "cuda" or target.numel() < 10**5
                else (f"{extra_vectors(run, data.nbytes):.2f}")
            )
            rows.append(
                [
                    name,
                    f"{shape if len(shape) > 1 else shape[0]}, mean {offset:g}",
                    shown(statistics.median(found)),
                    f"{ratio(found, formula):.2f}",
                    f"{ratio(found, error):.2f}",
                    f"{ratio(found, moving):.1f}",
                    f"{ratio(found, times[0]):.2f}",
                    memory,
                ]
            )
    header = (
        "loss",
        "n",
        "time",
        "of the formula",
        "of `mse_loss`",
        "of moving the bytes",
        "of `pearson_loss`",
        "extra vectors",
    )
    table("Pearson", header, rows)


def similarity_rank(device: torch.device, rounds: int) -> None:
    rows = []
    kinds: list[tuple[Similarity, float]] = [("euclidean", 2.0), ("cosine", 0.1)]
    for kind, temperature in kinds:
        options: dict[str, Any] = {"similarity": kind, "temperature": temperature}
        for n in (64, 128, 256, 512):
            features = torch.randn(n, 512, device=device).requires_grad_()
            target = torch.randn(n, device=device)
            candidates = [
                both_ways(partial(loss, **options), features, target)
                for loss in (similarity_rank_loss, published_loop, safe_loop)
            ]
            data = features.detach()
            ours, published, safe, product = side_by_side(
                [*candidates, partial(torch.matmul, data, data.T)], max(3, rounds // 10), device
            )
            rows.append(
                [
                    kind,
                    str(n),
                    shown(statistics.median(ours)),
                    shown(statistics.median(published)),
                    f"{ratio(published, ours):.0f}",
                    shown(statistics.median(safe)),
                    f"{ratio(safe, ours):.0f}",
                    f"{ratio(ours, product):.1f}",
                ]
            )
    header = (
        "similarity",
        "n",
        "time",
        "published loop",
        "times faster",
        "loop with logsumexp",
        "times faster",
        "of one product of the features",
    )
    table("`similarity_rank_loss`, d = 512", header, rows)
    growth("similarity_rank_loss", device)


def similarity_correlation(device: torch.device, rounds: int) -> None:
    rows = []
    for n in (64, 256, 1024, 4096):
        features = torch.randn(n, 512, device=device).requires_grad_()
        target = torch.randn(n, device=device)
        data = features.detach()
        ours, obvious, product = side_by_side(
            [
                both_ways(similarity_correlation_loss, features, target),
                both_ways(obvious_similarity_correlation, features, target),
                partial(torch.matmul, data, data.T),
            ],
            max(3, rounds // 3),
            device,
        )
        times = [shown(statistics.median(ours)), shown(statistics.median(obvious))]
        rows.append([str(n), *times, f"{ratio(ours, obvious):.2f}", f"{ratio(ours, product):.1f}"])
    header = ("n", "time", "the formula", "ratio", "of one product of the features")
    table("`similarity_correlation_loss`, d = 512", header, rows)
    growth("similarity_correlation_loss", device)


def growth(name: str, device: torch.device) -> None:
    rows, before = [], None
    for n in (1024, 2048, 4096, 8192, 16384):
        command = [sys.executable, __file__, "--one", name, str(n), "--device", str(device)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds, extra = (float(v) for v in output.split())
        exponent = "" if before is None else f"{math.log2(seconds / before):.2f}"
        rows.append([str(n), shown(seconds), exponent, f"{extra / 2**20:.0f} MiB"])
        before = seconds
    header = ("n", "time", "exponent since the last", "extra memory")
    table(f"`{name}`, growth, d = 512", header, rows)


def one(name: str, n: int, device: torch.device) -> None:
    """Prints the seconds and the extra bytes of one call."""
    loss = getattr(functional, name)
    features = torch.randn(n, 512, device=device).requires_grad_()
    target = torch.randn(n, device=device)
    features.grad = torch.zeros_like(features)
    run = both_ways(loss, features, target)
    both_ways(loss, features[:64].detach().requires_grad_(), target[:64])()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = _seconds(run, device)
        extra = torch.cuda.max_memory_allocated() - before
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
        before = peak_memory()
        seconds = _seconds(run, device)
        extra = peak_memory() - before
    if n <= 8192:
        seconds = min(seconds, *(_seconds(run, device) for _ in range(4)))
    print(seconds, extra)


def peak_memory() -> int:
    """Bytes of this process, on Linux."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1])


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spearman(device: torch.device, rounds: int) -> None:
    rows = []
    for n in (64, 4096, 10**5):
        target = torch.randn(n, device=device)
        prediction = (target + torch.randn(n, device=device)).requires_grad_()
        data = prediction.detach()
        scores = np.sort(data.cpu().numpy().astype(np.float64)) / data.std().item()
        decreasing = -(scores - np.arange(n) / n)[::-1]

        def parts(
            data: Tensor = data, target: Tensor = target, values: np.ndarray = decreasing
        ) -> None:
            torch.argsort(data)
            torch.argsort(target)
            scipy.optimize.isotonic_regression(values)

        ours, both, error = side_by_side(
            [
                both_ways(spearman_loss, prediction, target),
                parts,
                both_ways(mse_loss, prediction, target),
            ],
            rounds,
            device,
        )
        rows.append(
            [
                str(n),
                shown(statistics.median(ours)),
                f"{ratio(ours, both):.2f}",
                f"{ratio(ours, error):.1f}",
            ]
        )
    header = ("n", "time", "of two `argsort` and one `isotonic_regression`", "of `mse_loss`")
    table("`spearman_loss`", header, rows)


def step(device: torch.device, rounds: int) -> None:
    """A training step's loss and label weights, of `fine_grained`, beside the plain formulas."""
    rows = []
    for n in (16, 64, 256):
        features = torch.randn(n, 512, device=device).requires_grad_()
        target = torch.randn(n, device=device)
        prediction = (target + torch.randn(n, device=device)).requires_grad_()
        loss = losses.build("fine_grained")

        def ours(features: Tensor, target: Tensor) -> Tensor:
            return loss.with_label_weights(prediction, target, features)[0]  # noqa: B023

        def plain(features: Tensor, target: Tensor) -> Tensor:
            level = obvious_similarity_correlation(features, target)
            return obvious_pearson(prediction, target).log() / 2 + level  # noqa: B023

        runs = [both_ways(each, features, target) for each in (ours, plain)]
        found, formula = side_by_side(runs, rounds, device)
        times = [shown(statistics.median(each)) for each in (found, formula)]
        rows.append([str(n), *times, f"{ratio(found, formula):.2f}"])
    header = ("n", "`fine_grained` with label weights", "the formulas, without", "ratio")
    table("A training step, d = 512", header, rows)


PARTS = (pearson, similarity_rank, similarity_correlation, spearman, step)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.one:
        one(options.one[0], int(options.one[1]), options.device)
        return
    name = torch.cuda.get_device_name() if options.device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, {torch.get_num_threads()} CPU threads")
    for part in PARTS:
        if options.only in (None, part.__name__):
            part(options.device, options.rounds)


if __name__ == "__main__":
    main()
