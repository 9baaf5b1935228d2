from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from finecorr.functional.sorting import argsort, runs


def reference(row: list[bool]) -> tuple[list[int], list[int]]:
    first, stop = [], []
    numbers = itertools.accumulate(row)
    position = 0
    for _, members in itertools.groupby(numbers):
        length = len(list(members))
        first += [position] * length
        stop += [position + length] * length
        position += length
    return first, stop


def assert_runs(starts: Tensor) -> None:
    first, stop = runs(starts)
    for row in range(len(starts)):
        assert (first[row].tolist(), stop[row].tolist()) == reference(starts[row].tolist())


@given(
    st.integers(1, 40).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_runs(rows: list[list[bool]]) -> None:
    starts = torch.tensor(rows)
    starts[:, 0] = True
    assert_runs(starts)


@pytest.mark.parametrize("ties", [0, 0.001, 0.05, 0.12, 0.13, 0.5, 1])
def test_few_and_many_ties(ties: float) -> None:
    starts = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)) >= ties
    starts[:, 0] = True
    assert_runs(starts)
    assert_runs(starts.T.contiguous().T)


def test_nothing() -> None:
    for shape in ((0, 3), (3, 0)):
        first, stop = runs(torch.ones(shape, dtype=torch.bool))
        assert first.shape == stop.shape == shape


@pytest.mark.parametrize("dim", [0, -1])
def test_argsort_is_stable(dim: int) -> None:
    values = torch.randint(0, 5, (40, 30), generator=torch.Generator().manual_seed(0)).float()
    values[3] = torch.inf
    expected = values.argsort(stable=True, dim=dim)
    assert torch.equal(argsort(values, dim), expected)
    assert torch.equal(argsort(values.requires_grad_(), dim), expected)
