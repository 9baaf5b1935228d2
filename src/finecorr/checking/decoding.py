"""The pictures of a table, decoded once, with what is measured on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from finecorr.data import pictures
from finecorr.data.decoding import seen, unpacked
from finecorr.data.image_options import ImageOptions
from finecorr.data.pictures import Picture
from finecorr.data.threads import Turns, side_by_side
from finecorr.data.view import scaled, slices

SIDE = 32
"""Pixels of the small picture by which images are compared."""
_PIXELS = 2**16
"""That measures of a picture are taken of, about."""
_NARROW = (0.01, 0.99)
_COLOUR, _COLOURED = 0.08, 0.005
"""How far channels differ in a coloured pixel, as a share of the range; and the share of these."""


class Frame(NamedTuple):
    """A picture of a file, and the position of its row."""

    path: Path
    number: int
    case: int


class Measures(NamedTuple):
    """Of a decoded picture."""

    low: float
    """The darkest value,"""
    high: float
    """the brightest,"""
    narrow: float
    """and the share of their range in which the middle 98 % of the pixels are."""
    lowest: float | None
    """The lowest value that its type can hold;"""
    highest: float | None
    """the highest."""
    bright: float
    """Share of the pixels that have the highest one,"""
    outside: float
    """of those that the network sees as black or white,"""
    padding: float
    """and of those that are none."""
    channels: int
    coloured: bool
    inverted: bool
    windowed: bool
    small: Tensor
    """`(SIDE, SIDE)`: the whole, from its darkest value to its brightest; of a volume the middle
    axial slice."""


def decode(frames: Sequence[Frame], options: ImageOptions) -> list[Measures | str]:
    """What is measured on each, or why it cannot be read."""
    turns = Turns(options.max_megapixels * 1e6)

    def work(frame: Frame) -> Measures | str:
        # Readers raise what they like on a broken file.
        try:
            header = pictures.header(frame.path, volumes=options.volumes)
            with turns(math.prod(header.largest.size)):
                return _measured(_read(frame, options), options)
        except Exception as error:
            return pictures.fault_of(error)

    return list(side_by_side(work, frames, "reading images"))


def thumbnail_source(frame: Frame, options: ImageOptions) -> Tensor | None:
    """A picture with the intensities that the network sees; of a volume, slices of what it sees;
    None where it cannot be read."""
    try:
        if options.volumes:
            return slices(unpacked(seen(_read(frame, options), options).image))
        return scaled(_read(frame, options), options.intensity, rgb=options.rgb)
    except Exception:
        return None


def spread_over(frames: Sequence[Frame], count: int | Literal["all"]) -> list[Frame]:
    """So many of them, evenly spread."""
    if count == "all" or len(frames) <= count:
        return list(frames)
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return [frames[place] for place in chosen]


def _read(frame: Frame, options: ImageOptions) -> Picture:
    return pictures.read(frame.path, frame.number, volumes=options.volumes)


def _measured(picture: Picture, options: ImageOptions) -> Measures:
    shown = scaled(picture, ("image",))
    limited = scaled(picture, options.intensity)  # which says what the network cannot be given
    values = picture.values
    valid = picture.valid
    inside = values if valid is None else values[:, valid]
    some = _thinned(values, valid)
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    reach = high - low
    ends = np.quantile(some, _NARROW) if some.size else np.zeros(2)
    differ = np.ptp(some, axis=0) if some.shape[0] == 3 and some.size else np.zeros(1)
    full = reach if picture.highest is None else picture.highest - (picture.lowest or 0)
    pixels = limited.flatten()[:: max(1, limited.numel() // _PIXELS)]
    return Measures(
        low,
        high,
        float(ends[1] - ends[0]) / reach if reach > 0 else 0.0,
        picture.lowest,
        picture.highest,
        float((some == picture.highest).mean()) if some.size else 0.0,
        float(((pixels <= 0) | (pixels >= 1)).float().mean()),
        0.0 if valid is None else float(1 - valid.mean()),
        len(values),
        bool((differ > _COLOUR * full).mean() > _COLOURED),
        picture.inverted,
        picture.window is not None,
        torch.nn.functional.interpolate(
            (shown[:, shown.shape[1] // 2] if shown.ndim == 4 else shown)[None],
            (SIDE, SIDE),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )[0, 0],
    )


def _thinned(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """`(channels, pixels)`: some of those that are there, as float64."""
    axes = values.ndim - 1
    some = (slice(None, None, max(1, round((values[0].size / _PIXELS) ** (1 / axes)))),) * axes
    part = values[:, *some]
    if valid is None:
        return part.reshape(len(values), -1).astype(np.float64)
    return part[:, valid[some]].astype(np.float64)
