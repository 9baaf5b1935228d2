"""How alike two small pictures are where one is cut, stretched or shifted a little."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 8
_HOPEFUL, _AFTER = 0.5, 3
"""What a pair has to reach after so many steps to be worth the others."""
_MOST = 0.3
"""The largest change of scale, and shift, in halves of a side."""
_OVERLAP = 0.6
_AT_ONCE = 256


def aligned(first: Tensor, second: Tensor) -> Tensor:
    """`(n,)`: the correlation of each pair, at the best place and stretch of the second.

    By Gauss-Newton steps on scale and shift of both axes, from none, over the pixels that both
    show.

    Args:
        first: `(n, side, side)`.
        second: the same.
    """
    parts = zip(torch.split(first, _AT_ONCE), torch.split(second, _AT_ONCE), strict=True)
    found = [_aligned(one, other) for one, other in parts]
    return torch.cat(found) if found else first.new_zeros(0)


def _aligned(first: Tensor, second: Tensor) -> Tensor:
    best = first.new_full((len(first),), -1.0)
    alive = torch.arange(len(first))
    place = first.new_zeros(len(first), 4)
    at = _centres(first.shape[1])
    for step in range(_STEPS):
        moved, inside = _moved(second[alive], place, at)
        target = _standard(first[alive], inside)
        moved = _standard(moved, inside)
        alike = torch.where(inside.mean((1, 2)) >= _OVERLAP, (target * moved).sum((1, 2)), -1.0)
        best[alive] = torch.maximum(best[alive], alike)
        if step == _AFTER:
            hopeful = best[alive] >= _HOPEFUL
            alive, place = alive[hopeful], place[hopeful]
            target, moved, inside = target[hopeful], moved[hopeful], inside[hopeful]
        if not len(alive):
            break
        down, right = torch.gradient(moved, spacing=2 / len(at), dim=(1, 2))
        slopes = torch.stack([down * at[:, None], down, right * at, right], 1) * inside[:, None]
        slopes = slopes.flatten(2)
        squares = slopes @ slopes.transpose(1, 2)
        ridge = 1e-3 * squares.diagonal(dim1=1, dim2=2).mean(1) + 1e-12
        change = torch.linalg.solve(
            squares + ridge[:, None, None] * torch.eye(4),
            slopes @ (target - moved).flatten(1)[:, :, None],
        )
        place = (place + change[:, :, 0].clamp(-_MOST / 2, _MOST / 2)).clamp(-_MOST, _MOST)
    return best


def _centres(side: int) -> Tensor:
    """Of pixels, from -1 to 1."""
    return (torch.arange(side) + 0.5) * 2 / side - 1


def _moved(pictures: Tensor, place: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures at other places, and where there is a picture; `place` is scale and shift,
    down and to the right."""
    side = len(at)
    rows, columns = ((1 + place[:, i, None]) * at + place[:, i + 1, None] for i in (0, 2))
    # Linear interpolation along an axis is a matrix.
    down, right = (
        (1 - (x[:, :, None] - at).abs() * side / 2).clamp_min(0) for x in (rows, columns)
    )
    inside = (rows.abs() <= 1).float()[:, :, None] * (columns.abs() <= 1).float()[:, None, :]
    return down @ pictures @ right.transpose(1, 2), inside


def _standard(pictures: Tensor, inside: Tensor) -> Tensor:
    """Of mean 0 and length 1 where there is a picture, and 0 elsewhere."""
    count = inside.sum((1, 2), keepdim=True).clamp_min(1)
    centred = (pictures - (pictures * inside).sum((1, 2), keepdim=True) / count) * inside
    length = centred.square().sum((1, 2), keepdim=True).sqrt()
    return centred / length.clamp_min(1e-9)
