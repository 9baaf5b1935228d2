"""Networks as people have them in a package of theirs, for `--network own_networks:NAME`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def without_batch_statistics(channels: int) -> nn.Module:
    """In which every image is seen for itself."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class _Branching(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = without_batch_statistics(channels)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)
        return features if image.mean() > 0.5 else 2 * features


def with_a_branch(channels: int) -> nn.Module:
    """By the values of its images."""
    return _Branching(channels)


class _Different(_Branching):
    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)
        return 1.01 * features if torch.compiler.is_exporting() else features


def other_when_exported(channels: int) -> nn.Module:
    """A little."""
    return _Different(channels)
