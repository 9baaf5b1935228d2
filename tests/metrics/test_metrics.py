from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError, MetricCollection
from torchmetrics.wrappers import Running

import references
from finecorr.functional import pearson_loss
from finecorr.metrics import (
    ConcordanceCorrCoef,
    KendallRankCorrCoef,
    PearsonCorrCoef,
    SpearmanCorrCoef,
)
from finecorr.metrics.correlation import Correlation
from strategies import Batch, batches, random_batch

Array = NDArray[np.float64]


def concordance(prediction: Array, target: Array) -> float:
    covariance = np.cov(prediction, target, bias=True)
    bias = prediction.mean() - target.mean()
    return float(2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + bias**2))


def weighted_pearson(prediction: Array, target: Array, weight: Array) -> float:
    tensors = (torch.from_numpy(values) for values in (prediction, target, weight))
    loss = references.pearson(*tensors)
    assert loss is not None
    return 1.0 - loss.item()


def weighted_concordance(prediction: Array, target: Array, weight: Array) -> float:
    share = weight / weight.sum()
    p, y = prediction - share @ prediction, target - share @ target
    bias = share @ prediction - share @ target
    return float(2 * share @ (p * y) / (share @ p**2 + share @ y**2 + bias**2))


def weighted_ranks(values: Array, weight: Array) -> Array:
    ranks = [
        sum(w for v, w in zip(values, weight, strict=True) if v < own)
        + sum(w for v, w in zip(values, weight, strict=True) if v == own) / 2
        for own in values
    ]
    return np.array(ranks, float)


def weighted_spearman(prediction: Array, target: Array, weight: Array) -> float:
    return weighted_pearson(
        weighted_ranks(prediction, weight), weighted_ranks(target, weight), weight
    )


def weighted_kendall(prediction: Array, target: Array, weight: Array) -> float:
    difference = ordered_by_prediction = ordered_by_target = 0.0
    for i in range(len(weight)):
        for j in range(i):
            pair = weight[i] * weight[j]
            p = np.sign(prediction[i] - prediction[j])
            y = np.sign(target[i] - target[j])
            difference += pair * p * y
            ordered_by_prediction += pair * p**2
            ordered_by_target += pair * y**2
    return float(difference / math.sqrt(ordered_by_prediction * ordered_by_target))


@dataclass(frozen=True)
class Case:
    metric: type[Correlation]
    reference: Callable[[Array, Array], float]
    """Neither is constant."""
    weighted: Callable[[Array, Array, Array], float]
    """The same, from the formula, for weights that are no integers."""

    def __str__(self) -> str:
        return self.metric.__name__

    def __call__(self, parts: Iterable[Batch], **options: Any) -> Tensor:
        value = updated(self.metric(**options), parts).compute()
        assert isinstance(value, Tensor)
        return value


def by_scipy(function: Callable[[Array, Array], Any]) -> Callable[[Array, Array], float]:
    return lambda prediction, target: float(function(prediction, target).statistic)


PEARSON = Case(PearsonCorrCoef, by_scipy(stats.pearsonr), weighted_pearson)
CONCORDANCE = Case(ConcordanceCorrCoef, concordance, weighted_concordance)
SPEARMAN = Case(SpearmanCorrCoef, by_scipy(stats.spearmanr), weighted_spearman)
KENDALL = Case(KendallRankCorrCoef, by_scipy(stats.kendalltau), weighted_kendall)
CASES = [PEARSON, CONCORDANCE, SPEARMAN, KENDALL]

every_metric = pytest.mark.parametrize("case", CASES, ids=str)
of_moments = pytest.mark.parametrize("case", [PEARSON, CONCORDANCE], ids=str)
of_ranks = pytest.mark.parametrize("case", [SPEARMAN, KENDALL], ids=str)
never_updated = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def updated(metric: Correlation, parts: Iterable[Batch]) -> Correlation:
    for part in parts:
        metric.update(part.prediction, part.target, part.weight, part.group)
    return metric


