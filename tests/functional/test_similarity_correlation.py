from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import references
from finecorr.functional import relations, similarity_correlation_loss
from strategies import Batch, assert_near, batches, random_batch, value_and_gradient


def reference(features: Tensor, batch: Batch, **options: Any) -> Tensor:
    """Every target is compared with the same features."""
    targets = references.as_columns(batch.target).shape[1]
    return references.over_populations(
        references.similarity_correlation(**options),
        [features] * targets,
        batch.target,
        batch.weight,
        batch.group,
    )


def loss(features: Tensor, batch: Batch, **options: Any) -> Tensor:
    return similarity_correlation_loss(
        features, batch.target, weight=batch.weight, group=batch.group, **options
    )


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-3), (torch.float64, 1e-8)])
@settings(max_examples=400)
@given(batch=batches(max_size=8), log=st.booleans())
def test_equals_the_reference(dtype: torch.dtype, accuracy: float, batch: Batch, log: bool) -> None:
    case = batch.to(dtype)
    actual = value_and_gradient(lambda f: loss(f, case, log=log), case.features)
    expected = value_and_gradient(lambda f: reference(f, batch, log=log), batch.features)
    assert_near(actual[0], expected[0], accuracy, accuracy)
    assert_near(actual[1], expected[1], accuracy, accuracy)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference_on_ordinary_batches(seed: int, dtype: torch.dtype) -> None:
    batch = random_batch(seed, 30, 2)
    weight, group = torch.rand(30).double(), torch.arange(30) % 3
    batch.target[4, 1] = torch.nan
    batch = replace(batch, weight=weight, group=group)
    accuracy = 1e-5 if dtype == torch.float32 else 1e-12
    case = batch.to(dtype)
    actual = value_and_gradient(lambda f: loss(f, case), case.features)
    expected = value_and_gradient(lambda f: reference(f, batch), batch.features)
    # The logarithms may add up to nearly nothing.
    assert_near(actual[0], expected[0], accuracy, accuracy)
    assert_near(actual[1], expected[1], accuracy, accuracy)


def test_is_what_scipy_says_of_each_sample() -> None:
    batch = random_batch(0, 20)
    correlations = []
    for i in range(20):
        others = np.arange(20) != i
        guess = (batch.features - batch.features[i]).norm(dim=1).numpy()[others]
        truth = (batch.target - batch.target[i]).abs().numpy()[others]
        correlations.append(stats.pearsonr(guess, truth).statistic)
    actual = similarity_correlation_loss(batch.features, batch.target, log=False)
    assert actual.item() == pytest.approx(1 - np.mean(correlations), rel=1e-12)
    actual = similarity_correlation_loss(batch.features, batch.target)
    expected = np.mean(np.log(1 - np.array(correlations) + 1e-3)) / 2
    assert actual.item() == pytest.approx(expected, rel=1e-12)


def test_a_line_in_proportion_is_the_best() -> None:
    target = random_batch(0, 30).target
    direction = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).double()
    line = 3 * target[:, None] * direction + 100
    for sign in (1, -1):
        value, gradient = value_and_gradient(
            lambda f: similarity_correlation_loss(f, target), sign * line
        )
        assert value.item() == pytest.approx(math.log(1e-3) / 2, rel=1e-6)
        assert gradient.abs().max() < 1e-6
    assert similarity_correlation_loss(line, target, log=False).abs() < 1e-12
    bent = torch.stack([target, target**2], 1)
    shuffled = line[torch.randperm(30, generator=torch.Generator().manual_seed(1))]
    values = [similarity_correlation_loss(f, target).item() for f in (line, bent, shuffled)]
    assert values == sorted(values)
    assert values[0] < values[1] - 0.5 < values[2] - 1


