"""Decoded images to predictions, as one module of tensor operations, which can be exported.

It does what `data.view`, `data.images`, `data.lengths` and `models.prediction` do, for any size of
image: no number in it is taken from an example.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from finecorr.data.image_options import ImageOptions, Intensity
from finecorr.data.view import LUMINANCE, row_counts
from finecorr.models.regressor import Regressor

_WHITE = 255


class EndToEnd(nn.Module):
    """Predictions `(batch, targets)` in the unit of the targets, float32.

    Args:
        regressor: the model.
        images: what it sees of an image.
        lengths: for each target, whether it is a length that is learnt in pixels.
    """

    def __init__(
        self, regressor: Regressor, images: ImageOptions, lengths: tuple[bool, ...]
    ) -> None:
        super().__init__()
        self.regressor = regressor.eval()
        self.images = images
        self.lengths = lengths

    def forward(self, image: Tensor, pixel_size: Tensor | None = None) -> Tensor:
        """
        Args:
            image: `(batch, channels, height, width)` float32, of one channel or three, as decoded;
                with `--intensity type`, from 0 to 1 over the range of the type.
            pixel_size: `(batch,)` float32, for lengths only: the side of a pixel of `image`, in
                their unit.
        """
        options = self.images
        image = _scaled(image, options.intensity, options.rgb)
        factor: Tensor | None = None
        if options.view == "fit":
            image, factor = _fitted(image, options.image_size)
        else:
            image = _padded(image, options.crop_size)
        image = _as_kept(image)
        if options.test_crops:
            image = _crops(image, options.crop_size, options.test_crops)
        regressor = self.regressor
        prediction = regressor.in_unit(regressor.head(regressor.hidden(regressor.features(image))))
        if options.test_crops:
            prediction = prediction.view(-1, options.test_crops, len(self.lengths)).mean(1)
        if pixel_size is None:
            return prediction
        side = pixel_size if factor is None else pixel_size / factor.float()
        return prediction * torch.where(torch.tensor(self.lengths), side[:, None], 1.0)


def _scaled(image: Tensor, intensity: Intensity, rgb: bool) -> Tensor:
    """As `view.scaled`."""
    channels = image.shape[1]
    if intensity == ("image",):
        low = image.amin((1, 2, 3), keepdim=True)
        span = image.amax((1, 2, 3), keepdim=True) - low
        span = torch.where(span > 0, span, torch.inf)
    else:
        first, last = (0.0, 1.0) if intensity == ("type",) else map(float, intensity)
        low, span = torch.tensor(first), torch.tensor(last - first)
    if rgb:
        image = image.index_select(1, torch.arange(3).clamp(max=channels - 1))
    else:
        share = torch.tensor(LUMINANCE)[:channels]
        image = (image * (share / share.sum())[:, None, None]).sum(1, keepdim=True)
    return ((image - low) / span).clamp(0, 1)


def _as_kept(image: Tensor) -> Tensor:
    """As `images.packed` and `images.unpacked`."""
    eight = (image * _WHITE).round() / _WHITE
    exact = (eight == image).flatten(1).all(1)
    return torch.where(exact[:, None, None, None], image, image.half().float())


def _fitted(image: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """As `view.fit_image`: resizing is a matrix product on either side, whose rows and columns of
    the padding are 0."""
    height, width = (_number(side, torch.float64) for side in image.shape[2:])
    factor = torch.minimum(size[0] / height, size[1] / width)
    rows, columns = ((side * factor).round().clamp(min=1) for side in (height, width))
    down = _resizing(image.shape[2], rows, size[0])
    across = _resizing(image.shape[3], columns, size[1])
    # Across first, as torch does: what differs in the last digit may be kept as another float16.
    return down @ (image @ across.T), (rows / height * columns / width).sqrt()


def _resizing(length: int, inner: Tensor, size: int) -> Tensor:
    """`(size, length)`: the share of each of `length` pixels in each of `inner` in the middle of
    `size`. As torch does it, down to the order of its operations in float32."""
    place = torch.arange(size) - ((size - inner) / 2).floor()
    scale = _number(length, torch.float32) / inner.float()
    centre = scale * (place.float() + 0.5)
    distance = torch.arange(length, dtype=torch.float32) - centre[:, None] + 0.5
    share = (1 - (distance * (1 / scale.clamp(min=1))).abs()).clamp(min=0)
    inside = (place >= 0) & (place < inner)
    # Far outside, all shares are 0.
    return torch.where(inside[:, None], share / share.sum(1, keepdim=True), 0.0)


def _padded(image: Tensor, size: tuple[int, int]) -> Tensor:
    """As `view.padded`."""
    for axis, least in zip((2, 3), size, strict=True):
        length = image.shape[axis]
        whole = torch.sym_max(length, least)  # type: ignore[no-untyped-call]
        period = (2 * (_number(length, torch.int64) - 1)).clamp(min=1)
        place = (torch.arange(whole) - (whole - length) // 2).remainder(period)
        image = image.index_select(axis, torch.minimum(place, period - place))
    return image


def _crops(image: Tensor, size: tuple[int, int], count: int) -> Tensor:
    """`(batch * count, channels, *size)`: at the places of `view.grid`."""
    height, width = (_number(side, torch.int64) for side in image.shape[2:])
    shares = row_counts(count)
    products = torch.tensor([a * b for a, b in pairwise(shares)], dtype=torch.int64)
    chosen = (products * width < count * height).sum()[None]
    rows, columns = (torch.tensor(of).index_select(0, chosen) for of in (shares, shares[::-1]))
    number = torch.arange(count)
    top = _even(height - size[0], rows, number.div(columns, rounding_mode="floor"))
    left = _even(width - size[1], columns, number.remainder(columns))
    down, across = top[:, None] + torch.arange(size[0]), left[:, None] + torch.arange(size[1])
    crops = image[:, :, down[:, :, None], across[:, None, :]]
    return crops.transpose(1, 2).flatten(0, 1)


def _even(room: Tensor, number: Tensor, place: Tensor) -> Tensor:
    """Of `number` places from 0 to `room`, those of these numbers."""
    space = room.double()
    step = space / (number - 1).clamp(min=1)
    even = torch.where(place == number - 1, space, place * step)
    return torch.where(number > 1, even, space / 2).round().long()


def _number(size: int, kind: torch.dtype) -> Tensor:
    """A side of an image as a tensor, which is not taken for a constant."""
    return torch.scalar_tensor(size, dtype=kind)
