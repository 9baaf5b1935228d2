"""The closed form against the arithmetic on populations, which test_pearson.py compares with
references; there, small batches go through the closed form, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finecorr.functional import pearson_loss, robust_pearson_loss
from finecorr.functional.closed_form import PIECE, Terms, _quantiles, closed_form_loss
from finecorr.functional.moments import populations
from finecorr.functional.pearson import _general_loss
from strategies import assert_near, random_batch, value_and_gradient

PEARSON = Terms()
ROBUST = Terms(3.5, 0.3, 1.0, 1.0, 0.0, True)
EVERYONE = ROBUST._replace(outlier_threshold=None)

some_terms = st.builds(
    Terms,
    outlier_threshold=st.sampled_from([None, 1.0, 3.5]),
    max_outlier_fraction=st.sampled_from([0.0, 0.1, 0.3]),
    mean_weight=st.sampled_from([0.0, 0.5]),
    std_weight=st.sampled_from([0.0, 0.5]),
    outlier_weight=st.just(0.0),
    log=st.booleans(),
)


def closed_form(prediction: Tensor, target: Tensor, terms: Terms = PEARSON) -> Tensor:
    def not_here(*_: Any) -> Tensor:
        raise AssertionError("no second derivative was asked for")

    loss = closed_form_loss(prediction, target, terms, not_here)
    assert loss is not None
    return loss


def is_left(prediction: Tensor, target: Tensor, terms: Terms = PEARSON) -> bool:
    return closed_form_loss(prediction, target, terms, _general_loss) is None


@settings(max_examples=300)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(3, 300),
    targets=st.sampled_from([None, 1, 3]),
    terms=some_terms,
    noise=st.sampled_from([3.0, 0.3, 1e-3]),
    offset=st.sampled_from([0.0, 3.0, -1e3, 1e8]),
)
def test_equals_populations(
    seed: int, n: int, targets: int | None, terms: Terms, noise: float, offset: float
) -> None:
    if targets == 3:
        terms = terms._replace(outlier_threshold=None)
    random = np.random.default_rng(seed)
    truth, error = random.standard_t(4, (2, n, targets) if targets else (2, n))
    p = torch.from_numpy(truth + noise * error + offset)
    y = torch.from_numpy(truth - 2 * offset)
    actual = value_and_gradient(lambda p: closed_form(p, y, terms), p)
    expected = value_and_gradient(lambda p: _general_loss(p, y, terms), p)
    # The logarithm multiplies the rounding of its argument.
    rounding = 1e-9 if terms.log and noise < 1 else 1e-12
    assert_near(actual[0], expected[0], 1e-12, rounding)
    assert_near(actual[1], expected[1], rounding, rounding / n)


@pytest.mark.parametrize("offset", [0.0, 3.0, -1e3, 1e4])
@pytest.mark.parametrize("noise", [0.3, 1e-3])
@pytest.mark.parametrize("n", [5, 64, 3 * PIECE + 7])
@pytest.mark.parametrize("terms", [PEARSON, EVERYONE], ids=["pearson", "robust"])
def test_float32_has_the_digits_that_float32_can_have(
    n: int, noise: float, offset: float, terms: Terms
) -> None:
    batch = random_batch(1, n)
    p = (batch.target + noise * (batch.prediction - batch.target) + offset).float()
    y = (batch.target - offset).float()
    actual = value_and_gradient(lambda p: closed_form(p, y, terms), p)
    expected = value_and_gradient(lambda p: _general_loss(p, y.double(), terms), p.double())
    # Beside a PLC of 1 the gradient is the small difference of terms of the order 1 / n.
    assert_near(actual[0], expected[0], 1e-5, 1e-6 * noise)
    assert_near(actual[1], expected[1], 1e-5, (1e-2 if terms.log else 1e-6) / n)


@pytest.mark.parametrize("columns", [(2, 30_000), (70_000, 2)], ids=str)
def test_many_targets_and_many_rows(columns: tuple[int, int]) -> None:
    y = random_batch(2, *columns).target
    p = y + 0.01 * torch.randn_like(y)
    actual = value_and_gradient(lambda p: closed_form(p, y), p)
    expected = value_and_gradient(lambda p: _general_loss(p, y, PEARSON), p)
    assert_near(actual[0], expected[0], 1e-11)
    assert_near(actual[1], expected[1], 1e-11, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_the_unit_is_irrelevant(dtype: torch.dtype, spread: float) -> None:
    batch = random_batch(3, 50)
    p, y = (batch.prediction * spread).to(dtype), batch.target.to(dtype)
    expected = value_and_gradient(lambda p: pearson_loss(p, y.double()), p.double())
    actual = value_and_gradient(lambda p: pearson_loss(p, y), p)
    assert_near(actual[0], expected[0], 1e-6)
    assert_near(actual[1], expected[1], 1e-6)


class TestWhatIsLeft:
    @pytest.mark.parametrize(
        "values",
        [
            [0.1] * 7,
            [1e30] * 7,
            [0.0] * 7,
            [1e6 + 1e-9, *[1e6] * 6],
            [torch.nan, *range(6)],
            [torch.inf, *range(6)],
            [1e-25, *[0.0] * 6],
            [1e25, *[0.0] * 6],
        ],
        ids=str,
    )
    @pytest.mark.parametrize("terms", [PEARSON, ROBUST], ids=["pearson", "robust"])
    @pytest.mark.parametrize("targets", [1, 3])
    def test_variables_without_a_sound_spread(
        self, values: list[float], terms: Terms, targets: int
    ) -> None:
        if targets == 3:
            terms = terms._replace(outlier_threshold=None)
        odd = torch.tensor(values, dtype=torch.float32)
        plain = torch.arange(7.0).square()
        odd = torch.stack([plain] * (targets - 1) + [odd], 1)
        plain = torch.stack([plain] * targets, 1)
        assert is_left(odd, plain, terms)
        assert is_left(plain, odd, terms)
        assert not is_left(plain, plain, terms)

    @pytest.mark.parametrize("n", [0, 1])
    @pytest.mark.parametrize("shape", [(), (1,), (2,)], ids=str)
    def test_too_few_samples(self, n: int, shape: tuple[int, ...]) -> None:
        assert is_left(torch.randn(n, *shape), torch.randn(n, *shape))
        assert is_left(torch.randn(n), torch.randn(n), ROBUST)

    def test_no_targets(self) -> None:
        assert pearson_loss(torch.randn(5, 0), torch.randn(5, 0)) == 0

    def test_other_places_and_transforms(self) -> None:
        p, y = torch.randn(2, 9), torch.randn(2, 9)
        assert is_left(p[0].to("meta"), y[0].to("meta"))
        batched = torch.vmap(pearson_loss)(p, y)
        for i in range(2):
            assert_near(batched[i], pearson_loss(p[i], y[i]), 1e-6)
        gradient = torch.func.grad(robust_pearson_loss)(p[0], y[0])
        expected = value_and_gradient(lambda p: robust_pearson_loss(p, y[0]), p[0])[1]
        assert_near(gradient, expected, 1e-5)


@pytest.mark.parametrize("loss", [pearson_loss, robust_pearson_loss])
@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_second_derivatives(
    loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    batch = random_batch(4, 9)
    p = batch.prediction.reshape(9, *shape).requires_grad_()
    y = batch.target.reshape(9, *shape)
    assert torch.autograd.gradcheck(lambda p: loss(p, y), p)
    assert torch.autograd.gradgradcheck(lambda p: loss(p, y), p)


def test_the_gradient_may_be_taken_twice() -> None:
    batch = random_batch(5)
    p = batch.prediction.requires_grad_()
    loss = closed_form(p, batch.target)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert p.grad is not None
    first = p.grad.clone()
    (3 * loss).backward()  # type: ignore[no-untyped-call]
    assert_near(p.grad, 4 * first, 1e-15)


def test_a_prediction_changed_before_the_gradient_is_noticed() -> None:
    batch = random_batch(6)
    p = batch.prediction.requires_grad_() * 1
    loss = closed_form(p, batch.target)
    p += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("n", [2, 3, 10, 37, 1000])
@pytest.mark.parametrize("level", [0.5, 0.7, 0.9, 1 - 0.3, 1.0])
def test_quantiles_are_those_of_populations(n: int, level: float) -> None:
    values = random_batch(7, n).target
    batch = populations(values, values)
    (actual,) = _quantiles(values, level)
    assert actual == batch.quantile(batch.target, level).item()
