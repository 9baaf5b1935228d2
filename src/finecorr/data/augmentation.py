"""Augmentation of a batch of images that keeps lengths and volumes true."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.data.image_options import AugmentationOptions


class Augmentation:
    """Draws for each image of a batch how it is turned, shifted, scaled and brightened.

    Args:
        options: how much.
        lengths: whether all targets grow with the image, so that it may be scaled.
        voxel: depth, height and width of the voxels of volumes, where these are no cubes: they are
            turned as in the body.
    """

    def __init__(
        self,
        options: AugmentationOptions,
        *,
        lengths: bool,
        voxel: tuple[float, ...] | None = None,
    ) -> None:
        self._options = options
        self._zoom = options.zoom if lengths else 0.0
        self._voxel = voxel

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: `(n, channels, height, width)`, or of volumes `(n, channels, depth, height,
                width)`, from 0 to 1.
            generator: the source of randomness, on the CPU.

        Returns:
            The images, changed, and `(n,)` the factor by which lengths in them grew.
        """
        options, n, axes = self._options, len(images), images.ndim - 2

        def uniform(largest: float) -> Tensor:
            return (2 * torch.rand(n, generator=generator) - 1) * largest

        mirrored = torch.rand(n, generator=generator) < options.flip
        # A picture is turned in its plane, a volume about its depth, height and width.
        angles = [torch.deg2rad(uniform(options.rotation)) for _ in range(1 if axes == 2 else 3)]
        zoom = (1 + self._zoom) ** uniform(1.0)
        move = [uniform(options.shift) for _ in range(axes)]
        gain, gamma = 1 + uniform(options.gain), (1 + options.gamma) ** uniform(1.0)

        images = self._transform(images, mirrored, angles, zoom, move)
        shape = (n, *(1 for _ in images.shape[1:]))
        images = images.clamp(0, 1).pow(gamma.to(images.device).view(shape))
        images = (images * gain.to(images.device).view(shape)).clamp(0, 1)
        return images, zoom.to(images.device)

    def _transform(
        self,
        images: Tensor,
        mirrored: Tensor,
        angles: list[Tensor],
        zoom: Tensor,
        move: list[Tensor],
    ) -> Tensor:
        """One linear sampling for all the changes of place; none to mirror an image alone."""
        if not (any(part.any() for part in (*angles, *move)) or (zoom != 1).any()):
            mirror = mirrored.to(images.device).view(-1, *(1 for _ in images.shape[1:]))
            return torch.where(mirror, images.flip(-1), images)
        # affine_grid maps places of the result to places of the input, both from -1 to 1 along
        # each side: a rotation must not stretch an image that is wider than high.
        voxel = self._voxel or (1,) * len(move)
        sides = [n * side for n, side in zip(images.shape[2:], voxel, strict=True)][::-1]
        sign = torch.where(mirrored, -1.0, 1.0)
        turned = [[element / zoom for element in row] for row in _rotation(angles)]
        rows = []
        for i, row in enumerate(turned):
            row = [row[0] * sign, *row[1:]]
            row = [e if i == j else e * sides[j] / sides[i] for j, e in enumerate(row)]
            rows.append(torch.stack([*row, 2 * move[i]], 1))
        theta = torch.stack(rows, 1).to(images.device, images.dtype)
        grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
        return torch.nn.functional.grid_sample(images, grid, align_corners=False)


def _rotation(angles: list[Tensor]) -> list[list[Tensor]]:
    """A matrix for each image, of width, height and, for volumes, depth: about depth, and then,
    for volumes, about height and about width."""
    cos, sin = angles[0].cos(), angles[0].sin()
    if len(angles) == 1:
        return [[cos, -sin], [sin, cos]]
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    about_depth = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    cos, sin = angles[1].cos(), angles[1].sin()
    about_height = [[cos, zero, sin], [zero, one, zero], [-sin, zero, cos]]
    cos, sin = angles[2].cos(), angles[2].sin()
    about_width = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    matrices = [
        torch.stack([torch.stack(row, 1) for row in rows], 1)
        for rows in (about_width, about_height, about_depth)
    ]
    together = matrices[0] @ matrices[1] @ matrices[2]
    return [[together[:, i, j] for j in range(3)] for i in range(3)]
