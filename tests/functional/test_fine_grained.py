from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from finecorr import functional
from finecorr.functional.features import bounded
from finecorr.functional.moments import populations
from strategies import assert_near, random_batch


def weighed(believed: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """A group as a whole weighs what it did; 0 is a missing label."""
    before = weight[:, None] * (believed > 0)
    after = before * believed
    for each in (0, 1):
        rows = group == each
        after[rows] *= before[rows].sum(0) / after[rows].sum(0)
    return after


@pytest.mark.parametrize("robust", [False, True])
def test_is_the_sum_of_both_with_the_same_label_weights(robust: bool) -> None:
    batch = random_batch(4, 20, 2)
    batch.prediction[4, 0] += 100
    batch.prediction[7, 1] -= 100
    batch.target[0, 1] = torch.nan
    weight, group = torch.arange(20) / 7 + 0.1, torch.arange(20) % 2
    call = batch.prediction, batch.target, batch.features
    believed = functional.label_weights(*call, weight=weight, group=group)
    assert believed[4, 0] < 0.1
    assert believed[7, 1] < 0.1
    believed[0, 1] = 0
    both = weighed(believed if robust else (believed > 0).double(), weight.double(), group)
    data: dict[str, Any] = {"weight": both, "group": group}
    expected = functional.robust_pearson_loss(*call, robust=False, **data)
    local = functional.similarity_correlation_loss(batch.features, batch.target, **data)
    actual = functional.fine_grained_loss(
        *call, rank_weight=0.7, robust=robust, weight=weight, group=group
    )
    assert_near(actual, expected + 0.7 * local, 1e-12)


def test_a_gross_error_gets_little_gradient() -> None:
    batch = random_batch(6, 64)
    batch.prediction[4] += 1000
    inputs = [batch.prediction.requires_grad_(), batch.features.requires_grad_()]
    value = functional.fine_grained_loss(inputs[0], batch.target, inputs[1])
    for gradient in torch.autograd.grad(value, inputs):
        assert gradient[4].abs().max() < gradient[5:].abs().max()
        assert gradient[4].any()


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1.0, 5.0])
def test_the_local_gradient_is_bounded(scale: float) -> None:
    """Features of any small scale get the gradient of those of 0.1; larger ones their own."""
    batch = random_batch(7, 30)
    samples = populations(batch.prediction, batch.target)
    unit = batch.features / batch.features.var(0, correction=0).mean().sqrt()

    def gradient(features: Tensor, bound: bool) -> Tensor:
        features.requires_grad_()
        seen = bounded(features, samples) if bound else features
        loss = functional.similarity_correlation_loss(seen, batch.target)
        return torch.autograd.grad(loss, features)[0]

    expected = gradient(unit.clone(), False) * min(10, 1 / scale)
    assert_near(gradient(scale * unit, True), expected, 1e-9)
    assert_near(gradient(scale * unit, False), gradient(unit.clone(), False) / scale, 1e-9)


def test_the_values_of_bounded_features_are_theirs() -> None:
    batch = random_batch(8, 30)
    for n in (0, 1, 30):
        few = batch.rows(torch.arange(n))
        samples = populations(few.prediction, few.target)
        assert torch.equal(bounded(few.features, samples), few.features)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4, 1e-6])
def test_learning_does_not_run_away(scale: float) -> None:
    """Plain SGD on features that start small. Without the bound, those of 1e-4 are thrown to 150,
    where nothing more is learnt: the loss stays at -0.4."""
    random = torch.Generator().manual_seed(0)
    target = torch.randn(64, generator=random)
    features = (scale * torch.randn(64, 8, generator=random)).requires_grad_()
    samples = populations(target, target)
    optimizer = torch.optim.SGD([features], 1.0, momentum=0.9)
    for _ in range(100):
        loss = functional.similarity_correlation_loss(bounded(features, samples), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert features.std() < 2
    assert loss < -2.5


@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_float32_in_few_operations_equals_float64(scale: float, weighted: bool) -> None:
    batch = random_batch(9, 40)
    batch.target[3] += 9
    features = (scale * batch.features).float()
    weight = torch.rand(40) + 0.1 if weighted else None
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs = [batch.prediction.float().to(dtype), features.to(dtype)]
        for values in inputs:
            values.requires_grad_()
        loss = functional.fine_grained_loss(
            inputs[0], batch.target.float().to(dtype), inputs[1], weight=weight
        )
        results.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        assert_near(actual, expected, 1e-3)
