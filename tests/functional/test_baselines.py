from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
import references_baselines
from finecorr.functional import pairwise, pearson_loss
from finecorr.functional.baselines import (
    blackbox_spearman_loss,
    conr_loss,
    focal_mae_loss,
    focal_mse_loss,
    gradient_aligned_loss,
    norm_in_norm_loss,
    ranksim_loss,
)
from finecorr.functional.baselines.blackbox import ranks
from strategies import Batch, assert_near, batches, compiled_whole, random_batch, value_and_gradient


@dataclass(frozen=True)
class OfPredictions:
    """A loss of predictions, its reference, and options to try."""

    loss: Callable[..., Tensor]
    reference: Callable[..., references.Column]
    options: dict[str, list[Any]]
    smooth: bool = True

    def __str__(self) -> str:
        return self.loss.__name__

    def at(self, batch: Batch) -> Tensor:
        return batch.prediction

    def __call__(self, at: Tensor, batch: Batch, **options: Any) -> Tensor:
        return self.loss(at, batch.target, weight=batch.weight, group=batch.group, **options)

    def columns(self, at: Tensor, batch: Batch) -> list[Tensor]:
        return references.columns_of(at)


class OfFeatures(OfPredictions):
    """The same of features, that every target shares."""

    def at(self, batch: Batch) -> Tensor:
        return batch.features

    def columns(self, at: Tensor, batch: Batch) -> list[Tensor]:
        return [at for _ in references.columns_of(batch.target)]


class OfBoth(OfFeatures):
    """And of predictions, that get no gradient: the last column of the reference."""

    def __call__(self, at: Tensor, batch: Batch, **options: Any) -> Tensor:
        data = {"weight": batch.weight, "group": batch.group}
        return self.loss(at, batch.prediction, batch.target, **data, **options)

    def columns(self, at: Tensor, batch: Batch) -> list[Tensor]:
        predictions = references.columns_of(batch.prediction)
        return [torch.cat([at, p[:, None].to(at.dtype)], 1) for p in predictions]


FOCAL: dict[str, list[Any]] = {
    "activation": ["sigmoid", "tanh"],
    "beta": [0.2, 3.0],
    "gamma": [1.0, 1.5, 2.0],
}
NORM_IN_NORM = OfPredictions(
    norm_in_norm_loss, references_baselines.norm_in_norm, {"p": [1.0, 2.0, 3.0], "q": [2.0, 4.0]}
)
GRADIENT_ALIGNED = OfPredictions(
    gradient_aligned_loss, references_baselines.gradient_aligned, {"alpha": [0.1, 0.5, 1.0, 10.0]}
)
FOCAL_MAE = OfPredictions(
    focal_mae_loss, lambda **options: references_baselines.focal(1, **options), FOCAL
)
FOCAL_MSE = OfPredictions(
    focal_mse_loss, lambda **options: references_baselines.focal(2, **options), FOCAL
)
SPEARMAN = OfPredictions(
    blackbox_spearman_loss,
    references_baselines.blackbox_spearman,
    {"interpolation": [0.1, 1.0, 10.0]},
    smooth=False,
)
RANKSIM = OfFeatures(
    ranksim_loss,
    references_baselines.ranksim,
    {"interpolation": [0.5, 2.0, 200.0]},
    smooth=False,
)
CONR = OfBoth(
    conr_loss,
    references_baselines.conr,
    {"window": [0.0, 0.5, 1.0, 4.0], "temperature": [0.07, 1.0], "push": [0.0, 0.01, 1.0]},
)
CASES = [NORM_IN_NORM, GRADIENT_ALIGNED, FOCAL_MAE, FOCAL_MSE, SPEARMAN, RANKSIM, CONR]
POINTWISE = [FOCAL_MAE, FOCAL_MSE]

every_loss = pytest.mark.parametrize("case", CASES, ids=str)


def evaluate(case: OfPredictions, batch: Batch, **options: Any) -> tuple[Tensor, Tensor]:
    return value_and_gradient(lambda at: case(at, batch, **options), case.at(batch))


def reference(case: OfPredictions, batch: Batch, **options: Any) -> tuple[Tensor, Tensor]:
    return value_and_gradient(
        lambda at: references.over_populations(
            case.reference(**options),
            case.columns(at, batch),
            batch.target,
            batch.weight,
            batch.group,
        ),
        case.at(batch),
    )


