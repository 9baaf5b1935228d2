from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import references
from finecorr.functional import label_weights
from strategies import Batch, assert_near, batches, random_batch


def found(batch: Batch, features: Tensor | None = None) -> Tensor:
    return label_weights(
        batch.prediction, batch.target, features, weight=batch.weight, group=batch.group
    )


def expected(batch: Batch, features: Tensor | None = None) -> Tensor:
    target = references.as_columns(batch.target)
    result = torch.ones_like(target).double()
    group = [0] * len(target) if batch.group is None else batch.group.tolist()
    for t, p in enumerate(references.columns_of(batch.prediction)):
        for g in set(group):
            rows = [
                i
                for i in range(len(p))
                if group[i] == g and batch.weights[i] > 0 and not target[i, t].isnan()
            ]
            if rows:
                near = None if features is None or len(rows) < 2 else features[rows]
                weights = references.label_weights(
                    p[rows], target[rows, t], batch.weights[rows], near
                )
                result[rows, t] = weights
    return result.reshape(batch.target.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=250)
@given(batch=batches(max_size=14))
def test_equals_the_reference(dtype: torch.dtype, batch: Batch) -> None:
    actual = found(batch.to(dtype))
    assert actual.shape == batch.target.shape
    assert ((actual > 0) & (actual <= 1)).all()
    accuracy = 1e-2 if dtype == torch.float32 else 1e-9
    assert_near(actual, expected(batch), accuracy, accuracy)


@settings(max_examples=250)
@given(batch=batches(max_size=14, missing=False))
def test_equals_the_reference_with_features(batch: Batch) -> None:
    assert_near(found(batch, batch.features), expected(batch, batch.features), 1e-9, 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_reference_on_ordinary_batches(seed: int) -> None:
    batch = random_batch(seed, 50)
    batch.target[7] += 9
    for features in (None, batch.features):
        assert_near(found(batch, features), expected(batch, features), 1e-10, 1e-10)


@pytest.mark.parametrize("n", [2, 3, 4, 50, 64])
@pytest.mark.parametrize("targets", [None, 1, 3])
@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18])
def test_float32_without_weights_equals_the_reference(
    n: int, targets: int | None, with_features: bool, scale: float
) -> None:
    batch = random_batch(n, n, targets).to(torch.float32)
    batch.target[n // 2] += 9
    batch = replace(
        batch,
        prediction=batch.prediction * scale,
        target=batch.target * scale,
        features=batch.features * scale,
    )
    double = batch.to(torch.float64)
    features = (batch.features, double.features) if with_features else (None, None)
    actual = found(batch, features[0])
    assert actual.dtype == torch.float32
    assert_near(actual, expected(double, features[1]), 1e-5)
    general = label_weights(batch.prediction, batch.target, features[0], weight=torch.ones(n))
    assert_near(general, actual, 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_neighbours_at_the_same_distance_all_count(seed: int, dtype: torch.dtype) -> None:
    """Whole numbers are often equally far apart, by sums of other squares."""
    features = torch.randn(40, 5, generator=torch.Generator().manual_seed(seed)).round()
    batch = random_batch(seed, 40)
    target = batch.target + 0.3 * features[:, 0]
    batch = replace(batch, target=target, features=features).to(torch.float32).to(dtype)
    double = batch.to(torch.float64)
    assert_near(found(batch, batch.features), expected(double, double.features), 1e-5)


def noisy(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    target = torch.randn(n, generator=random)
    return target + 0.3 * torch.randn(n, generator=random), target


def test_gaussian_noise_is_believed() -> None:
    believed = label_weights(*noisy(4096))
    assert believed.mean() > 0.95


def test_gross_errors_are_not() -> None:
    prediction, target = noisy(256)
    target[:25] = target[:25].flip(0) + 4
    believed = label_weights(prediction, target)
    assert believed[:25].max() < 0.1
    assert believed[25:].mean() > 0.6


def test_what_neighbours_share_is_believed() -> None:
    """As large as the gross errors, but a part of the feature space has them together."""
    prediction, target = noisy(256)
    features = torch.randn(256, 3, generator=torch.Generator().manual_seed(1))
    target[:25] += 4
    alone = label_weights(prediction, target, features)
    assert alone[:25].max() < 0.1
    features[:25] += 9
    together = label_weights(prediction, target, features)
    assert together[:25].min() > 0.9


def test_nothing_to_tell() -> None:
    target = torch.arange(5.0)
    assert (label_weights(target + 3, target) == 1).all()
    assert (label_weights(torch.arange(5.0), torch.zeros(5)) == 1).all()
    assert label_weights(target[:0], target[:0], torch.zeros(0, 2)).shape == (0,)
    assert label_weights(target[:1], target[:1] + 1, torch.zeros(1, 2)).tolist() == [1.0]


def test_labels_that_are_met_exactly_do_not_discredit_the_others() -> None:
    """Most residuals are 0, and the others hardly larger."""
    target = torch.arange(64.0)
    prediction = target.clone()
    prediction[::8] += 0.001
    assert label_weights(prediction, target).min() > 0.9


def test_no_gradient_is_taken() -> None:
    batch = random_batch(3)
    prediction, features = batch.prediction.requires_grad_(), batch.features.requires_grad_()
    assert not label_weights(prediction, batch.target, features).requires_grad


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_units_do_not_matter(scale: float) -> None:
    prediction, target = noisy(64)
    target[3] += 5
    features = torch.randn(64, 4, generator=torch.Generator().manual_seed(2))
    plain = label_weights(prediction, target, features)
    scaled = label_weights(scale * prediction, scale * target, scale * features)
    assert_near(scaled, plain, 1e-3, 1e-3)


def test_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(4, 60, 2)
    data: dict[str, Any] = {"group": torch.arange(60) % 3}
    at_once = label_weights(batch.prediction, batch.target, batch.features, **data)
    monkeypatch.setattr("finecorr.functional.label_noise.CHUNK", 60 * 7)
    in_pieces = label_weights(batch.prediction, batch.target, batch.features, **data)
    assert_near(in_pieces, at_once, 1e-12)


def test_a_part_of_many_samples_tells_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second label is missing, and every tenth of the others is wrong."""
    prediction, target = noisy(40_000)
    target[::20] += 4
    target[1::2] = torch.nan
    believed = label_weights(prediction, target)
    monkeypatch.setattr("finecorr.functional.plain.belief.MANY", len(target))
    assert_near(believed, label_weights(prediction, target), 0.1)
    assert believed[::20].max() < 0.1
