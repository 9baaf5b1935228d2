"""Batches for the tests, and what is asked of a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

compiled_whole = pytest.mark.skipif(
    torch.__version__ < "2.13", reason="before torch 2.13, some losses compile in parts"
)


@dataclass(frozen=True)
class Batch:
    prediction: Tensor
    target: Tensor
    weight: Tensor | None
    group: Tensor | None
    features: Tensor

    def to(self, dtype: torch.dtype) -> Batch:
        return replace(
            self,
            prediction=self.prediction.to(dtype),
            target=self.target.to(dtype),
            weight=None if self.weight is None else self.weight.to(dtype),
            features=self.features.to(dtype),
        )

    def rows(self, rows: Tensor) -> Batch:
        return Batch(
            self.prediction[rows],
            self.target[rows],
            None if self.weight is None else self.weight[rows],
            None if self.group is None else self.group[rows],
            self.features[rows],
        )

    @property
    def weights(self) -> Tensor:
        return self.prediction.new_ones(len(self.target)) if self.weight is None else self.weight


@st.composite
def batches(
    draw: st.DrawFn,
    *,
    min_size: int = 0,
    max_size: int = 9,
    missing: bool = True,
    grouped: bool = True,
    weighted: bool = True,
) -> Batch:
    """Batches in float64, every number on a grid that float32 holds, so that ties, of differences
    too, are the same in both. One in four targets, and predictions, takes two values only."""
    n = draw(st.integers(min_size, max_size))
    shape = draw(st.sampled_from([(n,), (n, 1), (n, 2), (n, 3)]))

    def grid(size: tuple[int, ...], steps: int = 32) -> Tensor:
        integers = draw(hnp.arrays(np.int8, size, elements=st.integers(-steps, steps)))
        return torch.from_numpy(integers / 8)

    prediction = grid(shape, draw(st.sampled_from([32, 32, 32, 1])))
    target = grid(shape, draw(st.sampled_from([32, 32, 32, 1])))
    if missing and draw(st.booleans()):
        absent = draw(hnp.arrays(np.bool_, shape))
        target = torch.where(torch.from_numpy(absent), torch.nan, target)
    weight = group = None
    if weighted and draw(st.booleans()):
        integers = draw(hnp.arrays(np.int8, (n,), elements=st.integers(0, 4)))
        weight = torch.from_numpy(integers.astype(float))
    if grouped and draw(st.booleans()):
        names = st.sampled_from([7, -3, 1000, 0])
        group = torch.from_numpy(draw(hnp.arrays(np.int64, (n,), elements=names)))
    # Off the grid, as the direction of a vector of zeros is undefined.
    return Batch(prediction, target, weight, group, grid((n, 3)) + 1 / 16)


def random_batch(seed: int, n: int = 12, targets: int | None = None) -> Batch:
    """A float64 batch whose predictions go with the targets, neither weighted nor grouped."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shape = (n,) if targets is None else (n, targets)
    target = normal(*shape)
    return Batch(target + 0.5 * normal(*shape), target, None, None, normal(n, 4))


def value_and_gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient of the same dtype as `at`."""
    at = at.detach().clone().requires_grad_()
    value = loss(at)
    value.backward()  # type: ignore[no-untyped-call]
    assert at.grad is not None
    return value.detach(), at.grad


def assert_near(actual: Tensor, expected: Tensor, relative: float, absolute: float = 0.0) -> None:
    """No entry is off by more than the share `relative` of the largest one."""
    assert actual.shape == expected.shape
    assert actual.isfinite().all()
    if actual.numel():
        error = (actual.double() - expected.double()).abs().max().item()
        limit = relative * expected.double().abs().max().item() + absolute
        assert error <= limit, f"{actual} is not {expected}: off by {error}, more than {limit}"
