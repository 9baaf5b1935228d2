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

    sets_outliers_aside: bool = False
    """Whether samples that contradict their targets may be left out; `outliers` tells which."""

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

    def outliers(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        """Which samples are left out at the present `progress`: boolean, in the shape of `target`.

        The arguments are those of `forward`.
        """
        return torch.zeros_like(target, dtype=torch.bool)


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


class OutlierLoss(Loss):
    """A loss that can leave out the samples which contradict their targets.

    Args:
        outlier_threshold, max_outlier_fraction: see `finecorr.functional.outliers`.
        warmup: outliers are set aside from this `progress` on, when the predictions have come
            near the scale of the targets.
        options: of the class that this one is combined with.
    """

    def __init__(
        self,
        *,
        outlier_threshold: float | None,
        max_outlier_fraction: float,
        warmup: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.outlier_threshold = outlier_threshold
        self.max_outlier_fraction = max_outlier_fraction
        self.warmup = warmup
        self.sets_outliers_aside = outlier_threshold is not None

    def outliers(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        return self._outliers(prediction, target, weight, group)

    def normal_targets(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        """The targets, NaN where they are set aside."""
        if self.present_threshold() is None:
            return target
        outlier = self._outliers(prediction, target, weight, group)
        dtype = torch.promote_types(prediction.dtype, target.dtype)
        return torch.where(outlier, torch.nan, target.to(dtype))

    def present_threshold(self) -> float | None:
        """The threshold at the present `progress`."""
        return self.outlier_threshold if self.progress >= self.warmup else None

    def _outliers(
        self, prediction: Tensor, target: Tensor, weight: Tensor | None, group: Tensor | None
    ) -> Tensor:
        return functional.outliers(
            prediction,
            target,
            outlier_threshold=self.present_threshold(),
            max_outlier_fraction=self.max_outlier_fraction,
            weight=weight,
            group=group,
        )
