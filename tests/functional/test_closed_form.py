"""The closed form against the arithmetic on populations, which test_pearson.py compares with
references; there, small batches go through the closed form, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
import references_baselines
from finecorr.functional import concordance_loss, pearson_loss, robust_pearson_loss
from finecorr.functional.pearson import of_populations, pearson_of_moments
from finecorr.functional.plain import moments
from finecorr.functional.plain.closed_form import closed_form_loss
from finecorr.functional.plain.moments import PIECE
from strategies import assert_near, random_batch, value_and_gradient


def in_closed_form(prediction: Tensor, target: Tensor) -> Tensor:
    def not_here(*_: Any) -> Tensor:
        raise AssertionError("no second derivative was asked for")

    loss = closed_form_loss(
        prediction, target, None, None, pearson_of_moments, not_here, errors=False
    )
    assert loss is not None
    return loss


def is_left(prediction: Tensor, target: Tensor) -> bool:
    call = prediction, target, None, None, pearson_of_moments, of_populations
    return closed_form_loss(*call, errors=False) is None


@settings(max_examples=300)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(3, 300),
    targets=st.sampled_from([None, 1, 3]),
    noise=st.sampled_from([3.0, 0.3, 1e-3]),
    offset=st.sampled_from([0.0, 3.0, -1e3, 1e8]),
)
def test_equals_populations(
    seed: int, n: int, targets: int | None, noise: float, offset: float
) -> None:
    random = np.random.default_rng(seed)
    truth, error = random.standard_t(4, (2, n, targets) if targets else (2, n))
    p = torch.from_numpy(truth + noise * error + offset)
    y = torch.from_numpy(truth - 2 * offset)
    actual = value_and_gradient(lambda p: in_closed_form(p, y), p)
    expected = value_and_gradient(lambda p: of_populations(p, y), p)
    assert_near(actual[0], expected[0], 1e-12, 1e-12)
    assert_near(actual[1], expected[1], 1e-12, 1e-12 / n)


@pytest.mark.parametrize("offset", [0.0, 3.0, -1e3, 1e4])
@pytest.mark.parametrize("noise", [0.3, 1e-3])
@pytest.mark.parametrize("n", [5, 64, 3 * PIECE + 7])
def test_float32_has_the_digits_that_float32_can_have(n: int, noise: float, offset: float) -> None:
    batch = random_batch(1, n)
    p = (batch.target + noise * (batch.prediction - batch.target) + offset).float()
    y = (batch.target - offset).float()
    actual = value_and_gradient(lambda p: in_closed_form(p, y), p)
    expected = value_and_gradient(lambda p: of_populations(p, y.double()), p.double())
    # Beside a PLC of 1 the gradient is the small difference of terms of the order 1 / n.
    assert_near(actual[0], expected[0], 1e-5, 1e-6 * noise)
    assert_near(actual[1], expected[1], 1e-5, 1e-6 / n)


@pytest.mark.parametrize("columns", [(2, 30_000), (70_000, 2)], ids=str)
def test_many_targets_and_many_rows(columns: tuple[int, int]) -> None:
    y = random_batch(2, *columns).target
    p = y + 0.01 * torch.randn_like(y)
    actual = value_and_gradient(lambda p: in_closed_form(p, y), p)
    expected = value_and_gradient(lambda p: of_populations(p, y), p)
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


LOSSES: dict[str, tuple[Any, references.Column]] = {
    "pearson": (pearson_loss, references.pearson),
    "robust_pearson": (partial(robust_pearson_loss, robust=False), references.log_errors),
    "concordance": (concordance_loss, references_baselines.concordance),
}


@pytest.fixture(params=["cpu", "elsewhere"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The moments as they are taken on a CPU, and as on another device."""
    if request.param == "elsewhere":
        monkeypatch.setattr(moments, "_on_cpu", moments._elsewhere)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("noise", [1.0, 1e-2])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_weights_and_missing_labels(
    name: str,
    weighted: bool,
    missing: bool,
    targets: int | None,
    noise: float,
    offset: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, column = LOSSES[name]
    batch = random_batch(8, 60, targets)
    batch.prediction[:] = batch.target + noise * (batch.prediction - batch.target)
    if missing:
        batch.target[4] = batch.target[7:9, ...] = batch.prediction[4] = torch.nan
    batch = replace(batch, prediction=batch.prediction + offset, target=batch.target + offset)
    batch = batch.to(torch.float32)
    weight = torch.rand(60, *batch.target.shape[1:]) + 0.1 if weighted else None
    if weight is not None:
        weight[2] = 0
    left: list[Any] = []
    monkeypatch.setattr("finecorr.functional.moments.populations", left.append)
    actual = value_and_gradient(lambda p: loss(p, batch.target, weight=weight), batch.prediction)
    assert not left
    weights = torch.ones_like(batch.target) if weight is None else weight

    def reference(p: Tensor) -> Tensor:
        columns = [
            column(p_column, y_column, w_column)
            for p_column, y_column, w_column in zip(
                *(
                    [c[known] for c, known in zip(references.columns_of(v), knowns, strict=True)]
                    for v in (p, batch.target.double(), weights.double())
                ),
                strict=True,
            )
        ]
        return torch.stack(columns).mean()  # type: ignore[arg-type]

    knowns = [~y.isnan() for y in references.columns_of(batch.target)]
    expected = value_and_gradient(reference, batch.prediction.double().nan_to_num(0))
    assert_near(actual[0], expected[0], 1e-4)
    assert_near(actual[1], expected[1], 1e-3)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", LOSSES)
def test_near_the_target(name: str) -> None:
    batch = random_batch(9, 200).to(torch.float32)
    batch.prediction[:] = batch.target + 1e-3 * (batch.prediction - batch.target)
    loss, column = LOSSES[name]
    actual = value_and_gradient(lambda p: loss(p, batch.target), batch.prediction)
    ones = torch.ones(200).double()
    expected = value_and_gradient(
        lambda p: column(p, batch.target.double(), ones),  # type: ignore[arg-type, return-value]
        batch.prediction.double(),
    )
    assert_near(actual[0], expected[0], 1e-4)
    assert_near(actual[1], expected[1], 1e-4, 1e-6 / 200)


class TestWhatIsLeft:
    @pytest.mark.parametrize(
        "values",
        [
            [0.1] * 7,
            [1e30] * 7,
            [0.0] * 7,
            [1e6 + 1e-9, *[1e6] * 6],
            [torch.inf, *range(6)],
            [1e-25, *[0.0] * 6],
            [1e25, *[0.0] * 6],
        ],
        ids=str,
    )
    @pytest.mark.parametrize("targets", [1, 3])
    def test_variables_without_a_sound_spread(self, values: list[float], targets: int) -> None:
        odd = torch.tensor(values, dtype=torch.float32)
        plain = torch.arange(7.0).square()
        odd = torch.stack([plain] * (targets - 1) + [odd], 1)
        plain = torch.stack([plain] * targets, 1)
        assert is_left(odd, plain)
        assert is_left(plain, odd)
        assert not is_left(plain, plain)

    @pytest.mark.parametrize("n", [0, 1])
    @pytest.mark.parametrize("shape", [(), (1,), (2,)], ids=str)
    def test_too_few_samples(self, n: int, shape: tuple[int, ...]) -> None:
        assert is_left(torch.randn(n, *shape), torch.randn(n, *shape))

    def test_no_targets(self) -> None:
        assert pearson_loss(torch.randn(5, 0), torch.randn(5, 0)) == 0

    def test_other_places_and_transforms(self) -> None:
        p, y = torch.randn(2, 9), torch.randn(2, 9)
        assert is_left(p[0].to("meta"), y[0].to("meta"))
        batched = torch.vmap(pearson_loss)(p, y)
        for i in range(2):
            assert_near(batched[i], pearson_loss(p[i], y[i]), 1e-6)
        gradient = torch.func.grad(pearson_loss)(p[0], y[0])
        expected = value_and_gradient(lambda p: pearson_loss(p, y[0]), p[0])[1]
        assert_near(gradient, expected, 1e-5)


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_second_derivatives(shape: tuple[int, ...]) -> None:
    batch = random_batch(4, 9)
    p = batch.prediction.reshape(9, *shape).requires_grad_()
    y = batch.target.reshape(9, *shape)
    assert torch.autograd.gradcheck(lambda p: pearson_loss(p, y), p)
    assert torch.autograd.gradgradcheck(lambda p: pearson_loss(p, y), p)


def test_the_gradient_may_be_taken_twice() -> None:
    batch = random_batch(5)
    p = batch.prediction.requires_grad_()
    loss = in_closed_form(p, batch.target)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert p.grad is not None
    first = p.grad.clone()
    (3 * loss).backward()  # type: ignore[no-untyped-call]
    assert_near(p.grad, 4 * first, 1e-15)


def test_a_prediction_changed_before_the_gradient_is_noticed() -> None:
    batch = random_batch(6)
    p = batch.prediction.requires_grad_() * 1
    loss = in_closed_form(p, batch.target)
    p += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "loss",
    [pearson_loss, concordance_loss, partial(robust_pearson_loss, robust=False)],
    ids=["pearson", "concordance", "robust_pearson"],
)
@pytest.mark.parametrize("targets", [None, 1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("scale", "offset"), [(1e-15, 0.0), (1.0, 0.0), (1.0, 1e3), (1e15, 0.0)])
def test_populations_in_few_operations(
    loss: Callable[..., Tensor],
    targets: int | None,
    weighted: bool,
    missing: bool,
    grouped: bool,
    scale: float,
    offset: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among the groups is one of a single sample, and one without a label."""
    batch = random_batch(3, 40, targets)
    batch.target[9], batch.prediction[9] = batch.target[11] + 2, batch.prediction[11] + 1
    prediction, target = (scale * (v + offset) for v in (batch.prediction, batch.target))
    group = (torch.arange(40) % 4) * 5 - 1
    group[[7, 9, 11]] = torch.tensor([100, 50, 50])
    if missing:
        target[9], target[11], target[3] = torch.nan, torch.nan, torch.nan
    weight = torch.linspace(0, 2, 40) if weighted else None
    prediction, target = prediction.float(), target.float()
    data: dict[str, Any] = {"group": group if grouped else None}

    def of(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        each = None if weight is None else weight.to(dtype)
        return value_and_gradient(
            lambda p: loss(p, target.to(dtype), weight=each, **data), prediction.to(dtype)
        )

    expected = of(torch.float64)
    # It is this arithmetic that is tested, and no other.
    monkeypatch.setattr(moments, "_on_cpu", moments._elsewhere)
    for room in ("pearson", "concordance"):
        monkeypatch.setattr(f"finecorr.functional.{room}.populations", None)
    actual = of(torch.float32)
    assert_near(actual[0], expected[0], 1e-4, 1e-6)
    assert_near(actual[1], expected[1], 1e-3)
    if grouped:
        assert not actual[1][7].any()