@every_loss
@settings(max_examples=120)
@given(data=st.data())
def test_equals_the_reference(case: OfPredictions, data: st.DataObject) -> None:
    batch = data.draw(batches(max_size=8))
    options = {name: data.draw(st.sampled_from(values)) for name, values in case.options.items()}
    actual, expected = evaluate(case, batch, **options), reference(case, batch, **options)
    # The logarithm of 1e-7 and more multiplies the rounding of its argument by up to 1e7.
    accuracy = 1e-9 if case is GRADIENT_ALIGNED else 1e-12
    assert_near(actual[0], expected[0], 1e-12, accuracy)
    assert_near(actual[1], expected[1], 1e-11, 10 * accuracy)


@every_loss
@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 15))
def test_equals_the_reference_without_ties(case: OfPredictions, seed: int, n: int) -> None:
    batch = random_batch(seed, n, 2)
    actual, expected = evaluate(case, batch), reference(case, batch)
    assert_near(actual[0], expected[0], 1e-11, 1e-13)
    assert_near(actual[1], expected[1], 1e-9, 1e-12)


@every_loss
def test_float32(case: OfPredictions) -> None:
    batch = random_batch(1, 20, 2)
    single = evaluate(case, batch.to(torch.float32))
    double = evaluate(case, batch)
    assert single[0].dtype == single[1].dtype == torch.float32
    assert_near(single[0], double[0], 1e-5)
    assert_near(single[1], double[1], 1e-4)


