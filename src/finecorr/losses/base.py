"""What the losses have in common: one calling convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from finecorr.functional.label_noise import weigh
from finecorr.functional.plain.parts import Part

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """The arguments of a loss."""

    prediction: Tensor
    target: Tensor
    features: Tensor | None = None
    weight: Tensor | None = None
    group: Tensor | None = None

    def __len__(self) -> int:
        # What is no batch is for the loss to refuse.
        return len(self.prediction) if getattr(self.prediction, "ndim", 0) else 0

    def of_predictions(self, function: Callable[..., T], **options: Any) -> T:
        """A function of `finecorr.functional` of predictions and targets."""
        return function(
            prediction=self.prediction,
            target=self.target,
            weight=self.weight,
            group=self.group,
            **options,
        )

    def of_features(self, function: Callable[..., Tensor], **options: Any) -> Tensor:
        """A function of `finecorr.functional` of features and targets."""
        return function(
            features=self.features,
            target=self.target,
            weight=self.weight,
            group=self.group,
            **options,
        )

    def of_all(self, function: Callable[..., T], **options: Any) -> T:
        """A function of `finecorr.functional` of predictions, features and targets."""
        return self.of_predictions(function, features=self.features, **options)


class Loss(nn.Module):
    """A loss that can be exchanged for any other of this module.

    `forward(prediction, target, features=None, *, weight=None, group=None)` returns a scalar:

    - prediction: `(n,)` or `(n, targets)`
    - target: the shape of `prediction`; NaN is a missing label
    - features: `(n, d)`, the representation from which the prediction was made, for the losses
      that use it
    - weight: `(n,)`, non-negative: how much each sample counts; or, in the shape of `target`, each
      label
    - group: `(n,)` integers: correlation within each group, averaged by the groups' weights

    What is undefined is left out, as `finecorr.functional.pearson_loss` describes. A prediction, or
    feature that is read, that is not finite makes the loss so, unless its label is missing. No
    gradient is taken of targets and weights: a target that requires one is an error. A loss is a
    function of its batch and of `progress`: it remembers nothing.

    A subclass defines `of`.
    """

    progress: float = 1.0
    """How much of the training is done, from 0 to 1, for the losses that change with it. A loop
    that does not set it gets the final form from the start."""

    fixes_scale: bool = True
    """Whether a low loss means predictions in the unit of the target. Otherwise they need a linear
    calibration."""

    weighs_labels: bool = False
    """Whether labels that the predictions contradict may count less; `with_label_weights` tells how
    much."""

    ranks_features_alone: bool = False
    """Whether the predictions get no gradient where features are given."""

    reads_features: bool = True
    """Whether features change anything."""

    needs_features: bool = False
    """Whether a call without features is an error."""

    def of(self, batch: Batch) -> Tensor:
        """The loss, with the weights that the batch has."""
        raise NotImplementedError

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        return self.evaluate(Batch(prediction, target, features, weight, group))[0]

    def with_label_weights(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss, and how far it believed each label, from 0 to 1: in the shape of `target`,
        without a gradient.

        The arguments are those of `forward`.
        """
        loss, believed = self.evaluate(Batch(prediction, target, features, weight, group))
        return loss, torch.ones_like(prediction.detach()) if believed is None else believed

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss, and how far it believed each label; None where it believed all."""
        return self.of(batch), None

    def part(self, batch: Batch) -> Part | None:
        """The batch as a part of a larger one, of whose loss it has to know only a few numbers;
        None where it has to know all samples.

        A subclass that changes the loss of a class with parts changes this, too.
        """
        return None


class Wrapper(Loss):
    """A loss of other batches than those that it is called with."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss
        for name in (
            *("fixes_scale", "weighs_labels", "ranks_features_alone"),
            *("reads_features", "needs_features"),
        ):
            setattr(self, name, getattr(loss, name))

    @property
    def progress(self) -> float:
        return self.loss.progress

    @progress.setter
    def progress(self, progress: float) -> None:
        self.loss.progress = progress


def with_gradient(values: Tensor, factor: float) -> Tensor:
    """The same values, whose gradient is multiplied."""
    return values.detach() + factor * (values - values.detach())


class PredictionLoss(Loss):
    """A loss that has no use for features: one of `finecorr.functional` with its options."""

    function: ClassVar[Callable[..., Tensor]]

    in_parts: ClassVar[Callable[..., Part | None] | None] = None
    """The same of a batch in parts, for a loss of a few numbers."""

    reads_features = False

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def of(self, batch: Batch) -> Tensor:
        return batch.of_predictions(self.function, **self.options)

    def part(self, batch: Batch) -> Part | None:
        return self.in_parts and batch.of_predictions(self.in_parts, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.options.items())


class RobustLoss(Loss):
    """A loss that can weigh labels by how far they are to be believed.

    Args:
        robust: whether it does; see `finecorr.functional.label_weights`.
        warmup: from this `progress` on, when the predictions have come near the scale of the
            targets.
        options: of the class that this one is combined with.
    """

    def __init__(self, *, robust: bool, warmup: float, **options: Any) -> None:
        super().__init__(**options)
        self.weighs_labels = robust
        self.reads_features = robust or self.reads_features
        self.warmup = warmup

    @property
    def weighs_now(self) -> bool:
        """Whether the warm-up is over."""
        return self.weighs_labels and self.progress >= self.warmup

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self.weighing_labels(batch) if self.weighs_now else super().evaluate(batch)

    def part(self, batch: Batch) -> Part | None:
        return None if self.weighs_now else super().part(batch)

    def weighing_labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss with label weights, and these."""
        believed, weight = batch.of_all(weigh)
        trusted = Batch(batch.prediction, batch.target, batch.features, weight, batch.group)
        return self.of(trusted), believed
