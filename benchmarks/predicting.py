"""How fast `finecorr predict` is: beside the network alone, on images that are in memory already.

    python benchmarks/predicting.py [IMAGES] [--images 3000]

IMAGES is a folder of images; without it, phantoms are drawn. All are measured in turn, round after
round, after a first one that does not count; ratios are medians of the rounds' ratios. The command
itself is then called for the images, and for four times as many, with its time and peak of memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.phantom import write_phantoms
from finecorr.models.regressor import Architecture, Regressor
from finecorr.models.streaming import Member, Row, outcomes
from finecorr.trained import bundle
from finecorr.trained.bundle import Bundle

BATCH = 64
MODELS = (("resnet10-narrow", (68, 96)), ("resnet18", (136, 192)))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--command", action="store_true", help="the command, too")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    with TemporaryDirectory() as scratch:
        folder = options.folder or _drawn(Path(scratch))
        paths = list(islice(cycle(sorted(folder.iterdir())), options.images))
        print("| network | image | network alone, images a second | predict | of the network |")
        print("| --- | --- | --- | --- | --- |")
        for network, size in MODELS:
            rounds = [_round(network, size, paths) for _ in range(options.rounds + 1)][1:]
            alone, whole = (median(rates) for rates in zip(*rounds, strict=True))
            share = median(predicting / bare for bare, predicting in rounds)
            shape = f"{size[0]} x {size[1]}"
            print(f"| {network} | {shape} | {alone:.0f} | {whole:.0f} | {share:.0%} |")
        if options.command:
            _command(paths, Path(scratch))


def _drawn(folder: Path) -> Path:
    write_phantoms(folder / "phantoms", 250)
    return folder / "phantoms" / "images"


def _round(network: str, size: tuple[int, int], paths: list[Path]) -> tuple[float, float]:
    """Images a second by the network alone, and from the files."""
    # As many as take some seconds.
    chosen = paths if network.endswith("narrow") else paths[: len(paths) // 8]
    regressor = Regressor(Architecture(network, 1, size, 1)).eval()
    regressor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = torch.rand(BATCH, 1, *size).to(memory_format=torch.channels_last)
    start = time.perf_counter()
    with torch.inference_mode():
        for _ in range(len(chosen) // BATCH):
            regressor(batch)
    alone = len(chosen) // BATCH * BATCH / (time.perf_counter() - start)
    member = Member(regressor, ImageOptions(image_size=size), (False,), AugmentationOptions())
    start = time.perf_counter()
    found = list(outcomes([member], (Row((path,)) for path in chosen)))
    assert not any(outcome.fault for outcome in found)
    return alone, len(chosen) / (time.perf_counter() - start)


def _command(paths: list[Path], scratch: Path) -> None:
    network, size = MODELS[0]
    images = ImageOptions(image_size=size)
    table = TableOptions(Path("table.csv"))
    bundle.save(Bundle(Regressor(Architecture(network, 1, size, 1)), table, images), scratch)
    print("\n| images | seconds | peak of memory, MB |\n| --- | --- | --- |")
    for count in (BATCH, len(paths), 4 * len(paths)):
        rows = islice(cycle(paths), count)
        (scratch / "table.csv").write_text("\n".join(["image", *map(str, rows)]))
        command = [
            *(sys.executable, "-m", "finecorr", "predict", str(scratch)),
            *(str(scratch / "table.csv"), "--out", str(scratch / "out.csv"), "--overwrite"),
        ]
        code = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
            "stdout=2, stderr=subprocess.DEVNULL); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
        )
        seconds = time.perf_counter() - start
        print(f"| {count} | {seconds:.1f} | {int(result.stdout) / 1024:.0f} |")


if __name__ == "__main__":
    main()
