"""Image files to tensors of one size, decoded once and kept in memory up to a limit."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from monai.data import PILReader, PydicomReader
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from finecorr.data.table import ImageTable, raise_faults
from finecorr.errors import InputError


@dataclass(frozen=True)
class ImageOptions:
    """What the network sees of an image. Each field is a flag of the command line."""

    image_size: tuple[int, int] = field(
        default=(136, 192),
        metadata={
            "help": "height and width that images are brought to, in pixels; they keep their "
            "aspect and are padded with black"
        },
    )
    rgb: bool = field(
        default=False, metadata={"help": "three colour channels instead of one of grey"}
    )
    cache_mb: int = field(default=4096, metadata={"help": "megabytes of memory for decoded images"})

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        height, width = self.image_size
        if min(height, width) < 32:
            raise InputError(f"--image-size must be at least 32 32, not {height} {width}")
        if self.cache_mb < 0:
            raise InputError(f"--cache-mb must not be negative, not {self.cache_mb}")


def read_image(path: Path, *, rgb: bool = False) -> Tensor:
    """`(channels, height, width)` float32, from 0 (the image's darkest) to 1 (its brightest).

    Raises:
        ValueError: the file is not a two-dimensional image.
        OSError and others, by the format's reader: it cannot be read.
    """
    # The readers are named, as MONAI's choice by suffix includes one that unpickles.
    if path.suffix.lower() == ".dcm":
        reader = PydicomReader(swap_ij=False)
    else:
        reader = PILReader(converter=_plain_colours, reverse_indexing=False)
    pixels, _ = reader.get_data(reader.read(path))
    image = torch.from_numpy(np.asarray(pixels, dtype=np.float32))
    image = image[None] if image.ndim == 2 else image.movedim(-1, 0)
    if image.ndim != 3 or len(image) > 4:
        raise ValueError(f"not a two-dimensional image: its shape is {tuple(pixels.shape)}")
    if len(image) in (2, 4):
        image = image[:-1]  # The last channel is transparency.
    low, high = image.amin(), image.amax()
    if not torch.isfinite(high - low):
        raise ValueError("it holds values that are not finite numbers")
    image = (image - low) / torch.where(high > low, high - low, 1)
    if rgb:
        return image.expand(3, -1, -1)
    luminance = torch.tensor([0.299, 0.587, 0.114]) if len(image) == 3 else torch.ones(1)
    return torch.einsum("chw,c->hw", image, luminance)[None]


def _plain_colours(image: Image.Image) -> Image.Image:
    return image.convert("RGB") if image.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB") else image


def fault_of(error: Exception) -> str:
    """Why a reader could not read an image, in a line."""
    lines = str(error).strip().splitlines()
    return f"cannot be read as an image: {lines[-1] if lines else type(error).__name__}"


def fit_image(image: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
    """Resizes an image to fit into `size`, aspect kept, and pads it with 0 around.

    Returns:
        `(channels, *size)`, and how many of its pixels are as long as one of `image`.
    """
    height, width = image.shape[1:]
    factor = min(size[0] / height, size[1] / width)
    inner = (max(round(height * factor), 1), max(round(width * factor), 1))
    resized = torch.nn.functional.interpolate(
        image[None], size=inner, mode="bilinear", antialias=True, align_corners=False
    )[0]
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    padding = (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top)
    # Whole pixels stretch the two axes a little differently: a length at any angle sees the mean.
    factor = (inner[0] / height * inner[1] / width) ** 0.5
    return torch.nn.functional.pad(resized, padding), factor


class Images:
    """The images of a table as the network sees them: `(channels, height, width)` float16, 0 to 1.

    All are decoded once at the start, which finds the unreadable ones and every scale; those that
    fit into the memory limit are kept, the others are decoded again at each use.

    Raises:
        InputError: files cannot be read; all of them are named, with their rows.
    """

    def __init__(self, table: ImageTable, options: ImageOptions) -> None:
        self._paths = table.images
        self._options = options
        channels = 3 if options.rgb else 1
        height, width = options.image_size
        self._room = options.cache_mb * 2**20 // (2 * channels * height * width)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = list(
                tqdm(
                    pool.map(self._decode_or_fault, range(len(table))),
                    "reading images",
                    len(table),
                    leave=False,
                    unit="image",
                )
            )
        faults = [
            f"row {row}: {image} {fault}"
            for row, image, (fault, _, _) in zip(table.rows, table.images, decoded, strict=True)
            if fault is not None
        ]
        raise_faults(table.source, faults)
        self._kept = [image for _, image, _ in decoded]
        self.factors = [factor for _, _, factor in decoded]
        """How many pixels of the network's image are as long as one of the file's."""

    @property
    def in_memory(self) -> bool:
        """Whether no image needs decoding again."""
        return len(self) <= self._room

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        kept = self._kept[index]
        return self._decode(index)[0] if kept is None else kept

    def _decode(self, index: int) -> tuple[Tensor, float]:
        image = read_image(self._paths[index], rgb=self._options.rgb)
        fitted, factor = fit_image(image, self._options.image_size)
        return fitted.half(), factor

    def _decode_or_fault(self, index: int) -> tuple[str | None, Tensor | None, float]:
        # Readers raise what they like on a broken file, and none of it should end the others.
        try:
            image, factor = self._decode(index)
        except Exception as error:
            return fault_of(error), None, 1.0
        return None, image if index < self._room else None, factor
