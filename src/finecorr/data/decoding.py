"""A picture or volume of a file as the network sees it, packed, with what its file says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from finecorr.data import pictures
from finecorr.data.image_options import ImageOptions
from finecorr.data.pictures import Header, Picture, Shape
from finecorr.data.view import fit_image, fit_volume, fitting, padded, scaled, voxel
from finecorr.errors import InputError

_WHITE = 255
_CUT = 0.5
"""Voxels of the network's image by which a volume may be larger, and none is lost."""
NO_SIZE = (float("nan"), float("nan"))
"""Of a pixel, where the file does not say it."""


class Frame(NamedTuple):
    """What is decoded."""

    path: Path
    number: int
    """From 0."""


class Geometry(NamedTuple):
    """Of a picture as the network sees it, by its header."""

    size: tuple[int, ...]
    """Height and width; of a volume depth, height and width."""
    factor: float
    """How many of its pixels are as long as one of the file's is wide."""
    unfit: bool
    """Whether it is smaller than a crop; or a volume larger than the image, and cut."""


def geometry(shape: Shape, options: ImageOptions) -> Geometry:
    """That of the `Seen` which the frame of that shape will be."""
    if shape.depth is not None:
        assert shape.pixel_size is not None  # as all their readers have it
        sides = _voxel(shape.size, shape.pixel_size, options)
        # Where they are no cubes, the side of the cube of their volume.
        factor = shape.pixel_size[-1] / math.cbrt(math.prod(sides))
        cut = any(
            n * own > (room + _CUT) * side
            for n, own, room, side in zip(
                shape.size, shape.pixel_size, options.image_size, sides, strict=True
            )
        )
        return Geometry(options.image_size, factor, cut)
    if options.view == "fit":
        _, factor = fitting(shape.height, shape.width, options.image_size, shape.aspect)
        return Geometry(options.image_size, factor, False)
    size = tuple(max(a, b) for a, b in zip(shape.size, options.crop_size, strict=True))
    return Geometry(size, 1.0, size != shape.size)


def _voxel(
    size: tuple[int, ...], spacing: tuple[float, ...], options: ImageOptions
) -> tuple[float, ...]:
    """Depth, height and width in mm of a voxel of the network's image of a volume."""
    return options.voxel or (voxel(size, spacing, options.image_size),) * 3


class Seen(NamedTuple):
    """A picture or volume as the network sees it."""

    image: Tensor
    """`(channels, height, width)`, or `(channels, depth, height, width)`, packed."""
    factor: float
    """How many of its pixels are as long as one of the file's is wide."""
    pixel_size: tuple[float, ...]
    """Height and width in mm of the file's pixels, by the file; NaN where it does not say it. Of a
    volume depth, height and width of its voxels."""
    unfit: bool
    """Whether it was smaller than a crop; or a volume larger than the image, and was cut."""

    @property
    def geometry(self) -> Geometry:
        """By what it is, and not by its header."""
        return Geometry(tuple(self.image.shape[1:]), self.factor, self.unfit)


def seen(picture: Picture, options: ImageOptions) -> Seen:
    """
    Raises:
        ValueError: as `finecorr.data.view.scaled`.
    """
    image = scaled(picture, options.intensity, rgb=options.rgb)
    small, factor = False, 1.0
    if options.volumes:
        spacing, size = picture.pixel_size, tuple(image.shape[1:])
        assert spacing is not None
        found = geometry(Shape.of(size, spacing), options)
        sides = _voxel(size, spacing, options)
        steps = [side / own for side, own in zip(sides, spacing, strict=True)]
        fitted = fit_volume(image, options.image_size, steps).clamp_(0, 1)
        return Seen(packed(fitted), found.factor, spacing, found.unfit)
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


def checked_header(path: Path, megapixels: float, *, volumes: bool = False) -> Header:
    """What a file says before it is decoded.

    Raises:
        ValueError, OSError and others, by the format's reader: it cannot be read, or is too large,
            or a picture where volumes are read, or the other way round.
    """
    header = pictures.header(path, volumes=volumes)
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
