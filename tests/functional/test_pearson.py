from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
from finecorr.functional import label_weights, pearson_loss, robust_pearson_loss
from strategies import Batch, assert_near, batches, random_batch, value_and_gradient

EPSILON = torch.finfo(torch.float64).eps
FLOAT32_EPSILON = torch.finfo(torch.float32).eps


def reference(prediction: Tensor, batch: Batch, column: references.Column) -> Tensor:
    return references.over_populations(
        column, references.columns_of(prediction), batch.target, batch.weight, batch.group
    )


def population_losses(batch: Batch) -> list[float]:
    """`1 - PLC` of each population."""
    losses = []

    def column(p: Tensor, y: Tensor, w: Tensor) -> Tensor | None:
        loss = references.pearson(p, y, w)
        if loss is not None:
            losses.append(max(loss.item(), 0.0))
        return loss

    reference(batch.prediction, batch, column)
    return losses


class TestPearson:
    @settings(max_examples=600)
    @given(batch=batches())
    def test_equals_the_reference(self, batch: Batch) -> None:
        actual = value_and_gradient(
            lambda p: pearson_loss(p, batch.target, weight=batch.weight, group=batch.group),
            batch.prediction,
        )
        expected = value_and_gradient(
            lambda p: reference(p, batch, references.pearson), batch.prediction
        )
        assert_near(actual[0], expected[0], 1e-13, 1e-14)
        # A gradient that is 0, at a perfect correlation, is so up to the rounding of its terms.
        assert_near(actual[1], expected[1], 1e-12, 1e-13)

    @settings(max_examples=400)
    @given(batch=batches())
    def test_equals_the_reference_in_float32(self, batch: Batch) -> None:
        single = batch.to(torch.float32)
        value, gradient = value_and_gradient(
            lambda p: pearson_loss(p, single.target, weight=single.weight, group=single.group),
            single.prediction,
        )
        expected = value_and_gradient(
            lambda p: reference(p, batch, references.pearson), batch.prediction
        )
        losses = population_losses(batch)
        # The loss is the mean square of differences of scores of order 1, that are off by epsilon.
        rounding = 2 * FLOAT32_EPSILON * max(losses, default=0.0) ** 0.5
        assert_near(value, expected[0], 1e-5, rounding + 1e-12)
        # The gradient is a difference of terms that cancel where the correlation is 1 or -1.
        if all(1e-3 < loss < 2 - 1e-3 for loss in losses):
            assert_near(gradient, expected[1], 1e-4, 1e-6)

    @settings(max_examples=100)
    @given(seed=st.integers(0, 10_000), n=st.integers(3, 200))
    def test_equals_scipy(self, seed: int, n: int) -> None:
        batch = random_batch(seed, n)
        expected = 1 - scipy.stats.pearsonr(batch.prediction, batch.target).statistic
        loss = pearson_loss(batch.prediction, batch.target).item()
        assert loss == pytest.approx(expected, rel=1e-12, abs=1e-14)

    @settings(max_examples=300)
    @given(
        seed=st.integers(0, 10_000),
        n=st.integers(3, 20),
        noise=st.sampled_from([1.0, 1e-2, 1e-4, 1e-6]),
        scales=st.tuples(*[st.sampled_from([1e-12, 1e-3, 1.0, 1e5, 1e12])] * 2),
        offsets=st.tuples(*[st.sampled_from([0.0, -1.0, 1e3, -1e6, 1e8])] * 2),
    )
    def test_equals_exact_arithmetic(
        self,
        seed: int,
        n: int,
        noise: float,
        scales: tuple[float, float],
        offsets: tuple[float, float],
    ) -> None:
        """At offsets of up to 1e8 times the spread; rounding the inputs is no part of the loss."""
        random = np.random.default_rng(seed)
        y = random.standard_normal(n)
        p = y + noise * random.standard_normal(n)
        p, y = (p + offsets[0]) * scales[0], (y + offsets[1]) * scales[1]
        expected_loss, expected_gradient = references.exact_pearson(p.tolist(), y.tolist())
        loss, gradient = value_and_gradient(
            lambda p: pearson_loss(p, torch.from_numpy(y)), torch.from_numpy(p)
        )
        # Scores of order 1 are off by epsilon, and so their differences, of order sqrt(1 - PLC).
        scores_off = 30 * EPSILON
        assert loss.item() == pytest.approx(
            expected_loss, rel=scores_off, abs=scores_off * (expected_loss**0.5 + EPSILON)
        )
        unit = 1 / (n * p.std())
        exact = torch.tensor(expected_gradient, dtype=torch.float64)
        assert_near(gradient, exact, scores_off, scores_off * unit)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_keeps_its_digits_near_a_perfect_correlation(self, dtype: torch.dtype) -> None:
        y = torch.arange(8, dtype=dtype)
        p = y.clone()
        p[3] += 2**-10
        expected, _ = references.exact_pearson(p.tolist(), y.tolist())
        assert expected < 1e-7
        assert pearson_loss(p, y).item() == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize(
        ("prediction", "expected"),
        [([1.0, 2.0, 3.0], 0.0), ([3.0, 2.0, 1.0], 2.0), ([1.0, 2.0, 1.0], 1.0)],
    )
    def test_by_hand(self, prediction: list[float], expected: float) -> None:
        loss = pearson_loss(torch.tensor(prediction), torch.tensor([-5.0, 0.0, 5.0]))
        assert loss.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.3])
    def test_a_constant_prediction(self, constant: float) -> None:
        """Loss 1, and the gradient of the docstring: minus the target's scores over n and std."""
        target = torch.tensor([1.0, 4.0, 2.0, 9.0, 1.0], dtype=torch.float64)
        loss, gradient = value_and_gradient(
            lambda p: pearson_loss(p, target), torch.full_like(target, constant)
        )
        assert loss.item() == pytest.approx(1, rel=1e-12)
        std = target.std(correction=0)
        assert_near(gradient, -(target - target.mean()) / std / (5 * std), 1e-12)

    @pytest.mark.parametrize("target", [[], [3.0], [3.0, 3.0], [3.0, math.nan]])
    def test_nothing_to_correlate(self, target: list[float]) -> None:
        labels = torch.tensor(target)
        loss, gradient = value_and_gradient(
            lambda p: pearson_loss(p, labels), torch.arange(len(target), dtype=torch.float32)
        )
        assert loss == 0
        assert (gradient == 0).all()

    def test_gradcheck(self) -> None:
        batch = random_batch(1, 7, 2)
        batch.target[2, 1] = torch.nan
        weight, group = torch.arange(7) / 3, torch.tensor([5, 5, -1, 5, -1, -1, 5])
        assert torch.autograd.gradcheck(
            lambda p: pearson_loss(p, batch.target, weight=weight, group=group),
            batch.prediction.requires_grad_(),
        )


