"""Small pictures of the cases."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 112
"""Pixels. With the quality below, 2 000 pictures of speckle weigh about 5 MB."""
_QUALITY = 45
_KINDS = {b"\xff\xd8\xff": "jpeg", b"\x89PN": "png", b"RIF": "webp"}


def thumbnail(image: NDArray[np.floating]) -> bytes:
    """A WebP file that shows an image within `SIDE` pixels a side, its aspect kept.

    Args:
        image: `(channels, height, width)` from 0 to 1, with 1 channel (grey) or 3 (RGB).
    """
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    picture.thumbnail((SIDE, SIDE))
    file = BytesIO()
    picture.convert("RGB").save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()


def data_uri(file: bytes) -> str:
    """A JPEG, PNG or WebP file as an address that holds it.

    Raises:
        ValueError: it is none of these.
    """
    kind = _KINDS.get(file[:3])
    if kind is None:
        raise ValueError("a thumbnail must be a JPEG, PNG or WebP file")
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"
