"""Ultrasound-like images of the fetal head whose circumference is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from finecorr.data.corruption import replace_labels
from finecorr.data.phantom.head import RANGES, Head, moved_head, random_head
from finecorr.data.phantom.ultrasound import render
from finecorr.files import replacing

__all__ = ["Head", "Phantom", "phantom", "random_head", "write_phantoms"]


@dataclass(frozen=True)
class Phantom:
    """An ultrasound-like image of a fetal head, with its exact label."""

    image: NDArray[np.uint8]  # (height, width), grey
    pixel_size: float  # mm
    circumference: float  # mm, perimeter of the outer contour of the skull


def phantom(
    rng: np.random.Generator, *, height: int = 136, width: int = 192, head: Head | None = None
) -> Phantom:
    """Draws one image.

    Args:
        rng: the source of gain, speckle and shadows; one head can be drawn in several frames.
        height: of the image, in pixels.
        width: of the image, in pixels.
        head: what to draw; a random head if not given.

    Returns:
        The image with its pixel size and head circumference.

    Raises:
        ValueError: the image would be smaller than 32 x 32 pixels.
    """
    _check_size(height, width)
    head = head or random_head(rng, height, width)
    return Phantom(render(rng, head, height, width), head.pixel_size, head.circumference)


def write_phantoms(
    folder: Path,
    subjects: int = 400,
    *,
    seed: int = 0,
    wrong_labels: float = 0.0,
    height: int = 136,
    width: int = 192,
) -> Path:
    """Writes images and their table, with the names and columns of HC18.

    Args:
        folder: gets `images/*.png` and, once all of them are written, `table.csv`.
        subjects: number of subjects, of 1 to 3 images each.
        seed: of the subjects; the images of one do not depend on how many there are.
        wrong_labels: share of the rows, in [0, 1), that get the circumference of another row;
            if above 0, the column `wrong label` (0 or 1) tells which.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        The path of the table.

    Raises:
        ValueError: an argument is out of its range.
    """
    if subjects < 1:
        raise ValueError(f"subjects is {subjects}: ask for at least 1")
    if not 0 <= wrong_labels < 1:
        raise ValueError(f"wrong_labels is {wrong_labels}: give a fraction, 0 <= wrong_labels < 1")
    _check_size(height, width)
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in tqdm(
        range(subjects), "drawing phantoms", leave=False, unit="subject", disable=None
    ):
        rng = np.random.default_rng([seed, subject])
        head = random_head(rng, height, width)
        for frame in range(1, 2 + rng.choice(3, p=RANGES.frame_counts)):
            drawn = phantom(rng, height=height, width=width, head=head)
            name = f"{subject:03d}_{frame if frame > 1 else ''}HC.png"
            Image.fromarray(drawn.image).save(images / name)
            rows.append((name, drawn.pixel_size, drawn.circumference))
            head = moved_head(rng, head, height, width)
    columns = ["filename", "pixel size(mm)", "head circumference (mm)"]
    table = pd.DataFrame(rows, columns=columns)
    if wrong_labels > 0:
        # A stream of its own: the subject streams are keyed by [seed, subject].
        rng = np.random.default_rng([seed, subjects, 1])
        labels, wrong = replace_labels(table[columns[2]].to_numpy(), wrong_labels, rng)
        table[columns[2]], table["wrong label"] = labels, wrong.astype(int)
    path = Path(folder) / "table.csv"
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def _check_size(height: int, width: int) -> None:
    if min(height, width) < 32:
        raise ValueError(f"images of {height} x {width} pixels: choose at least 32 x 32")
