from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import references
from finecorr.functional import prediction_rank_loss, relations, similarity_rank_loss
from strategies import Batch, assert_near, batches, random_batch, value_and_gradient

LEVELS = st.sampled_from([None, 2, 3, 4, 8, 32])
TEMPERATURES = st.sampled_from([0.1, 1.0])
SIMILARITIES = st.sampled_from(["cosine", "euclidean"])

small_batches = batches(max_size=7)


def feature_reference(features: Tensor, batch: Batch, **options: Any) -> Tensor:
    """Every target ranks the same features."""
    targets = references.as_columns(batch.target).shape[1]
    return references.over_populations(
        references.similarity_rank(**options),
        [features] * targets,
        batch.target,
        batch.weight,
        batch.group,
    )


def feature_loss(features: Tensor, batch: Batch, **options: Any) -> Tensor:
    return similarity_rank_loss(
        features, batch.target, weight=batch.weight, group=batch.group, **options
    )


def prediction_reference(prediction: Tensor, batch: Batch, **options: Any) -> Tensor:
    return references.over_populations(
        references.prediction_rank(**options),
        references.columns_of(prediction),
        batch.target,
        batch.weight,
        batch.group,
    )


def prediction_loss(prediction: Tensor, batch: Batch, **options: Any) -> Tensor:
    return prediction_rank_loss(
        prediction, batch.target, weight=batch.weight, group=batch.group, **options
    )


def populations_std(batch: Batch) -> list[float]:
    """The standard deviation of the target in each population that is defined."""
    found = []

    def column(p: Tensor, y: Tensor, w: Tensor) -> None:
        if not references.is_undefined(y):
            found.append(references.weighted_std(y, w).item())

    prediction_columns = references.columns_of(batch.prediction)
    references.over_populations(column, prediction_columns, batch.target, batch.weight, batch.group)
    return found