class TestRobustPearson:
    @pytest.mark.parametrize("robust", [False, True])
    @settings(max_examples=300)
    @given(batch=batches())
    def test_equals_the_reference(self, robust: bool, batch: Batch) -> None:
        actual = value_and_gradient(
            lambda p: robust_pearson_loss(
                p, batch.target, robust=robust, weight=batch.weight, group=batch.group
            ),
            batch.prediction,
        )
        expected = value_and_gradient(
            lambda p: reference(p, batch, references.robust_pearson(robust=robust)),
            batch.prediction,
        )
        # The logarithm of 1e-4 and more multiplies the rounding of its argument by up to 1e4.
        assert_near(actual[0], expected[0], 1e-11, 1e-10)
        assert_near(actual[1], expected[1], 1e-11, 1e-9)

    @settings(max_examples=400)
    @given(batch=batches())
    def test_equals_the_reference_in_float32(self, batch: Batch) -> None:
        single = batch.to(torch.float32)
        value, gradient = value_and_gradient(
            lambda p: robust_pearson_loss(
                p, single.target, weight=single.weight, group=single.group
            ),
            single.prediction,
        )
        expected = value_and_gradient(
            lambda p: reference(p, batch, references.robust_pearson()), batch.prediction
        )
        assert_near(value, expected[0], 1e-3, 1e-3)
        if all(1e-3 < loss < 2 - 1e-3 for loss in population_losses(batch)):
            assert_near(gradient, expected[1], 1e-2, 1e-3)

    def test_by_hand(self) -> None:
        """Twice the target plus 1: a perfect correlation, mean off by 1, std by 1 in its unit, so
        that the mean square is 2."""
        target = torch.tensor([-1.0, 1.0, -1.0, 1.0])
        loss = robust_pearson_loss(2 * target + 1, target, robust=False)
        assert loss.item() == pytest.approx((math.log(1e-4) + math.log(2 / 2 + 1e-4)) / 4, rel=1e-5)

    def test_what_the_docstring_says_of_the_squared_error(self) -> None:
        batch = random_batch(8, 30)
        p, y = batch.prediction, batch.target
        correlation = pearson_loss(p, y)
        std_p, std_y = p.std(correction=0), y.std(correction=0)
        off = ((p.mean() - y.mean()) ** 2 + (std_p - std_y) ** 2) / (2 * std_y**2)
        square = (p - y).square().mean() / (2 * std_y**2)
        assert_near(square, correlation * std_p / std_y + off, 1e-12)

    def test_weighs_labels(self) -> None:
        """As with these weights, whose sum is that of the samples in each group."""
        batch = random_batch(2, 40, 2)
        batch.target[5] += 20
        data: dict[str, Any] = {"weight": torch.rand(40).double(), "group": torch.arange(40) % 2}
        believed = label_weights(batch.prediction, batch.target, batch.features, **data)
        assert (believed[5] < 0.1).all()
        weight = believed * data["weight"][:, None]
        for group in (0, 1):
            rows = data["group"] == group
            weight[rows] *= data["weight"][rows].sum() / weight[rows].sum(0)
        expected = robust_pearson_loss(
            batch.prediction, batch.target, robust=False, weight=weight, group=data["group"]
        )
        actual = robust_pearson_loss(batch.prediction, batch.target, batch.features, **data)
        assert_near(actual, expected, 1e-12)

    def test_the_gradient_on_a_gross_error_is_small(self) -> None:
        target = torch.arange(64.0)
        prediction = target + torch.randn(64, generator=torch.Generator().manual_seed(0))
        prediction[4] += 1000
        _, plain = value_and_gradient(
            lambda p: robust_pearson_loss(p, target, robust=False), prediction
        )
        _, gradient = value_and_gradient(lambda p: robust_pearson_loss(p, target), prediction)
        assert plain[4].abs() > 5 * plain[5:].abs().max()
        assert gradient[4].abs() < gradient[5:].abs().max()

    @pytest.mark.parametrize("robust", [False, True])
    def test_gradcheck(self, robust: bool) -> None:
        """Given the weights: no gradient is taken of these."""
        batch = random_batch(2, 12, 2)
        batch.target[1, 0] = torch.nan
        batch.prediction[5] += 20
        weight, group = torch.arange(12) / 5 + 0.1, torch.tensor([5, 5, -1, 5, -1, -1] * 2)
        believed = weight[:, None]
        if robust:
            believed = believed * label_weights(
                batch.prediction, batch.target, weight=weight, group=group
            )
        believed = believed.expand(12, 2)
        assert torch.autograd.gradcheck(
            lambda p: robust_pearson_loss(
                p, batch.target, robust=False, weight=believed, group=group
            ),
            batch.prediction.requires_grad_(),
        )
