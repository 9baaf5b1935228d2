"""`finecorr demo`: see it work, on synthetic images."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from finecorr.demo import length, quality

_RUN = {"length": length.run, "quality": quality.run}


def run(options: Namespace) -> None:
    """The folder gets the images, a run for each model, `scatter.png`, `bland_altman.png` and the
    page, `report.html`."""
    print(_RUN[options.task](Path(options.out), options.overwrite))
