"""Augmentation of a batch of images that keeps lengths true."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.data.options import AugmentationOptions


class Augmentation:
    """Draws for each image of a batch how it is turned, shifted, scaled and brightened."""

    def __init__(self, options: AugmentationOptions, *, lengths: bool) -> None:
        self._options = options
        self._zoom = options.zoom if lengths else 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: `(n, channels, height, width)`, from 0 to 1.
            generator: the source of randomness, on the CPU.

        Returns:
            The images, changed, and `(n,)` the factor by which lengths in them grew.
        """
        options, n = self._options, len(images)

        def uniform(largest: float) -> Tensor:
            return (2 * torch.rand(n, generator=generator) - 1) * largest

        mirrored = torch.rand(n, generator=generator) < options.flip
        angle = torch.deg2rad(uniform(options.rotation))
        zoom = (1 + self._zoom) ** uniform(1.0)
        move = torch.stack([uniform(options.shift), uniform(options.shift)], 1)
        gain, gamma = 1 + uniform(options.gain), (1 + options.gamma) ** uniform(1.0)

        images = self._transform(images, mirrored, angle, zoom, move)
        shape = (n, 1, 1, 1)
        images = images.clamp(0, 1).pow(gamma.to(images.device).view(shape))
        images = (images * gain.to(images.device).view(shape)).clamp(0, 1)
        return images, zoom.to(images.device)

    @staticmethod
    def _transform(
        images: Tensor, mirrored: Tensor, angle: Tensor, zoom: Tensor, move: Tensor
    ) -> Tensor:
        """One bilinear sampling for all the changes of place; none to mirror an image alone."""
        if not (angle.any() or move.any() or (zoom != 1).any()):
            mirror = mirrored.to(images.device).view(-1, 1, 1, 1)
            return torch.where(mirror, images.flip(-1), images)
        height, width = images.shape[-2:]
        # affine_grid maps places of the result to places of the input, both from -1 to 1 along
        # each side: a rotation must not stretch an image that is wider than high.
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        sign = torch.where(mirrored, -1.0, 1.0)
        rows = [
            torch.stack([cos * sign, -sin * height / width, 2 * move[:, 0]], 1),
            torch.stack([sin * sign * width / height, cos, 2 * move[:, 1]], 1),
        ]
        theta = torch.stack(rows, 1).to(images.device, images.dtype)
        grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
        return torch.nn.functional.grid_sample(images, grid, align_corners=False)
