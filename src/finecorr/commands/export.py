"""`finecorr export`: a model to a file for other programs."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from finecorr.trained.export import export


def run(options: Namespace) -> None:
    found = export(
        Path(options.run), Path(options.out), options.format, overwrite=options.overwrite
    )
    checked = "not checked, as onnxruntime is not installed"
    if found.difference is not None:
        checked = (
            f"its predictions differ from the run's by {found.difference:.1g} standard deviations "
            "of the targets at most"
        )
    print(f"{found.size / 1e6:.1f} MB written to {found.path}: {checked}")
