"""Trains two models that differ in one thing on synthetic ultrasound images of the fetal head, and
compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Task = Literal["length", "quality"]
TASKS: dict[Task, str] = {
    "length": "two losses, where one label in ten is wrong",
    "quality": "two views of images that were made worse in known steps",
}


def run(task: Task, out: Path, *, overwrite: bool = False) -> str:
    """Runs a demo and returns its result as text.

    Args:
        task: which of `TASKS`.
        out: folder for the images, a run for each model, `scatter.png`, `bland_altman.png` and the
            page, `report.html`.
        overwrite: replace the demo of this task that is there.

    Raises:
        InputError: the folder is not empty.
    """
    from finecorr.demo import length, quality

    chosen = {"length": length.run, "quality": quality.run}
    return chosen[task](out, overwrite)
