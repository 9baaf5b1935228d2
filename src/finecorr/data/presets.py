"""Flags for data sets that people have: `--preset NAME DIR` stands for exactly these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finecorr.errors import InputError

_TRAINING = ("train", "check", "compare")
"""The commands that split."""


@dataclass(frozen=True)
class Preset:
    """What is known of a data set."""

    explanation: str
    task: str
    """What its targets are: "length" or "quality"."""
    flags: Callable[[Path], list[str]]
    """The table and its flags, of the folder of the data set."""
    split_column: str | None = None
    """That of its official split, which commands that only predict do not ask for."""


def _hc18(folder: Path) -> list[str]:
    return [
        str(folder / "training_set_pixel_size_and_HC.csv"),
        *("--image-root", str(folder / "training_set")),
        *("--image-columns", "filename"),
        *("--target-columns", "head circumference (mm)"),
        *("--group-pattern", r"^(\d+)_"),
        *("--pixel-size-column", "pixel size(mm)"),
    ]


def _layout(folder: Path, *, name: str, target: str, group: str) -> list[str]:
    return [
        str(folder),
        *("--layout", name),
        *("--image-columns", "image"),
        *("--target-columns", target),
        *("--group-column", group),
    ]


def _photographs(
    name: str, explanation: str, *, target: str = "MOS", split_column: str | None = None
) -> Preset:
    """Each image is its own subject."""
    flags = partial(_layout, name=name, target=target, group="image")
    return Preset(explanation, "quality", flags, split_column)


def _distortions(name: str, explanation: str, *, target: str = "MOS") -> Preset:
    """All versions of a reference image are one subject."""
    return Preset(
        explanation, "quality", partial(_layout, name=name, target=target, group="reference")
    )


PRESETS: dict[str, Preset] = {
    "hc18": Preset(
        "HC18, head circumference in mm from 2-D ultrasound, doi 10.5281/zenodo.1327317",
        "length",
        _hc18,
    ),
    "koniq10k": _photographs(
        "koniq10k", "KonIQ-10k, photographs", target="MOS_zscore", split_column="split"
    ),
    "livec": _photographs("livec", "LIVE in the Wild Challenge, photographs of mobile devices"),
    "spaq": _photographs("spaq", "SPAQ, photographs of smartphones"),
    "biq2021": _photographs("biq2021", "BIQ2021, photographs", split_column="split"),
    "tid2013": _distortions("tid2013", "TID2013, 25 images with 24 distortions"),
    "kadid10k": _distortions("kadid10k", "KADID-10k, 81 images with 25 distortions"),
    "csiq": _distortions("csiq", "CSIQ, 30 images with 6 distortions", target="1 - DMOS"),
    "live": _distortions(
        "live", "LIVE release 2, 29 images with 5 distortions", target="100 - DMOS"
    ),
}
"""Those with layouts are described in docs/datasets.md."""


def one_preset_each(arguments: list[str]) -> list[list[str]]:
    """The arguments once for each `--preset NAME DIR` in them, with the others left out.

    Raises:
        InputError: there are several, and the command is not `evaluate`.
    """
    places = [at for at, argument in enumerate(arguments) if argument == "--preset"]
    if len(places) < 2:
        return [arguments]
    if arguments[0] != "evaluate":
        raise InputError("--preset: evaluate alone takes several")
    return [
        [
            word
            for at, word in enumerate(arguments)
            if not any(place <= at < place + 3 for place in places if place != kept)
        ]
        for kept in places
    ]


def expand_presets(arguments: list[str]) -> list[str]:
    """The arguments with `--preset NAME DIR` replaced by the flags that it stands for.

    They are put before the other flags, which override them. For a training, `--task` is one of
    them, unless it, or a configuration, is given.

    Raises:
        InputError: the name is unknown, or NAME and DIR do not follow.
    """
    if "--preset" not in arguments:
        return arguments
    at = arguments.index("--preset")
    name_and_folder = arguments[at + 1 : at + 3]
    if (
        len(name_and_folder) < 2
        or name_and_folder[0] not in PRESETS
        or name_and_folder[1].startswith("--")
    ):
        raise InputError(
            f"--preset needs a name and a folder, as in --preset hc18 DIR; "
            f"known names are {', '.join(PRESETS)}"
        )
    preset, folder = PRESETS[name_and_folder[0]], Path(name_and_folder[1])
    flags = preset.flags(folder)
    if arguments[0] in _TRAINING:
        if preset.split_column is not None:
            flags += ["--split-column", preset.split_column]
        if not any(argument.split("=")[0] in ("--task", "--config") for argument in arguments):
            flags += ["--task", preset.task]
    return [*arguments[:at], *flags, *arguments[at + 3 :]]
