"""Images made worse in known steps, as a task to learn: how bad is this image?

The severity says what was done to an image. It is not a human opinion of the image's quality.
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from finecorr.data import pictures
from finecorr.data.degradation.kinds import CHANGES, Pixels, eight_bits
from finecorr.data.degradation.options import DegradationOptions
from finecorr.data.folder import read_folder
from finecorr.data.frames import raise_faults
from finecorr.data.names import subjects
from finecorr.data.options import TableOptions
from finecorr.data.records import write_record
from finecorr.data.view import scaled
from finecorr.errors import InputError
from finecorr.files import check_folder

IMAGES = "images"
TABLE = "scores.csv"


def degrade(image: Pixels, steps: dict[str, float], rng: np.random.Generator) -> Pixels:
    """An image, made worse.

    Args:
        image: `(channels, height, width)`, from 0 to 1.
        steps: the strength of each kind, in (0, 1]; they happen in the order of `kinds.CHANGES`.
        rng: the source of what is random about them.

    Returns:
        The image, changed, from 0 to 1.
    """
    for kind, change in CHANGES.items():
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
    _check_out(folder, options)
    sources, out = _sources(folder, options), options.out
    if out.exists():
        (out / TABLE).unlink(missing_ok=True)
        shutil.rmtree(out / IMAGES, ignore_errors=True)
    bar = tqdm(sources, "degrading", leave=False, unit="image", disable=None)
    frame = pd.DataFrame([row for source in bar for row in _write_versions(source, options)])
    write_record(out / TABLE, frame)
    return frame


class _Source(NamedTuple):
    path: Path
    name: str
    stem: str
    """Its name without ending."""
    group: str


def _sources(folder: Path, options: DegradationOptions) -> list[_Source]:
    """The images of the folder.

    Raises:
        InputError: some cannot be used; all of them are named.
    """
    table = read_folder(folder, TableOptions(folder))
    images = [path for (path,) in table.images]
    # As names of DICOM files end, a number is no ending.
    stems = [re.sub(r"(?<=[^/])\.(?![0-9]+$)[^./]+$", "", name) for name in table.names]
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
    return [_Source(*each) for each in zip(images, table.names, stems, groups, strict=True)]


def _write_versions(source: _Source, options: DegradationOptions) -> Iterator[dict[str, Any]]:
    """Of an image; their rows of the table."""
    image = _read(source.path, options)
    for version in range(options.versions + 1):
        rng = np.random.default_rng([options.seed, zlib.crc32(source.name.encode()), version])
        steps = _draw(options, rng) if version else {}
        strengths = {kind: step / options.steps for kind, step in steps.items()}
        target = Path(IMAGES, f"{source.stem}_{version}.png")
        _write(degrade(image, strengths, rng), options.out / target)
        yield {
            "image": target.as_posix(),
            "original": source.name,
            "group": source.group,
            "severity": sum(steps.values()) / options.steps,
            **{kind: steps.get(kind, 0) for kind in options.kinds},
        }


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
