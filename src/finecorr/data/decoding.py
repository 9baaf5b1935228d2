"""A picture of a file as the network sees it, packed, with what its file says."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from finecorr.data import pictures
from finecorr.data.options import ImageOptions
from finecorr.data.pictures import Header, Picture, Shape
from finecorr.data.view import fit_image, fitting, padded, scaled
from finecorr.errors import InputError

_WHITE = 255
NO_SIZE = (float("nan"), float("nan"))
"""Of a pixel, where the file does not say it."""


class Frame(NamedTuple):
    """What is decoded."""

    path: Path
    number: int
    """From 0."""


class Geometry(NamedTuple):
    """Of a picture as the network sees it, by its header."""

    height: int
    width: int
    factor: float
    """How many of its pixels are as long as one of the file's is wide."""
    padded: bool
    """Whether it is smaller than a crop."""


def geometry(shape: Shape, options: ImageOptions) -> Geometry:
    """That of the `Seen` which the frame of that shape will be."""
    if options.view == "fit":
        _, factor = fitting(shape.height, shape.width, options.image_size, shape.aspect)
        return Geometry(*options.image_size, factor, False)
    height, width = (max(a, b) for a, b in zip(shape[:2], options.crop_size, strict=True))
    return Geometry(height, width, 1.0, (height, width) != shape[:2])


class Seen(NamedTuple):
    """A picture as the network sees it."""

    image: Tensor
    """`(channels, height, width)`, packed."""
    factor: float
    """How many of its pixels are as long as one of the file's is wide."""
    pixel_size: tuple[float, float]
    """Height and width in mm of the file's pixels, by the file; NaN where it does not say it."""
    padded: bool
    """Whether it was smaller than a crop."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[1], self.image.shape[2]


def seen(picture: Picture, options: ImageOptions) -> Seen:
    """
    Raises:
        ValueError: as `finecorr.data.view.scaled`.
    """
    image = scaled(picture, options.intensity, rgb=options.rgb)
    small, factor = False, 1.0
    if options.view == "fit":
        image, factor = fit_image(image, options.image_size, picture.aspect)
    else:
        whole = padded(image, options.crop_size)
        small, image = whole.shape != image.shape, whole
    return Seen(packed(image), factor, picture.pixel_size or NO_SIZE, small)


def unpacked(image: Tensor) -> Tensor:
    """The image of a `Seen`, from 0 to 1, as float32."""
    return image.float() / _WHITE if image.dtype == torch.uint8 else image.float()


def packed(image: Tensor) -> Tensor:
    """An image from 0 to 1 as it is kept: in 8 bits where they hold all of it, as those of a
    photograph at its own resolution, or else in float16."""
    eight = (image * _WHITE).round_().byte()
    return eight if torch.equal(eight.float() / _WHITE, image) else image.half()


def checked_header(path: Path, megapixels: float) -> Header:
    """What a file says before it is decoded.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read, or is too large.
    """
    header = pictures.header(path)
    pictures.check_size(header, megapixels)
    return header


def frames_of(header: Header, named: int | None, *, all_frames: bool) -> list[int]:
    """Those that are meant, from 0.

    Raises:
        InputError: there is no such frame, or nothing says which of several.
    """
    if named is not None and named >= header.frames:
        raise InputError(f"has {header.frames} frames, and not number {named + 1}")
    if named is None and header.frames > 1 and not all_frames:
        raise InputError(
            f"has {header.frames} frames: say which with --frame-column, or use all of them with "
            "--all-frames"
        )
    return list(range(header.frames)) if named is None else [named]