def expected(case: Case, batch: Batch, *, repeat: bool = True) -> Tensor:
    """`(targets,)`, by loops; a weight counts as repetitions, or by the weighted formula."""
    group = torch.zeros(len(batch.target)) if batch.group is None else batch.group
    per_target = []
    for p, y in zip(
        references.as_columns(batch.prediction).double().T.numpy(),
        references.as_columns(batch.target).double().T.numpy(),
        strict=True,
    ):
        values, totals = [], []
        for name in sorted(set(group.tolist())):
            weight = batch.weights.double().numpy()
            rows = (group == name).numpy() & ~np.isnan(y) & (weight > 0)
            if len(set(y[rows])) < 2:
                continue
            if len(set(p[rows])) < 2:
                values.append(0.0)
            elif repeat:
                counts = weight[rows].astype(int)
                values.append(case.reference(p[rows].repeat(counts), y[rows].repeat(counts)))
            else:
                values.append(case.weighted(p[rows], y[rows], weight[rows]))
            totals.append(weight[rows].sum())
        per_target.append(np.average(values, weights=totals) if values else math.nan)
    return torch.tensor(per_target, dtype=torch.float64)


def mean_of_the_defined(per_target: Tensor) -> Tensor:
    return per_target.nanmean()


def assert_equal(actual: Tensor, reference: Tensor, accuracy: float = 1e-12) -> None:
    """Also where both are NaN."""
    torch.testing.assert_close(
        actual, reference.reshape(actual.shape), rtol=0, atol=accuracy, equal_nan=True
    )


@st.composite
def cuts(draw: st.DrawFn, *, weighted: bool = True) -> tuple[Batch, list[Batch]]:
    """A batch, and the same samples in another order as several batches, some of them empty."""
    batch = draw(batches(weighted=weighted))
    n = len(batch.target)
    order = torch.tensor(draw(st.permutations(range(n))), dtype=torch.int64)
    at = sorted(draw(st.lists(st.integers(0, n), max_size=4)))
    parts = [batch.rows(rows) for rows in torch.tensor_split(order, at)]
    return batch, parts


def cut(batch: Batch, size: int) -> list[Batch]:
    return [batch.rows(rows) for rows in torch.split(torch.arange(len(batch.target)), size)]


class TestValues:
    @every_metric
    @settings(max_examples=100)
    @given(data=cuts())
    def test_equals_scipy_however_the_data_are_cut(
        self, case: Case, data: tuple[Batch, list[Batch]]
    ) -> None:
        batch, parts = data
        reference = expected(case, batch)
        assert_equal(case(parts, per_target=True), reference)
        assert_equal(case(parts), mean_of_the_defined(reference))

    @every_metric
    @settings(max_examples=60)
    @given(data=cuts(), order=st.permutations(range(5)), forward=st.booleans())
    def test_equals_scipy_when_merged(
        self, case: Case, data: tuple[Batch, list[Batch]], order: list[int], forward: bool
    ) -> None:
        batch, parts = data
        metrics = [updated(case.metric(per_target=True), [part]) for part in parts]
        total = case.metric(per_target=True)
        if forward:
            part = parts[0]
            total(part.prediction, part.target, part.weight, part.group)
            metrics = metrics[1:]
        for i in order:
            if i < len(metrics):
                total.merge_state(metrics[i])
        total._update_count = 1
        assert_equal(total.compute(), expected(case, batch))

    @every_metric
    @settings(max_examples=60)
    @given(data=batches(weighted=False), random=st.data())
    def test_weights_that_are_no_integers(
        self, case: Case, data: Batch, random: st.DataObject
    ) -> None:
        n = len(data.target)
        weight = random.draw(hnp.arrays(float, n, elements=st.floats(0.01, 100)))
        batch = replace(data, weight=torch.from_numpy(weight))
        reference = expected(case, batch, repeat=False)
        assert_equal(case(cut(batch, 3), per_target=True), reference, 1e-10)

    @every_metric
    @settings(max_examples=50)
    @given(batch=batches(), scale=st.sampled_from([1e-200, 1e-9, 0.1, 1e9, 1e200]))
    def test_the_scale_of_weights_is_irrelevant(
        self, case: Case, batch: Batch, scale: float
    ) -> None:
        scaled = replace(batch, weight=batch.weights * scale)
        assert_equal(case([scaled]), case([batch]))

    @settings(max_examples=100)
    @given(data=cuts())
    def test_pearson_is_one_minus_the_loss(self, data: tuple[Batch, list[Batch]]) -> None:
        batch, parts = data
        value = PEARSON(parts)
        loss = pearson_loss(batch.prediction, batch.target, weight=batch.weight, group=batch.group)
        assert loss.item() == (0 if value.isnan() else pytest.approx(1 - value.item(), abs=1e-12))

    @every_metric
    def test_many_samples(self, case: Case) -> None:
        batch = random_batch(1, 3000, 2)
        batch = replace(batch, group=torch.arange(3000) % 3 - 1)
        tied = replace(batch, prediction=batch.prediction.round(decimals=1))
        for data in (batch, tied):
            reference = expected(case, data)
            for size in (1000, 70):
                assert_equal(case(cut(data, size), per_target=True), reference, 1e-13)

    @every_metric
    def test_many_targets(self, case: Case) -> None:
        batch = random_batch(2, 20, 300)
        assert_equal(case(cut(batch, 7), per_target=True), expected(case, batch))

    @of_ranks
    @pytest.mark.parametrize("heavy", [0, 1])
    def test_a_group_of_little_weight(self, case: Case, heavy: int) -> None:
        """Beside one of much, which is undefined: it takes no digits."""
        group = torch.arange(40) // 20
        weight = torch.where(group == heavy, 1e12, 1e-3).double()
        batch = replace(random_batch(3, 40), weight=weight, group=group)
        batch.target[group == heavy] = 1
        light = replace(batch.rows(group != heavy), weight=None)
        assert_equal(case([batch]), expected(case, light))


