"""How many wrong labels of HC18 a comparison finds: `finecorr compare` with some replaced.

    python benchmarks/suspects.py HC18 --out results

HC18 is the folder of its training set. One label in twenty is replaced, in two ways: by a number
from the whole range of the labels, or by the label of another image. `suspects.csv` of five folds
by subject orders all labels; those that were replaced ought to come first. OUT/suspects.csv says
how many did. What is in OUT/suspects is not repeated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.cli import main as finecorr
from finecorr.data.corruption import replace_labels
from results import REFERENCE, SHARED

TABLE, LABEL = "training_set_pixel_size_and_HC.csv", "head circumference (mm)"
SHARE = 0.05
SMALL = 15.0
"""In mm: an error of the label that a prediction cannot contradict."""
RANDOM, SWAP = "a number of the range", "the label of another image"
WAYS = {"random": RANDOM, "swapped": SWAP}
"""What a label is replaced by, by the name of a folder."""
FLAGS = (*SHARED, "--epochs", "60", "--zoom", "0.4", "--rotation", "20")


def replace(
    labels: NDArray[np.float64], way: str, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    swapped, replaced = replace_labels(labels, SHARE, rng)
    if way == SWAP:
        return swapped, replaced
    drawn = rng.uniform(labels.min(), labels.max(), len(labels))
    return np.where(replaced, drawn, labels), replaced


def find(data: Path, way: str, folder: Path, workers: int) -> dict[str, Any]:
    """Of as many labels as were replaced, how many of the first ones are replaced ones; and how
    many of the others are hardly wrong."""
    table = pd.read_csv(data / TABLE)
    truth = table[LABEL].to_numpy()
    table[LABEL], replaced = replace(truth, way, np.random.default_rng(0))
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / TABLE, index=False)
    out = folder / "comparison"
    preset = ["--preset", "hc18", str(folder), "--image-root", str(data / "training_set")]
    plan = ["--losses", REFERENCE, "--folds", "5", "--seeds", "1", "--workers", str(workers)]
    code = finecorr(["compare", *preset, *FLAGS, *plan, "--out", str(out)])
    if code:
        sys.exit(code)
    order = pd.read_csv(out / "suspects.csv")["image"]
    count = int(replaced.sum())
    wrong = pd.Series(
        np.abs(table[LABEL] - truth)[replaced].to_numpy(), table["filename"][replaced]
    )
    missed = wrong.drop(order[:count], errors="ignore")
    return {
        "replaced by": way,
        "replaced": count,
        "found among as many": count - len(missed),
        f"of the others, wrong by less than {SMALL:.0f} mm": int((missed < SMALL).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of HC18's training set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = [
        find(options.data, way, options.out / "suspects" / name, options.workers)
        for name, way in WAYS.items()
    ]
    table = pd.DataFrame(found)
    table.to_csv(options.out / "suspects.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
