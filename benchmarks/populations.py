"""Batches that are too small for a correlation, and the two remedies: which one serves best?

    python benchmarks/populations.py --out populations

Phantoms of 400 subjects, and a network that takes 8 images at once. Each row is a `finecorr
compare` on the same 3 folds, with 30 epochs:

- batches of 8 as they are;
- each filled up to 64 with the latest samples (`--memory 64`);
- populations of 64 in pieces of 8 (`--population 64`);
- and, as if 64 fitted into memory, batches of 64.

The middle ones also with 120 epochs, for fine_grained: a population of 64 makes an eighth of the
steps.

OUT/populations.csv has the measures of the rows that each training has not seen, the standard error
of SRCC over the folds, and the seconds of a training. What is in OUT is not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

from finecorr.cli import main as finecorr
from finecorr.data.phantom import write_phantoms

LOSSES = ("mse", "pearson", "fine_grained")
FOLDS = 3
FLAGS = [
    *("--image-columns", "filename", "--target-columns", "head circumference (mm)"),
    *("--group-pattern", r"^(\d+)_", "--pixel-size-column", "pixel size(mm)"),
    *("--image-size", "68", "96", "--network", "resnet10-narrow", "--epochs", "30"),
    *("--folds", str(FOLDS), "--seeds", "1"),
]
WAYS = {
    "batches of 8": ["--batch-size", "8", "--memory", "0"],
    "with the latest 64": ["--batch-size", "8", "--memory", "64"],
    "64 in pieces of 8": ["--batch-size", "8", "--population", "64"],
    "batches of 64": ["--batch-size", "64"],
}
LONGER = {
    f"{way}, 120 epochs": [*WAYS[way], "--epochs", "120"]
    for way in ("with the latest 64", "64 in pieces of 8")
}
MEASURES = ("SRCC", "PLCC", "MAE")


def compared(way: str, loss: str, table: Path, out: Path) -> dict[str, object]:
    """One row: a loss, trained in one of the ways."""
    folder = out / f"{loss}, {way}"
    done, began = folder / "seconds.txt", time.monotonic()
    if not done.exists():
        flags = [*FLAGS, *(WAYS | LONGER)[way], "--losses", loss]
        flags += ["--out", str(folder / "comparison")]
        code = finecorr(["compare", str(table), "--image-root", str(out / "images"), *flags])
        if code:
            sys.exit(code)
        done.write_text(str((time.monotonic() - began) / FOLDS))
    results = pd.read_csv(folder / "comparison" / "results.csv").set_index("metric")["value"]
    row: dict[str, object] = {"loss": loss, "way": way}
    row |= {name: results.loc[name].mean() for name in MEASURES}
    error = results.loc["SRCC"].std() / FOLDS**0.5
    return row | {"error of SRCC": error, "seconds": float(done.read_text())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("populations"))
    out = parser.parse_args().out
    table = out / "table.csv"
    if not table.exists():
        write_phantoms(out, 400, height=68, width=96)
    rows = []
    for loss in LOSSES:
        for way in WAYS | (LONGER if loss == LOSSES[-1] else {}):
            rows.append(compared(way, loss, table, out))
            pd.DataFrame(rows).to_csv(out / "populations.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
