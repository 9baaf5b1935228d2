"""What a network sees of a picture: its range from 0 to 1, and its size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from finecorr.data.pictures import Picture

_LUMINANCE = (0.299, 0.587, 0.114)


def stretched(picture: Picture, *, rgb: bool = False) -> Tensor:
    """`(channels, height, width)` float32, from 0 (the picture's darkest) to 1 (its brightest).

    It is as its file says that it is to be shown: within its window, and dark where low values are
    bright. Where the file has no picture, it is 0, and does not count as the darkest.

    Args:
        picture: of one channel or three.
        rgb: three channels in any case, or else one, of the luminance.

    Raises:
        ValueError: it holds values that are not finite numbers.
    """
    values = picture.values if picture.window is None else picture.window(picture.values)
    inside = values if picture.valid is None else values[:, picture.valid]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    if not np.isfinite(high - low):
        raise ValueError("it holds values that are not finite numbers")
    # 32 bits and more have digits that float32 has not.
    wide = values.dtype.itemsize > 2 and values.dtype != np.float32
    real = np.float64 if wide else np.float32
    if len(values) == 1 or rgb:
        image = torch.from_numpy(values.astype(real))
    else:
        image = torch.zeros(1, *values.shape[1:], dtype=torch.float64 if wide else torch.float32)
        for channel, share in zip(values, _LUMINANCE, strict=True):
            image.add_(torch.from_numpy(channel.astype(real)), alpha=share)
    # Of an image of one value, rounding is not stretched.
    image = image.sub_(low).div_(high - low if high > low else np.inf).clamp_(0, 1).float()
    if picture.inverted:
        image = image.neg_().add_(1)
    if picture.valid is not None:
        image.masked_fill_(~torch.from_numpy(picture.valid), 0)
    return image.expand(3, -1, -1) if rgb else image


def fit_image(image: Tensor, size: tuple[int, int], aspect: float = 1.0) -> tuple[Tensor, float]:
    """Resizes an image to fit into `size`, aspect kept, and pads it with 0 around.

    Args:
        image: `(channels, height, width)`.
        size: height and width of the result, whose pixels are square.
        aspect: height of a pixel of `image`, in its width.

    Returns:
        `(channels, *size)`, and how many of its pixels are as long as one of `image` is wide.
    """
    height, width = image.shape[1:]
    tall = height * aspect
    factor = min(size[0] / tall, size[1] / width)
    inner = (max(round(tall * factor), 1), max(round(width * factor), 1))
    resized = torch.nn.functional.interpolate(
        image[None], size=inner, mode="bilinear", antialias=True, align_corners=False
    )[0]
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    padding = (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top)
    # Whole pixels stretch the two axes a little differently: a length at any angle sees the mean.
    factor = (inner[0] / tall * inner[1] / width) ** 0.5
    return torch.nn.functional.pad(resized, padding), factor
