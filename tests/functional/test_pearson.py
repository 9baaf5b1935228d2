from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
from finecorr.functional import outliers, pearson_loss, robust_pearson_loss
from strategies import Batch, assert_near, batches, random_batch, value_and_gradient

EPSILON = torch.finfo(torch.float64).eps
FLOAT32_EPSILON = torch.finfo(torch.float32).eps

robust_options = st.fixed_dictionaries(
    {
        "outlier_threshold": st.sampled_from([None, 0.5, 1.0, 2.0, 3.5]),
        "max_outlier_fraction": st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.9]),
        "mean_weight": st.sampled_from([0.0, 0.5, 1.0]),
        "std_weight": st.sampled_from([0.0, 0.5, 1.0]),
        "outlier_weight": st.sampled_from([0.0, 2.0]),
        "log": st.booleans(),
    }
)


def reference(prediction: Tensor, batch: Batch, column: references.Column) -> Tensor:
    return references.over_populations(
        column, references.columns_of(prediction), batch.target, batch.weight, batch.group
    )


def population_losses(batch: Batch, options: dict[str, Any] | None = None) -> list[float]:
    """`1 - PLC` of each population, of its normal samples if there are options for outliers."""
    losses = []

    def column(p: Tensor, y: Tensor, w: Tensor) -> Tensor | None:
        if options is not None:
            threshold, fraction = options["outlier_threshold"], options["max_outlier_fraction"]
            found = torch.tensor(references.outliers(p, y, w, threshold, fraction)).bool()
            p, y, w = p[~found], y[~found], w[~found]
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
    @settings(max_examples=600)
    @given(batch=batches(), options=robust_options)
    def test_equals_the_reference(self, batch: Batch, options: dict[str, Any]) -> None:
        actual = value_and_gradient(
            lambda p: robust_pearson_loss(
                p, batch.target, weight=batch.weight, group=batch.group, **options
            ),
            batch.prediction,
        )
        expected = value_and_gradient(
            lambda p: reference(p, batch, references.robust_pearson(**options)), batch.prediction
        )
        # The logarithm of 1e-4 and more multiplies the rounding of its argument by up to 1e4.
        assert_near(actual[0], expected[0], 1e-12, 1e-11)
        assert_near(actual[1], expected[1], 1e-12, 1e-9)

    @settings(max_examples=400)
    @given(batch=batches(), options=robust_options)
    def test_equals_the_reference_in_float32(self, batch: Batch, options: dict[str, Any]) -> None:
        single = batch.to(torch.float32)
        value, gradient = value_and_gradient(
            lambda p: robust_pearson_loss(
                p, single.target, weight=single.weight, group=single.group, **options
            ),
            single.prediction,
        )
        expected = value_and_gradient(
            lambda p: reference(p, batch, references.robust_pearson(**options)), batch.prediction
        )
        losses = population_losses(batch, options)
        # As for the Pearson loss, where d log(x) = dx / x. Terms of order 1 may cancel.
        amplified = max((x**0.5 / (x + 1e-4) for x in losses), default=0.0)
        assert_near(value, expected[0], 1e-5, 2 * FLOAT32_EPSILON * (amplified + 1))
        if all(1e-3 < loss < 2 - 1e-3 for loss in losses):
            assert_near(gradient, expected[1], 1e-4, 1e-6)

    @settings(max_examples=100)
    @given(batch=batches())
    def test_is_the_pearson_loss_where_all_is_off(self, batch: Batch) -> None:
        data: dict[str, Any] = {"weight": batch.weight, "group": batch.group}
        plain = value_and_gradient(
            lambda p: pearson_loss(p, batch.target, **data), batch.prediction
        )
        robust = value_and_gradient(
            lambda p: robust_pearson_loss(
                p,
                batch.target,
                outlier_threshold=None,
                mean_weight=0,
                std_weight=0,
                outlier_weight=0,
                log=False,
                **data,
            ),
            batch.prediction,
        )
        assert torch.equal(robust[0], plain[0])
        assert torch.equal(robust[1], plain[1])

    def test_by_hand(self) -> None:
        """Twice the target plus 1: a perfect correlation, mean off by 1, std by 1 in its unit."""
        target = torch.tensor([-1.0, 1.0, -1.0, 1.0])
        loss = robust_pearson_loss(2 * target + 1, target, mean_weight=0.25, std_weight=0.5)
        assert loss.item() == pytest.approx(math.log(1e-4) / 2 + 0.25 + 0.5, rel=1e-5)

    def test_an_outlier_counts_by_its_own_weight_only(self) -> None:
        target = torch.arange(9, dtype=torch.float64)
        prediction = target + 0.1 * torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1]).double()
        wrong = prediction.clone()
        wrong[4] += 50
        clean = target != 4
        alone = robust_pearson_loss(prediction[clean], target[clean])
        assert_near(robust_pearson_loss(wrong, target), alone, 1e-12)
        std = target[clean].std(correction=0).item()
        pull = (50.1 / std - 0.5) / 9
        pulled = robust_pearson_loss(wrong, target, outlier_weight=2)
        assert pulled.item() == pytest.approx(alone.item() + 2 * pull, rel=1e-12)

    def test_the_gradient_on_an_outlier_is_zero_or_bounded(self) -> None:
        target = torch.arange(9.0)
        prediction = target + 0.1 * torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1])
        prediction[4] = 1e6
        for outlier_weight in (0.0, 1.0):
            loss = partial(robust_pearson_loss, target=target, outlier_weight=outlier_weight)
            _, gradient = value_and_gradient(loss, prediction)
            std = target[target != 4].std(correction=0)
            assert_near(gradient[4], outlier_weight / 9 / std, 1e-6)

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize("outlier_weight", [0.0, 0.7])
    def test_gradcheck(self, log: bool, outlier_weight: float) -> None:
        batch = random_batch(2, 12, 2)
        batch.target[1, 0] = torch.nan
        batch.prediction[5] += 20
        weight, group = torch.arange(12) / 5 + 0.1, torch.tensor([5, 5, -1, 5, -1, -1] * 2)
        data: dict[str, Any] = {"weight": weight, "group": group}
        assert outliers(batch.prediction, batch.target, **data)[5].all()
        assert torch.autograd.gradcheck(
            lambda p: robust_pearson_loss(
                p, batch.target, log=log, outlier_weight=outlier_weight, **data
            ),
            batch.prediction.requires_grad_(),
        )

    @pytest.mark.parametrize("name", ["mean_weight", "std_weight", "outlier_weight"])
    @pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
    def test_weights_out_of_range(self, name: str, value: float) -> None:
        option: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=name):
            robust_pearson_loss(torch.zeros(2), torch.zeros(2), **option)


