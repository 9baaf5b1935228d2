"""Which changed copies of real images `finecorr check` finds, and how many pairs it finds in HC18.

    python benchmarks/duplicates.py FOLDER_OF_DATA

`FOLDER_OF_DATA` has `hc18/`, as in CONTRIBUTING.md, and `biq2021/`, with `images/`. Prints the
tables of docs/check.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from finecorr.checking.decoding import Frame, Measures, decode
from finecorr.checking.duplicates import near_duplicates
from finecorr.data.image_options import ImageOptions

_IMAGES, _COPIES = 800, 200


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(BytesIO(file.getvalue())).convert("RGB")


def _cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (
            round(left * width),
            round(top * height),
            round((1 - right) * width),
            round((1 - bottom) * height),
        )
    )


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 30": lambda image: _jpeg(image, 30),
    "JPEG of quality 10": lambda image: _jpeg(image, 10),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "a quarter of it": lambda image: image.resize((image.width // 4, image.height // 4)),
    "8 pixels cut off all around": lambda image: image.crop(
        (8, 8, image.width - 8, image.height - 8)
    ),
    "5 % cut off at left and top": lambda image: _cut(image, 0.05, 0.05, 0, 0),
    "5 % cut off all around": lambda image: _cut(image, 0.05, 0.05, 0.05, 0.05),
    "10 % cut off all around": lambda image: _cut(image, 0.1, 0.1, 0.1, 0.1),
    "a black frame of 5 %": lambda image: ImageOps.expand(image, round(0.05 * image.width)),
    "1.3 times as bright": lambda image: image.point(lambda value: min(1.3 * value, 255)),
    "twice as bright": lambda image: image.point(lambda value: min(2 * value, 255)),
    "gamma 0.5": lambda image: image.point(lambda value: 255 * (value / 255) ** 0.5),
    "mirrored": ImageOps.mirror,
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BICUBIC),
    "turned by 90 degrees": lambda image: image.rotate(90, expand=True),
}


def main() -> None:
    data = Path(sys.argv[1])
    folders = {"HC18": data / "hc18" / "training_set", "BIQ2021": data / "biq2021" / "images"}
    found: dict[str, list[float]] = {name: [] for name in CHANGES}
    for name, folder in folders.items():
        paths = sorted(path for path in folder.iterdir() if "Annotation" not in path.name)
        if name == "HC18":
            _pairs([path.name.split("_")[0] for path in paths], _small(paths))
        paths = paths[:: max(1, len(paths) // _IMAGES)]
        small = _small(paths)
        chosen = np.random.default_rng(0).choice(len(paths), _COPIES, replace=False)
        for change, make in CHANGES.items():
            with tempfile.TemporaryDirectory() as place:
                copies = [Path(place, f"{number}.png") for number in range(_COPIES)]
                for copy, number in zip(copies, chosen, strict=True):
                    with Image.open(paths[number]) as image:
                        make(image.convert("RGB")).save(copy, compress_level=1)
                both = torch.cat([small, _small(copies)])
            pairs = {pair[:2] for pair in near_duplicates(both, np.arange(len(both)).astype(str))}
            hits = [(number, len(paths) + at) in pairs for at, number in enumerate(chosen)]
            found[change].append(float(np.mean(hits)))
    print("| copies that are | in HC18 | in BIQ2021 |\n| --- | --- | --- |")
    for change, (one, other) in found.items():
        print(f"| {change} | {one:.1%} | {other:.1%} |")


def _small(paths: list[Path]) -> torch.Tensor:
    measured = decode([Frame(path, 0, 0) for path in paths], ImageOptions())
    assert all(isinstance(found, Measures) for found in measured)
    return torch.stack([found.small for found in measured if isinstance(found, Measures)])


def _pairs(subjects: list[str], small: torch.Tensor) -> None:
    """Of all pairs within and across subjects, by how many are found."""
    group = np.array(subjects)
    alone = np.arange(len(group)).astype(str)
    pairs = near_duplicates(small, alone)
    within = sum(group[pair.first] == group[pair.second] for pair in pairs)
    sizes = np.unique(group, return_counts=True)[1]
    of_subject = int((sizes * (sizes - 1) // 2).sum())
    of_others = len(group) * (len(group) - 1) // 2 - of_subject
    print(f"HC18: {within} of {of_subject} pairs of a subject, and {len(pairs) - within} of "
          f"{of_others} of two subjects")  # fmt: skip


if __name__ == "__main__":
    main()
