"""Images made worse in known steps, as a task to learn: how bad is this image?

The severity says what was done to an image. It is not a human opinion of the image's quality.
"""

from __future__ import annotations

import shutil
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from finecorr.data import pictures
from finecorr.data.degradation.kinds import KINDS, Pixels, eight_bits
from finecorr.data.folder import read_folder
from finecorr.data.frames import raise_faults
from finecorr.data.names import subjects
from finecorr.data.records import write_record
from finecorr.data.table import TableOptions
from finecorr.data.view import scaled
from finecorr.errors import InputError
from finecorr.files import check_folder

__all__ = ["IMAGES", "MEANING", "TABLE", "DegradationOptions", "degrade", "write_degradations"]

IMAGES = "images"
TABLE = "scores.csv"
MEANING = "Severity says what was done to an image. It is not a human opinion of its quality."
_MOST = 1000


@dataclass(frozen=True)
class DegradationOptions:
    """What is made of the images. Each field is a flag of the command line."""

    out: Path = field(metadata={"help": "folder for the images and their table"})
    group_pattern: str | None = field(
        default=None,
        metadata={
            "help": "regular expression that takes the subject from the image's file name: its "
            "first group, or else its whole match (default: each image is its own subject)"
        },
    )
    kinds: tuple[str, ...] = field(
        default=tuple(KINDS), metadata={"help": f"degradations, of {', '.join(KINDS)}"}
    )
    versions: int = field(
        default=4, metadata={"help": "degraded versions of each image, beside the image itself"}
    )
    at_once: int = field(default=3, metadata={"help": "most degradations of one version"})
    steps: int = field(default=5, metadata={"help": "steps of severity of each degradation"})
    rgb: bool = field(
        default=False, metadata={"help": "three colour channels instead of one of grey"}
    )
    max_megapixels: float = field(
        default=pictures.MAX_MEGAPIXELS,
        metadata={"help": "million pixels of the largest image that is read"},
    )
    seed: int = field(default=0, metadata={"help": "of what is drawn for each version"})
    overwrite: bool = field(
        default=False, metadata={"help": "replace the degraded images that are in the folder"}
    )

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise InputError(
                f"--kinds must be different ones of {', '.join(KINDS)}, not {' '.join(self.kinds)}"
            )
        for name in ("versions", "at_once", "steps"):
            if not 1 <= getattr(self, name) <= _MOST:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be from 1 to {_MOST}, not {getattr(self, name)}")
        if self.at_once > len(self.kinds):
            raise InputError(
                f"--at-once {self.at_once} is more than the {len(self.kinds)} --kinds there are"
            )
        pictures.check_limit(self.max_megapixels)
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, not {self.seed}")


def degrade(image: Pixels, steps: dict[str, float], rng: np.random.Generator) -> Pixels:
    """An image, made worse.

    Args:
        image: `(channels, height, width)`, from 0 to 1.
        steps: the strength of each kind, in (0, 1]; they happen in the order of `kinds.KINDS`.
        rng: the source of what is random about them.

    Returns:
        The image, changed, from 0 to 1.
    """
    for kind, change in KINDS.items():
        if kind in steps:
            image = np.clip(change(image, steps[kind], rng), 0, 1).astype(np.float32)
    return image


def write_degradations(folder: Path, options: DegradationOptions) -> pd.DataFrame:
    """Writes degraded versions of all images of a folder, and their table.

    `out` gets `images/` and, once all of them are written, `scores.csv`: `image`, `original`,
    `group` (the subject), `severity`, and for each kind its step, 0 for none. Version 0 of an image
    is the image itself. Each other version has 1 to `at_once` kinds, each at a step from 1 to
    `steps`, all equally probable; `severity` is the sum of these steps over `steps`. What becomes
    of an image depends on its name, the options and the seed alone.

    Returns:
        The table.

    Raises:
        InputError: an option or an image is at fault, and nothing was written; all the images at
            fault are named.
    """
    options.check()
    check_folder(options.out)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    table = read_folder(folder, TableOptions(folder))
    images = [path for (path,) in table.images]
    _check_out(folder, options)
    stems = [Path(name).with_suffix("").as_posix() for name in table.names]
    double = {stem for stem, count in Counter(stems).items() if count > 1}
    groups = table.groups
    faults: list[str] = []
    if options.group_pattern is not None:
        groups, faults = subjects(images, table.names, options.group_pattern)
    faults += [
        f"{name}: there is another image of that name, with another ending"
        for name, stem in zip(table.names, stems, strict=True)
        if stem in double
    ]
    for path in tqdm(images, "checking images", leave=False, unit="image", disable=None):
        # Readers raise what they like on a broken file, and none of it should end the others.
        try:
            _read(path, options)
        except Exception as error:
            faults.append(f"{path} {pictures.fault_of(error)}")
    raise_faults(folder, faults, "these files")

    out = options.out
    if out.exists():
        (out / TABLE).unlink(missing_ok=True)
        shutil.rmtree(out / IMAGES, ignore_errors=True)
    rows = []
    sources = list(zip(images, table.names, stems, groups, strict=True))
    for path, name, stem, group in tqdm(
        sources, "degrading", leave=False, unit="image", disable=None
    ):
        image = _read(path, options)
        for version in range(options.versions + 1):
            rng = np.random.default_rng([options.seed, zlib.crc32(name.encode()), version])
            steps = _draw(options, rng) if version else {}
            strengths = {kind: step / options.steps for kind, step in steps.items()}
            target = Path(IMAGES, f"{stem}_{version}.png")
            _write(degrade(image, strengths, rng), out / target)
            rows.append(
                {
                    "image": target.as_posix(),
                    "original": name,
                    "group": group,
                    "severity": sum(steps.values()) / options.steps,
                    **{kind: steps.get(kind, 0) for kind in options.kinds},
                }
            )
    frame = pd.DataFrame(rows)
    write_record(out / TABLE, frame)
    return frame


def _read(path: Path, options: DegradationOptions) -> Pixels:
    header = pictures.header(path)
    pictures.check_size(header, options.max_megapixels)
    if header.frames > 1:
        raise ValueError(f"it has {header.frames} frames")
    return scaled(pictures.read(path), rgb=options.rgb).numpy()


def _draw(options: DegradationOptions, rng: np.random.Generator) -> dict[str, int]:
    count = rng.integers(1, options.at_once + 1)
    kinds = rng.permutation(np.array(options.kinds))[:count]
    return {str(kind): int(rng.integers(1, options.steps + 1)) for kind in kinds}


def _write(image: Pixels, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = eight_bits(image)
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)


def _check_out(folder: Path, options: DegradationOptions) -> None:
    out = options.out
    if folder.resolve() == out.resolve() or out.resolve() in folder.resolve().parents:
        raise InputError(f"--out {out} is or holds the folder of the images: choose another")
    if folder.resolve() in out.resolve().parents:
        raise InputError(
            f"--out {out} is inside {folder}: the next call would degrade what this one writes"
        )
    if (out / TABLE).exists():
        if not options.overwrite:
            raise InputError(
                f"{out} already holds degraded images: choose another folder, or use --overwrite"
            )
    elif (
        out.exists() and any(out.iterdir()) and not (options.overwrite and (out / IMAGES).is_dir())
    ):
        raise InputError(
            f"{out} is not empty: choose another folder, or use --overwrite if its {IMAGES} are of "
            "a call that was interrupted"
        )
