"""The losses as modules with one calling convention, and the table of their names."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from finecorr import functional
from finecorr.functional.similarity import Similarity


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

    ranks_features_alone: ClassVar[bool] = False
    """Whether the predictions get no gradient where features are given."""

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


class _PredictionLoss(Loss):
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


class MSELoss(_PredictionLoss):
    """Mean squared error: `finecorr.functional.mse_loss`."""

    function = staticmethod(functional.mse_loss)

    def __init__(self) -> None:
        super().__init__()


class MAELoss(_PredictionLoss):
    """Mean absolute error: `finecorr.functional.mae_loss`."""

    function = staticmethod(functional.mae_loss)

    def __init__(self) -> None:
        super().__init__()


class HuberLoss(_PredictionLoss):
    """Squared error up to `delta`, linear beyond: `finecorr.functional.huber_loss`."""

    function = staticmethod(functional.huber_loss)

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__(delta=delta)


class PearsonLoss(_PredictionLoss):
    """One minus the Pearson correlation: `finecorr.functional.pearson_loss`."""

    function = staticmethod(functional.pearson_loss)
    fixes_scale = False

    def __init__(self) -> None:
        super().__init__()


class RobustPearsonLoss(Loss):
    """Pearson correlation, mean and spread, without outliers.

    Args:
        outlier_threshold, max_outlier_fraction, mean_weight, std_weight, outlier_weight, log:
            see `finecorr.functional.robust_pearson_loss`.
        warmup: outliers are set aside from this `progress` on, when the predictions have come
            near the scale of the targets.
    """

    def __init__(
        self,
        *,
        outlier_threshold: float | None = 3.5,
        max_outlier_fraction: float = 0.3,
        mean_weight: float = 1.0,
        std_weight: float = 1.0,
        outlier_weight: float = 0.0,
        log: bool = True,
        warmup: float = 0.05,
    ) -> None:
        super().__init__()
        self.outlier_threshold = outlier_threshold
        self.max_outlier_fraction = max_outlier_fraction
        self.mean_weight = mean_weight
        self.std_weight = std_weight
        self.outlier_weight = outlier_weight
        self.log = log
        self.warmup = warmup
        self.fixes_scale = mean_weight > 0 and std_weight > 0

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        return functional.robust_pearson_loss(
            prediction,
            target,
            outlier_threshold=self._threshold(),
            max_outlier_fraction=self.max_outlier_fraction,
            mean_weight=self.mean_weight,
            std_weight=self.std_weight,
            outlier_weight=self.outlier_weight,
            log=self.log,
            weight=weight,
            group=group,
        )

    def _threshold(self) -> float | None:
        return self.outlier_threshold if self.progress >= self.warmup else None


class SimilarityRankLoss(Loss):
    """Samples closer in target should be closer in representation.

    With features it ranks these (and the predictions get no gradient); without, the predictions
    themselves, by their distance in standard deviations of the target. Then it does not fix their
    scale, nor whether they rise or fall with the target.

    Args:
        levels, temperature, similarity: see `finecorr.functional.similarity_rank_loss`.
            `similarity` is that of features; predictions are always compared by distance.
    """

    fixes_scale = False
    ranks_features_alone = True

    def __init__(
        self,
        *,
        levels: int | None = None,
        temperature: float = 0.1,
        similarity: Similarity = "cosine",
    ) -> None:
        super().__init__()
        self.levels = levels
        self.temperature = temperature
        self.similarity = similarity

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        if features is not None:
            return functional.similarity_rank_loss(
                features,
                target,
                levels=self.levels,
                temperature=self.temperature,
                similarity=self.similarity,
                weight=weight,
                group=group,
            )
        return functional.prediction_rank_loss(
            prediction,
            target,
            levels=self.levels,
            temperature=self.temperature,
            weight=weight,
            group=group,
        )


class FineGrainedCorrelationLoss(RobustPearsonLoss):
    """Robust Pearson on the global level, similarity ranking from coarse to fine on the local one.

        robust_pearson_loss + rank_weight * similarity_rank_loss

    The ranking leaves out the samples that the robust Pearson loss sets aside, so that a group
    weighs there what its other samples do. Its `levels` are 2
    at the start and double as `progress` grows, in equal steps, to end with the exact order.
    Without features the predictions themselves are ranked.

    The idea is that of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022,
    arXiv 2207.00347); the formulas are our own.

    Args:
        rank_weight: weight of the ranking; non-negative.
        temperature, similarity: see `finecorr.functional.similarity_rank_loss`.
        robust_pearson: the options of `RobustPearsonLoss`.
    """

    LEVELS: ClassVar[tuple[int | None, ...]] = (2, 4, 8, 16, 32, None)

    def __init__(
        self,
        *,
        rank_weight: float = 0.3,
        temperature: float = 0.1,
        similarity: Similarity = "cosine",
        **robust_pearson: Any,
    ) -> None:
        super().__init__(**robust_pearson)
        if not 0 <= rank_weight < float("inf"):
            raise ValueError(f"rank_weight must be finite and not negative, not {rank_weight}")
        self.rank_weight = rank_weight
        self.ranking = SimilarityRankLoss(temperature=temperature, similarity=similarity)

    def levels(self) -> int | None:
        """The number of levels at the present `progress`."""
        return self.LEVELS[min(int(self.progress * len(self.LEVELS)), len(self.LEVELS) - 1)]

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        loss = super().forward(prediction, target, weight=weight, group=group)
        if self.rank_weight == 0:
            return loss
        outlier = functional.outliers(
            prediction,
            target,
            outlier_threshold=self._threshold(),
            max_outlier_fraction=self.max_outlier_fraction,
            weight=weight,
            group=group,
        )
        dtype = torch.promote_types(prediction.dtype, target.dtype)
        normal = torch.where(outlier, torch.nan, target.to(dtype))
        self.ranking.levels = self.levels()
        ranking: Tensor = self.ranking(prediction, normal, features, weight=weight, group=group)
        return loss + self.rank_weight * ranking


_LOSSES: dict[str, type[Loss]] = {
    "mse": MSELoss,
    "mae": MAELoss,
    "huber": HuberLoss,
    "pearson": PearsonLoss,
    "robust_pearson": RobustPearsonLoss,
    "similarity_rank": SimilarityRankLoss,
    "fine_grained": FineGrainedCorrelationLoss,
}


def available() -> list[str]:
    """The names that `build` knows."""
    return list(_LOSSES)


def build(name: str, **options: Any) -> Loss:
    """The loss of that name, with its options.

    Raises:
        ValueError: no loss has that name; the message lists those there are.
        TypeError: the loss has no such option.
    """
    if name not in _LOSSES:
        near = difflib.get_close_matches(name, _LOSSES, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"unknown loss {name!r}{hint}; known are {', '.join(_LOSSES)}")
    return _LOSSES[name](**options)