@every_loss
@settings(max_examples=60)
@given(batch=batches())
def test_is_finite(case: OfPredictions, batch: Batch) -> None:
    value, gradient = evaluate(case, batch.to(torch.float32))
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("prediction_spread", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("target_spread", [1e-12, 1.0, 1e12])
def test_extreme_spreads(
    case: OfPredictions, prediction_spread: float, target_spread: float
) -> None:
    batch = random_batch(15).to(torch.float32)
    value, gradient = evaluate(
        case,
        replace(
            batch,
            prediction=batch.prediction * prediction_spread,
            target=batch.target * target_spread - 1e6,
            features=batch.features * prediction_spread,
        ),
    )
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("target", [[], [3.0], [3.0, 3.0], [math.nan, math.nan]])
def test_nothing_to_learn(case: OfPredictions, target: list[float]) -> None:
    if case in POINTWISE:
        target = [math.nan for _ in target]
    n = len(target)
    batch = Batch(torch.arange(n).float(), torch.tensor(target), None, None, torch.ones(n, 2))
    value, gradient = evaluate(case, batch)
    assert value == 0
    assert (gradient == 0).all()


@every_loss
def test_features_and_predictions_without_a_label_are_irrelevant(case: OfPredictions) -> None:
    batch = random_batch(3)
    batch.target[3] = torch.nan
    expected = evaluate(case, batch)
    batch.prediction[3] = torch.inf
    batch.features[3] = torch.nan
    actual = evaluate(case, batch)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(case: OfPredictions, dtype: torch.dtype) -> None:
    """Under autocast, the gradient too."""
    half = random_batch(8).to(dtype)
    expected = evaluate(case, half.to(torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        value, gradient = evaluate(case, half)
    assert value.dtype == torch.float32
    assert_near(value, expected[0], 1e-6)
    assert gradient.dtype == dtype
    assert_near(gradient, expected[1], torch.finfo(dtype).eps)


@every_loss
def test_many_targets(case: OfPredictions) -> None:
    """Their mean; NaN at random, so that each target has other samples."""
    batch = random_batch(9, 8, 3000)
    absent = torch.rand(8, 3000, generator=torch.Generator().manual_seed(0)) < 0.1
    batch = replace(batch, target=torch.where(absent, torch.nan, batch.target))
    value, gradient = evaluate(case, batch)
    some = range(0, 3000, 60)
    single = [
        evaluate(
            case,
            replace(batch, prediction=batch.prediction[:, t], target=batch.target[:, t]),
        )
        for t in some
    ]
    mean = torch.stack([v for v, _ in single]).mean()
    of_some = replace(batch, prediction=batch.prediction[:, ::60], target=batch.target[:, ::60])
    assert_near(evaluate(case, of_some)[0], mean, 1e-12)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("case", [c for c in CASES if c.smooth], ids=str)
def test_gradcheck(case: OfPredictions) -> None:
    batch = random_batch(3, 7, 2)
    batch.target[2, 1] = torch.nan
    batch = replace(batch, weight=torch.arange(7) / 3, group=torch.tensor([5, 5, -1, 5, -1, -1, 5]))
    at = case.at(batch).requires_grad_()
    assert torch.autograd.gradcheck(lambda at: case(at, batch), at)
    assert torch.autograd.gradgradcheck(lambda at: case(at, batch), at)


@pytest.mark.parametrize("case", [c for c in CASES if not c.smooth], ids=str)
def test_a_surrogate_gradient(case: OfPredictions) -> None:
    """It is multiplied by what the loss is, and has no derivative."""
    batch = random_batch(4)
    _, gradient = evaluate(case, batch)
    at = case.at(batch).requires_grad_()
    (scaled,) = torch.autograd.grad(1000 * case(at, batch), at, create_graph=True)
    assert_near(scaled, 1000 * gradient, 1e-12)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        scaled.sum().backward()  # type: ignore[no-untyped-call]


@compiled_whole
@every_loss
def test_compiles(case: OfPredictions) -> None:
    batch = random_batch(2, 9, 2)
    batch.target[2, 1] = torch.nan
    batch = replace(batch, weight=torch.arange(9.0).double())
    compiled = replace(case, loss=torch.compile(case.loss, fullgraph=True, backend="aot_eager"))
    actual, expected = evaluate(compiled, batch), evaluate(case, batch)
    assert_near(actual[0], expected[0], 1e-12)
    assert_near(actual[1], expected[1], 1e-12)


@pytest.mark.parametrize("case", [RANKSIM, CONR], ids=str)
@pytest.mark.parametrize("grouped", [False, True])
def test_in_parts(case: OfPredictions, grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(7, 13, 2)
    batch = replace(batch, group=torch.arange(13) % 2 if grouped else None)
    whole = evaluate(case, batch)
    monkeypatch.setattr(pairwise, "CHUNK", 13 * 2 * 3)
    parts = evaluate(case, batch)
    assert_near(parts[0], whole[0], 1e-14)
    assert_near(parts[1], whole[1], 1e-13)


@pytest.mark.parametrize("case", [RANKSIM, CONR], ids=str)
@pytest.mark.parametrize("shape", [(4,), (3, 2), (4, 2, 1), (4, 0)])
def test_features_of_another_shape(case: OfPredictions, shape: tuple[int, ...]) -> None:
    batch = Batch(torch.zeros(4), torch.zeros(4), None, None, torch.zeros(shape))
    with pytest.raises(ValueError, match="features"):
        evaluate(case, batch)
    with pytest.raises(TypeError, match="features"):
        case(torch.zeros(4, 2, dtype=torch.int64), batch)
    with pytest.raises(ValueError, match="target"):
        case(torch.zeros(4, 2), replace(batch, target=torch.zeros(4, 1, 1)))


@pytest.mark.parametrize(
    ("case", "option"),
    [
        *[(NORM_IN_NORM, {name: bad}) for name in ("p", "q") for bad in (0.5, math.inf, math.nan)],
        *[(GRADIENT_ALIGNED, {"alpha": bad}) for bad in (0.0, -1.0, math.inf, math.nan)],
        *[
            (case, option)
            for case in POINTWISE
            for option in (
                {"activation": "relu"},
                {"beta": 0.0},
                {"gamma": 0.5},
                {"gamma": math.nan},
            )
        ],
        *[
            (case, {"interpolation": bad})
            for case in (SPEARMAN, RANKSIM)
            for bad in (0.0, -1.0, math.inf, math.nan)
        ],
        *[
            (CONR, option)
            for option in (
                {"window": -1.0},
                {"temperature": 0.0},
                {"push": -1.0},
                {"push": math.inf},
            )
        ],
    ],
)
def test_options_out_of_range(case: OfPredictions, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        case(case.at(random_batch(0)), random_batch(0), **option)


class TestNormInNorm:
    def test_is_the_pearson_loss_for_squares(self) -> None:
        batch = random_batch(5, 20)
        loss = norm_in_norm_loss(batch.prediction, batch.target, p=2, q=2)
        assert_near(2 * loss, pearson_loss(batch.prediction, batch.target), 1e-12)

    @pytest.mark.parametrize("q", [1.0, 1.5, 2.0])
    @pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
    def test_norms_of_less_than_two(self, p: float, q: float) -> None:
        """On no grid, where a deviation from the mean may be 0 but for rounding."""
        batch = replace(random_batch(6, 9, 2), weight=torch.arange(9.0).double())
        actual = evaluate(NORM_IN_NORM, batch, p=p, q=q)
        expected = reference(NORM_IN_NORM, batch, p=p, q=q)
        assert_near(actual[0], expected[0], 1e-12)
        assert_near(actual[1], expected[1], 1e-11)

    @pytest.mark.parametrize("q", [1.0, 2.0, 4.0])
    @pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
    def test_is_at_most_one(self, p: float, q: float) -> None:
        """And 1 for opposite vectors whose entries are all of one size, if p is at most q."""
        y = torch.tensor([1.0, -1.0, 1.0, -1.0])
        loss = norm_in_norm_loss(-y, y, p=p, q=q).item()
        assert loss == pytest.approx(4 ** min(0.0, 1 - p / q), rel=1e-6)


class TestGradientAligned:
    def test_by_hand(self) -> None:
        """Errors 1, 1 and -2: mean absolute 4 / 3, variance 2, correlation 0."""
        target = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
        prediction = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
        for alpha in (0.5, 1.0):
            loss = gradient_aligned_loss(prediction, target, alpha=alpha)
            powers = [x ** (1 / alpha) for x in (4 / 3, 2, 1)]
            assert loss.item() == pytest.approx(alpha * math.log(sum(powers) / 3), rel=1e-6)

    def test_limits_of_alpha(self) -> None:
        batch = random_batch(7)
        error = batch.prediction - batch.target
        losses = [
            error.abs().mean(),
            error.var(correction=0),
            pearson_loss(batch.prediction, batch.target),
        ]
        logs = torch.stack(losses).log()
        low = gradient_aligned_loss(batch.prediction, batch.target, alpha=1e-4)
        high = gradient_aligned_loss(batch.prediction, batch.target, alpha=1e6)
        assert low.item() == pytest.approx(logs.max().item(), abs=1e-3)
        assert high.item() == pytest.approx(logs.mean().item(), abs=1e-5)


class TestFocal:
    def test_by_hand(self) -> None:
        prediction, target = torch.tensor([5.0, 0.0]), torch.tensor([0.0, 0.0])
        factor = 2 / (1 + math.exp(-1)) - 1
        assert focal_mae_loss(prediction, target).item() == pytest.approx(5 * factor / 2)
        assert focal_mse_loss(prediction, target).item() == pytest.approx(25 * factor / 2)
        loss = focal_mae_loss(prediction, target, activation="tanh", beta=0.1, gamma=2)
        assert loss.item() == pytest.approx(5 * math.tanh(0.5) ** 2 / 2)

    def test_keeps_the_digits_of_small_errors(self) -> None:
        loss = focal_mae_loss(torch.tensor([1e-6]), torch.zeros(1))
        assert loss.item() == pytest.approx(1e-6 * 1e-7, rel=1e-5)


class TestBlackboxSpearman:
    @settings(max_examples=100)
    @given(batch=batches(min_size=2, missing=False, weighted=False, grouped=False))
    def test_equals_scipy(self, batch: Batch) -> None:
        prediction, target = (
            references.as_columns(t)[:, 0] for t in (batch.prediction, batch.target)
        )
        if any(len(set(t.tolist())) < 2 for t in (prediction, target)):
            return
        expected = 1 - scipy.stats.spearmanr(prediction, target).statistic
        loss = blackbox_spearman_loss(prediction, target)
        assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_the_unit_is_irrelevant(self, scale: float) -> None:
        batch = random_batch(8)
        value, gradient = evaluate(SPEARMAN, batch)
        scaled = evaluate(SPEARMAN, replace(batch, prediction=batch.prediction * scale + 3 * scale))
        assert_near(scaled[0], value, 1e-12)
        assert_near(scaled[1] * scale, gradient, 1e-9)

    def test_descent_sorts(self) -> None:
        batch = random_batch(9, 30)
        prediction = torch.zeros_like(batch.target)
        for _ in range(300):
            value, gradient = value_and_gradient(
                lambda p: blackbox_spearman_loss(p, batch.target), prediction
            )
            prediction = prediction - gradient
        assert value < 0.02


class TestRankSim:
    def test_is_the_definition_of_the_paper(self) -> None:
        """Ranks from 1 to n over n, descending; and the gradient of lambda 2 and gamma 100."""
        batch = random_batch(10, 6)
        unit = batch.features / batch.features.norm(dim=1, keepdim=True)

        def rank(values: Tensor) -> Tensor:
            return (1 + (-values).argsort().argsort()).double() / 6

        value, slope = 0.0, []
        for i in range(6):
            s = unit[i] @ unit.T
            wanted = rank(-(batch.target[i] - batch.target).abs())
            value += float((rank(s) - wanted).square().mean())
            upstream = 100 * 2 * (rank(s) - wanted) / 6
            slope.append(-(rank(s) - rank(s + 2 * upstream)) / 2)
        features = batch.features.clone().requires_grad_()
        directions = features / features.norm(dim=1, keepdim=True)
        (expected,) = torch.autograd.grad(
            directions @ directions.T, features, grad_outputs=torch.stack(slope)
        )
        actual = value_and_gradient(lambda f: 100 * ranksim_loss(f, batch.target), batch.features)
        assert actual[0].item() == pytest.approx(100 * value, rel=1e-12)
        assert_near(actual[1], expected, 1e-12)

    def test_a_target_counts_once(self) -> None:
        """Repetitions of a sample share its place among the others."""
        batch = random_batch(11, 6)
        rows = torch.tensor([0, 1, 1, 1, 2, 3, 4, 5])
        loss = ranksim_loss(batch.features, batch.target)
        repeated = ranksim_loss(batch.features[rows], batch.target[rows])
        assert_near(repeated, loss, 1e-12)

    def test_features_in_order(self) -> None:
        angle = torch.arange(8.0) / 8
        features = torch.stack([angle.cos(), angle.sin()], 1)
        assert ranksim_loss(features, angle) == 0
        assert ranksim_loss(features[torch.tensor([3, 6, 0, 5, 1, 7, 2, 4])], angle) > 0.1


class TestConR:
    def test_by_hand(self) -> None:
        """Samples 0 and 1 are close; 2 is far in target from 0, and predicted close to it."""
        target = torch.tensor([0.0, 0.5, 3.0])
        prediction = torch.tensor([0.0, 9.0, 0.5])
        features = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        near, far = math.exp(math.sqrt(0.5) / 0.5), math.exp(0.1 * 3)
        # Sample 1 has no negative, and sample 2 no positive.
        expected = math.log((near + far) / near) / 3
        loss = conr_loss(features, prediction, target, temperature=0.5, push=0.1)
        assert loss.item() == pytest.approx(expected, rel=1e-6)

    def test_predictions_get_no_gradient(self) -> None:
        batch = random_batch(12)
        prediction = batch.prediction.requires_grad_()
        loss = conr_loss(batch.features.requires_grad_(), prediction, batch.target)
        (gradient,) = torch.autograd.grad(loss, prediction, allow_unused=True)
        assert gradient is None

    def test_a_wide_prediction_keeps_the_digits_of_features(self) -> None:
        batch = random_batch(13)
        loss = conr_loss(batch.features, batch.prediction.float(), batch.target.float())
        assert loss.dtype == torch.float64


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_ranks(tolerance: float) -> None:
    values = torch.tensor([[3.0, 1.0, 1.005, 2.0, 1.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 2.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    shares = ranks(values, weight, torch.full_like(values, tolerance), None)
    expected = [4.5, 1.5, 3.5, math.nan, 1.5] if tolerance == 0 else [4.5, 2, 2, math.nan, 2]
    present = weight > 0
    assert torch.equal(shares[present], torch.tensor([expected]).double()[present] / 5)
