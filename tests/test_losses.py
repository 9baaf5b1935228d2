from __future__ import annotations

from typing import Any

import pytest
import torch

from finecorr import functional, losses
from finecorr.losses import (
    FineGrainedCorrelationLoss,
    HuberLoss,
    PearsonLoss,
    RobustPearsonLoss,
    SimilarityRankLoss,
)
from strategies import assert_near, random_batch


class TestTheTable:
    @pytest.mark.parametrize("name", losses.available())
    def test_builds_what_is_available(self, name: str) -> None:
        assert isinstance(losses.build(name), losses.Loss)

    def test_hands_options_on(self) -> None:
        loss = losses.build("fine_grained", rank_weight=0.5, mean_weight=2.0)
        assert isinstance(loss, FineGrainedCorrelationLoss)
        assert (loss.rank_weight, loss.mean_weight) == (0.5, 2.0)

    def test_an_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(ValueError, match="unknown loss 'person'") as error:
            losses.build("person")
        assert "did you mean pearson?" in str(error.value)
        assert all(name in str(error.value) for name in losses.available())

    @pytest.mark.parametrize("name", losses.available())
    def test_an_unknown_option(self, name: str) -> None:
        with pytest.raises(TypeError, match="no_such_option"):
            losses.build(name, no_such_option=1)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mse", {}, False),
        ("pearson", {}, True),
        ("robust_pearson", {}, False),
        ("robust_pearson", {"mean_weight": 0.0}, True),
        ("robust_pearson", {"std_weight": 0.0}, True),
        ("similarity_rank", {}, True),
        ("fine_grained", {}, False),
        ("fine_grained", {"mean_weight": 0.0, "std_weight": 0.0}, True),
    ],
)
def test_which_fix_no_scale(name: str, options: dict[str, Any], expected: bool) -> None:
    """Those whose loss, at its lowest, leaves the unit of the prediction open."""
    loss = losses.build(name, **options)
    assert loss.fixes_scale is not expected


@pytest.mark.parametrize("name", losses.available())
def test_which_leave_the_predictions_without_gradient(name: str) -> None:
    batch = random_batch(0)
    prediction = batch.prediction.requires_grad_()
    value = losses.build(name)(prediction, batch.target, batch.features.requires_grad_())
    (gradient,) = torch.autograd.grad(value, prediction, allow_unused=True)
    assert (gradient is None) == losses.build(name).ranks_features_alone


