from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import Tensor

import references
from finecorr.functional import huber_loss, mae_loss, mse_loss
from strategies import Batch, assert_near, batches, random_batch, value_and_gradient

LOSSES = [
    (mse_loss, references.mse),
    (mae_loss, references.mae),
    (huber_loss, references.huber()),
    (partial(mse_loss, log=True), references.half_log(references.mse)),
    (partial(mae_loss, log=True), references.log_mae),
    (partial(huber_loss, log=True), references.half_log(references.huber())),
]


@pytest.mark.parametrize(("loss", "reference"), LOSSES)
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@settings(max_examples=150)
@given(batch=batches())
def test_equals_the_reference(
    loss: Callable[..., Tensor],
    reference: references.Column,
    dtype: torch.dtype,
    accuracy: float,
    batch: Batch,
) -> None:
    case = batch.to(dtype)
    actual = value_and_gradient(
        lambda p: loss(p, case.target, weight=case.weight, group=case.group), case.prediction
    )
    expected = value_and_gradient(
        lambda p: references.over_populations(
            reference, references.columns_of(p), batch.target, batch.weight, batch.group
        ),
        batch.prediction,
    )
    # Logarithms of errors near 1 have few digits.
    assert_near(actual[0], expected[0], accuracy, accuracy)
    assert_near(actual[1], expected[1], accuracy)


@settings(max_examples=100)
@given(batch=batches(min_size=1), delta=st.sampled_from([0.1, 0.5, 2.0, 30.0]))
def test_huber_with_its_delta(batch: Batch, delta: float) -> None:
    actual, expected = (
        value_and_gradient(loss, batch.prediction)
        for loss in (
            lambda p: huber_loss(
                p, batch.target, delta=delta, weight=batch.weight, group=batch.group
            ),
            lambda p: references.over_populations(
                references.huber(delta),
                references.columns_of(p),
                batch.target,
                batch.weight,
                batch.group,
            ),
        )
    )
    assert_near(actual[0], expected[0], 1e-13)
    assert_near(actual[1], expected[1], 1e-13)


@pytest.mark.parametrize(("loss", "expected"), [(mse_loss, 5.0), (mae_loss, 2.0)])
def test_by_hand(loss: Callable[..., Tensor], expected: float) -> None:
    nan = torch.nan
    target = torch.tensor([0.0, 0.0, nan])
    assert loss(torch.tensor([1.0, -3.0, 9.0]), target) == expected


def test_huber_by_hand() -> None:
    prediction = torch.tensor([1.0, -3.0])
    assert huber_loss(prediction, torch.zeros(2), delta=2.0) == (0.5 + 2 * (3 - 1)) / 2


@pytest.mark.parametrize(
    ("loss", "noise"), [(mse_loss, stats.norm), (mae_loss, stats.laplace)], ids=["mse", "mae"]
)
def test_the_logarithm_is_a_likelihood(
    loss: Callable[..., Tensor], noise: stats.rv_continuous
) -> None:
    """That of the best scale, found by search; differences are free of the constant."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=30)
    predictions = [target + rng.normal(size=30) * scale for scale in (0.1, 3.0)]
    searched, actual = [], []
    for prediction in predictions:
        residual = target - prediction
        best = optimize.minimize_scalar(
            lambda log_scale, residual=residual: (
                -np.mean(noise.logpdf(residual, scale=math.exp(log_scale)))
            ),
            bracket=(-5, 5),
        )
        searched.append(best.fun)
        actual.append(loss(torch.from_numpy(prediction), torch.from_numpy(target), log=True).item())
    assert actual[1] - actual[0] == pytest.approx(searched[1] - searched[0], rel=1e-3)
    assert actual[1] - actual[0] > 1


@pytest.mark.parametrize("loss", [loss for loss, _ in LOSSES])
def test_gradcheck(loss: Callable[..., Tensor]) -> None:
    batch = random_batch(0, 6, 2)
    weight, group = torch.arange(6) / 3, torch.tensor([1, 0, 1, 1, 0, 0])
    assert torch.autograd.gradcheck(
        lambda p: loss(p, batch.target, weight=weight, group=group),
        batch.prediction.requires_grad_(),
    )


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_delta_out_of_range(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        huber_loss(torch.zeros(2), torch.zeros(2), delta=delta)
