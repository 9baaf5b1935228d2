"""`finecorr degrade`: images to worse ones, in known steps."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from finecorr.data.degradation.degrading import TABLE, write_degradations
from finecorr.data.degradation.options import MEANING, DegradationOptions
from finecorr.flags import build


def run(options: Namespace) -> None:
    made = build(DegradationOptions, options)
    table = write_degradations(Path(options.images), made)
    originals = table["original"].nunique()
    print(
        f"{len(table)} images, versions of {originals}, with their severity in {made.out / TABLE}\n"
        f"{MEANING}"
    )