class TestOneByOne:
    """The class is the function with its options."""

    data = random_batch(1, 20)
    weight = torch.arange(20) / 7
    group = torch.arange(20) % 3

    @pytest.mark.parametrize(
        ("loss", "function", "options"),
        [
            (losses.MSELoss(), functional.mse_loss, {}),
            (losses.MAELoss(), functional.mae_loss, {}),
            (HuberLoss(delta=0.2), functional.huber_loss, {"delta": 0.2}),
            (losses.MSELoss(log=True), functional.mse_loss, {"log": True}),
            (losses.MAELoss(log=True), functional.mae_loss, {"log": True}),
            (HuberLoss(log=True, delta=2), functional.huber_loss, {"log": True, "delta": 2}),
            (PearsonLoss(), functional.pearson_loss, {}),
            (
                RobustPearsonLoss(outlier_threshold=1.0, outlier_weight=0.3, mean_weight=0.2),
                functional.robust_pearson_loss,
                {"outlier_threshold": 1.0, "outlier_weight": 0.3, "mean_weight": 0.2},
            ),
            (
                RobustPearsonLoss(
                    outlier_threshold=1.0, max_outlier_fraction=0.1, std_weight=0.2, log=False
                ),
                functional.robust_pearson_loss,
                {
                    "outlier_threshold": 1.0,
                    "max_outlier_fraction": 0.1,
                    "std_weight": 0.2,
                    "log": False,
                },
            ),
            (
                SimilarityRankLoss(levels=4, temperature=0.7),
                functional.prediction_rank_loss,
                {"levels": 4, "temperature": 0.7},
            ),
        ],
    )
    def test_on_predictions(
        self, loss: losses.Loss, function: Any, options: dict[str, Any]
    ) -> None:
        data: dict[str, Any] = {"weight": self.weight, "group": self.group}
        expected = function(self.data.prediction, self.data.target, **data, **options)
        assert torch.equal(loss(self.data.prediction, self.data.target, **data), expected)

    def test_on_features(self) -> None:
        data: dict[str, Any] = {"weight": self.weight, "group": self.group}
        loss = SimilarityRankLoss(levels=4, temperature=0.7, similarity="euclidean")
        expected = functional.similarity_rank_loss(
            self.data.features,
            self.data.target,
            levels=4,
            temperature=0.7,
            similarity="euclidean",
            **data,
        )
        actual = loss(self.data.prediction, self.data.target, self.data.features, **data)
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
@pytest.mark.parametrize("log", [False, True])
def test_errors_without_the_outliers(name: str, log: bool) -> None:
    batch = random_batch(2, 20)
    batch.prediction[4] += 100
    data: dict[str, Any] = {"weight": torch.arange(20) / 7 + 0.1, "group": torch.arange(20) % 2}
    loss = losses.build(name, log=log, outlier_threshold=3.5, max_outlier_fraction=0.2)
    outlier = functional.outliers(batch.prediction, batch.target, max_outlier_fraction=0.2, **data)
    assert outlier[4]
    assert torch.equal(loss.outliers(batch.prediction, batch.target, **data), outlier)
    plain = losses.build(name, log=log)
    everyone = plain(batch.prediction, batch.target, **data)
    normal = plain(batch.prediction, batch.target.masked_fill(outlier, torch.nan), **data)
    assert everyone != normal
    for progress, expected in ((0.0, everyone), (0.04, everyone), (0.05, normal), (1.0, normal)):
        loss.progress = progress
        assert torch.equal(loss(batch.prediction, batch.target, **data), expected)
    assert loss.sets_outliers_aside
    assert not plain.sets_outliers_aside
    assert not plain.outliers(batch.prediction, batch.target, **data).any()


class TestRobustPearsonLoss:
    def test_sets_nothing_aside_during_its_warmup(self) -> None:
        batch = random_batch(2, 20)
        batch.prediction[4] += 100
        loss = RobustPearsonLoss(warmup=0.25, memory=0)
        everyone, normal = (
            functional.robust_pearson_loss(
                batch.prediction, batch.target, outlier_threshold=threshold
            )
            for threshold in (None, 3.5)
        )
        assert everyone != normal
        for progress, expected in ((0.0, everyone), (0.24, everyone), (0.25, normal), (1, normal)):
            loss.progress = progress
            assert torch.equal(loss(batch.prediction, batch.target), expected)

    def test_is_in_its_final_form_where_no_loop_tells_the_progress(self) -> None:
        batch = random_batch(2, 20)
        batch.prediction[4] += 100
        expected = functional.robust_pearson_loss(batch.prediction, batch.target)
        assert torch.equal(RobustPearsonLoss()(batch.prediction, batch.target), expected)


