"""Every loss, with and without features, as the tests of all of them call it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finecorr import losses
from finecorr.losses.base import Batch as LossBatch
from finecorr.losses.baselines import FeatureTermLoss
from strategies import Batch, assert_near

POINTWISE = {"mse", "mae", "huber", "focal_mse", "focal_mae"}
"""Defined on a single sample, too, and on a constant target."""

WITH_POINTWISE = {"rank_n_contrast", "ranksim", "conr"}
"""The sum of a pointwise loss and of one that is not."""

IN_THE_UNIT_OF_THE_TARGET = {"gradient_aligned", *POINTWISE, *WITH_POINTWISE}

PAIRWISE = {"similarity_rank", "fine_grained", *WITH_POINTWISE}
"""A sample is not compared with itself, but it is with its repetitions."""

NO_SECOND_DERIVATIVE = {
    "ranksim": "blackbox differentiation",
    "blackbox_spearman": "blackbox differentiation",
}
"""What the error says."""


class Result(NamedTuple):
    value: Tensor
    gradients: list[Tensor]
    """Of the prediction and of the features, those that the loss reads."""


@dataclass(frozen=True)
class Case:
    name: str
    with_features: bool
    options: tuple[tuple[str, Any], ...] = ()
    feature_term: bool = False
    """Without the pointwise loss that is added to it."""

    def __str__(self) -> str:
        return f"{self.name}-features" if self.with_features else self.name

    def build(self) -> losses.Loss:
        return losses.build(self.name, **dict(self.options))

    def __call__(self, batch: Batch) -> Tensor:
        features = batch.features if self.with_features else None
        loss = self.build()
        if self.feature_term:
            assert isinstance(loss, FeatureTermLoss)
            arguments = batch.prediction, batch.target, features, batch.weight, batch.group
            value = loss.feature_term(LossBatch(*arguments))
        else:
            data = {"weight": batch.weight, "group": batch.group}
            value = loss(batch.prediction, batch.target, features, **data)
        assert isinstance(value, Tensor)
        return value

    def evaluate(self, batch: Batch, *, autocast: torch.dtype | None = None) -> Result:
        prediction, features = (
            t.detach().clone().requires_grad_() for t in (batch.prediction, batch.features)
        )
        with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
            value = self(replace(batch, prediction=prediction, features=features))
            assert value.shape == ()
            gradients = torch.autograd.grad(value, [prediction, features], allow_unused=True)
        found = [gradient for gradient in gradients if gradient is not None]
        assert found, "no input gets a gradient"
        return Result(value.detach(), found)

    def reads(self, name: str) -> bool:
        if name == "prediction":
            return self.reads_prediction
        return name != "features" or self.reads_features

    @property
    def reads_prediction(self) -> bool:
        return not (self.with_features and self.build().ranks_features_alone)

    @property
    def reads_features(self) -> bool:
        return self.with_features and self.name in PAIRWISE


CASES = [
    Case(name, with_features)
    for name in losses.available()
    for with_features in (False, True)
    if with_features or not losses.build(name).needs_features
]
NO_REPETITIONS = [
    case
    for case in CASES
    if case.name not in PAIRWISE and not (case.with_features and case.build().weighs_labels)
]
"""A sample that is there twice is one that weighs twice, and not its own neighbour."""
READ_PREDICTIONS = [case for case in CASES if case.reads_prediction]
READ_FEATURES = [case for case in CASES if case.reads_features]


def assert_same(actual: Result, expected: Result, accuracy: float = 1e-9) -> None:
    """Gradients of steep losses, or of the logarithm near a perfect correlation, are off by much
    more than epsilon."""
    assert_near(actual.value, expected.value, accuracy, accuracy)
    for gradient, reference in zip(actual.gradients, expected.gradients, strict=True):
        assert_near(gradient, reference, accuracy, accuracy)
