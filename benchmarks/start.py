"""What a training costs before its first step, for each row and for each image.

    OMP_NUM_THREADS=1 python benchmarks/start.py    # about five minutes

prints the table of docs/scaling.md. Rows are read, split and fingerprinted; the images are
those of `--cache-mb 0`, of which the headers are read and a sample is decoded, beside those that
fit into memory, which are all decoded. Each line is measured in a process of its own, with one
thread: seconds of the CPU, which do not depend on what else the machine does, and the memory that
was added. The files are a few hundred under many names, so that the disk does not count.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from finecorr.data import images
from finecorr.data.dataset import ImageDataset
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.options import TableOptions
from finecorr.data.splits import split_rows
from finecorr.data.table import ImageTable, read_table
from finecorr.run_options import RunOptions
from finecorr.runs.same import contents

KINDS = {"png": (68, 96), "jpg": (768, 1024)}
"""Height and width of a small image and of a photograph."""
WRITTEN = 200
LINES = [
    # rows, names of files, format, whether all are decoded
    (100_000, 100_000, "png", False),
    (100_000, 100_000, "jpg", False),
    (200_000, 100, "png", False),
    (10_000, 10_000, "png", True),
    (2_000, 2_000, "jpg", True),
]
MANY = 10_000_000


def write(folder: Path, rows: int, files: int, kind: str) -> Path:
    """A table, and its images under so many names."""
    rng = np.random.default_rng(0)
    height, width = KINDS[kind]
    for i in range(min(files, WRITTEN)):
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        pixels = np.kron(coarse[..., :1], np.ones((4, 4, 1), np.uint8))[..., 0]
        image = Image.fromarray(
            pixels if kind == "png" else np.kron(coarse, np.ones((4, 4, 1), np.uint8))
        )
        image.save(folder / f"{i}.{kind}")
    for i in range(WRITTEN, files):
        (folder / f"{i}.{kind}").hardlink_to(folder / f"{i % WRITTEN}.{kind}")
    names = [f"{i % files}.{kind}" for i in range(rows)]
    frame = pd.DataFrame({"image": names, "target": rng.normal(size=rows)})
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def most_mb() -> float:
    """That this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def line(rows: int, files: int, kind: str, decoded: bool) -> None:
    """Prints one line of the table."""
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), rows, files, kind)
        before, costs = most_mb(), []

        def measured(step: Callable[[], object]) -> float:
            start = time.process_time()
            step()
            costs.append(time.process_time() - start)
            return costs[-1]

        found: list[ImageTable] = []
        table_cost = measured(lambda: found.append(read_table(TableOptions(path))))
        (table,) = found
        split_cost = measured(lambda: split_rows(table, RunOptions(out=Path(name)), 0))
        measured(lambda: contents(table, "none"))
        options = ImageOptions(image_size=(64, 96), cache_mb=10**6 if decoded else 0)
        seen: list[Images] = []
        image_cost = measured(lambda: seen.append(Images(table, options)))
        if not decoded:  # which is the same for any number
            sample = images.SAMPLE
            images.SAMPLE = 0
            start = time.process_time()
            Images(table, options)
            image_cost = time.process_time() - start
            images.SAMPLE = sample
        measured(lambda: ImageDataset(table, seen[0], (False,)))
        how = "all decoded" if decoded else "headers"
        cells = [
            f"{rows:,} rows, {files:,} {kind} files, {how}",
            f"{1e6 * table_cost / rows:.0f}",
            f"{1e6 * split_cost / rows:.0f}",
            f"{1e6 * image_cost / files:.0f}",
            f"{sum(costs):.1f} s",
            f"{most_mb() - before:.0f} MB",
            f"{(MANY * (table_cost + split_cost) / rows + MANY * image_cost / files) / 60:.0f} min"
            if rows == files
            else "",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--line", type=int, help="of the table, from 0, in this process")
    chosen: int | None = parser.parse_args().line
    if chosen is not None:
        line(*LINES[chosen])
        return
    print(
        "| start | table, us a row | splits, us a row | images, us a file | all | memory | 10^7 |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number in range(len(LINES)):
        command = [sys.executable, __file__, "--line", str(number)]
        subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