class TestOutliers:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @settings(max_examples=250)
    @given(
        batch=batches(max_size=14),
        threshold=st.sampled_from([0.5, 1.0, 2.0, 3.5]),
        fraction=st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.9]),
    )
    def test_equals_the_reference(
        self, dtype: torch.dtype, batch: Batch, threshold: float, fraction: float
    ) -> None:
        case = batch.to(dtype)
        found = outliers(
            case.prediction,
            case.target,
            outlier_threshold=threshold,
            max_outlier_fraction=fraction,
            weight=case.weight,
            group=case.group,
        )
        assert found.shape == batch.target.shape
        assert found.dtype == torch.bool
        expected = torch.zeros_like(references.as_columns(batch.target), dtype=torch.bool)
        group = [0] * len(expected) if batch.group is None else batch.group.tolist()
        target = references.as_columns(batch.target)
        for t, p in enumerate(references.columns_of(batch.prediction)):
            for g in set(group):
                rows = [
                    i
                    for i in range(len(p))
                    if group[i] == g and batch.weights[i] > 0 and not target[i, t].isnan()
                ]
                if rows:
                    expected[rows, t] = torch.tensor(
                        references.outliers(
                            p[rows], target[rows, t], batch.weights[rows], threshold, fraction
                        )
                    )
        assert torch.equal(references.as_columns(found), expected)

    def test_by_hand(self) -> None:
        """Residuals 0 to 4, 20 and 100: median 3, MAD 2, so that the limit is 3.5 * 2.9652."""
        residual = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 20.0, 100.0])
        target = torch.tensor([5.0, 1.0, 7.0, 3.0, 2.0, 9.0, 4.0])

        def found(**options: Any) -> list[int]:
            return outliers(target + residual, target, **options).nonzero().flatten().tolist()

        assert found() == [5, 6]
        assert found(max_outlier_fraction=0.2) == [6]
        assert found(max_outlier_fraction=0.1) == []
        assert found(outlier_threshold=5.7) == [5, 6]
        assert found(outlier_threshold=5.8) == [6]
        assert found(outlier_threshold=None) == []

    def test_nothing_where_the_robust_deviation_is_zero(self) -> None:
        target = torch.arange(5.0)
        prediction = target + torch.tensor([0.0, 0.0, 0.0, 0.0, 100.0])
        assert not outliers(prediction, target).any()

    def test_never_leaves_a_constant_target(self) -> None:
        target = torch.tensor([0.0, 0.0, 0.0, 0.0, 100.0])
        prediction = torch.tensor([-1.0, 1.0, 0.5, -0.5, 0.0])
        assert not outliers(prediction, target).any()
        target[0] = 0.1
        assert outliers(prediction, target).tolist() == [False] * 4 + [True]

    @settings(max_examples=300)
    @given(
        batch=batches(grouped=False, min_size=1, max_size=12),
        fraction=st.sampled_from([0.1, 0.3, 0.5]),
    )
    def test_a_weight_counts_as_repetitions(self, batch: Batch, fraction: float) -> None:
        options: dict[str, Any] = {"outlier_threshold": 1.0, "max_outlier_fraction": fraction}
        found = outliers(batch.prediction, batch.target, weight=batch.weight, **options)
        repeats = batch.weights.long()
        repeated = outliers(
            batch.prediction.repeat_interleave(repeats, 0),
            batch.target.repeat_interleave(repeats, 0),
            **options,
        )
        assert torch.equal(found.repeat_interleave(repeats, 0), repeated)

    def test_a_median_of_weights_in_tenths(self) -> None:
        """Ten weights of 0.1 are ten of 1, though in binary half of their sum is not five."""
        batch = random_batch(3, 10)
        batch.prediction[3] += 30
        for dtype in (torch.float32, torch.float64):
            case = batch.to(dtype)
            options: dict[str, Any] = {"outlier_threshold": 0.7}
            plain = outliers(case.prediction, case.target, **options)
            weight = torch.full((10,), 0.1, dtype=dtype)
            assert plain.sum() == 3
            weighted = outliers(case.prediction, case.target, weight=weight, **options)
            assert torch.equal(weighted, plain)

    def test_a_tiny_share_sets_nothing_aside(self) -> None:
        target = torch.arange(9.0)
        prediction = target + torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -2, 50])
        assert outliers(prediction, target, outlier_threshold=1).any()
        for fraction in (1e-3, 1e-7, 1e-12, 0.0):
            assert not outliers(
                prediction, target, outlier_threshold=1, max_outlier_fraction=fraction
            ).any()

    @pytest.mark.parametrize("loss", [outliers, robust_pearson_loss])
    @pytest.mark.parametrize(
        "option",
        [
            {"outlier_threshold": 0.0},
            {"outlier_threshold": -1.0},
            {"outlier_threshold": math.nan},
            {"max_outlier_fraction": -0.1},
            {"max_outlier_fraction": 1.0},
            {"max_outlier_fraction": math.nan},
        ],
    )
    def test_options_out_of_range(self, loss: Any, option: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(option))):
            loss(torch.zeros(2), torch.zeros(2), **option)