class TestUndefined:
    @every_metric
    @pytest.mark.parametrize("n", [0, 1, 5])
    @pytest.mark.parametrize("grouped", [False, True])
    def test_nothing_left_is_nan(self, case: Case, n: int, grouped: bool) -> None:
        group = torch.arange(n) // 2 if grouped else None
        prediction, target = torch.randn(n, 3), torch.randn(n, 3)
        for nothing in (
            Batch(prediction, torch.full((n, 3), torch.nan), None, group, prediction),
            Batch(prediction, torch.full((n, 3), 0.1), None, group, prediction),
            Batch(prediction, target, torch.zeros(n), group, prediction),
            Batch(prediction, target, None, torch.arange(n), prediction),
        ):
            assert case([nothing]).isnan()
            per_target = case([nothing], per_target=True)
            assert per_target.shape == (3,)
            assert per_target.isnan().all()

    @every_metric
    @never_updated
    def test_never_updated(self, case: Case) -> None:
        assert case([]).isnan()
        assert case([], per_target=True).shape == (0,)

    @every_metric
    @pytest.mark.parametrize("constant", [0.1, 1e6 + 0.3, -1e-12, 1e300])
    def test_a_constant_prediction_is_0(self, case: Case, constant: float) -> None:
        batch = random_batch(1)
        batch.target[3] = torch.nan
        weight = torch.arange(12) / 7 + 0.1
        constants = torch.full((12,), constant, dtype=torch.float64)
        batch = replace(batch, prediction=constants, weight=weight)
        assert case(cut(batch, 5)) == 0

    @every_metric
    @pytest.mark.parametrize("constant", [0.1, 1e6 + 0.3, -1e-12, 1e300])
    def test_a_constant_target_is_left_out(self, case: Case, constant: float) -> None:
        batch = random_batch(2, targets=2)
        batch.target[:, 0] = constant
        batch.target[3, 0] = torch.nan
        batch = replace(batch, weight=torch.arange(12) / 7 + 0.1)
        alone = replace(batch, prediction=batch.prediction[:, 1], target=batch.target[:, 1])
        assert_equal(case(cut(batch, 5)), case([alone]))

    @every_metric
    def test_a_target_that_is_constant_in_each_batch_only(self, case: Case) -> None:
        batch = replace(random_batch(3), target=torch.arange(12) // 4)
        assert_equal(case(cut(batch, 4)), expected(case, batch))

    @every_metric
    @pytest.mark.parametrize("size", [1, 5, 12])
    def test_a_prediction_of_nan_is_not_passed_over(self, case: Case, size: int) -> None:
        batch = replace(random_batch(4, targets=2), group=torch.arange(12) % 2)
        batch.prediction[3, 0] = torch.nan
        per_target = case(cut(batch, size), per_target=True)
        assert per_target.isnan().tolist() == [True, False]
        assert case(cut(batch, size)).isnan()

    @every_metric
    @pytest.mark.parametrize("prediction", [math.nan, math.inf, 1e300])
    def test_what_is_predicted_without_a_label_is_irrelevant(
        self, case: Case, prediction: float
    ) -> None:
        batch = replace(random_batch(5), weight=torch.ones(12))
        batch.target[3] = torch.nan
        assert batch.weight is not None
        batch.weight[4] = 0
        reference = expected(case, batch)
        batch.prediction[3:5] = prediction
        assert_equal(case(cut(batch, 5)), reference)

    @of_moments
    @pytest.mark.parametrize("name", ["prediction", "target"])
    def test_infinity_has_no_moments(self, case: Case, name: str) -> None:
        batch = random_batch(7, targets=2)
        getattr(batch, name)[3, 0] = torch.inf
        assert case(cut(batch, 5), per_target=True).isnan().tolist() == [True, False]
        assert case(cut(batch, 5)).isnan()

    @of_ranks
    def test_infinite_predictions_have_ranks(self, case: Case) -> None:
        batch = replace(random_batch(6), weight=torch.arange(12) % 4)
        finite = replace(batch, prediction=batch.prediction.clamp(-0.5, 0.5))
        infinite = finite.prediction
        infinite = torch.where(infinite == 0.5, torch.inf, infinite)
        infinite = torch.where(infinite == -0.5, -torch.inf, infinite)
        assert_equal(case([replace(batch, prediction=infinite)]), expected(case, finite))


def exact_concordance(prediction: Array, target: Array) -> float:
    p, y = [Fraction(v) for v in prediction.tolist()], [Fraction(v) for v in target.tolist()]
    n = len(p)
    p_mean, y_mean = sum(p, Fraction(0)) / n, sum(y, Fraction(0)) / n
    covariance = sum((a - p_mean) * (b - y_mean) for a, b in zip(p, y, strict=True)) / n
    spread = sum((a - p_mean) ** 2 + (b - y_mean) ** 2 for a, b in zip(p, y, strict=True)) / n
    return float(2 * covariance / (spread + (p_mean - y_mean) ** 2))


class TestNumbers:
    @settings(max_examples=100)
    @given(
        seed=st.integers(0, 10_000),
        n=st.integers(3, 60),
        size=st.integers(1, 20),
        scales=st.tuples(*[st.sampled_from([1e-12, 1e-3, 1.0, 1e5, 1e12])] * 2),
        offsets=st.tuples(*[st.sampled_from([0.0, -1.0, 1e3, -1e6, 1e8])] * 2),
        grouped=st.booleans(),
    )
    def test_equals_exact_arithmetic(
        self,
        seed: int,
        n: int,
        size: int,
        scales: tuple[float, float],
        offsets: tuple[float, float],
        grouped: bool,
    ) -> None:
        """At offsets of up to 1e8 times the spread, and where each batch has another one."""
        batch = random_batch(seed, n)
        prediction = (batch.prediction + offsets[0]) * scales[0]
        target = (batch.target + offsets[1]) * scales[1]
        group = torch.full((n,), 3) if grouped else None
        data = replace(batch, prediction=prediction, target=target, group=group)
        loss, _ = references.exact_pearson(prediction.tolist(), target.tolist())
        assert PEARSON(cut(data, size)).item() == pytest.approx(1 - loss, rel=0, abs=1e-14)
        ordered = data.rows(prediction.argsort())
        assert PEARSON(cut(ordered, size)).item() == pytest.approx(1 - loss, rel=0, abs=1e-14)
        concordance = exact_concordance(prediction.numpy(), target.numpy())
        assert CONCORDANCE(cut(data, size)).item() == pytest.approx(concordance, rel=1e-13)

    @pytest.mark.parametrize("spread", [1e-4, 1e-6, 1e-12, 1e-30, 1e12, 1e30])
    @pytest.mark.parametrize("offset", [0.0, 1.0, 100.0])
    @pytest.mark.parametrize("size", [1, 70])
    def test_small_spreads_in_float32(self, spread: float, offset: float, size: int) -> None:
        """`torchmetrics.PearsonCorrCoef` 1.7 gave NaN at spreads of 1e-4 (its issue 3150)."""
        batch = random_batch(1, 200).to(torch.float32)
        batch = replace(
            batch,
            prediction=batch.prediction * spread + offset,
            target=batch.target * spread + offset,
        )
        assert_equal(PEARSON(cut(batch, size)), expected(PEARSON, batch), 1e-13)

    def test_one_sample_far_from_the_others(self) -> None:
        """Whose square leaves their spread, in float32, nothing; as the scale of the variances, it
        makes NaN of `torchmetrics.PearsonCorrCoef` 1.9."""
        batch = random_batch(2, 10_000).to(torch.float32)
        batch = replace(batch, prediction=1e-4 * batch.prediction)
        batch.prediction[0] = 10
        assert_equal(PEARSON(cut(batch, 3000)), expected(PEARSON, batch), 1e-13)

    @every_metric
    @pytest.mark.parametrize("slope", [-3.0, 0.1])
    def test_never_beyond_one(self, case: Case, slope: float) -> None:
        for seed in range(30):
            batch = replace(random_batch(seed), weight=0.1 + torch.arange(12) % 5)
            value = case([replace(batch, prediction=slope * batch.target)]).item()
            assert abs(value) <= 1
            assert case == CONCORDANCE or value == pytest.approx(math.copysign(1, slope))

    @of_moments
    @pytest.mark.parametrize("spread", [1e-200, 1e-12, 1e12, 1e150, 1e300])
    def test_the_unit_is_irrelevant(self, case: Case, spread: float) -> None:
        batch = random_batch(3)
        scaled = replace(batch, prediction=batch.prediction * spread, target=batch.target * spread)
        assert_equal(case(cut(scaled, 5)), expected(case, batch), 1e-14)

    @every_metric
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_narrow_dtypes(self, case: Case, dtype: torch.dtype) -> None:
        batch = replace(random_batch(4), weight=torch.arange(12) % 4).to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            value = case(cut(batch, 5))
        assert value.dtype == torch.float64
        assert_equal(value, expected(case, batch))

    @every_metric
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
    def test_integer_targets_and_weights(self, case: Case, dtype: torch.dtype) -> None:
        integers = (torch.arange(12) % 5).to(dtype)
        batch = replace(random_batch(5).to(torch.float32), target=integers, weight=integers)
        assert_equal(case(cut(batch, 5)), expected(case, batch))

    @every_metric
    def test_integer_targets_keep_their_digits(self, case: Case) -> None:
        target = 10**9 + torch.arange(12) % 5
        batch = replace(random_batch(6).to(torch.float32), target=target)
        assert_equal(case(cut(batch, 5)), expected(case, batch), 1e-11)

    @every_metric
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
    def test_group_dtypes(self, case: Case, dtype: torch.dtype) -> None:
        group = (torch.arange(12) % 2 * 200).to(dtype)
        batch = replace(random_batch(7), group=group.long())
        assert_equal(case(cut(replace(batch, group=group), 5)), expected(case, batch))

    @every_metric
    def test_groups_of_any_value(self, case: Case) -> None:
        group = torch.tensor([2**62, 2**62 + 1, -(2**63), 0] * 3)
        batch = replace(random_batch(8), group=group)
        assert_equal(case(cut(batch, 5)), expected(case, batch))

    @every_metric
    def test_no_group_is_group_0(self, case: Case) -> None:
        first, second = cut(random_batch(9), 6)
        zero, other = torch.zeros(6).long(), torch.ones(6).long()
        for group in (zero, other):
            both = case([replace(first, group=zero), replace(second, group=group)])
            assert_equal(case([first, replace(second, group=group)]), both, 1e-15)

    @every_metric
    def test_strided_memory(self, case: Case) -> None:
        batch = random_batch(10, targets=3)
        strided = replace(
            batch,
            prediction=batch.prediction.T.contiguous().T,
            target=batch.target.repeat_interleave(2, 0)[::2],
            weight=torch.ones(1).expand(12),
        )
        assert_equal(case([strided], per_target=True), expected(case, batch))


class TestInOtherHands:
    @every_metric
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_states_keep_their_precision(self, case: Case, dtype: torch.dtype) -> None:
        batch = replace(random_batch(2, 40), group=5000 + torch.arange(40) % 2)
        metric = case.metric().set_dtype(dtype)
        plain = case.metric()
        for number, rows in enumerate((torch.arange(20), torch.arange(20, 40))):
            if number:
                metric.set_dtype(dtype).half()
            part = batch.rows(rows)
            for each in (metric, plain):
                each.update(part.prediction, part.target, group=part.group)
        assert torch.equal(metric.compute(), plain.compute())

    def test_a_collection_by_the_names_of_torchmetrics(self) -> None:
        batch = random_batch(2, 20)
        metrics = MetricCollection([PearsonCorrCoef(), SpearmanCorrCoef(), MeanSquaredError()])
        named = metrics(preds=batch.prediction, target=batch.target)
        assert named == metrics(batch.prediction, batch.target)

    @every_metric
    def test_over_the_latest_batches(self, case: Case) -> None:
        running = Running(case.metric(), window=2)
        parts = [random_batch(seed, 9) for seed in range(3)]
        for part in parts:
            running(part.prediction, part.target)
        assert torch.equal(running.compute(), updated(case.metric(), parts[1:]).compute())


class TestErrors:
    @every_metric
    def test_what_the_losses_refuse(self, case: Case) -> None:
        batch = random_batch(1)
        values = {"preds": batch.prediction, "target": batch.target}
        for wrong, error in (
            ({"preds": batch.prediction[:, None]}, ValueError),
            ({"target": batch.target[:-1]}, ValueError),
            ({"preds": torch.arange(12)}, TypeError),
            ({"preds": batch.prediction.numpy()}, TypeError),
            ({"target": batch.target.numpy()}, TypeError),
            ({"weight": np.ones(12)}, TypeError),
            ({"group": np.zeros(12, int)}, TypeError),
            ({"weight": torch.full((12,), -1.0)}, ValueError),
            ({"weight": torch.full((12,), torch.nan)}, ValueError),
            ({"weight": torch.ones(11)}, ValueError),
            ({"group": torch.zeros(12, 1).long()}, ValueError),
            ({"group": torch.zeros(12)}, TypeError),
        ):
            metric = updated(case.metric(), [batch])
            before = metric.compute()
            with pytest.raises(error, match=next(iter(wrong)).replace("preds", "prediction")):
                metric.update(**(values | wrong))
            assert torch.equal(metric.compute(), before)

    @every_metric
    def test_another_number_of_targets(self, case: Case) -> None:
        metric = updated(case.metric(), [random_batch(2, targets=2)])
        before = metric.compute()
        for targets in (None, 1, 3):
            with pytest.raises(ValueError, match="targets, but in the batches before it had 2"):
                updated(metric, [random_batch(3, targets=targets)])
        assert torch.equal(metric.compute(), before)

    @every_metric
    def test_merging_another_number_of_targets(self, case: Case) -> None:
        metric = updated(case.metric(), [random_batch(2, targets=2)])
        other = updated(case.metric(), [random_batch(3, targets=3)])
        with pytest.raises(ValueError, match=r"do not agree: \[2, 3\]"):
            metric.merge_state(other)


class TestTorchmetrics:
    @every_metric
    def test_forward_is_the_value_of_the_batch(self, case: Case) -> None:
        batch = replace(random_batch(1), group=torch.arange(12) % 2)
        metric = case.metric()
        for part in cut(batch, 5):
            value = metric(part.prediction, part.target, part.weight, part.group)
            assert_equal(value, expected(case, part))
        assert_equal(metric.compute(), expected(case, batch))

    @of_moments
    @pytest.mark.parametrize("forward", [False, True])
    def test_memory_does_not_grow(self, case: Case, forward: bool) -> None:
        batch = replace(random_batch(2, 60, 2), group=torch.arange(60) % 3)
        metric = case.metric()
        for part in cut(batch, 10):
            call = metric if forward else metric.update
            call(part.prediction, part.target, part.weight, part.group)
            numbers = sum(state.numel() for states in metric_states(metric) for state in states)
            assert numbers == 1 + 3 + 8 * 3 * 2
            assert all(len(states) == 1 for states in metric_states(metric))

    @every_metric
    def test_reset(self, case: Case) -> None:
        metric = updated(case.metric(), [random_batch(3, targets=2)])
        metric.compute()
        metric.reset()
        batch = random_batch(4)
        assert_equal(updated(metric, [batch]).compute(), expected(case, batch))

    @every_metric
    def test_goes_on_after_compute(self, case: Case) -> None:
        batch = random_batch(5)
        first, second = cut(batch, 6)
        metric = updated(case.metric(), [first])
        assert_equal(metric.compute(), expected(case, first))
        assert_equal(updated(metric, [second]).compute(), expected(case, batch))

    @every_metric
    def test_merging_after_compute(self, case: Case) -> None:
        batch = random_batch(6)
        first, second = (updated(case.metric(), [part]) for part in cut(batch, 6))
        first.compute()
        before = second.compute()
        first.merge_state(second.metric_state)
        assert_equal(first.compute(), expected(case, batch))
        assert torch.equal(second.compute(), before)

    @every_metric
    def test_merging_with_one_that_has_seen_nothing(self, case: Case) -> None:
        batch = random_batch(7)
        metric = updated(case.metric(), [batch])
        metric.merge_state(case.metric())
        assert_equal(metric.compute(), expected(case, batch))
        for nothing in (case.metric(), case.metric()):
            nothing.merge_state(case.metric())
            nothing.merge_state(metric)
            nothing._update_count = 1
            assert_equal(nothing.compute(), expected(case, batch))

    @every_metric
    @never_updated
    def test_state_dict(self, case: Case) -> None:
        batch = replace(random_batch(8), group=torch.arange(12) % 2)
        first, second = cut(batch, 7)
        metric = updated(case.metric(), [first])
        assert metric.state_dict() == {}
        metric.persistent(True)
        module, copied = torch.nn.ModuleDict({"m": metric}), torch.nn.ModuleDict()
        copied["m"] = case.metric()
        copied.load_state_dict(module.state_dict())
        loaded = copied["m"]
        assert isinstance(loaded, Correlation)
        assert_equal(loaded.compute(), expected(case, first))
        assert_equal(updated(loaded, [second]).compute(), expected(case, batch))
        loaded.reset()
        assert_equal(metric.compute(), expected(case, first))

    @every_metric
    def test_copies(self, case: Case) -> None:
        batch = random_batch(9)
        first, second = cut(batch, 7)
        metric = updated(case.metric(per_target=True), [first])
        for clone in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), metric.clone()):
            assert isinstance(clone, Correlation)
            assert clone.per_target
            assert_equal(updated(clone, [second]).compute(), expected(case, batch))
        assert_equal(metric.compute(), expected(case, first))

    @every_metric
    def test_moving_and_casting(self, case: Case) -> None:
        batch = random_batch(10)
        first, second = cut(batch, 7)
        metric = updated(case.metric(compute_on_cpu=True), [first])
        metric = metric.to("cpu").half().float()  # type: ignore[assignment]
        assert_equal(updated(metric, [second]).compute(), expected(case, batch))
        meta = case.metric().to("meta")
        assert {meta.state(name).device.type for name in meta.metric_state} == {"meta"}

    @every_metric
    def test_parts_that_were_moved_to_the_cpu(self, case: Case) -> None:
        metric = case.metric()
        metric.group = [torch.zeros(2), torch.zeros(3, device="meta")]
        assert metric.state("group").device.type == "meta"

    @every_metric
    @pytest.mark.parametrize("forward", [False, True])
    def test_keeps_nothing_of_the_callers(self, case: Case, forward: bool) -> None:
        weight, group = torch.rand(12).double(), torch.arange(12) % 2
        batch = replace(random_batch(11), weight=weight, group=group)
        before = copy.deepcopy(batch)
        prediction = batch.prediction.requires_grad_()
        metric = case.metric()
        call = metric if forward else metric.update
        value = call(prediction, batch.target, batch.weight, batch.group)
        assert value is None or not value.requires_grad
        states = [state for states in metric_states(metric) for state in states]
        assert not any(state.requires_grad for state in states)
        for name in ("prediction", "target", "weight", "group"):
            assert torch.equal(getattr(batch, name), getattr(before, name))
            getattr(batch, name).detach().zero_()
        assert_equal(metric.compute(), expected(case, before, repeat=False))

    def test_collection(self) -> None:
        batch = replace(
            random_batch(12, targets=2),
            weight=torch.arange(12) % 3,
            group=torch.arange(12) % 2,
        )
        collection = MetricCollection(
            [*(case.metric() for case in CASES), MeanSquaredError(num_outputs=2)]
        )
        for _ in range(2):
            for part in cut(batch, 5):
                collection.update(
                    part.prediction, part.target, weight=part.weight, group=part.group
                )
            computed = collection.compute()
            for case in CASES:
                value = computed[case.metric.__name__]
                assert_equal(value, mean_of_the_defined(expected(case, batch)))
            members = [set(names) for names in collection.compute_groups.values()]
            assert {"PearsonCorrCoef", "ConcordanceCorrCoef"} in members
            assert {"SpearmanCorrCoef", "KendallRankCorrCoef"} in members
            collection.reset()

    def test_collection_of_one_metric_with_two_options(self) -> None:
        batch = random_batch(13, targets=2)
        collection = MetricCollection(
            {"mean": PearsonCorrCoef(), "each": PearsonCorrCoef(per_target=True)}
        )
        reference = expected(PEARSON, batch)
        for part in cut(batch, 5):
            collection(part.prediction, part.target)
        computed = collection.compute()
        assert_equal(computed["each"], reference)
        assert_equal(computed["mean"], mean_of_the_defined(reference))

    def test_constants(self) -> None:
        for case in CASES:
            metric = case.metric()
            assert metric.higher_is_better
            assert not metric.is_differentiable
            assert not metric.full_state_update

    def test_in_a_lightning_module(self, tmp_path: Path) -> None:
        batch = random_batch(14, 20)
        parts = cut(batch, 6)
        module = Logging()
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        pairs: Any = [(part.prediction, part.target) for part in parts]
        data: DataLoader[Any] = DataLoader(pairs, batch_size=None)
        trainer.fit(module, data, data)
        for case in CASES:
            assert_equal(
                trainer.callback_metrics[case.metric.__name__].double(), expected(case, batch)
            )


