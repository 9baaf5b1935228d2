"""Small batches, filled up with the latest samples."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from finecorr import functional
from finecorr.losses import FineGrainedCorrelationLoss, RobustPearsonLoss
from finecorr.losses.memory import Batch, Memory
from strategies import assert_near, random_batch

LOSSES = [RobustPearsonLoss, FineGrainedCorrelationLoss]


def _batch(seed: int, n: int, **changes: Any) -> Batch:
    batch = random_batch(seed, n)
    whole = Batch(batch.prediction, batch.target, batch.features, None, None)
    return replace(whole, **changes)


def _call(loss: RobustPearsonLoss, batch: Batch) -> Tensor:
    value: Tensor = loss(
        batch.prediction, batch.target, batch.features, weight=batch.weight, group=batch.group
    )
    return value


def _joined(*batches: Batch, size: int = 100) -> Batch:
    joined: dict[str, Any] = {}
    for name in vars(batches[0]):
        parts = [getattr(batch, name) for batch in batches]
        joined[name] = None if parts[0] is None else torch.cat(parts)[:size]
    return Batch(**joined)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_small_batch_is_filled_up(kind: type[RobustPearsonLoss]) -> None:
    weight, group = torch.rand(6).double() + 0.1, torch.arange(6) % 2
    first, second, third = (_batch(seed, 6, weight=weight, group=group) for seed in range(3))
    loss, alone = kind(memory=15, warmup=0.0), kind(memory=0, warmup=0.0)
    assert_near(_call(loss, first), _call(alone, first), 1e-12)
    assert_near(_call(loss, second), _call(alone, _joined(second, first)), 1e-12)
    whole = _joined(third, second, first, size=15)
    third.prediction.requires_grad_()
    assert third.features is not None
    third.features.requires_grad_()
    value = _call(loss, third)
    assert_near(value, _call(alone, whole), 1e-12)
    actual = torch.autograd.grad(value, [third.prediction, third.features], allow_unused=True)

    inputs = [whole.prediction.requires_grad_(), whole.features.requires_grad_()]  # type: ignore[union-attr]
    expected = torch.autograd.grad(_call(alone, whole), inputs, allow_unused=True)
    for found, right in zip(actual, expected, strict=True):
        assert (found is None) == (right is None)
        if found is not None and right is not None:
            assert_near(found, right[:6] * 15 / 6, 1e-10)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_of_that_size_stands_alone(kind: type[RobustPearsonLoss]) -> None:
    loss = kind(memory=10)
    for seed in range(3):
        batch = _batch(seed, 10 + seed)
        assert torch.equal(_call(loss, batch), _call(kind(memory=0), batch))


def test_only_training_is_remembered() -> None:
    loss, batch, other = RobustPearsonLoss(memory=20), _batch(0, 5), _batch(2, 5)
    expected = _call(RobustPearsonLoss(memory=0), batch)
    with torch.no_grad():
        _call(loss, _batch(1, 5))
    assert torch.equal(_call(loss.eval(), batch), expected)
    assert torch.equal(_call(loss.train(), batch), expected)
    assert not torch.equal(_call(loss, other), _call(RobustPearsonLoss(memory=0), other))
    assert torch.equal(_call(loss.eval(), batch), expected)
    with torch.no_grad():
        assert torch.equal(_call(loss.train(), batch), expected)


def test_label_weights_are_those_in_the_population() -> None:
    loss, first, second = RobustPearsonLoss(memory=60), _batch(0, 50), _batch(1, 4)
    second.prediction[1] += 50
    call = second.prediction, second.target
    assert RobustPearsonLoss(memory=0).label_weights(*call).shape == (4,)
    _call(loss, replace(first, features=None))
    everyone = [
        torch.cat([a, b]) for a, b in zip(call, (first.prediction, first.target), strict=True)
    ]
    expected = functional.label_weights(*everyone)[:4]
    assert_near(loss.label_weights(*call), expected, 1e-12)
    assert expected[1] < 0.1


def test_another_kind_of_batch_starts_anew() -> None:
    loss = FineGrainedCorrelationLoss(memory=20)
    _call(loss, _batch(0, 6))
    for batch in (
        _batch(1, 6, weight=torch.ones(6)),
        _batch(1, 6, features=None),
        _batch(1, 6, features=torch.rand(6, 9).double()),
    ):
        loss_before = copy.deepcopy(loss)
        value = _call(loss_before, batch)
        if batch.features is not None:
            assert torch.equal(value, _call(FineGrainedCorrelationLoss(memory=0), batch))


def test_the_state_goes_on() -> None:
    loss = FineGrainedCorrelationLoss(memory=20)
    assert loss.memory.state() == {}
    _call(loss, _batch(0, 6))
    assert loss.state_dict() == {}
    other = FineGrainedCorrelationLoss(memory=20)
    other.memory.restore(loss.memory.state())
    batch = _batch(1, 6)
    assert torch.equal(_call(loss, batch), _call(other, batch))
    other.memory.restore({})
    assert torch.equal(_call(other, batch), _call(FineGrainedCorrelationLoss(memory=0), batch))


def test_no_graph_is_kept() -> None:
    loss = FineGrainedCorrelationLoss(memory=20)
    batch = _batch(0, 6)
    batch.prediction.requires_grad_()
    for _ in range(3):
        _call(loss, batch).backward()  # type: ignore[no-untyped-call]
    kept = loss.memory.kept
    assert kept is not None
    assert len(kept) == 18
    assert not any(v is not None and v.requires_grad for v in vars(kept).values())


def test_a_size_out_of_range() -> None:
    with pytest.raises(ValueError, match="memory"):
        Memory(-1)
