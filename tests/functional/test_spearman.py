from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata, spearmanr
from torch import Tensor

import references
import references_ranks
from finecorr.functional import spearman
from finecorr.functional.pearson import pearson_loss
from finecorr.functional.spearman import Regularization, soft_rank, spearman_loss
from strategies import Batch, assert_near, batches, compiled_whole, random_batch, value_and_gradient

REGULARIZATIONS: list[Regularization] = ["l2", "kl"]
# Not those at which values on a grid just begin to pool: there the gradient jumps.
STRENGTHS = st.sampled_from([0.3, spearman.STRENGTH, 3.3, 7.3, 100.0])

both = pytest.mark.parametrize("regularization", REGULARIZATIONS)
both_precisions = pytest.mark.parametrize(
    ("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 1e-4)]
)
rows = hnp.arrays(np.int8, st.integers(1, 9), elements=st.integers(-32, 32)).map(
    lambda integers: torch.from_numpy(integers / 8)
)


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class TestSoftRank:
    @both
    @settings(max_examples=40)
    @given(
        seed=st.integers(0, 10_000), n=st.integers(1, 5), strength=st.sampled_from([0.5, 3.0, 9.0])
    )
    def test_is_the_nearest_of_the_permutahedron(
        self, regularization: Regularization, seed: int, n: int, strength: float
    ) -> None:
        values = normal(seed, n)
        point = (references_ranks.standard_scores(values) / strength).tolist()
        vertex = [(i + 0.5) / n for i in range(n)]
        nearest = references_ranks.nearest_of_permutahedron(point, vertex, regularization)
        actual = soft_rank(values, strength=strength, regularization=regularization)
        assert_near(actual, torch.from_numpy(n * nearest + 0.5), 1e-5)

    @both
    @both_precisions
    @settings(max_examples=150)
    @given(values=rows, strength=STRENGTHS, seed=st.integers(0, 100))
    def test_equals_the_reference(
        self,
        regularization: Regularization,
        dtype: torch.dtype,
        accuracy: float,
        values: Tensor,
        strength: float,
        seed: int,
    ) -> None:
        weight = normal(seed, len(values))

        def expected(v: Tensor) -> Tensor:
            return (weight * references_ranks.soft_ranks(v, strength, regularization)).sum()

        def actual(v: Tensor) -> Tensor:
            ranks = soft_rank(v, strength=strength, regularization=regularization)
            assert ranks.dtype == dtype
            return (weight * ranks).sum()

        value, gradient = value_and_gradient(actual, values.to(dtype))
        expected_value, expected_gradient = value_and_gradient(expected, values)
        assert_near(value, expected_value, accuracy, accuracy)
        assert_near(gradient, expected_gradient, accuracy, accuracy / strength)

    @both
    @pytest.mark.parametrize("strength", [1e-3, 1e-7, 1e-12])
    @settings(max_examples=60)
    @given(values=rows)
    def test_nears_the_exact_ranks(
        self, regularization: Regularization, strength: float, values: Tensor
    ) -> None:
        actual = soft_rank(values, strength=strength, regularization=regularization)
        assert_near(actual, torch.from_numpy(rankdata(values.numpy())), 1e-12)
        assert references_ranks.exact_ranks(values.tolist()) == rankdata(values.numpy()).tolist()

    def test_nears_the_exact_ranks_of_many(self) -> None:
        values = normal(1, 10_000).round(decimals=3)
        actual = soft_rank(values, strength=1e-9)
        assert_near(actual, torch.from_numpy(rankdata(values.numpy())), 1e-12)

    def test_is_linear_where_all_are_pooled(self) -> None:
        values = normal(2, 50)
        z = (values - values.mean()) / values.std(correction=0)
        assert_near(soft_rank(values, strength=100.0), 25.5 + 50 * z / 100, 1e-12)

    @both
    def test_keeps_the_order_and_the_sum(self, regularization: Regularization) -> None:
        values = normal(3, 1000).exp().sort().values
        for strength in (0.1, 1.0, 3.0, 10.0, 1e3):
            ranks = soft_rank(values, strength=strength, regularization=regularization)
            assert (ranks.diff() > 0).all()
            assert ranks.sum().item() == pytest.approx(500 * 1001, rel=1e-12)
            assert ranks.min() >= 1 - 1e-9
            assert ranks.max() <= 1000 + 1e-9

    @both
    @pytest.mark.parametrize("strength", [0.3, 3.0])
    def test_strength_means_the_same_for_every_n(
        self, regularization: Regularization, strength: float
    ) -> None:
        values = normal(4, 20)
        options = {"strength": strength, "regularization": regularization}
        ranks = soft_rank(values, **options)  # type: ignore[arg-type]
        repeated = soft_rank(values.repeat(7), **options)  # type: ignore[arg-type]
        assert_near((repeated - 0.5) / 7, (ranks - 0.5).repeat(7), 1e-12)

    @both
    @both_precisions
    @pytest.mark.parametrize("spread", [1e-12, 1e-3, 1e12])
    def test_strength_means_the_same_in_every_unit(
        self, regularization: Regularization, dtype: torch.dtype, accuracy: float, spread: float
    ) -> None:
        values = normal(5, 30)

        def ranks(v: Tensor) -> Tensor:
            return (soft_rank(v, regularization=regularization) * normal(6, 30)).sum()

        expected, expected_gradient = value_and_gradient(ranks, values)
        value, gradient = value_and_gradient(ranks, (values * spread).to(dtype))
        assert_near(value, expected, accuracy)
        assert_near(gradient * spread, expected_gradient, accuracy)

    def test_offset(self) -> None:
        values = 1e6 + (normal(7, 30) * 64).round()
        expected = soft_rank(values - 1e6)
        assert_near(soft_rank(values), expected, 1e-10)
        assert_near(soft_rank(values.to(torch.float32)), expected, 1e-5)

    @both
    def test_an_outlier(self, regularization: Regularization) -> None:
        """The others share nearly one value, and rank in their order."""
        values = torch.cat([normal(8, 30).sort().values, torch.tensor([1e9]).double()])
        at = values.clone().requires_grad_()
        ranks = soft_rank(at, regularization=regularization)
        assert ranks[-1] == 31
        assert_near(ranks[:-1], torch.full((30,), 15.5).double(), 1e-6)
        (gradient,) = torch.autograd.grad(ranks[:10].sum(), at)
        assert gradient.isfinite().all()

    @both
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
    def test_equal_values(
        self, regularization: Regularization, dtype: torch.dtype, value: float
    ) -> None:
        at = torch.full((5,), value, dtype=dtype, requires_grad=True)
        ranks = soft_rank(at, strength=2.0, regularization=regularization)
        assert torch.equal(ranks, torch.full((5,), 3.0, dtype=dtype))
        (gradient,) = torch.autograd.grad(ranks[1], at)
        slope = 5 / 2 if regularization == "l2" else 5 / 2 / 2
        assert_near(gradient, slope * (torch.eye(5)[1] - 0.2), 1e-6)

    @both
    def test_leading_dimensions(self, regularization: Regularization) -> None:
        values = normal(9, 3, 2, 8).transpose(0, 1)
        ranks = soft_rank(values, regularization=regularization)
        assert ranks.shape == values.shape
        for i in range(2):
            for j in range(3):
                alone = soft_rank(values[i, j], regularization=regularization)
                assert_near(ranks[i, j], alone, 1e-12)

    @both
    @pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 0, 4)], ids=str)
    def test_empty(self, regularization: Regularization, shape: tuple[int, ...]) -> None:
        at = torch.zeros(shape, requires_grad=True)
        ranks = soft_rank(at, regularization=regularization)
        assert ranks.shape == shape
        ranks.sum().backward()  # type: ignore[no-untyped-call]

    def test_one_value(self) -> None:
        assert soft_rank(torch.tensor([[3.0], [4.0]])).tolist() == [[1.0], [1.0]]

    @both
    @pytest.mark.parametrize("strength", [0.3, 1.0, 3.0, 10.0])
    def test_derivatives(self, regularization: Regularization, strength: float) -> None:
        def ranks(v: Tensor) -> Tensor:
            return soft_rank(v, strength=strength, regularization=regularization)

        values = normal(10, 2, 12).requires_grad_()
        assert torch.autograd.gradcheck(ranks, [values])
        assert torch.autograd.gradgradcheck(ranks, [values])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype: torch.dtype) -> None:
        values = normal(11, 40).to(dtype)
        ranks = soft_rank(values)
        assert ranks.dtype == torch.float32
        assert torch.equal(ranks, soft_rank(values.float()))

    @compiled_whole
    @both
    def test_compiles_into_one_graph(self, regularization: Regularization) -> None:
        values, weight = normal(12, 3, 20), normal(13, 20)

        def ranks(v: Tensor) -> Tensor:
            return (soft_rank(v, regularization=regularization) * weight).sum()

        compiled = torch.compile(ranks, fullgraph=True, backend="aot_eager")
        expected, expected_gradient = value_and_gradient(ranks, values)
        value, gradient = value_and_gradient(compiled, values)
        assert_near(value, expected, 1e-12)
        assert_near(gradient, expected_gradient, 1e-12)

    def test_errors(self) -> None:
        with pytest.raises(TypeError, match="floating point"):
            soft_rank(torch.arange(3))
        with pytest.raises(ValueError, match="dimension"):
            soft_rank(torch.tensor(1.0))
        check_options(lambda **options: soft_rank(torch.ones(3), **options))


