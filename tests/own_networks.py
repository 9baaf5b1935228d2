"""Networks as people have them in a package of theirs, for `--network own_networks:NAME`."""

from __future__ import annotations

import glob
import os
import time

import torch
from torch import Tensor, nn
from torch import distributed as dist

SLOW_AFTER = "SLOW_AFTER"
"""The variable with a pattern of files: from the first that is there, training is slow, so that a
test which interrupts it is in time however the processes take turns."""


class _Slow(nn.Sequential):
    def forward(self, image: Tensor) -> Tensor:
        if self.training and glob.glob(os.environ.get(SLOW_AFTER, "")):  # noqa: PTH207
            time.sleep(0.5)
        features: Tensor = super().forward(image)  # type: ignore[no-untyped-call]
        return features


def without_batch_statistics(channels: int) -> nn.Module:
    """In which every image is seen for itself."""
    return _Slow(
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


class SpoiltInOneProcess(nn.Module):
    """Whose statistics are no numbers in the second process of a training."""

    statistics: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, 4, 3)
        self.register_buffer("statistics", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        if self.training and dist.is_initialized() and dist.get_rank() == 1:
            self.statistics.fill_(torch.nan)
        maps: Tensor = self.layer(image)
        return maps.mean((2, 3))
