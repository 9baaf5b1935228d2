"""How an ultrasound image is made worse: six kinds, each from hardly to badly.

Grey levels of ultrasound are logarithms of echo intensities, so that gain, attenuation and shadows,
which multiply echoes, are added to them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, special

from finecorr.data.degradation.options import KINDS

Pixels = NDArray[np.floating[Any]]
"""`(channels, height, width)`, from 0 to 1."""

Degradation = Callable[[Pixels, float, np.random.Generator], Pixels]
"""Of an image, a strength in (0, 1], and the source of what is random about it."""


def blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A Gaussian beam, twice as wide sideways as along the depth: standard deviation 0.012 of the
    width, and 0.4 pixels, so that small images change, too."""
    sigma = 0.012 * strength * image.shape[2]
    return ndimage.gaussian_filter(image, (0, sigma / 2 + 0.4, sigma + 0.4))


def speckle(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Grain 0.006 of the width in size, stronger where the echo is: up to half the grey level."""
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape[1:]), 0.006 * image.shape[2])
    grain = noise / max(float(noise.std()), 1e-12)
    return image * (1 + 0.5 * strength * grain)


def attenuation(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Echoes that fade with the depth, by 0.7 at the bottom."""
    depth = np.linspace(0, 1, image.shape[1])[:, None]
    return image - 0.7 * strength * depth


def shadow(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Darkness below something that lets no sound through: 0.15 to 0.35 of the width."""
    height, width = image.shape[1:]
    centre, half = rng.uniform(0.2, 0.8), rng.uniform(0.075, 0.175)
    top = rng.uniform(0.1, 0.4)
    beside = np.abs((np.arange(width) + 0.5) / width - centre) - half
    above = top - (np.arange(height) + 0.5) / height
    edge = np.maximum(beside[None, :], above[:, None]) / 0.02
    depth: Pixels = 0.9 * special.expit(-edge)
    return image - strength * depth


def gain(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Too much or too little of it, by 0.5: what is too bright or too dark is lost."""
    return image + 0.5 * strength * int(rng.choice([-1, 1]))


def compression(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG, of quality 40 down to 2."""
    channels = [_jpeg(channel, round(40 * 0.05**strength)) for channel in image]
    return np.stack(channels)


def _jpeg(channel: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(eight_bits(channel)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float32) / 255


def eight_bits(image: Pixels) -> NDArray[np.uint8]:
    """As an image file has it."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


CHANGES: dict[str, Degradation] = dict(
    zip(KINDS, (blur, speckle, attenuation, shadow, gain, compression), strict=True)
)
