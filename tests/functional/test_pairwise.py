from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
import references_baselines
from finecorr.functional import pairwise
from finecorr.functional.pairwise import pairwise_rank_loss
from strategies import Batch, assert_near, batches, compiled_whole, random_batch, value_and_gradient

KINDS = ["hinge", "logistic"]
options = st.fixed_dictionaries(
    {"kind": st.sampled_from(KINDS), "margin": st.sampled_from([0.1, 0.3, 1.0, 5.0])}
)


def reference(prediction: Tensor, batch: Batch, **options: Any) -> Tensor:
    return references.over_populations(
        references_baselines.pairwise(**options),
        references.columns_of(prediction),
        batch.target,
        batch.weight,
        batch.group,
    )


def loss_of(prediction: Tensor, batch: Batch, **options: Any) -> Tensor:
    return pairwise_rank_loss(
        prediction, batch.target, weight=batch.weight, group=batch.group, **options
    )


@settings(max_examples=400)
@given(batch=batches(), options=options)
def test_equals_the_reference(batch: Batch, options: dict[str, Any]) -> None:
    """Predictions on a grid and two-valued targets put pairs exactly on the margin."""
    expected = value_and_gradient(lambda p: reference(p, batch, **options), batch.prediction)
    actual = value_and_gradient(lambda p: loss_of(p, batch, **options), batch.prediction)
    assert_near(actual[0], expected[0], 1e-12, 1e-13)
    assert_near(actual[1], expected[1], 1e-12, 1e-13)
    single = batch.to(torch.float32)
    actual = value_and_gradient(lambda p: loss_of(p, single, **options), single.prediction)
    assert actual[0].dtype == torch.float32
    # Differences of predictions over the margin are up to 8 / (std * margin), and off by epsilon.
    assert_near(actual[0], expected[0], 1e-5, 1e-7)
    assert_near(actual[1], expected[1], 1e-4, 1e-6)


@settings(max_examples=100)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), options=options)
def test_equals_the_reference_without_ties(seed: int, n: int, options: dict[str, Any]) -> None:
    batch = random_batch(seed, n, 2)
    expected = value_and_gradient(lambda p: reference(p, batch, **options), batch.prediction)
    actual = value_and_gradient(lambda p: loss_of(p, batch, **options), batch.prediction)
    assert_near(actual[0], expected[0], 1e-12, 1e-13)
    assert_near(actual[1], expected[1], 1e-12, 1e-13)


@pytest.mark.parametrize(
    ("kind", "pair"),
    [
        ("hinge", lambda d: max(0.0, 0.5 - d)),
        ("logistic", lambda d: math.log(1 + math.exp(-d / 0.5))),
    ],
)
def test_by_hand(kind: pairwise.PairLoss, pair: Any) -> None:
    """Three pairs, of the weights 2 * 3, 2 * 3 and 1; one between equal targets is none."""
    target = torch.tensor([0.0, 0.0, 4.0, math.nan, 4.0])
    prediction = torch.tensor([1.0, 3.0, 2.0, 7.0, 3.2])
    weight = torch.tensor([2.0, 1.0, 3.0, 5.0, 0.0])
    std = math.sqrt((3 * 2**2 + 3 * 2**2) / 6)
    expected = (6 * pair((2 - 1) / std) + 3 * pair((2 - 3) / std)) / 9
    loss = pairwise_rank_loss(prediction, target, kind=kind, margin=0.5, weight=weight)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_unit_of_both_is_irrelevant(kind: pairwise.PairLoss, scale: float) -> None:
    batch = random_batch(4)
    loss = pairwise_rank_loss(batch.prediction, batch.target, kind=kind)
    scaled = pairwise_rank_loss(batch.prediction * scale, batch.target * scale, kind=kind)
    assert_near(scaled, loss, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_offset_is_irrelevant(kind: pairwise.PairLoss) -> None:
    """Of numbers that keep all their digits there."""
    batch = random_batch(5)
    prediction, target = ((8 * t).round() / 8 for t in (batch.prediction, batch.target))
    loss = pairwise_rank_loss(prediction, target, kind=kind)
    moved = pairwise_rank_loss(prediction + 2**30, target - 2**30, kind=kind)
    assert_near(moved, loss, 1e-13)


@pytest.mark.parametrize("margin", [0.1, 0.3, 0.7, 1.3])
@pytest.mark.parametrize("std", [0.1, 0.3, 0.7, 1.1, 3.3])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_a_pair_on_the_margin_is_past_it(margin: float, std: float, offset: float) -> None:
    """Whether rounding puts it a little before or behind."""
    target = torch.tensor([0.0, 2 * std], dtype=torch.float64)
    prediction = torch.tensor([offset, offset + margin * std], dtype=torch.float64)
    loss, gradient = value_and_gradient(
        lambda p: pairwise_rank_loss(p, target, margin=margin), prediction
    )
    assert loss == 0
    assert (gradient == 0).all()
    closer = prediction - torch.tensor([0.0, 1e-9])
    loss, gradient = value_and_gradient(
        lambda p: pairwise_rank_loss(p, target, margin=margin), closer
    )
    assert loss.item() == pytest.approx(1e-9 / std, rel=1e-4)
    assert_near(gradient, torch.tensor([1.0, -1.0], dtype=torch.float64) / std, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.3])
