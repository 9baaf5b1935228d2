from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import references
from finecorr.functional.moments import Populations, populations
from strategies import Batch, assert_near, batches

FLOATS = [torch.float32, torch.float64]


def laid_out(batch: Batch) -> Populations:
    return populations(batch.prediction, batch.target, batch.weight, batch.group)


def each_population(batch: Batch) -> list[tuple[int, int, Tensor]]:
    """The row and column of each in the statistics, and which samples of the batch it has."""
    n = len(batch.target)
    group = torch.zeros(n).long() if batch.group is None else batch.group
    names = sorted(set(group.tolist())) if batch.group is not None else [0]
    target = references.as_columns(batch.target)
    return [
        (row, t, ((group == name) & ~target[:, t].isnan() & (batch.weights > 0)).nonzero()[:, 0])
        for row, name in enumerate(names)
        for t in range(target.shape[1])
    ]


@settings(max_examples=200)
@given(batch=batches())
def test_sums_means_and_minima(batch: Batch) -> None:
    laid = laid_out(batch)
    mean, low = laid.mean(laid.prediction), laid.minimum(laid.prediction)
    total, relative = laid.sum(laid.weight), laid.restore(laid.relative_weight())
    for row, t, members in each_population(batch):
        values = references.as_columns(batch.prediction)[members, t].numpy()
        weight = batch.weights[members].numpy()
        assert total[row, t] == weight.sum()
        if len(members):
            assert mean[row, t] == pytest.approx(np.average(values, weights=weight), rel=1e-12)
            assert low[row, t] == values.min()
            np.testing.assert_allclose(
                relative[members, t], weight / weight.mean(), rtol=1e-12, atol=0
            )
        else:
            assert mean[row, t] == low[row, t] == 0


@settings(max_examples=200)
@given(batch=batches())
def test_standard_scores(batch: Batch) -> None:
    laid = laid_out(batch)
    scores = laid.scores(laid.prediction)
    values = laid.restore(scores.values)
    for row, t, members in each_population(batch):
        raw = references.as_columns(batch.prediction)[members, t].numpy()
        weight = batch.weights[members].numpy()
        constant = len(set(raw.tolist())) < 2
        assert scores.constant[row, t] == constant
        if constant:
            assert scores.std[row, t] == 0
            assert (values[members, t] == 0).all()
        else:
            centred = raw - np.average(raw, weights=weight)
            std = np.sqrt(np.average(centred**2, weights=weight))
            assert scores.std[row, t].item() == pytest.approx(std, rel=1e-12)
            np.testing.assert_allclose(values[members, t], centred / std, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [1e-36, 1e-12, 1.0, 1e12, 3e38])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_standard_scores_at_any_scale(dtype: torch.dtype, scale: float, offset: float) -> None:
    """-1, 0 and 1 become -sqrt(3/2), 0, sqrt(3/2), wherever and however wide they lie."""
    if offset:
        scale = 0.5
    values = torch.tensor([-1.0, 0.0, 1.0], dtype=dtype)[:, None] * scale + offset
    scores = populations(values, values).scores(values)
    expected = torch.tensor([[-1.0], [0.0], [1.0]], dtype=dtype) * 1.5**0.5
    assert_near(scores.values, expected, 1e-6)
    assert scores.std.item() == pytest.approx(scale * (2 / 3) ** 0.5, rel=1e-6)
    assert not scores.constant


def test_a_target_of_a_million_and_a_tenth() -> None:
    target = 1e6 + 0.1 * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    laid = populations(torch.zeros(3), target)
    expected = 1.5**0.5 * torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    assert_near(laid.scores(laid.target).values, expected, 1e-8)


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.3, -1e-12, 3e38])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_constant_stays_one(value: float, dtype: torch.dtype) -> None:
    values = torch.full((7,), value, dtype=dtype)
    weight = torch.tensor([0.1, 0.2, 0.3, 0.7, 0.11, 0.13, 0.17])
    scores = populations(values, values, weight).scores(values[:, None])
    assert scores.constant
    assert (scores.values == 0).all()


@settings(max_examples=100)
@given(batch=batches())
def test_defined(batch: Batch) -> None:
    defined = laid_out(batch).defined()
    for row, t, members in each_population(batch):
        labels = references.as_columns(batch.target)[members, t].tolist()
        assert defined[row, t] == (len(set(labels)) > 1)


@settings(max_examples=50)
@given(batch=batches())
def test_restore_gives_the_order_of_the_batch(batch: Batch) -> None:
    laid = laid_out(batch)
    present = ~references.as_columns(batch.target).isnan() & (batch.weights > 0)[:, None]
    expected = torch.where(present, references.as_columns(batch.prediction), 0)
    assert torch.equal(laid.restore(laid.prediction), expected)


def test_average_by_hand() -> None:
    """Groups by weight, then targets; what is undefined is left out of both."""
    target = torch.zeros(3, 3)
    weight, group = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([4, 4, -1])
    laid = populations(target, target, weight, group)
    loss = torch.tensor([[10.0, 2.0, torch.nan], [20.0, torch.nan, torch.nan]])
    average = laid.average(loss, ~loss.isnan())
    assert average.item() == pytest.approx(((5 * 10 + 3 * 20) / 8 + 2) / 2)
    assert laid.average(loss, torch.zeros(2, 3).bool()) == 0


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (torch.float16, torch.float16, torch.float32),
        (torch.bfloat16, torch.int64, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_arithmetic_is_in_the_wider_dtype(
    prediction: torch.dtype, target: torch.dtype, expected: torch.dtype
) -> None:
    laid = populations(torch.zeros(2, dtype=prediction), torch.zeros(2, dtype=target))
    assert laid.prediction.dtype == laid.target.dtype == laid.weight.dtype == expected
