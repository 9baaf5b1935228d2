"""Losses of batches in parts, against references of the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
import references_baselines
from finecorr.functional.concordance import concordance_part
from finecorr.functional.pearson import pearson_part, robust_pearson_part
from finecorr.functional.plain.parts import Part
from finecorr.functional.pointwise import mae_part, mse_part
from strategies import assert_near, value_and_gradient

InParts = Callable[..., Part | None]


def _mean(error: Callable[[Tensor], Tensor], p: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return (w * error(p - y)).sum() / w.sum()


LOSSES: dict[str, tuple[InParts, references.Column]] = {
    "pearson": (pearson_part, references.pearson),
    "robust_pearson": (robust_pearson_part, references.log_errors),
    "concordance": (concordance_part, references_baselines.concordance),
    "mse": (mse_part, partial(_mean, torch.square)),
    "mae": (mae_part, partial(_mean, torch.abs)),
}


def in_parts(
    loss: InParts, prediction: Tensor, target: Tensor, weight: Tensor | None, sizes: list[int]
) -> tuple[Tensor, Tensor] | None:
    """Value and gradient; None where the numbers of the parts do not give it."""
    own = [part.detach().requires_grad_() for part in prediction.split(sizes)]  # type: ignore[no-untyped-call]
    weights = [None] * len(sizes) if weight is None else weight.split(sizes)  # type: ignore[no-untyped-call]
    targets = target.split(sizes)  # type: ignore[no-untyped-call]
    parts = [
        loss(p, y, weight=w, group=None) for p, y, w in zip(own, targets, weights, strict=True)
    ]
    numbers = torch.stack([part.numbers for part in parts if part is not None])
    assert len(numbers) == len(sizes)
    values, gradients = [], []
    for part, p in zip(parts, own, strict=True):
        assert part is not None
        value = part.loss(numbers)
        if value is None:
            return None
        (gradient,) = torch.autograd.grad(value, p)
        assert gradient.dtype == p.dtype
        values.append(value)
        gradients.append(gradient / len(sizes))
    assert all(torch.equal(value, values[0]) for value in values)
    return values[0].detach(), torch.cat(gradients)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from([*LOSSES]),
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(0, 20), min_size=2, max_size=5).filter(lambda s: sum(s) > 9),
    targets=st.sampled_from([None, 1, 3]),
    noise=st.sampled_from([2.0, 0.3, 1e-2]),
    offset=st.sampled_from([0.0, -7.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    weighted=st.booleans(),
    missing=st.booleans(),
)
def test_equals_the_reference_of_the_whole(
    name: str,
    seed: int,
    sizes: list[int],
    targets: int | None,
    noise: float,
    offset: float,
    dtype: torch.dtype,
    weighted: bool,
    missing: bool,
) -> None:
    part, column = LOSSES[name]
    random = torch.Generator().manual_seed(seed)
    n, shape = sum(sizes), (targets,) if targets else ()
    truth, error = torch.randn(2, n, *shape, generator=random).double()
    # Another mean in each part, which may be all that the parts differ in.
    truth += torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).reshape(
        n, *(1 for _ in shape)
    )
    y, p = (truth + offset).to(dtype), (truth + noise * error + offset).to(dtype)
    weight = torch.rand(n, generator=random).to(dtype) + 0.1 if weighted else None
    if missing:
        gone = torch.rand(y.shape, generator=random) < 0.2
        y[gone], p[gone & (error > 0)] = torch.nan, torch.nan
    actual = in_parts(part, p, y, weight, sizes)
    if actual is None:  # too few labels, or a constant
        assert not (~y.isnan()).sum(0).amin() > 3
        return
    expected = value_and_gradient(
        lambda p: references.over_populations(column, references.columns_of(p), y, weight),
        p.double(),
    )
    # Beside a PLC of 1, float64 has 1 - PLC to 1e-16.
    error_ = 1e-6 if dtype is torch.float32 else 1e-9
    assert_near(actual[0], expected[0], error_, 1e-12)
    assert_near(actual[1], expected[1], error_, error_ * float(expected[1].abs().max()))


@pytest.mark.parametrize("name", ["pearson", "robust_pearson", "concordance"])
@pytest.mark.parametrize(
    "odd",
    [[0.1] * 6, [1.0, 2, torch.inf, 3, 4, 5], [1.0, torch.nan, 1, 1, 1, 1]],
    ids=str,
)
def test_what_moments_do_not_tell(name: str, odd: list[float]) -> None:
    loss, _ = LOSSES[name]
    values, plain = torch.tensor(odd, dtype=torch.float32), torch.arange(6.0).square()
    assert in_parts(loss, values, plain, None, [2, 4]) is None
    assert in_parts(loss, plain, values, None, [2, 4]) is None
    assert in_parts(loss, plain + 1, plain, None, [2, 4]) is not None


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_part(name: str) -> None:
    loss, _ = LOSSES[name]
    p, y, group = torch.randn(4), torch.randn(4), torch.arange(4) // 2
    assert loss(p, y[:3], weight=None, group=None) is None
    assert loss(p, y, weight=torch.tensor([1.0, 1, 1, -1]), group=None) is None
    whole = loss(p, y, weight=None, group=group)
    assert (whole is None) == (name not in ("mse", "mae"))