def test_a_constant_prediction(kind: pairwise.PairLoss, constant: float) -> None:
    batch = random_batch(6)
    loss, gradient = value_and_gradient(
        lambda p: pairwise_rank_loss(p, batch.target, kind=kind),
        torch.full_like(batch.target, constant),
    )
    assert loss.item() == pytest.approx(0.3 if kind == "hinge" else math.log(2), rel=1e-9)
    assert torch.corrcoef(torch.stack([-gradient, batch.target]))[0, 1] > 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [[], [3.0], [3.0, 3.0], [3.0, math.nan]])
def test_no_pair(kind: pairwise.PairLoss, target: list[float]) -> None:
    labels = torch.tensor(target)
    loss, gradient = value_and_gradient(
        lambda p: pairwise_rank_loss(p, labels, kind=kind),
        torch.arange(len(target), dtype=torch.float32),
    )
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: pairwise.PairLoss) -> None:
    batch = random_batch(1, 7, 2)
    batch.target[2, 1] = torch.nan
    weight, group = torch.arange(7) / 3, torch.tensor([5, 5, -1, 5, -1, -1, 5])

    def loss(prediction: Tensor) -> Tensor:
        return pairwise_rank_loss(prediction, batch.target, kind=kind, weight=weight, group=group)

    prediction = batch.prediction.requires_grad_()
    assert torch.autograd.gradcheck(loss, prediction)
    assert torch.autograd.gradgradcheck(loss, prediction)


@pytest.mark.parametrize("grouped", [False, True])
def test_logistic_in_parts(monkeypatch: pytest.MonkeyPatch, grouped: bool) -> None:
    """Some anchors at a time, the last time fewer."""
    batch = random_batch(7, 13, 2)
    group = torch.arange(13) % 2 if grouped else None

    def result() -> tuple[Tensor, Tensor]:
        return value_and_gradient(
            lambda p: pairwise_rank_loss(p, batch.target, kind="logistic", group=group),
            batch.prediction,
        )

    whole = result()
    monkeypatch.setattr(pairwise, "CHUNK", 13 * 2 * 3)
    parts = result()
    assert_near(parts[0], whole[0], 1e-14)
    assert_near(parts[1], whole[1], 1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 31, 32, 33])
def test_weights_below_a_rank(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    rank = torch.stack([torch.randperm(n, generator=generator) for _ in range(3)])
    weight = torch.randint(0, 9, (3, n), generator=generator).double()
    start, stop, limit = torch.randint(0, n + 1, (3, 3, 200), generator=generator)
    stop = torch.maximum(start, stop)
    expected = [
        [sum(w for r, w in zip(r[a:b], w[a:b], strict=True) if r < c) for a, b, c in queries]
        for r, w, queries in zip(
            rank.tolist(),
            weight.tolist(),
            torch.stack([start, stop, limit], -1).tolist(),
            strict=True,
        )
    ]
    actual = pairwise._weight_below(rank, weight, start, stop, limit)
    assert torch.equal(actual, torch.tensor(expected, dtype=torch.float64))


def test_many_samples() -> None:
    """Against all pairs, on the way; and in much less time than these take."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3000, generator=generator).double()
    prediction = target + torch.randn(3000, generator=generator)
    difference = (prediction[:, None] - prediction) / target.std(correction=0)
    expected = (0.3 - difference).clamp(min=0)[target[:, None] > target].mean()
    assert_near(pairwise_rank_loss(prediction, target), expected, 1e-12)

    target = torch.randn(100_000, generator=generator)
    prediction = (target + torch.randn(100_000, generator=generator)).requires_grad_()
    start = time.perf_counter()
    pairwise_rank_loss(prediction, target).backward()  # type: ignore[no-untyped-call]
    assert time.perf_counter() - start < 10


@compiled_whole
@pytest.mark.parametrize("kind", KINDS)
def test_compiles(kind: pairwise.PairLoss) -> None:
    batch = random_batch(2, 9, 2)
    batch.target[2, 1] = torch.nan
    weight = torch.arange(9.0)
    compiled = torch.compile(pairwise_rank_loss, fullgraph=True, backend="aot_eager")
    actual, expected = (
        value_and_gradient(
            lambda p, f=function: f(p, batch.target, kind=kind, weight=weight),  # type: ignore[misc]
            batch.prediction,
        )
        for function in (compiled, pairwise_rank_loss)
    )
    assert_near(actual[0], expected[0], 1e-12)
    assert_near(actual[1], expected[1], 1e-12)


@pytest.mark.parametrize(
    "option", [{"kind": "squared"}, {"margin": 0.0}, {"margin": -1.0}, {"margin": math.nan}]
)
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        pairwise_rank_loss(torch.zeros(4), torch.zeros(4), **option)