class TestFineGrainedCorrelationLoss:
    @pytest.mark.parametrize(
        ("progress", "levels"),
        [
            (0.0, 2),
            (0.16, 2),
            (0.17, 4),
            (0.34, 8),
            (0.51, 16),
            (0.67, 32),
            (0.83, 32),
            (0.84, None),
            (1.0, None),
        ],
    )
    def test_ranks_from_coarse_to_fine(self, progress: float, levels: int | None) -> None:
        loss = FineGrainedCorrelationLoss(local="rank", rank_weight=0.3, warmup=0)
        batch = random_batch(3, 40)
        loss.progress = progress
        assert loss.present_levels() == levels
        ranking = functional.similarity_rank_loss(batch.features, batch.target, levels=levels)
        expected = functional.robust_pearson_loss(batch.prediction, batch.target) + 0.3 * ranking
        assert not functional.outliers(batch.prediction, batch.target).any()
        assert_near(loss(batch.prediction, batch.target, batch.features), expected, 1e-12)

    def test_ranks_by_levels_of_ones_own(self) -> None:
        loss = FineGrainedCorrelationLoss(local="rank", levels=[3], temperature=0.4, memory=0)
        batch = random_batch(3, 20)
        expected = functional.robust_pearson_loss(batch.prediction, batch.target)
        expected = expected + functional.similarity_rank_loss(
            batch.features, batch.target, levels=3, temperature=0.4
        )
        for progress in (0.1, 1.0):
            loss.progress = progress
            assert_near(loss(batch.prediction, batch.target, batch.features), expected, 1e-12)

    @pytest.mark.parametrize("local", ["correlation", "rank"])
    def test_is_the_sum_of_both_without_the_outliers(self, local: Any) -> None:
        batch = random_batch(4, 20, 2)
        batch.prediction[4, 0] += 100
        batch.prediction[7, 1] -= 100
        batch.target[0, 1] = torch.nan
        data: dict[str, Any] = {"weight": torch.arange(20) / 7 + 0.1, "group": torch.arange(20) % 2}
        outlier = functional.outliers(batch.prediction, batch.target, **data)
        assert outlier[4, 0]
        assert outlier[7, 1]
        normal = batch.target.clone()
        normal[outlier] = torch.nan
        robust = functional.robust_pearson_loss(
            batch.prediction, batch.target, mean_weight=0.2, **data
        )
        functions: dict[str, Any] = {
            "correlation": functional.similarity_correlation_loss,
            "rank": functional.similarity_rank_loss,
        }
        loss = FineGrainedCorrelationLoss(local=local, rank_weight=0.7, mean_weight=0.2)
        actual = loss(batch.prediction, batch.target, batch.features, **data)
        expected = robust + 0.7 * functions[local](batch.features, normal, **data)
        assert_near(actual, expected, 1e-12)

    def test_compares_everyone_during_the_warmup(self) -> None:
        batch = random_batch(5, 20)
        batch.prediction[4] += 100
        loss = FineGrainedCorrelationLoss()
        loss.progress = 0.04
        expected = functional.robust_pearson_loss(
            batch.prediction, batch.target, outlier_threshold=None
        ) + functional.similarity_correlation_loss(batch.features, batch.target)
        assert_near(loss(batch.prediction, batch.target, batch.features), expected, 1e-12)

    @pytest.mark.parametrize("local", ["correlation", "rank"])
    def test_an_outlier_gets_no_gradient(self, local: Any) -> None:
        batch = random_batch(6, 20)
        batch.prediction[4] += 100
        inputs = [batch.prediction.requires_grad_(), batch.features.requires_grad_()]
        loss = FineGrainedCorrelationLoss(local=local)
        value = loss(inputs[0], batch.target, inputs[1])
        for gradient in torch.autograd.grad(value, inputs):
            assert (gradient[4] == 0).all()
            assert gradient[5].any()

    def test_without_features_is_the_robust_loss(self) -> None:
        batch = random_batch(7, 20)
        expected = RobustPearsonLoss(std_weight=0.4)(batch.prediction, batch.target)
        loss = FineGrainedCorrelationLoss(std_weight=0.4)
        assert torch.equal(loss(batch.prediction, batch.target), expected)
        loss = FineGrainedCorrelationLoss(rank_weight=0, std_weight=0.4)
        assert torch.equal(loss(batch.prediction, batch.target, batch.features), expected)

    @pytest.mark.parametrize("rank_weight", [-1.0, float("nan"), float("inf")])
    def test_a_rank_weight_out_of_range(self, rank_weight: float) -> None:
        with pytest.raises(ValueError, match="rank_weight"):
            FineGrainedCorrelationLoss(rank_weight=rank_weight)

    def test_options_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="local must be one of correlation, rank"):
            FineGrainedCorrelationLoss(local="order")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="levels"):
            FineGrainedCorrelationLoss(local="rank", levels=())
