"""Flags for data sets that people have: `--preset NAME DIR` stands for exactly these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finecorr.errors import InputError


def _hc18(folder: Path) -> list[str]:
    """Head circumference in mm, from 2-D ultrasound (doi 10.5281/zenodo.1327317)."""
    return [
        str(folder / "training_set_pixel_size_and_HC.csv"),
        *("--image-root", str(folder / "training_set")),
        *("--image-columns", "filename"),
        *("--target-columns", "head circumference (mm)"),
        *("--group-pattern", r"^(\d+)_"),
        *("--pixel-size-column", "pixel size(mm)"),
    ]


PRESETS: dict[str, Callable[[Path], list[str]]] = {"hc18": _hc18}


def expand_presets(arguments: list[str]) -> list[str]:
    """The arguments with `--preset NAME DIR` replaced by the flags that it stands for.

    They are put before the other flags, which override them.

    Raises:
        InputError: the name is unknown, or NAME and DIR do not follow.
    """
    if "--preset" not in arguments:
        return arguments
    at = arguments.index("--preset")
    name_and_folder = arguments[at + 1 : at + 3]
    if len(name_and_folder) < 2 or name_and_folder[0] not in PRESETS:
        raise InputError(
            f"--preset needs a name and a folder, as in --preset hc18 DIR; "
            f"known names are {', '.join(PRESETS)}"
        )
    name, folder = name_and_folder
    return [*arguments[:at], *PRESETS[name](Path(folder)), *arguments[at + 3 :]]
