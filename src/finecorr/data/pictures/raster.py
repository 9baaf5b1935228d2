"""PNG, JPEG, TIFF and the other formats that Pillow reads."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from finecorr.data.pictures.picture import Header, Picture, Shape, Values

# All that is opened is on these lists: others of Pillow's start programs (Ghostscript for EPS) or
# read what no picture needs.
_BY_CONTENT = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "SGI", "TIFF", "WEBP"),
)
_BY_SUFFIX = {".pcx": "PCX", ".tga": "TGA"}
"""They begin with nothing that tells them from other files."""
SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".j2k", ".jpe", ".jpeg", ".jpg"),
        *(".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
    }
)
# The limit on pixels is ours (`pictures.check_size`), and a flag raises it.
Image.MAX_IMAGE_PIXELS = None

_PHOTOMETRIC, _SUBFILE, _SAMPLE_FORMAT, _BITS = 262, 254, 339, 258
_WHITE_IS_ZERO, _REDUCED, _UNSIGNED, _SIGNED = 0, 1, 1, 2
_ON_ITS_SIDE = (5, 6, 7, 8)
_CHUNKS = 8
"""Bytes that a PNG begins with, before its chunks."""
_SAYS_MORE = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that may say how it is turned."""


def is_raster(path: Path) -> bool:
    """Whether the file begins as one of the formats does."""
    try:
        with _open(path):
            return True
    except Exception:  # of a broken file, whatever its format's reader raises
        return False


def header(path: Path) -> Header:
    """What the file says before it is decoded."""
    with _open(path) as image:
        pages = _pages(image)
        shapes = []
        for page in pages if image.format == "TIFF" else pages[:1]:  # Others have one size.
            image.seek(page)
            width, height = image.size
            shapes.append(Shape(width, height) if _on_its_side(image) else Shape(height, width))
        wide = {"1": 1, "I": 32, "F": 32}
        bits = 16 if image.mode.startswith("I;16") else wide.get(image.mode, 8)
        shapes = shapes if len(set(shapes)) > 1 else shapes[:1]
        return Header(shapes, len(pages), image.format or "", bits)


def read(path: Path, frame: int) -> Picture:
    """One frame, from 0."""
    with _open(path) as image:
        image.seek(_pages(image)[frame])
        tags = getattr(image, "tag_v2", {})
        upright = ImageOps.exif_transpose(image)
        valid = None
        values: Values
        lowest: float | None
        highest: float | None
        if upright.has_transparency_data and upright.mode != "I;16":
            # On black, which is what there is around a picture.
            colours = upright.convert("RGBA")
            alpha = np.asarray(colours.getchannel("A"))
            if alpha.min() < 255:
                valid = alpha > 0
                black = Image.new("RGBA", colours.size, "black")
                colours = Image.alpha_composite(black, colours)
            values = np.asarray(colours.convert("RGB"))
            lowest, highest = 0.0, 255.0
        else:
            values = np.asarray(_plain(upright))
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            # Types that Pillow has no mode for.
            kind = (tags.get(_BITS), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))
            if kind == ((32,), (_UNSIGNED,)):
                values = values.view(np.uint32)
            elif kind == ((8,), (_SIGNED,)) and values.ndim == 2:
                values = values.view(np.int8)
            lowest, highest = _range(values)
    return Picture(
        values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0),
        lowest,
        highest,
        # Pillow turns those of 8 bits and fewer itself.
        inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and upright.mode not in ("1", "L"),
        valid=valid,
    )


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    Image.init()
    formats = [*_BY_CONTENT, _BY_SUFFIX.get(path.suffix.lower())]
    # Of a name, Pillow maps the file into memory, where it forgets the orientation of a TIFF.
    known = [name for name in formats if name in Image.OPEN]
    with path.open("rb") as file:
        try:
            image = Image.open(file, formats=known)
        except UnidentifiedImageError as error:
            raise ValueError("it is damaged, or in a format that is not read here") from error
        with image:
            yield image


def _pages(image: Image.Image) -> list[int]:
    """Which pages are pictures, and not another one once more."""
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":  # A photograph, and its previews or depths.
        return [0]
    if image.format != "TIFF":
        return list(range(count))
    pages = []
    for page in range(count):
        image.seek(page)
        if not _tag(image, _SUBFILE) & _REDUCED:
            pages.append(page)
    return pages or list(range(count))


def _tag(image: Any, tag: int) -> int:
    return int(image.tag_v2.get(tag, 0))


def _on_its_side(image: Any) -> bool:
    """Whether the upright image is as wide as this one is high."""
    if image.format == "TIFF" and ExifTags.Base.Orientation in image.tag_v2:
        return False  # Pillow has its size upright.
    if image.format == "PNG" and not _says_more_later(Path(image.fp.name)):
        # Its own way is to decode the pixels first.
        exif = Image.Image.getexif(image)
    else:
        exif = image.getexif()
    return exif.get(ExifTags.Base.Orientation) in _ON_ITS_SIDE


def _says_more_later(path: Path) -> bool:
    """Whether a PNG says something of itself after its pixels."""
    pixels = False
    with path.open("rb", buffering=0) as file:  # of which next to nothing is read
        place = file.seek(_CHUNKS)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if pixels and kind in _SAYS_MORE:
                return True
            pixels |= kind == b"IDAT"
            place = file.seek(place + 12 + length)
    return False


def _plain(image: Image.Image) -> Image.Image:
    """The image in a mode whose values mean grey, or red, green and blue."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("L", "RGB", "I", "F") or image.mode.startswith("I;16"):
        return image
    return image.convert("RGB")


def _range(values: Values) -> tuple[float | None, float | None]:
    if values.dtype.kind == "f":
        return None, None
    limits = np.iinfo(values.dtype)
    return float(limits.min), float(limits.max)