def check_options(function: Callable[..., Tensor]) -> None:
    for strength in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="strength"):
            function(strength=strength)
    with pytest.raises(ValueError, match="regularization must be one of"):
        function(regularization="l1")


@pytest.fixture(params=["scipy", "halves"])
def isotonic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each implementation in turn, as on the CPU and elsewhere."""
    if request.param == "halves":
        monkeypatch.setattr(spearman, "_isotonic", spearman._isotonic_by_halves)


def loss_of(
    prediction: Tensor, batch: Batch, strength: float, regularization: Regularization
) -> Tensor:
    return spearman_loss(
        prediction,
        batch.target,
        strength=strength,
        regularization=regularization,
        weight=batch.weight,
        group=batch.group,
    )


def reference_of(
    prediction: Tensor, batch: Batch, strength: float, regularization: Regularization
) -> Tensor:
    return references.over_populations(
        references_ranks.spearman(strength, regularization),
        references.columns_of(prediction),
        batch.target,
        batch.weight,
        batch.group,
    )


@pytest.mark.usefixtures("isotonic")
class TestSpearmanLoss:
    @both
    @both_precisions
    @settings(max_examples=150)
    @given(batch=batches(), strength=STRENGTHS)
    def test_equals_the_reference(
        self,
        regularization: Regularization,
        dtype: torch.dtype,
        accuracy: float,
        batch: Batch,
        strength: float,
    ) -> None:
        case = batch.to(dtype)
        value, gradient = value_and_gradient(
            lambda p: loss_of(p, case, strength, regularization), case.prediction
        )
        expected, expected_gradient = value_and_gradient(
            lambda p: reference_of(p, batch, strength, regularization), batch.prediction
        )
        assert value.dtype == dtype
        assert_near(value, expected, accuracy, accuracy)
        assert_near(gradient, expected_gradient, accuracy, accuracy)

    @both
    @settings(max_examples=100)
    @given(seed=st.integers(0, 10_000), n=st.integers(2, 12), strength=STRENGTHS)
    def test_equals_the_reference_without_ties(
        self, regularization: Regularization, seed: int, n: int, strength: float
    ) -> None:
        batch = random_batch(seed, n)
        value, gradient = value_and_gradient(
            lambda p: loss_of(p, batch, strength, regularization), batch.prediction
        )
        expected, expected_gradient = value_and_gradient(
            lambda p: reference_of(p, batch, strength, regularization), batch.prediction
        )
        assert_near(value, expected, 1e-12, 1e-14)
        assert_near(gradient, expected_gradient, 1e-11, 1e-13)

    @both
    @settings(max_examples=100)
    @given(batch=batches(missing=False, weighted=False, grouped=False, min_size=2))
    def test_nears_spearmans_correlation(
        self, regularization: Regularization, batch: Batch
    ) -> None:
        p, y = (references.as_columns(v)[:, 0] for v in (batch.prediction, batch.target))
        if len(set(p.tolist())) < 2 or len(set(y.tolist())) < 2:
            return
        loss = spearman_loss(p, y, strength=1e-6, regularization=regularization)
        assert loss.item() == pytest.approx(1 - spearmanr(p, y).statistic, abs=1e-10)

    def test_nears_spearmans_correlation_of_many(self) -> None:
        target = normal(20, 5000).round(decimals=2)
        prediction = (target + normal(21, 5000)).round(decimals=2)
        expected = 1 - spearmanr(prediction, target).statistic
        assert spearman_loss(prediction, target, strength=1e-6).item() == pytest.approx(
            expected, rel=1e-9
        )

    def test_is_the_pearson_loss_of_the_ranks_where_all_are_pooled(self) -> None:
        batch = random_batch(22, 50)
        ranks = torch.from_numpy(rankdata(batch.target.numpy()))
        actual = value_and_gradient(
            lambda p: spearman_loss(p, batch.target, strength=1e3), batch.prediction
        )
        expected = value_and_gradient(lambda p: pearson_loss(p, ranks), batch.prediction)
        assert_near(actual[0], expected[0], 1e-12)
        assert_near(actual[1], expected[1], 1e-11)

    @both
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("strength", [1e-30, 1e-6, 1e6, 1e9])
    def test_extreme_strengths(
        self, regularization: Regularization, dtype: torch.dtype, strength: float
    ) -> None:
        batch = random_batch(23, 40).to(dtype)
        value, gradient = value_and_gradient(
            lambda p: loss_of(p, batch, strength, regularization), batch.prediction
        )
        at_the_limit, expected = value_and_gradient(
            lambda p: loss_of(p, batch, 1e-5 if strength < 1 else 1e5, regularization),
            batch.prediction,
        )
        assert_near(value, at_the_limit, 1e-4)
        assert_near(gradient, expected, 1e-3, 1e-3)

    @both
    def test_the_right_order_and_the_reverse(self, regularization: Regularization) -> None:
        target = normal(24, 30)
        for prediction, expected in ((target.exp(), 0.0), (-(target**3), 2.0)):
            loss = spearman_loss(prediction, target, strength=1e-6, regularization=regularization)
            assert loss.item() == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("grouped", [False, True])
    def test_many_targets(self, grouped: bool) -> None:
        batch = random_batch(25, 30, targets=200)
        group = torch.arange(30) % 3 if grouped else None
        offset = torch.logspace(-3, 9, 200).double()
        batch.target[::7, ::3] = torch.nan
        prediction, target = batch.prediction * offset.flip(0) + offset, batch.target

        def at_once(p: Tensor) -> Tensor:
            return spearman_loss(p, target, group=group)

        def one_by_one(p: Tensor) -> Tensor:
            losses = [
                spearman_loss(p[:, i], target[:, i], group=group) for i in range(len(target.T))
            ]
            return torch.stack(losses).mean()

        actual, expected = (value_and_gradient(loss, prediction) for loss in (at_once, one_by_one))
        assert_near(actual[0], expected[0], 1e-10)
        assert_near(actual[1] * offset.flip(0), expected[1] * offset.flip(0), 1e-10)

    @both
    @pytest.mark.parametrize("strength", [0.3, 3.0, 10.0])
    def test_derivatives(self, regularization: Regularization, strength: float) -> None:
        batch = random_batch(26, 14, targets=2)
        weight = torch.tensor([1.0, 0.5, 0.0, 2.0, 0.1, 1.0, 3.0] * 2).double()
        group = torch.tensor([4, 4, 9, 4, 9, 9, 4] * 2)
        batch.target[1, 0] = torch.nan
        weighted = replace(batch, weight=weight, group=group)

        def loss(p: Tensor) -> Tensor:
            return loss_of(p, weighted, strength, regularization)

        at = batch.prediction.requires_grad_()
        assert torch.autograd.gradcheck(loss, [at])
        assert torch.autograd.gradgradcheck(loss, [at])

    @both
    def test_learns_an_order(self, regularization: Regularization) -> None:
        """From a constant, which has the loss 1."""
        target = normal(27, 60).exp()
        features = torch.stack([target.log(), normal(28, 60)], 1)
        slope = torch.zeros(2).double().requires_grad_()
        optimizer = torch.optim.SGD([slope], lr=0.3)
        losses = []
        for _ in range(100):
            loss = spearman_loss(features @ slope, target, regularization=regularization)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == 1
        assert spearmanr(features @ slope.detach(), target).statistic > 0.99

    def test_errors(self) -> None:
        check_options(lambda **options: spearman_loss(torch.ones(3), torch.ones(3), **options))


@compiled_whole
@both
def test_the_loss_compiles_into_one_graph(regularization: Regularization) -> None:
    batch = random_batch(29, 20, targets=3)
    batch.target[3, 1] = torch.nan

    def loss(p: Tensor) -> Tensor:
        return spearman_loss(
            p, batch.target, weight=torch.arange(20), regularization=regularization
        )

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected, expected_gradient = value_and_gradient(loss, batch.prediction)
    value, gradient = value_and_gradient(compiled, batch.prediction)
    assert_near(value, expected, 1e-12)
    assert_near(gradient, expected_gradient, 1e-12)


@pytest.mark.parametrize("where", ["_isotonic_of_equals", "_isotonic_by_means"])
@pytest.mark.parametrize("n", [2, 3, 16, 64, 301])
@pytest.mark.parametrize("strength", [1e-5, 0.3, 2.0, 50.0])
@pytest.mark.parametrize(("scale", "offset"), [(1e-20, 0.0), (1.0, 0.0), (1.0, 1e3), (1e20, 0.0)])
@pytest.mark.parametrize("ties", [False, True])
def test_float32_in_few_operations(
    where: str,
    n: int,
    strength: float,
    scale: float,
    offset: float,
    ties: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = random_batch(n, n)
    prediction, target = batch.prediction + offset, batch.target
    if ties:
        prediction, target = prediction.round(decimals=1), target.round(decimals=1)
    prediction, target = (scale * prediction).float(), (scale * target).float()
    expected = value_and_gradient(
        lambda p: spearman_loss(p, target.double(), strength=strength), prediction.double()
    )
    monkeypatch.setattr(spearman, "_isotonic_of_equals", getattr(spearman, where))
    # It is this arithmetic that is tested, and no other.
    monkeypatch.setattr(spearman, "_spearman", None)
    for shape in ((n,), (n, 1)):
        actual = value_and_gradient(
            lambda p: spearman_loss(p, target.view(p.shape), strength=strength),
            prediction.view(shape),
        )
        assert_near(actual[0], expected[0], 1e-5, 1e-6)
        assert_near(actual[1].view(n), expected[1], 1e-4, 1e-6 / scale)


class TestIsotonicRegression:
    """In torch operations, against SciPy's and a loop."""

    @settings(max_examples=200)
    @given(
        seed=st.integers(0, 10_000),
        n=st.integers(1, 70),
        slope=st.sampled_from([-1.0, 0.0, 0.1, 1.0]),
        digits=st.sampled_from([0, 1, 9]),
    )
    def test_equals_scipys(self, seed: int, n: int, slope: float, digits: int) -> None:
        values = (slope * torch.arange(n) + 3 * normal(seed, n)).round(decimals=digits)
        weight = normal(seed + 1, n).exp()
        actual = spearman._isotonic_by_halves(values, weight, "l2")
        expected = isotonic_regression(values, weights=weight).x
        assert_near(actual, torch.from_numpy(expected), 1e-12)
        assert_near(spearman._isotonic_by_scipy(values, weight), torch.from_numpy(expected), 0)
        of_equals = torch.from_numpy(isotonic_regression(values).x)
        assert_near(spearman._isotonic_by_means(values), of_equals, 1e-12, 1e-12)

    @pytest.mark.parametrize("n", [1023, 1024, 1025, 50_000])
    @pytest.mark.parametrize("strength", [0.1, 1.0, 3.0, 10.0])
    def test_finds_the_pools_of_many(self, n: int, strength: float) -> None:
        values = normal(30, n).sort().values / strength - torch.arange(n) / n
        weight = torch.ones(n).double()
        actual = spearman._isotonic_by_halves(values, weight, "l2")
        expected = isotonic_regression(values)
        assert_near(actual, torch.from_numpy(expected.x), 1e-12)
        starts = torch.from_numpy(expected.blocks[1:-1])
        assert torch.equal((actual.diff() != 0).nonzero().squeeze(1) + 1, starts)

    @settings(max_examples=100)
    @given(
        seed=st.integers(0, 10_000),
        n=st.integers(1, 20),
        slope=st.sampled_from([-1.0, 0.0, 1.0, 400.0]),
        spread=st.sampled_from([0.1, 2.0, 300.0]),
    )
    def test_of_exponentials(self, seed: int, n: int, slope: float, spread: float) -> None:
        """Also of such that overflow."""
        values = slope * torch.arange(n) + spread * normal(seed, n)
        weight = normal(seed + 1, n).exp()
        actual = spearman._isotonic_by_halves(values, weight, "kl")
        expected = references_ranks.ascending_in_exponentials(values.tolist(), weight.tolist())
        assert_near(actual, torch.tensor(expected, dtype=torch.float64), 1e-12, 1e-12)


def test_import_finecorr_does_not_load_the_optimizers_of_scipy() -> None:
    code = "import finecorr, sys; sys.exit('scipy.optimize' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
