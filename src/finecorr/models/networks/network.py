"""What every source of networks gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finecorr.errors import InputError

_MOST_STAGES = 6
"""Where there are more, as in a transformer, some of them have it all."""
_CHOSEN_STAGES = 4


@dataclass(frozen=True)
class Network:
    """A network with features, and what is known of its weights."""

    module: nn.Module
    """`(n, channels, height, width)` to `(n, features)`; of volumes with a depth before these."""
    weighted: nn.Module
    """The part of it whose names files of weights have."""
    mean: tuple[float, ...] | None = None
    """Of each channel of the images, from 0 to 1, that its weights were pretrained on; None where
    nothing is known."""
    std: tuple[float, ...] | None = None
    config: dict[str, Any] | None = None
    """What else is needed to build it again."""
    left_out: tuple[str, ...] = ()
    """How the names of weights begin that it does not have: those of its classifier."""


class MissingNetwork(InputError):
    """What a network needs is not installed."""


def pooled(stages: list[Tensor]) -> Tensor:
    """`(n, features)`: means of each map of every stage, and then their standard deviations.

    Args:
        stages: maps `(n, channels, ...)`.
    """
    parts = []
    for maps in stages:
        variance, mean = torch.var_mean(maps.float().flatten(2), dim=2, correction=0)
        # Of a constant map, the slope of the root is infinite.
        parts += [mean, (variance + 1e-6).sqrt()]
    return torch.cat(parts, dim=1)


def normalisation(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels of images, as somebody else has written them.

    Raises:
        ValueError: they are not as many numbers, or a standard deviation is not above 0.
    """
    try:
        mean, std = (tuple(map(float, values)) for values in (mean, std))
    except TypeError as error:
        raise ValueError from error
    if not 0 < len(mean) == len(std) or not all(0 < value < math.inf for value in std):
        raise ValueError
    return mean, std


def of_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A mean or standard deviation of each channel; for grey images, the mean of the colours."""
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels


def chosen(count: int) -> list[int]:
    """The stages to take of so many: all, or the ends of equal parts."""
    if count <= _MOST_STAGES:
        return list(range(count))
    return [count * part // _CHOSEN_STAGES - 1 for part in range(1, _CHOSEN_STAGES + 1)]


def no_stages(name: str) -> InputError:
    """The error where a network has one vector of features only."""
    return InputError(f"--features stages: {name} shows no stages: use --features last")


def not_there(name: str, error: Exception) -> InputError:
    """The error where pretrained weights cannot be had."""
    lines = str(error).strip().splitlines()
    return InputError(
        f"--weights pretrained: those of {name} cannot be loaded "
        f"({lines[0] if lines else type(error).__name__}): without network, give a file, "
        "--weights FILE, or start from --weights none"
    )
