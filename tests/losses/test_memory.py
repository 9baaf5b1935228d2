"""Small batches, filled up with the latest samples."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from finecorr import functional, losses
from finecorr.losses import Loss, Memory
from finecorr.losses.base import Batch
from strategies import assert_near, random_batch

every_loss = pytest.mark.parametrize("name", losses.available())


def _batch(seed: int, n: int, **changes: Any) -> Batch:
    batch = random_batch(seed, n)
    return replace(Batch(batch.prediction, batch.target, batch.features), **changes)


def _call(loss: Loss, batch: Batch) -> Tensor:
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


@every_loss
def test_a_small_batch_is_filled_up(name: str) -> None:
    weight, group = torch.rand(6).double() + 0.1, torch.arange(6) % 2
    first, second, third = (_batch(seed, 6, weight=weight, group=group) for seed in range(3))
    alone = losses.build(name)
    loss = Memory(alone, 15, unique_groups=True)
    assert torch.equal(_call(loss, first), _call(alone, first))
    assert torch.equal(_call(loss, second), _call(alone, _joined(second, first)))
    whole = _joined(third, second, first, size=15)
    inputs = [third.prediction.requires_grad_(), third.features.requires_grad_()]  # type: ignore[union-attr]
    value = _call(loss, third)
    assert torch.equal(value, _call(alone, whole))
    actual = torch.autograd.grad(value, inputs, allow_unused=True)

    inputs = [whole.prediction.requires_grad_(), whole.features.requires_grad_()]  # type: ignore[union-attr]
    expected = torch.autograd.grad(_call(alone, whole), inputs, allow_unused=True)
    for found, right in zip(actual, expected, strict=True):
        assert (found is None) == (right is None)
        if found is not None and right is not None:
            assert_near(found, right[:6] * 15 / 6, 1e-10)


def test_a_batch_of_that_size_stands_alone() -> None:
    loss, alone = Memory(losses.build("fine_grained"), 10), losses.build("fine_grained")
    for seed in range(3):
        batch = _batch(seed, 10 + seed)
        assert torch.equal(_call(loss, batch), _call(alone, batch))


def test_only_training_is_remembered() -> None:
    alone = losses.build("pearson")
    loss, batch, other = Memory(alone, 20), _batch(0, 5), _batch(2, 5)
    expected = _call(alone, batch)
    with torch.no_grad():
        _call(loss, _batch(1, 5))
    assert torch.equal(_call(loss.eval(), batch), expected)
    assert torch.equal(_call(loss.train(), batch), expected)
    assert not torch.equal(_call(loss, other), _call(alone, other))
    assert torch.equal(_call(loss.eval(), batch), expected)
    with torch.no_grad():
        assert torch.equal(_call(loss.train(), batch), expected)


def test_what_is_not_finite_is_not_remembered() -> None:
    alone = losses.build("fine_grained")
    loss, first, second, third = Memory(alone, 20), *(_batch(seed, 6) for seed in range(3))
    assert first.features is not None
    first.prediction[1] = torch.nan
    first.features[2, 1] = torch.inf
    assert not _call(loss, first).isfinite()
    rows = [0, 3, 4, 5]
    finite = Batch(first.prediction[rows], first.target[rows], first.features[rows])
    assert torch.equal(_call(loss, second), _call(alone, _joined(second, finite)))
    assert _call(loss, third).isfinite()


def test_groups_of_two_batches_are_not_mixed() -> None:
    """The order within every group is perfect."""
    prediction, target = torch.tensor([1.0, 2, 101, 102]), torch.tensor([5.0, 6, 1, 2])
    group = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="unique_groups=True"):
        Memory(losses.build("pearson"))(prediction, target, group=group)
    loss = Memory(losses.build("pearson"), unique_groups=True)
    for start in range(0, 6, 2):
        assert loss(prediction, target, group=start + group) == pytest.approx(0, abs=1e-6)


def test_it_forgets() -> None:
    alone = losses.build("pearson")
    loss, batch = Memory(alone, 20), _batch(1, 6)
    _call(loss, _batch(0, 6))
    loss.reset()
    assert torch.equal(_call(loss, batch), _call(alone, batch))


def test_label_weights_are_those_in_the_population() -> None:
    loss = Memory(losses.build("robust_pearson"), 60)
    first, second = _batch(0, 50), _batch(1, 4)
    second.prediction[1] += 50
    call = second.prediction, second.target
    _call(loss, replace(first, features=None))
    everyone = [
        torch.cat([a, b]) for a, b in zip(call, (first.prediction, first.target), strict=True)
    ]
    expected = functional.label_weights(*everyone)[:4]
    assert_near(loss.with_label_weights(*call)[1], expected, 1e-12)
    assert expected[1] < 0.1


def test_it_stands_for_its_loss() -> None:
    loss = Memory(losses.build("rank_n_contrast"))
    assert loss.needs_features
    assert Memory(losses.build("similarity_rank")).ranks_features_alone
    assert not Memory(losses.build("pearson")).reads_features
    assert not Memory(losses.build("pearson")).fixes_scale
    assert Memory(losses.build("robust_pearson")).weighs_labels
    loss.progress = 0.5
    assert loss.progress == loss.loss.progress == 0.5


def test_another_kind_of_batch_starts_anew() -> None:
    alone = losses.build("fine_grained")
    loss = Memory(alone, 20)
    _call(loss, _batch(0, 6))
    for batch in (
        _batch(1, 6, weight=torch.ones(6)),
        _batch(1, 6, features=torch.rand(6, 9).double()),
    ):
        assert torch.equal(_call(copy.deepcopy(loss), batch), _call(alone, batch))
    without = _batch(1, 6, features=None)
    everyone = _joined(without, _batch(0, 6, features=None))
    assert torch.equal(_call(loss, without), _call(alone, everyone))


def test_the_state_goes_on() -> None:
    alone = losses.build("fine_grained")
    loss, other = Memory(alone, 20), Memory(alone, 20)
    empty = loss.state_dict()
    _call(loss, _batch(0, 6))
    other.load_state_dict(loss.state_dict())
    batch = _batch(1, 6)
    assert torch.equal(_call(loss, batch), _call(other, batch))
    other.load_state_dict(empty)
    assert torch.equal(_call(other, batch), _call(alone, batch))


def test_no_graph_is_kept() -> None:
    loss = Memory(losses.build("fine_grained"), 20)
    batch = _batch(0, 6)
    batch.prediction.requires_grad_()
    for _ in range(3):
        _call(loss, batch).backward()  # type: ignore[no-untyped-call]
    kept = loss.kept
    assert kept is not None
    assert len(kept) == 18
    assert not any(v is not None and v.requires_grad for v in vars(kept).values())


def test_a_size_out_of_range() -> None:
    with pytest.raises(ValueError, match="size"):
        Memory(losses.build("mse"), -1)