class Logging(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.metrics = MetricCollection([case.metric() for case in CASES[1:]])
        self.alone = CASES[0].metric()
        self.slope = torch.nn.Parameter(torch.ones(()).double())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return pearson_loss(self.slope * batch[0], batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.metrics.update(*batch)
        self.log_dict(self.metrics, on_step=False, on_epoch=True)
        self.alone(*batch)
        self.log("PearsonCorrCoef", self.alone, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def metric_states(metric: Correlation) -> list[list[Tensor]]:
    return [value for value in metric.metric_state.values() if isinstance(value, list)]


def shards() -> dict[str, tuple[Batch, list[list[Batch]]]]:
    """All samples, and the batches of each of two processes."""
    batch = random_batch(15, 30, 2)
    batch.target[5:9, 1] = torch.nan
    batch = replace(
        batch, weight=torch.arange(30) % 4, group=torch.tensor([-7, 2**40, 3, 3, 3]).repeat(6)
    )
    alike = [cut(batch.rows(torch.arange(0, 15)), 4), cut(batch.rows(torch.arange(15, 30)), 4)]
    assert batch.group is not None
    by_group = [cut(batch.rows(batch.group == 3), 2), cut(batch.rows(batch.group != 3), 5)]
    return {
        "alike": (batch, alike),
        "uneven, other groups": (batch, by_group),
        "the first has nothing": (batch, [[], cut(batch, 7)]),
        "the second has nothing": (batch, [cut(batch, 7), []]),
        "the second has an empty batch": (batch, [cut(batch, 7), [batch.rows(torch.arange(0))]]),
        "nobody has anything": (batch.rows(torch.arange(0)), [[], []]),
    }


PROCESS = """
import sys
import torch
from finecorr import metrics

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
)
results = {}
for name, shards in torch.load(f"{folder}/shards.pt").items():
    for kind in metrics.__all__:
        metric = getattr(metrics, kind)(per_target=True)
        for part in shards[rank]:
            metric.update(*part)
        first = metric.compute()
        for part in shards[rank][:1]:
            metric.update(*part)
        metric._computed = None
        results[kind, name] = first, metric.compute()
torch.save(results, f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""
"""Computes each metric, and again after one more batch, if there is one."""


@never_updated
def test_two_processes_equal_one(tmp_path: Path) -> None:
    torch.save(
        {
            name: [[(b.prediction, b.target, b.weight, b.group) for b in own] for own in parts]
            for name, (_, parts) in shards().items()
        },
        tmp_path / "shards.pt",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), tmp_path], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt")
        for case in CASES:
            for name, (batch, parts) in shards().items():
                first, second = results[str(case), name]
                once = [part for own in parts for part in own]
                again = once + [part for own in parts for part in own[:1]]
                if once:
                    assert_equal(first, expected(case, batch))
                assert_equal(first, case(once, per_target=True))
                assert_equal(second, case(again, per_target=True))