class TestFeatures:
    @settings(max_examples=300)
    @given(batch=small_batches, levels=LEVELS, temperature=TEMPERATURES, similarity=SIMILARITIES)
    def test_equals_the_reference(
        self, batch: Batch, levels: int | None, temperature: float, similarity: str
    ) -> None:
        options = {"levels": levels, "temperature": temperature, "similarity": similarity}
        expected = value_and_gradient(
            lambda f: feature_reference(f, batch, **options), batch.features
        )
        actual = value_and_gradient(lambda f: feature_loss(f, batch, **options), batch.features)
        assert_near(actual[0], expected[0], 1e-12, 1e-13)
        assert_near(actual[1], expected[1], 1e-11, 1e-12)
        single = batch.to(torch.float32)
        actual = value_and_gradient(lambda f: feature_loss(f, single, **options), single.features)
        # The exponents are up to 14 / temperature (or 1 / temperature, for cosines), and off by
        # epsilon of it: that is the relative error of the exponentials, and so of the terms.
        assert_near(actual[0], expected[0], 1e-5, 1e-6 / temperature)
        assert_near(actual[1], expected[1], 1e-4, 1e-5)

    @settings(max_examples=100)
    @given(seed=st.integers(0, 10_000), n=st.integers(2, 12), levels=LEVELS)
    def test_equals_the_reference_without_ties(self, seed: int, n: int, levels: int | None) -> None:
        batch = random_batch(seed, n)
        expected = value_and_gradient(
            lambda f: feature_reference(f, batch, levels=levels), batch.features
        )
        actual = value_and_gradient(lambda f: feature_loss(f, batch, levels=levels), batch.features)
        assert_near(actual[0], expected[0], 1e-12, 1e-13)
        assert_near(actual[1], expected[1], 1e-11, 1e-12)

    def test_is_the_definition_of_rank_n_contrast(self) -> None:
        """Equation 1 of arXiv 2210.01189, written out."""
        batch = random_batch(1, 6)
        n, tau = 6, 0.5
        unit = batch.features / batch.features.norm(dim=1, keepdim=True)
        total = 0.0
        for i in range(n):
            for j in range(n):
                if j != i:
                    similar = math.exp(float(unit[i] @ unit[j]) / tau)
                    far = sum(
                        math.exp(float(unit[i] @ unit[k]) / tau)
                        for k in range(n)
                        if k != i
                        and abs(batch.target[i] - batch.target[k])
                        >= abs(batch.target[i] - batch.target[j])
                    )
                    total -= math.log(similar / far) / (n - 1)
        loss = similarity_rank_loss(batch.features, batch.target, temperature=tau)
        assert loss.item() == pytest.approx(total / n, rel=1e-12)

    @pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
    def test_equals_the_loop_in_which_it_is_usually_written(self, similarity: str) -> None:
        """All anchors at once, and a loop over k; the features are those of `similarity`."""
        batch = random_batch(9, 40)
        n, target = 40, batch.target

        def loop(features: Tensor) -> Tensor:
            if similarity == "cosine":
                features = features / features.norm(dim=1, keepdim=True)
                logits = features @ features.T
            else:
                logits = -(features[:, None] - features).norm(dim=-1)
            logits = logits / 0.1
            off_diagonal = ~torch.eye(n, dtype=torch.bool)
            logits = logits[off_diagonal].view(n, n - 1)
            distance = (target[:, None] - target).abs()[off_diagonal].view(n, n - 1)
            loss = logits.new_zeros(())
            for k in range(n - 1):
                negative = distance >= distance[:, k : k + 1]
                total = (logits.exp() * negative).sum(1).log()
                loss = loss + (total - logits[:, k]).sum() / (n * (n - 1))
            return loss

        expected = value_and_gradient(loop, batch.features)
        actual = value_and_gradient(
            lambda f: feature_loss(f, batch, similarity=similarity), batch.features
        )
        assert_near(actual[0], expected[0], 1e-12)
        assert_near(actual[1], expected[1], 1e-11)

    @pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
    @pytest.mark.parametrize("levels", [None, 3])
    @pytest.mark.parametrize("chunk", [1, 70, 200])
    def test_a_few_anchors_at_a_time(
        self, similarity: str, levels: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = replace(random_batch(10, 23, 2), group=torch.arange(23) % 2)
        batch.target[4, 1] = torch.nan
        options = {"similarity": similarity, "levels": levels}

        def both(batch: Batch) -> list[Tensor]:
            features = value_and_gradient(
                lambda f: feature_loss(f, batch, **options), batch.features
            )
            predictions = value_and_gradient(
                lambda p: prediction_loss(p, batch, levels=levels), batch.prediction
            )
            return [*features, *predictions]

        at_once = both(batch)
        monkeypatch.setattr(relations, "CHUNK", chunk)
        for actual, expected in zip(both(batch), at_once, strict=True):
            assert_near(actual, expected, 1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("spread", [20.0, 60.0, 300.0, 1e4, 1e8])
    @pytest.mark.parametrize("levels", [None, 2])
    def test_similarities_of_any_range(
        self, dtype: torch.dtype, spread: float, levels: int | None
    ) -> None:
        """Exponentials of most of these underflow."""
        batch = random_batch(11, 15)
        features = (batch.features * spread).to(dtype)
        options: dict[str, Any] = {"similarity": "euclidean", "levels": levels, "temperature": 1}
        expected = value_and_gradient(
            lambda f: feature_reference(f, batch, **options), features.double()
        )
        single = batch.to(dtype)
        actual = value_and_gradient(lambda f: feature_loss(f, single, **options), features)
        # An exponent is off by epsilon of itself.
        accuracy = 64 * torch.finfo(dtype).eps
        assert_near(actual[0], expected[0], accuracy)
        assert_near(actual[1], expected[1], accuracy, accuracy * spread)

    def test_second_derivatives(self) -> None:
        batch = random_batch(12, 6)
        features = batch.features.requires_grad_()
        for similarity in ("cosine", "euclidean"):
            assert torch.autograd.gradgradcheck(
                lambda f, similarity=similarity: feature_loss(f, batch, similarity=similarity),
                features,
            )

    def test_functional_transforms(self) -> None:
        batch = random_batch(13, 6)
        _, expected = value_and_gradient(lambda f: feature_loss(f, batch), batch.features)
        assert_near(
            torch.func.grad(lambda f: feature_loss(f, batch))(batch.features), expected, 1e-12
        )

    def test_two_levels_by_hand(self) -> None:
        """Anchors 0 and 3 have one near and two far; 1 and 2 have two near that are tied."""
        target = torch.tensor([0.0, 1.0, 3.0, 4.0], dtype=torch.float64)
        features = torch.tensor([[0.0], [2.0], [3.0], [7.0]], dtype=torch.float64)

        def anchor(near: list[float], far: list[float]) -> float:
            everyone = math.log(sum(math.exp(-d) for d in near + far))
            beyond = math.log(sum(math.exp(-d) for d in far))
            return (sum(everyone + d for d in near) + sum(beyond + d for d in far)) / 3

        # Shares of samples nearer: 0, 1/3, 2/3; twice that, rounded down: 0, 0, 1.
        anchors = [
            anchor([2.0, 3.0], [7.0]),  # targets at 1, 3 and 4
            anchor([2.0, 1.0], [5.0]),  # at 1, 2 and 3
            anchor([4.0, 1.0], [3.0]),  # at 1, 2 and 3
            anchor([4.0, 5.0], [7.0]),  # at 1, 3 and 4
        ]
        loss = similarity_rank_loss(
            features, target, levels=2, temperature=1, similarity="euclidean"
        )
        assert loss.item() == pytest.approx(sum(anchors) / 4, rel=1e-12)

    @settings(max_examples=100)
    @given(batch=batches(weighted=False, max_size=9), more=st.integers(0, 30))
    def test_as_many_levels_as_samples_are_the_exact_order(self, batch: Batch, more: int) -> None:
        levels = max(len(batch.target) + more, 2)
        exact = value_and_gradient(lambda f: feature_loss(f, batch), batch.features)
        binned = value_and_gradient(lambda f: feature_loss(f, batch, levels=levels), batch.features)
        assert torch.equal(binned[0], exact[0])
        assert torch.equal(binned[1], exact[1])

    @pytest.mark.parametrize("n", [65, 257, 1025])
    @pytest.mark.parametrize("weight", [0.3, 0.1, 1e-6, 7.7e5])
    def test_bins_survive_the_rounding_of_equal_weights(self, n: int, weight: float) -> None:
        """With n - 1 others a power of 2, shares lie on the edges of the bins."""
        features = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
        target = torch.rand(n, generator=torch.Generator().manual_seed(1))
        options: dict[str, Any] = {"levels": 8}
        plain = similarity_rank_loss(features, target, **options)
        weighted = similarity_rank_loss(
            features, target, weight=torch.full((n,), weight), **options
        )
        assert weighted.item() == pytest.approx(plain.item(), rel=2e-6)

    @pytest.mark.parametrize(("n", "levels", "seed"), [(257, 4, 3), (513, 4, 2), (513, 8, 2)])
    def test_bins_survive_the_rounding_of_unequal_weights(
        self, n: int, levels: int, seed: int
    ) -> None:
        """float32 holds the weights, their sum and the distances here without rounding."""
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(n, 4, generator=generator)
        target = torch.randperm(n, generator=generator).float()
        weight = torch.randint(1, 5, (n,), generator=generator).float()
        single = similarity_rank_loss(features, target, levels=levels, weight=weight)
        double = similarity_rank_loss(
            features.double(), target.double(), levels=levels, weight=weight
        )
        assert single.item() == pytest.approx(double.item(), rel=3e-6)

    @settings(max_examples=100)
    @given(batch=batches(), levels=LEVELS, scale=st.sampled_from([1e-9, 0.3, 8.0, 1e9]))
    def test_the_scale_of_weights_is_irrelevant(
        self, batch: Batch, levels: int | None, scale: float
    ) -> None:
        loss = feature_loss(batch.features, batch, levels=levels)
        scaled = similarity_rank_loss(
            batch.features,
            batch.target,
            levels=levels,
            weight=batch.weights * scale,
            group=batch.group,
        )
        assert_near(scaled, loss, 1e-12, 1e-13)

    @settings(max_examples=100)
    @given(batch=batches(min_size=1), similarity=SIMILARITIES)
    def test_a_sample_without_label_or_weight_gets_no_gradient(
        self, batch: Batch, similarity: str
    ) -> None:
        _, gradient = value_and_gradient(
            lambda f: feature_loss(f, batch, similarity=similarity), batch.features
        )
        absent = references.as_columns(batch.target).isnan().all(1) | (batch.weights == 0)
        assert (gradient[absent] == 0).all()

    def test_order_in_the_features_lowers_the_loss(self) -> None:
        target = torch.arange(8.0)
        angle = target / 8
        ordered = torch.stack([angle.cos(), angle.sin()], 1)
        shuffled = ordered[torch.tensor([3, 6, 0, 5, 1, 7, 2, 4])]
        assert similarity_rank_loss(ordered, target) < similarity_rank_loss(shuffled, target)

    def test_small_distances_far_from_the_origin(self) -> None:
        batch = random_batch(7, 40).to(torch.float32)
        features = 1000 + batch.features / 100
        options: dict[str, Any] = {"similarity": "euclidean", "temperature": 0.01}
        single = similarity_rank_loss(features, batch.target, **options)
        double = similarity_rank_loss(features.double(), batch.target, **options)
        assert_near(single, double, 1e-5)

    @pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
    @pytest.mark.parametrize("features", [torch.zeros(5, 3), torch.ones(5, 3)])
    def test_features_that_are_all_the_same(self, similarity: str, features: Tensor) -> None:
        loss, gradient = value_and_gradient(
            lambda f: similarity_rank_loss(f, torch.arange(5.0), similarity=similarity),  # type: ignore[arg-type]
            features,
        )
        assert loss.isfinite()
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("target", [[], [3.0], [3.0, 3.0], [3.0, math.nan]])
    def test_nothing_to_rank(self, target: list[float]) -> None:
        labels = torch.tensor(target)
        loss, gradient = value_and_gradient(
            lambda f: similarity_rank_loss(f, labels), torch.ones(len(target), 2)
        )
        assert loss == 0
        assert (gradient == 0).all()

    @pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
    @pytest.mark.parametrize("levels", [None, 2])
    def test_gradcheck(self, similarity: str, levels: int | None) -> None:
        batch = random_batch(3, 7, 2)
        batch.target[2, 1] = torch.nan
        weight, group = torch.arange(7) / 3, torch.tensor([5, 5, -1, 5, -1, -1, 5])
        assert torch.autograd.gradcheck(
            lambda f: similarity_rank_loss(
                f,
                batch.target,
                levels=levels,
                similarity=similarity,  # type: ignore[arg-type]
                weight=weight,
                group=group,
            ),
            batch.features.requires_grad_(),
        )

    @pytest.mark.parametrize("n", [2, 3, 40, 201])
    @pytest.mark.parametrize("levels", [None, 2, 5, 300])
    @pytest.mark.parametrize("temperature", [0.03, 0.1, 2.0])
    @pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
    @pytest.mark.parametrize("column", [False, True])
    def test_float32_in_few_operations(
        self,
        n: int,
        levels: int | None,
        temperature: float,
        scale: float,
        column: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Targets on a grid, so that distances are equal in any dtype."""
        batch = random_batch(n, n)
        features = (scale * batch.features).float()
        target = (8 * batch.target).round().float()
        target[1] = target[0] + 3
        options: dict[str, Any] = {"levels": levels, "temperature": temperature}
        expected = value_and_gradient(
            lambda f: similarity_rank_loss(f, target.double(), **options), features.double()
        )
        # It is this arithmetic that is tested, and no other.
        monkeypatch.setattr("finecorr.functional.similarity.feature_batch", None)
        target = target[:, None] if column else target
        actual = value_and_gradient(lambda f: similarity_rank_loss(f, target, **options), features)
        assert_near(actual[0], expected[0], 1e-5, 1e-6)
        assert_near(actual[1], expected[1], 1e-4, 1e-6 / scale)

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_float32_with_a_label_that_is_no_number(self, wrong: float) -> None:
        batch = random_batch(3, 20)
        target = batch.target.float()
        target[[4, 11]] = wrong
        actual = value_and_gradient(
            lambda f: similarity_rank_loss(f, target), batch.features.float()
        )
        expected = value_and_gradient(
            lambda f: similarity_rank_loss(f, target.double()), batch.features
        )
        for found, wanted in zip(actual, expected, strict=True):
            torch.testing.assert_close(found.double(), wanted, equal_nan=True, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("shape", [(4,), (3, 2), (4, 2, 1)])
    def test_features_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="features"):
            similarity_rank_loss(torch.zeros(shape), torch.zeros(4))

    def test_features_of_integers(self) -> None:
        with pytest.raises(TypeError, match="features"):
            similarity_rank_loss(torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4))

    @pytest.mark.parametrize(
        "option",
        [
            {"levels": 1},
            {"levels": 0},
            {"temperature": 0.0},
            {"temperature": -1.0},
            {"temperature": math.nan},
            {"similarity": "dot"},
        ],
    )
    def test_options_out_of_range(self, option: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(option))):
            similarity_rank_loss(torch.zeros(4, 2), torch.zeros(4), **option)


class TestPredictions:
    @settings(max_examples=250)
    @given(batch=small_batches, levels=LEVELS, temperature=TEMPERATURES)
    def test_equals_the_reference(
        self, batch: Batch, levels: int | None, temperature: float
    ) -> None:
        options = {"levels": levels, "temperature": temperature}
        expected = value_and_gradient(
            lambda p: prediction_reference(p, batch, **options), batch.prediction
        )
        actual = value_and_gradient(
            lambda p: prediction_loss(p, batch, **options), batch.prediction
        )
        assert_near(actual[0], expected[0], 1e-12, 1e-12)
        assert_near(actual[1], expected[1], 1e-10, 1e-11)
        single = batch.to(torch.float32)
        actual = value_and_gradient(
            lambda p: prediction_loss(p, single, **options), single.prediction
        )
        # Exponents are differences over this unit, and off by epsilon of themselves: that is the
        # relative error of the exponentials. Gradients are differences of these over the unit.
        unit = min(populations_std(batch), default=1.0) * temperature
        exponent_off = 4 * torch.finfo(torch.float32).eps * 8 / unit
        assert_near(actual[0], expected[0], 1e-5, exponent_off)
        assert_near(actual[1], expected[1], 1e-4, exponent_off / unit)

    @settings(max_examples=100)
    @given(seed=st.integers(0, 10_000), n=st.integers(2, 12), levels=LEVELS)
    def test_equals_the_reference_without_ties(self, seed: int, n: int, levels: int | None) -> None:
        batch = random_batch(seed, n, 2)
        expected = value_and_gradient(
            lambda p: prediction_reference(p, batch, levels=levels), batch.prediction
        )
        actual = value_and_gradient(
            lambda p: prediction_loss(p, batch, levels=levels), batch.prediction
        )
        assert_near(actual[0], expected[0], 1e-12, 1e-13)
        assert_near(actual[1], expected[1], 1e-10, 1e-11)

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_the_unit_of_both_is_irrelevant(self, scale: float) -> None:
        batch = random_batch(4)
        loss = prediction_rank_loss(batch.prediction, batch.target)
        scaled = prediction_rank_loss(batch.prediction * scale + 3, batch.target * scale - 5)
        assert_near(scaled, loss, 1e-8)

    def test_neither_sign_nor_offset_is_learnt(self) -> None:
        batch = random_batch(5)
        loss = prediction_rank_loss(batch.prediction, batch.target)
        assert_near(prediction_rank_loss(2 - batch.prediction, batch.target), loss, 1e-12)

    @pytest.mark.parametrize("levels", [None, 2])
    def test_gradcheck(self, levels: int | None) -> None:
        batch = random_batch(6, 7, 2)
        batch.target[2, 1] = torch.nan
        weight, group = torch.arange(7) / 3, torch.tensor([5, 5, -1, 5, -1, -1, 5])
        assert torch.autograd.gradcheck(
            lambda p: prediction_rank_loss(
                p, batch.target, levels=levels, weight=weight, group=group
            ),
            batch.prediction.requires_grad_(),
        )

    @pytest.mark.parametrize("option", [{"levels": 1}, {"temperature": 0.0}])
    def test_options_out_of_range(self, option: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(option))):
            prediction_rank_loss(torch.zeros(4), torch.zeros(4), **option)
