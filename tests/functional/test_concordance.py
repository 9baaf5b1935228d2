from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
import references_baselines
from finecorr.functional.concordance import concordance_loss
from strategies import Batch, assert_near, batches, compiled_whole, random_batch, value_and_gradient


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@settings(max_examples=300)
@given(batch=batches())
def test_equals_the_reference(dtype: torch.dtype, accuracy: float, batch: Batch) -> None:
    case = batch.to(dtype)
    actual = value_and_gradient(
        lambda p: concordance_loss(p, case.target, weight=case.weight, group=case.group),
        case.prediction,
    )
    expected = value_and_gradient(
        lambda p: references.over_populations(
            references_baselines.concordance,
            references.columns_of(p),
            batch.target,
            batch.weight,
            batch.group,
        ),
        batch.prediction,
    )
    # Of the loss and its terms, which are of order 1; of a gradient, those of 1 / std.
    assert_near(actual[0], expected[0], accuracy, accuracy)
    assert_near(actual[1], expected[1], 10 * accuracy, 10 * accuracy)


@settings(max_examples=300)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 20),
    noise=st.sampled_from([10.0, 1.0, 1e-2, 1e-4, 1e-6]),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e5, 1e12]),
    offset=st.sampled_from([0.0, -1.0, 1e3, -1e6, 1e8]),
)
def test_equals_exact_arithmetic(
    seed: int, n: int, noise: float, scale: float, offset: float
) -> None:
    """At offsets of up to 1e8 times the spread, and where the concordance is near 1."""
    random = np.random.default_rng(seed)
    y = random.standard_normal(n)
    p = y + noise * random.standard_normal(n)
    p, y = (p + offset) * scale, (y + offset) * scale
    expected_loss, expected_gradient = references_baselines.exact_concordance(
        p.tolist(), y.tolist()
    )
    loss, gradient = value_and_gradient(
        lambda p: concordance_loss(p, torch.from_numpy(y)), torch.from_numpy(p)
    )
    epsilon = torch.finfo(torch.float64).eps
    assert loss.item() == pytest.approx(expected_loss, rel=30 * epsilon)
    assert_near(gradient, torch.tensor(expected_gradient, dtype=torch.float64), 200 * epsilon)


@pytest.mark.parametrize("p_scale", [1e-12, 1e-3, 1e12])
@pytest.mark.parametrize("y_scale", [1e-12, 1e-3, 1e12])
def test_spreads_far_apart(p_scale: float, y_scale: float) -> None:
    batch = random_batch(0)
    p, y = (batch.prediction * p_scale).float(), (batch.target * y_scale).float()
    expected_loss, expected_gradient = references_baselines.exact_concordance(
        p.tolist(), y.tolist()
    )
    loss, gradient = value_and_gradient(lambda p: concordance_loss(p, y), p)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-6)
    assert_near(gradient, torch.tensor(expected_gradient), 1e-5)


def test_the_largest_numbers() -> None:
    largest = torch.finfo(torch.float32).max
    target = torch.tensor([-largest, 0.0, largest])
    loss, gradient = value_and_gradient(lambda p: concordance_loss(p, target), -target)
    assert loss == 2
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ([1.0, 2.0, 3.0], 0.0),
        ([3.0, 2.0, 1.0], 2.0),
        ([2.0, 2.0, 2.0], 1.0),
        # mean((p - y)^2) is 1, both variances are 2 / 3.
        ([2.0, 3.0, 4.0], 1 / (2 / 3 + 2 / 3 + 1)),
        # And here it is 5 / 3 with variances of 8 / 3 and 2 / 3, and a distance of means of 1.
        ([1.0, 3.0, 5.0], (5 / 3) / (8 / 3 + 2 / 3 + 1)),
    ],
)
def test_by_hand(prediction: list[float], expected: float) -> None:
    loss = concordance_loss(torch.tensor(prediction), torch.tensor([1.0, 2.0, 3.0]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.3])
def test_a_constant_prediction(constant: float) -> None:
    target = torch.tensor([1.0, 4.0, 2.0, 9.0, 1.0], dtype=torch.float64)
    prediction = torch.full_like(target, constant)
    loss, gradient = value_and_gradient(lambda p: concordance_loss(p, target), prediction)
    assert loss.item() == pytest.approx(1, rel=1e-12)
    _, expected = references_baselines.exact_concordance(prediction.tolist(), target.tolist())
    assert_near(gradient, torch.tensor(expected, dtype=torch.float64), 1e-9)


@pytest.mark.parametrize("target", [[], [3.0], [3.0, 3.0], [3.0, math.nan]])
def test_nothing_to_compare(target: list[float]) -> None:
    labels = torch.tensor(target)
    loss, gradient = value_and_gradient(
        lambda p: concordance_loss(p, labels), torch.arange(len(target), dtype=torch.float32)
    )
    assert loss == 0
    assert (gradient == 0).all()


def test_gradcheck() -> None:
    batch = random_batch(1, 7, 2)
    batch.target[2, 1] = torch.nan
    weight, group = torch.arange(7) / 3, torch.tensor([5, 5, -1, 5, -1, -1, 5])

    def loss(prediction: Tensor) -> Tensor:
        return concordance_loss(prediction, batch.target, weight=weight, group=group)

    prediction = batch.prediction.requires_grad_()
    assert torch.autograd.gradcheck(loss, prediction)
    assert torch.autograd.gradgradcheck(loss, prediction)


@compiled_whole
def test_compiles() -> None:
    batch = random_batch(2, 9, 2)
    batch.target[2, 1] = torch.nan
    weight = torch.arange(9.0)
    compiled = torch.compile(concordance_loss, fullgraph=True, backend="aot_eager")
    actual, expected = (
        value_and_gradient(
            lambda p, f=function: f(p, batch.target, weight=weight),  # type: ignore[misc]
            batch.prediction,
        )
        for function in (compiled, concordance_loss)
    )
    assert_near(actual[0], expected[0], 1e-12)
    assert_near(actual[1], expected[1], 1e-12)
