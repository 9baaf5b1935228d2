"""Networks as people have them in a package of theirs, for `--network own_networks:NAME`."""

from __future__ import annotations

from torch import nn


def without_batch_statistics(channels: int) -> nn.Module:
    """In which every image is seen for itself."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
