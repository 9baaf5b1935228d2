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
        loss = losses.build("fine_grained", rank_weight=0.5, warmup=0.2)
        assert isinstance(loss, FineGrainedCorrelationLoss)
        assert (loss.rank_weight, loss.warmup) == (0.5, 0.2)

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
        ("similarity_rank", {}, True),
        ("fine_grained", {}, False),
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


@pytest.mark.parametrize("name", losses.available())
@pytest.mark.parametrize("robust", [None, False, True])
def test_which_read_features(name: str, robust: bool | None) -> None:
    try:
        loss = losses.build(name, **{} if robust is None else {"robust": robust})
    except TypeError:
        pytest.skip("it weighs no labels")
    # So that neighbours share a part of the residuals, and label weights depend on which they are.
    batch = random_batch(0, 40)
    batch.prediction[:] = batch.target + batch.target.sin() / 3 + batch.prediction / 9
    near = torch.stack([batch.target, batch.target**2], 1)
    values = [loss(batch.prediction, batch.target, f).item() for f in (near, batch.features)]
    assert (values[0] != values[1]) == loss.reads_features


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
            (RobustPearsonLoss(), functional.robust_pearson_loss, {}),
            (RobustPearsonLoss(robust=False), functional.robust_pearson_loss, {"robust": False}),
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
@pytest.mark.parametrize("targets", [None, 2])
def test_errors_with_label_weights(name: str, log: bool, targets: int | None) -> None:
    batch = random_batch(2, 20, targets)
    batch.prediction[4] += 100
    weight = torch.arange(20) / 7 + 0.1
    data: dict[str, Any] = {"weight": weight, "group": torch.arange(20) % 2}
    loss = losses.build(name, log=log, robust=True)
    call = batch.prediction, batch.target, batch.features
    believed = functional.label_weights(*call, **data)
    assert (believed[4] < 0.1).all()
    assert torch.equal(loss.with_label_weights(*call, **data)[1], believed)
    plain = losses.build(name, log=log)
    everyone = plain(*call, **data)
    both = functional.believed_weight(*call[:2], believed=believed, **data)
    weighed = plain(*call, weight=both, group=data["group"])
    assert everyone != weighed
    for progress, expected in ((0.0, everyone), (0.04, everyone), (0.05, weighed), (1.0, weighed)):
        loss.progress = progress
        assert_near(loss(*call, **data), expected, 1e-12)
    assert loss.weighs_labels
    assert not plain.weighs_labels
    assert (plain.with_label_weights(*call, **data)[1] == 1).all()


class TestRobustPearsonLoss:
    def test_believes_all_during_its_warmup(self) -> None:
        batch = random_batch(2, 20)
        batch.prediction[4] += 100
        loss = RobustPearsonLoss(warmup=0.25)
        call = batch.prediction, batch.target, batch.features
        everyone, weighed = (
            functional.robust_pearson_loss(*call, robust=robust) for robust in (False, True)
        )
        assert everyone != weighed
        for progress, expected in (
            (0.0, everyone),
            (0.24, everyone),
            (0.25, weighed),
            (1, weighed),
        ):
            loss.progress = progress
            value, believed = loss.with_label_weights(*call)
            assert_near(value, expected, 1e-12)
            assert torch.equal(loss(*call), value)
            assert (believed[4] == 1) == (progress < 0.25)

    def test_is_in_its_final_form_where_no_loop_tells_the_progress(self) -> None:
        batch = random_batch(2, 20)
        batch.prediction[4] += 100
        expected = functional.robust_pearson_loss(batch.prediction, batch.target)
        assert_near(RobustPearsonLoss()(batch.prediction, batch.target), expected, 1e-12)


class TestFineGrainedCorrelationLoss:
    def test_is_the_function(self) -> None:
        batch = random_batch(4, 20, 2)
        batch.prediction[4, 0] += 100
        data: dict[str, Any] = {"weight": torch.arange(20) / 7 + 0.1, "group": torch.arange(20) % 2}
        call = batch.prediction, batch.target, batch.features
        loss = FineGrainedCorrelationLoss(rank_weight=0.7)
        expected = functional.fine_grained_loss(*call, rank_weight=0.7, **data)
        assert_near(loss(*call, **data), expected, 1e-12)
        loss.progress = 0.04
        expected = functional.fine_grained_loss(*call, rank_weight=0.7, robust=False, **data)
        assert torch.equal(loss(*call, **data), expected)

    def test_without_features_is_the_robust_loss(self) -> None:
        batch = random_batch(7, 20)
        call = batch.prediction, batch.target
        assert torch.equal(FineGrainedCorrelationLoss()(*call), RobustPearsonLoss()(*call))
        alone = FineGrainedCorrelationLoss(rank_weight=0)
        assert torch.equal(alone(*call, batch.features), RobustPearsonLoss()(*call, batch.features))

    @pytest.mark.parametrize("rank_weight", [-1.0, float("nan"), float("inf")])
    def test_a_rank_weight_out_of_range(self, rank_weight: float) -> None:
        batch = random_batch(7, 20)
        with pytest.raises(ValueError, match="rank_weight"):
            FineGrainedCorrelationLoss(rank_weight=rank_weight)
        with pytest.raises(ValueError, match="rank_weight"):
            functional.fine_grained_loss(
                batch.prediction, batch.target, batch.features, rank_weight=rank_weight
            )