def test_descent_finds_the_line() -> None:
    target = random_batch(3, 20).target
    features = torch.randn(20, 2, generator=torch.Generator().manual_seed(2)).double()
    features.requires_grad_()
    optimizer = torch.optim.Adam([features], 0.05)
    for _ in range(500):
        optimizer.zero_grad()
        similarity_correlation_loss(features, target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert similarity_correlation_loss(features, target, log=False) < 0.01


@pytest.mark.parametrize("chunk", [1, 40, 100])
def test_a_few_anchors_at_a_time(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = replace(random_batch(0, 13, 2), group=torch.arange(13) % 2)
    whole = value_and_gradient(lambda f: loss(f, batch), batch.features)
    monkeypatch.setattr(relations, "CHUNK", chunk)
    for actual, expected in zip(
        value_and_gradient(lambda f: loss(f, batch), batch.features), whole, strict=True
    ):
        assert_near(actual, expected, 1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_units_are_irrelevant(scale: float, offset: float) -> None:
    batch = random_batch(1, 15)
    expected, slope = value_and_gradient(
        lambda f: similarity_correlation_loss(f, batch.target), batch.features
    )
    value, gradient = value_and_gradient(
        lambda f: similarity_correlation_loss(f, batch.target * scale + offset * scale),
        batch.features * scale + offset * scale,
    )
    assert_near(value, expected, 1e-9)
    assert_near(gradient * scale, slope, 1e-9)


def test_an_anchor_with_even_targets_has_no_correlation() -> None:
    """The middle one of three, to which both others are as far, says nothing of who is nearer."""
    target = torch.tensor([0.0, 1.0, 2.0]).double()
    features = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    a, b, c = ((features[i] - features[j]).norm() for i, j in ((0, 1), (1, 2), (0, 2)))
    expected = (sum(1 - torch.sign(c - near) for near in (a, b)) + 1) / 3
    actual = similarity_correlation_loss(features, target, log=False)
    assert actual.item() == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("target", [[], [1.0], [3.0, 3.0, 3.0], [math.nan] * 3, [2.0, math.nan]])
def test_nothing_to_compare(target: list[float]) -> None:
    features = torch.randn(len(target), 2)
    value, gradient = value_and_gradient(
        lambda f: similarity_correlation_loss(f, torch.tensor(target)), features
    )
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    "features", [torch.ones(6, 3), torch.zeros(6, 3), torch.eye(6), 1e-30 * torch.eye(6)]
)
def test_features_that_say_nothing(features: Tensor) -> None:
    target = torch.tensor([0.0, 1.0, 2.5, 3.0, 4.0, 7.0])
    value, gradient = value_and_gradient(
        lambda f: similarity_correlation_loss(f, target, log=False), features
    )
    assert value.item() == pytest.approx(1, abs=1e-2)
    assert gradient.isfinite().all()
    if len(torch.unique(features, dim=0)) > 1:
        step = features - gradient * features.abs().max() * 1e-3 / gradient.abs().max()
        assert similarity_correlation_loss(step, target, log=False) < value


def test_two_samples_have_no_others_to_compare() -> None:
    value, gradient = value_and_gradient(
        lambda f: similarity_correlation_loss(f, torch.tensor([1.0, 2.0]), log=False),
        torch.randn(2, 3),
    )
    assert value == 1
    assert not gradient.any()


def test_second_derivatives() -> None:
    batch = random_batch(2, 6)
    assert torch.autograd.gradgradcheck(
        lambda f: similarity_correlation_loss(f, batch.target), batch.features.requires_grad_()
    )


def test_gradcheck() -> None:
    batch = random_batch(0, 7, 2)
    weight, group = torch.arange(7) / 3 + 0.1, torch.tensor([1, 0, 1, 1, 0, 0, 1])
    for log in (False, True):
        assert torch.autograd.gradcheck(
            lambda f, log=log: similarity_correlation_loss(
                f, batch.target, log=log, weight=weight, group=group
            ),
            batch.features.requires_grad_(),
        )


@pytest.mark.parametrize("n", [2, 5, 40, 64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("rows", [None, 7])
@pytest.mark.parametrize(("scale", "offset"), [(1e-15, 0.0), (1.0, 0.0), (1.0, 1e3), (1e15, 0.0)])
def test_float32_in_few_operations(
    n: int,
    weighted: bool,
    log: bool,
    rows: int | None,
    scale: float,
    offset: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with samples that are nearly, and exactly, the same, beside an offset."""
    batch = random_batch(n, n)
    features = scale * (batch.features + offset)
    features[1] = features[0] + (0 if n == 40 else 1e-4 * scale)
    features, target = features.float(), batch.target.float()
    weight = torch.rand(n) + 0.1 if weighted else None
    if rows is not None:
        monkeypatch.setattr("finecorr.functional.plain.distances.CHUNK", rows * n)
    wanted = features.double(), target.double(), None if weight is None else weight.double()
    expected = value_and_gradient(
        lambda f: similarity_correlation_loss(f, wanted[1], log=log, weight=wanted[2]), wanted[0]
    )
    if n > 3:
        # It is this arithmetic that is tested, and no other.
        monkeypatch.setattr("finecorr.functional.similarity_correlation.feature_batch", None)
    actual = value_and_gradient(
        lambda f: similarity_correlation_loss(f, target, log=log, weight=weight), features
    )
    assert_near(actual[0], expected[0], 1e-4, 1e-5)
    assert_near(actual[1], expected[1], 1e-3)
