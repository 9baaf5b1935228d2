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


def test_learning_does_not_run_away() -> None:
    """Plain SGD, at a rate at which the global level alone learns: without the bound, features that
    start small are thrown out of any scale."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(256, 10, generator=random)
    y = (x[:, :3].sin().sum(1) + x[:, 3] * x[:, 4]).tanh()

    def train(rank_weight: float) -> float:
        torch.manual_seed(0)
        first, head = torch.nn.Linear(10, 32), torch.nn.Linear(32, 1)
        with torch.no_grad():
            first.weight *= 1e-3
        hidden = torch.nn.Sequential(first, torch.nn.ELU())
        optimizer = torch.optim.SGD([*hidden.parameters(), *head.parameters()], 0.1, momentum=0.9)
        for _ in range(200):
            features = hidden(x)
            loss = functional.fine_grained_loss(
                head(features).squeeze(-1), y, features, rank_weight=rank_weight
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return functional.pearson_loss(head(hidden(x)).squeeze(-1), y).item()

    assert train(1.0) < train(0.0) + 0.02
