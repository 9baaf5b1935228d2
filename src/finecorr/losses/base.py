"""What the losses have in common: one calling convention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from finecorr import functional


class Loss(nn.Module):
    """A loss that can be exchanged for any other of this module.

    `forward(prediction, target, features=None, *, weight=None, group=None)` returns a scalar:

    - prediction: `(n,)` or `(n, targets)`
    - target: the shape of `prediction`; NaN is a missing label
    - features: `(n, d)`, the representation from which the prediction was made, for the losses
      that use it
    - weight: `(n,)`, non-negative: how much each sample counts
    - group: `(n,)` integers: correlation within each group, averaged by the groups' weights

    What is undefined is left out, as `finecorr.functional.pearson_loss` describes.
    """

    progress: float = 1.0
    """How much of the training is done, from 0 to 1, for the losses that change with it. A loop
    that does not set it gets the final form from the start."""

    fixes_scale: bool = True
    """Whether a low loss means predictions in the unit of the target. Otherwise they need a linear
    calibration."""

    weighs_labels: bool = False
    """Whether labels that the predictions contradict may count less; `label_weights` tells how
    much."""

    ranks_features_alone: ClassVar[bool] = False
    """Whether the predictions get no gradient where features are given."""

    needs_features: ClassVar[bool] = False
    """Whether a call without features is an error."""

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        raise NotImplementedError

    def label_weights(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        """How far each label is believed at the present `progress`, from 0 to 1: in the shape of
        `target`, without a gradient.

        The arguments are those of `forward`.
        """
        return torch.ones_like(prediction.detach())


class PredictionLoss(Loss):
    """A loss that has no use for features: one of `finecorr.functional` with its options."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        return self.function(prediction, target, weight=weight, group=group, **self.options)

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
        self.warmup = warmup

    def is_robust(self) -> bool:
        """Whether labels are weighed at the present `progress`."""
        return self.weighs_labels and self.progress >= self.warmup

    def label_weights(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        if not self.is_robust():
            return super().label_weights(prediction, target)
        return functional.label_weights(prediction, target, features, weight=weight, group=group)
