"""What holds for every loss: each name that `losses.build` knows goes through every test here."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
from finecorr import losses
from loss_cases import (
    CASES,
    IN_THE_UNIT_OF_THE_TARGET,
    NO_REPETITIONS,
    NO_SECOND_DERIVATIVE,
    PAIRWISE,
    POINTWISE,
    READ_FEATURES,
    READ_PREDICTIONS,
    WITH_POINTWISE,
    Case,
    Result,
    assert_same,
)
from strategies import Batch, assert_near, batches, compiled_whole, random_batch

every_loss = pytest.mark.parametrize("case", CASES, ids=str)
READ_ALL = [case for case in CASES if case.with_features or case.name in PAIRWISE]

every_term = pytest.mark.parametrize(
    "case", [replace(case, feature_term=case.name in WITH_POINTWISE) for case in CASES], ids=str
)
every_loss_of_predictions = pytest.mark.parametrize("case", READ_PREDICTIONS, ids=str)

masks = st.lists(st.booleans(), min_size=9, max_size=9).map(torch.tensor)
permutations = st.permutations(range(9)).map(torch.tensor)


class TestWhoTakesPart:
    @every_loss
    @settings(max_examples=30)
    @given(batch=batches())
    def test_a_finite_scalar(self, case: Case, batch: Batch) -> None:
        for dtype in (torch.float32, torch.float64):
            value, gradients = case.evaluate(batch.to(dtype))
            assert value.dtype == dtype
            assert value.isfinite()
            assert all(gradient.isfinite().all() for gradient in gradients)

    @every_loss
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_what_is_not_finite_makes_the_loss_so(
        self, case: Case, value: float, weighted: bool
    ) -> None:
        batch = replace(random_batch(32), weight=torch.ones(12) if weighted else None)
        for name in ("prediction", "features"):
            if not getattr(case, f"reads_{name}"):
                continue
            values = getattr(batch, name).clone()
            values[3, ...] = value
            assert not case(replace(batch, **{name: values})).isfinite()

    @every_loss
    def test_a_target_that_wants_a_gradient(self, case: Case) -> None:
        """It would get none."""
        batch = random_batch(33)
        batch.target.requires_grad_()
        with pytest.raises(ValueError, match=r"target requires a gradient.*target.detach\(\)"):
            case(batch)
        with torch.no_grad():
            assert case(batch).isfinite()

    @every_loss
    @settings(max_examples=30)
    @given(batch=batches(missing=False), mask=masks)
    def test_a_missing_label_is_a_missing_sample(
        self, case: Case, batch: Batch, mask: Tensor
    ) -> None:
        kept = mask[: len(batch.target)]
        target = torch.where(
            kept if batch.target.ndim == 1 else kept[:, None], batch.target, torch.nan
        )
        self.assert_left_out(case, replace(batch, target=target), batch, kept)

    @every_loss
    @settings(max_examples=30)
    @given(batch=batches(), mask=masks)
    def test_no_weight_is_a_missing_sample(self, case: Case, batch: Batch, mask: Tensor) -> None:
        kept = mask[: len(batch.target)]
        self.assert_left_out(case, replace(batch, weight=batch.weights * kept), batch, kept)

    def assert_left_out(self, case: Case, masked: Batch, batch: Batch, kept: Tensor) -> None:
        value, gradients = case.evaluate(masked)
        assert all((gradient[~kept] == 0).all() for gradient in gradients)
        actual = Result(value, [gradient[kept] for gradient in gradients])
        assert_same(actual, case.evaluate(batch.rows(kept)))

    @every_loss
    @pytest.mark.parametrize("prediction", [math.nan, math.inf])
    def test_what_is_predicted_without_a_label_is_irrelevant(
        self, case: Case, prediction: float
    ) -> None:
        batch = random_batch(1)
        batch.target[3] = torch.nan
        expected = case.evaluate(batch)
        batch.prediction[3] = batch.features[3] = prediction
        assert_same(case.evaluate(batch), expected, 0)

    @pytest.mark.parametrize("case", NO_REPETITIONS, ids=str)
    @settings(max_examples=30)
    @given(batch=batches())
    def test_a_weight_counts_as_repetitions(self, case: Case, batch: Batch) -> None:
        rows = torch.arange(len(batch.target)).repeat_interleave(batch.weights.long())
        value, gradients = case.evaluate(replace(batch.rows(rows), weight=None))
        summed = [
            g.new_zeros(len(batch.target), *g.shape[1:]).index_add(0, rows, g) for g in gradients
        ]
        assert_same(case.evaluate(batch), Result(value, summed))

    @every_loss
    @settings(max_examples=30)
    @given(batch=batches(), scale=st.sampled_from([1e-9, 0.1, 1e9]))
    def test_the_scale_of_weights_is_irrelevant(
        self, case: Case, batch: Batch, scale: float
    ) -> None:
        scaled = replace(batch, weight=batch.weights * scale)
        assert_same(case.evaluate(scaled), case.evaluate(batch))

    @every_term
    @settings(max_examples=30)
    @given(batch=batches())
    def test_groups_are_averaged_by_weight(self, case: Case, batch: Batch) -> None:
        target = references.as_columns(batch.target)[:, 0]
        batch = replace(
            batch, target=target, prediction=references.as_columns(batch.prediction)[:, 0]
        )
        group = torch.zeros(len(target)) if batch.group is None else batch.group
        total, expected = 0.0, 0.0
        for name in sorted(set(group.tolist())):
            alone = replace(batch.rows(group == name), group=None)
            present = ~alone.target.isnan() & (alone.weights > 0)
            labels = set(alone.target[present].tolist())
            if len(labels) > 1 or (labels and case.name in POINTWISE):
                weight = alone.weights[present].sum().item()
                total, expected = total + weight, expected + weight * case(alone).item()
        assert case(batch).item() == pytest.approx(expected / (total or 1), rel=1e-9, abs=1e-9)

    @every_term
    @settings(max_examples=30)
    @given(batch=batches())
    def test_targets_are_averaged(self, case: Case, batch: Batch) -> None:
        columns = []
        for prediction, target in zip(
            references.columns_of(batch.prediction),
            references.columns_of(batch.target),
            strict=True,
        ):
            alone = replace(batch, prediction=prediction, target=target)
            present = ~target.isnan() & (batch.weights > 0)
            group = torch.zeros(len(target)) if batch.group is None else batch.group
            if any(
                len(set(target[present & (group == name)].tolist()))
                > (0 if case.name in POINTWISE else 1)
                for name in group
            ):
                columns.append(case(alone).item())
        expected = sum(columns) / max(len(columns), 1)
        assert case(batch).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)

    @every_loss
    def test_a_weight_of_each_label(self, case: Case) -> None:
        batch, weight = random_batch(2, targets=2), torch.rand(12, 2).double() + 0.1
        columns = [
            case(
                replace(
                    batch,
                    prediction=batch.prediction[:, t],
                    target=batch.target[:, t],
                    weight=weight[:, t],
                )
            )
            for t in (0, 1)
        ]
        assert_near(case(replace(batch, weight=weight)), torch.stack(columns).mean(), 1e-9)

    @every_loss
    def test_a_target_without_labels_is_left_out(self, case: Case) -> None:
        batch = random_batch(2, targets=2)
        batch.target[:, 1] = torch.nan
        alone = replace(batch, prediction=batch.prediction[:, 0], target=batch.target[:, 0])
        assert_near(case(batch), case(alone), 1e-12)

    @every_loss
    @settings(max_examples=30)
    @given(batch=batches(), order=permutations)
    def test_the_order_of_the_samples_is_irrelevant(
        self, case: Case, batch: Batch, order: Tensor
    ) -> None:
        order = order[order < len(batch.target)]
        value, gradients = case.evaluate(batch)
        assert_same(case.evaluate(batch.rows(order)), Result(value, [g[order] for g in gradients]))

    @every_loss
    def test_one_target_may_be_a_column(self, case: Case) -> None:
        batch = random_batch(3)
        column = replace(batch, prediction=batch.prediction[:, None], target=batch.target[:, None])
        assert torch.equal(case(column), case(batch))


class TestNothingLeft:
    @every_loss
    @pytest.mark.parametrize("n", [0, 1, 5])
    @pytest.mark.parametrize("shape", [(), (1,), (2,)], ids=str)
    @pytest.mark.parametrize("grouped", [False, True])
    def test_no_labels(self, case: Case, n: int, shape: tuple[int, ...], grouped: bool) -> None:
        batch = Batch(
            torch.randn(n, *shape),
            torch.full((n, *shape), torch.nan),
            None,
            torch.arange(n) // 2 if grouped else None,
            torch.randn(n, 3),
        )
        self.assert_nothing(case, batch)

    @every_loss
    def test_no_targets(self, case: Case) -> None:
        batch = random_batch(31, targets=0)
        self.assert_nothing(case, batch)
        self.assert_nothing(case, replace(batch, group=torch.arange(12) % 2))

    @every_loss
    def test_no_weight(self, case: Case) -> None:
        self.assert_nothing(case, replace(random_batch(4), weight=torch.zeros(12)))

    @every_term
    def test_constant_targets_and_groups_of_one(self, case: Case) -> None:
        if case.name in POINTWISE:
            pytest.skip("defined")
        batch = random_batch(5)
        self.assert_nothing(case, replace(batch, target=torch.full((12,), 0.1)))
        self.assert_nothing(case, replace(batch, group=torch.arange(12)))

    def assert_nothing(self, case: Case, batch: Batch) -> None:
        value, gradients = case.evaluate(batch)
        assert value == 0
        assert all((gradient == 0).all() for gradient in gradients)


class TestConstantPrediction:
    @every_loss_of_predictions
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_gradient_leads_towards_the_target(self, case: Case, dtype: torch.dtype) -> None:
        batch = random_batch(6).to(dtype)
        batch = replace(batch, target=batch.target - batch.target.median())
        batch = replace(batch, prediction=torch.zeros_like(batch.target))
        value, gradients = case.evaluate(batch)
        assert value.isfinite()
        assert gradients[0].isfinite().all()
        if case.name == "similarity_rank":  # knows neither up nor down
            return
        assert gradients[0].any()
        step = torch.stack([batch.prediction - 1e-3 * gradients[0], batch.target])
        assert torch.corrcoef(step)[0, 1] > 0.5
        stepped = replace(batch, prediction=step[0])
        assert case(stepped) < value

    def test_the_pearson_loss_is_one(self) -> None:
        target = random_batch(7).target
        loss = losses.build("pearson")(torch.full((12,), 0.3).double(), target)
        assert loss.item() == pytest.approx(1, rel=1e-9)


class TestNumbers:
    @every_loss
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [None, torch.float16, torch.bfloat16])
    def test_half_precision(
        self, case: Case, dtype: torch.dtype, autocast: torch.dtype | None
    ) -> None:
        half = random_batch(8).to(dtype)
        expected = case.evaluate(half.to(torch.float32))
        value, gradients = case.evaluate(half, autocast=autocast)
        assert value.dtype == torch.float32
        assert_near(value, expected.value, 1e-6)
        for gradient, reference in zip(gradients, expected.gradients, strict=True):
            assert gradient.dtype == dtype
            assert_near(gradient, reference, torch.finfo(dtype).eps)

    @every_loss
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast_takes_no_digits(self, case: Case, dtype: torch.dtype) -> None:
        batch = random_batch(9).to(torch.float32)
        expected = case.evaluate(batch)
        assert_same(case.evaluate(batch, autocast=dtype), expected, 1e-6)

    @every_loss
    def test_a_float64_target_keeps_its_digits(self, case: Case) -> None:
        batch = random_batch(10)
        mixed = replace(batch.to(torch.float32), target=1e6 + 0.1 * batch.target)
        expected = case.evaluate(
            replace(mixed, prediction=mixed.prediction.double(), features=mixed.features.double())
        )
        value, gradients = case.evaluate(mixed)
        assert value.dtype == torch.float64
        assert_near(value, expected.value, 1e-9)
        for gradient, reference in zip(gradients, expected.gradients, strict=True):
            assert gradient.dtype == torch.float32
            assert_near(gradient, reference, 1e-6)

    @every_loss
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
    def test_integer_targets(self, case: Case, dtype: torch.dtype) -> None:
        target = (torch.arange(12) % 5).to(dtype)
        for precision in (torch.float32, torch.float64):
            batch = random_batch(11).to(precision)
            expected = case.evaluate(replace(batch, target=target.to(precision)))
            actual = case.evaluate(replace(batch, target=target))
            assert actual.value.dtype == precision
            assert_same(actual, expected, 0)

    @every_loss
    def test_large_integer_targets_keep_their_digits(self, case: Case) -> None:
        batch = random_batch(12)
        target = 10**9 + torch.arange(12) % 5
        batch = replace(batch, prediction=batch.prediction + target)
        expected = case.evaluate(replace(batch, target=target.double()))
        assert_same(case.evaluate(replace(batch, target=target)), expected, 0)

    @every_loss
    def test_integer_and_boolean_weights(self, case: Case) -> None:
        batch = random_batch(13)
        weight = torch.arange(12) % 3
        expected = case(replace(batch, weight=weight.double()))
        assert torch.equal(case(replace(batch, weight=weight)), expected)
        expected = case(replace(batch, weight=(weight > 0).double()))
        assert torch.equal(case(replace(batch, weight=weight > 0)), expected)

    @every_loss
    def test_thousands_of_targets(self, case: Case) -> None:
        few = random_batch(27, 6, 3)
        few.target[2, 1] = torch.nan
        many = replace(
            few, prediction=few.prediction.repeat(1, 1000), target=few.target.repeat(1, 1000)
        )
        assert_near(case(many), case(few), 1e-9)

    @every_loss
    def test_strided_memory(self, case: Case) -> None:
        batch = random_batch(14, targets=3)
        strided = replace(
            batch,
            prediction=batch.prediction.T.contiguous().T,
            target=batch.target.repeat(2, 1)[:12].repeat_interleave(2, 0)[::2],
            features=batch.features.repeat(1, 2)[:, ::2],
            weight=torch.ones(1).double().expand(12),
        )
        assert not strided.prediction.is_contiguous()
        contiguous = replace(strided, features=strided.features.contiguous(), weight=None)
        contiguous = replace(
            contiguous,
            prediction=batch.prediction.contiguous(),
            target=batch.target.contiguous(),
        )
        assert_near(case(strided), case(contiguous), 1e-12)

    @every_loss
    @pytest.mark.parametrize("prediction_spread", [1e-12, 1.0, 1e12])
    @pytest.mark.parametrize("target_spread", [1e-12, 1.0, 1e12])
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_extreme_spreads(
        self, case: Case, prediction_spread: float, target_spread: float, offset: float
    ) -> None:
        batch = random_batch(15).to(torch.float32)
        value, gradients = case.evaluate(
            replace(
                batch,
                prediction=batch.prediction * prediction_spread + offset,
                target=batch.target * target_spread - offset,
                features=batch.features * prediction_spread + offset,
            )
        )
        assert value.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)

    @every_loss
    @pytest.mark.parametrize("spread", [1e-12, 1e12])
    def test_an_extreme_unit(self, case: Case, spread: float) -> None:
        """The same numbers in another unit: no more digits are lost than by rounding these."""
        if case.name in IN_THE_UNIT_OF_THE_TARGET:
            pytest.skip("in the unit of the target")
        batch = random_batch(16)
        scaled = replace(batch, prediction=batch.prediction * spread, target=batch.target * spread)
        assert_near(case(scaled.to(torch.float32)), case(batch), 1e-5)


class TestErrors:
    @every_loss_of_predictions
    def test_shapes_that_do_not_match(self, case: Case) -> None:
        batch = random_batch(17)
        for prediction in (batch.prediction[:, None], batch.prediction[:-1]):
            with pytest.raises(ValueError, match="prediction and target"):
                case(replace(batch, prediction=prediction))
        with pytest.raises(ValueError, match=r"squeeze\(-1\)"):
            case(replace(batch, prediction=batch.prediction[:, None]))

    @every_loss
    def test_targets_of_more_dimensions(self, case: Case) -> None:
        batch = random_batch(18)
        cube = batch.target[:, None, None]
        with pytest.raises(ValueError, match="target"):
            case(replace(batch, prediction=cube, target=cube))
        with pytest.raises(ValueError, match="target"):
            case(replace(batch, prediction=batch.target[0], target=batch.target[0]))

    @every_loss_of_predictions
    def test_integer_predictions(self, case: Case) -> None:
        with pytest.raises(TypeError, match="prediction"):
            case(replace(random_batch(19), prediction=torch.arange(12)))

    @every_loss
    @pytest.mark.parametrize("name", ["prediction", "target", "weight", "group", "features"])
    def test_what_is_not_a_tensor(self, case: Case, name: str) -> None:
        if not case.reads(name):
            pytest.skip("not read")
        batch = replace(random_batch(30), weight=torch.ones(12), group=torch.zeros(12).long())
        array: dict[str, Any] = {name: getattr(batch, name).numpy()}
        with pytest.raises(TypeError, match=f"{name} must be a tensor, not ndarray"):
            case(replace(batch, **array))

    @every_loss
    @pytest.mark.parametrize("name", ["target", "weight", "group", "features"])
    def test_devices_that_do_not_agree(self, case: Case, name: str) -> None:
        if not case.reads(name):
            pytest.skip("not read")
        batch = replace(random_batch(29), weight=torch.ones(12), group=torch.zeros(12).long())
        elsewhere: dict[str, Any] = {name: getattr(batch, name).to("meta")}
        with pytest.raises(
            ValueError, match=rf"{name} .*on meta, but .* is on cpu|on cpu, but {name} is on meta"
        ):
            case(replace(batch, **elsewhere))

    @every_loss
    @pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
    def test_weights_that_are_none(self, case: Case, bad: float) -> None:
        weight = torch.ones(12)
        weight[4] = bad
        with pytest.raises(ValueError, match="weight"):
            case(replace(random_batch(20), weight=weight))

    @every_loss
    @pytest.mark.parametrize("shape", [(11,), (12, 1), ()], ids=str)
    @pytest.mark.parametrize("name", ["weight", "group"])
    def test_weights_and_groups_of_another_shape(
        self, case: Case, name: str, shape: tuple[int, ...]
    ) -> None:
        values: dict[str, Any] = {name: torch.ones(shape, dtype=torch.int64)}
        with pytest.raises(ValueError, match=name):
            case(replace(random_batch(21), **values))

    @every_loss
    def test_groups_that_are_not_integers(self, case: Case) -> None:
        with pytest.raises(TypeError, match="group"):
            case(replace(random_batch(22), group=torch.zeros(12)))

    @pytest.mark.parametrize("case", READ_FEATURES, ids=str)
    @pytest.mark.parametrize("shape", [(11, 3), (12,), (12, 3, 1)], ids=str)
    def test_features_of_another_shape(self, case: Case, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="features"):
            case(replace(random_batch(23), features=torch.ones(shape).double()))


class TestModules:
    @every_loss
    def test_copies(self, case: Case) -> None:
        loss, batch = case.build(), random_batch(24)
        clone = copy.deepcopy(loss)
        clone.progress = 0.0
        assert loss.progress == 1.0
        clone.progress = 1.0
        features = batch.features if case.with_features else None
        data = (batch.prediction, batch.target, features)
        assert torch.equal(clone(*data), loss(*data))

    @every_loss
    def test_has_nothing_to_save(self, case: Case) -> None:
        loss = case.build()
        assert loss.state_dict() == {}
        assert list(loss.parameters()) == []
        assert type(loss).__name__ in repr(loss)

    @every_loss
    def test_leaves_its_inputs_as_they_are(self, case: Case) -> None:
        batch = replace(random_batch(25), weight=torch.rand(12), group=torch.arange(12) % 2)
        before = copy.deepcopy(batch)
        case(batch)
        for name in ("prediction", "target", "weight", "group", "features"):
            assert torch.equal(getattr(batch, name), getattr(before, name))

    @compiled_whole
    @pytest.mark.parametrize("case", READ_ALL, ids=str)
    def test_compiles_without_a_graph_break(self, case: Case) -> None:
        torch.compiler.reset()
        batch = replace(random_batch(26), weight=torch.rand(12).double())
        batch.target[3] = torch.nan
        expected = case.evaluate(batch)
        compiled = torch.compile(case.build(), backend="aot_eager", fullgraph=True)
        inputs = [batch.prediction.requires_grad_(), batch.features.requires_grad_()]
        features = batch.features if case.with_features else None
        value = compiled(batch.prediction, batch.target, features, weight=batch.weight)
        gradients = torch.autograd.grad(value, inputs, allow_unused=True)
        found = [gradient for gradient in gradients if gradient is not None]
        assert_same(Result(value.detach(), found), expected)

    @pytest.mark.parametrize("name", ["pearson", "spearman", "fine_grained"])
    def test_compiles_around_groups(self, name: str) -> None:
        """How many there are is not known beforehand."""
        torch.compiler.reset()
        batch = replace(random_batch(27), group=torch.arange(12) % 2)
        compiled = torch.compile(losses.build(name), backend="eager")
        data = (batch.prediction, batch.target, batch.features)
        expected = losses.build(name)(*data, group=batch.group)
        assert_near(compiled(*data, group=batch.group), expected, 1e-12)

    @every_loss
    def test_other_ways_to_differentiate(self, case: Case) -> None:
        """Forward mode, and several gradients at once."""
        batch = random_batch(34, 7)

        def loss(prediction: Tensor, features: Tensor) -> Tensor:
            return case(replace(batch, prediction=prediction, features=features))

        inputs = (batch.prediction.requires_grad_(), batch.features.requires_grad_())
        value = loss(*inputs)
        upstream = torch.tensor([1.0, -3.0]).double()
        one = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
        both = torch.autograd.grad(
            value, inputs, upstream, is_grads_batched=True, allow_unused=True
        )
        for gradient, batched in zip(one, both, strict=True):
            if gradient is not None:
                assert_near(batched, torch.stack([gradient, -3 * gradient]), 1e-12)
        tangents = torch.ones(7).double(), torch.linspace(-1, 1, 28).double().reshape(7, 4)
        with fwAD.dual_level():
            duals = [
                fwAD.make_dual(at.detach(), direction)  # type: ignore[no-untyped-call]
                for at, direction in zip(inputs, tangents, strict=True)
            ]
            _, tangent = fwAD.unpack_dual(loss(*duals))  # type: ignore[no-untyped-call]
        along = [(g * t).sum() for g, t in zip(one, tangents, strict=True) if g is not None]
        assert_near(tangent, torch.stack(along).sum(), 1e-9, 1e-12)

    @every_loss
    def test_second_derivatives(self, case: Case) -> None:
        batch = random_batch(28, 7)
        # No gradient is taken of label weights.
        robust = case.build().weighs_labels
        fixed = replace(case, options=(("robust", False),)) if robust else case

        def loss(prediction: Tensor, features: Tensor) -> Tensor:
            return fixed(replace(batch, prediction=prediction, features=features))

        inputs = (batch.prediction.requires_grad_(), batch.features.requires_grad_())
        if case.name not in NO_SECOND_DERIVATIVE:
            assert torch.autograd.gradgradcheck(loss, inputs)
            return
        with pytest.raises(RuntimeError, match=NO_SECOND_DERIVATIVE[case.name]):
            torch.autograd.gradgradcheck(loss, inputs)
