"""Losses on the correlation of predictions and targets, and on their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from finecorr import functional
from finecorr.functional.pairwise import MARGIN, PairLoss
from finecorr.functional.relations import Similarity
from finecorr.functional.spearman import STRENGTH, Regularization
from finecorr.losses.base import Loss, OutlierLoss, PredictionLoss
from finecorr.losses.memory import Batch, Memory

Local = Literal["correlation", "rank"]


class PearsonLoss(PredictionLoss):
    """One minus the Pearson correlation.

    See `finecorr.functional.pearson_loss`.
    """

    function = staticmethod(functional.pearson_loss)
    fixes_scale = False

    def __init__(self) -> None:
        super().__init__()


class ConcordanceLoss(PredictionLoss):
    """One minus Lin's concordance: correlation, mean and spread in one number.

    See `finecorr.functional.concordance_loss`.
    """

    function = staticmethod(functional.concordance_loss)

    def __init__(self) -> None:
        super().__init__()


class SpearmanLoss(PredictionLoss):
    """One minus the Spearman correlation, with soft ranks (Blondel et al., ICML 2020).

    See `finecorr.functional.spearman_loss`.
    """

    function = staticmethod(functional.spearman_loss)
    fixes_scale = False

    def __init__(
        self, *, strength: float = STRENGTH, regularization: Regularization = "l2"
    ) -> None:
        super().__init__(strength=strength, regularization=regularization)


class PairwiseRankLoss(PredictionLoss):
    """Each pair of samples in the order of its targets, by hinge or logistic loss.

    See `finecorr.functional.pairwise_rank_loss`.
    """

    function = staticmethod(functional.pairwise_rank_loss)
    fixes_scale = False

    def __init__(self, *, kind: PairLoss = "hinge", margin: float = MARGIN) -> None:
        super().__init__(kind=kind, margin=margin)


class RobustPearsonLoss(OutlierLoss):
    """Pearson correlation, mean and spread, without outliers.

    Args:
        outlier_threshold, max_outlier_fraction, mean_weight, std_weight, outlier_weight, log:
            see `finecorr.functional.robust_pearson_loss`.
        warmup: outliers are set aside from this `progress` on, when the predictions have come
            near the scale of the targets.
        memory: a correlation over a few samples is mostly chance. A smaller batch is filled up to
            this number with the latest samples, of which no gradient is taken; that of the batch
            is multiplied by the number of samples over those of the batch. Only in training mode
            and with gradients; 0 for the batch alone. What is remembered is not in the state dict,
            but `memory.state()` tells it, for a training that is to go on exactly as it was.
    """

    def __init__(
        self,
        *,
        outlier_threshold: float | None = 3.5,
        max_outlier_fraction: float = 0.3,
        mean_weight: float = 0.5,
        std_weight: float = 0.5,
        outlier_weight: float = 0.0,
        log: bool = True,
        warmup: float = 0.05,
        memory: int = 64,
    ) -> None:
        super().__init__(
            outlier_threshold=outlier_threshold,
            max_outlier_fraction=max_outlier_fraction,
            warmup=warmup,
        )
        self.memory = Memory(memory)
        self.mean_weight = mean_weight
        self.std_weight = std_weight
        self.outlier_weight = outlier_weight
        self.log = log
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
        batch = Batch(prediction, target, features, weight, group)
        if not (self.training and torch.is_grad_enabled()):
            return self.of_population(batch)
        loss = self.of_population(self.memory.fill(batch))
        self.memory.remember(batch)
        return loss

    def of_population(self, batch: Batch) -> Tensor:
        """The loss, without the memory."""
        return functional.robust_pearson_loss(
            batch.prediction,
            batch.target,
            outlier_threshold=self.present_threshold(),
            max_outlier_fraction=self.max_outlier_fraction,
            mean_weight=self.mean_weight,
            std_weight=self.std_weight,
            outlier_weight=self.outlier_weight,
            log=self.log,
            weight=batch.weight,
            group=batch.group,
        )

    def outliers(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        batch = Batch(prediction, target, None, weight, group)
        if self.training:
            batch = self.memory.fill(batch)
        found = self._outliers(batch.prediction, batch.target, batch.weight, batch.group)
        return found[: len(prediction)]


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
    """Robust Pearson on the global level, similarities of the features on the local one.

        robust_pearson_loss + rank_weight * similarity_correlation_loss

    The local level leaves out the samples that the robust Pearson loss sets aside, so that a group
    weighs there what its other samples do. Without features there is no local level, and this is
    the robust Pearson loss: on the predictions themselves it would say what that has said.

    With `local="rank"`, the local level is `similarity_rank_loss`, from coarse to fine: near or
    far at the start, the exact order at the end.

    The idea is that of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022,
    arXiv 2207.00347); the formulas are our own.

    Args:
        rank_weight: weight of the local level; non-negative.
        local: "correlation" or "rank".
        levels, temperature, similarity: of "rank", see `finecorr.functional.similarity_rank_loss`;
            `levels` are taken one after another, in equal parts of the training.
        robust_pearson: the options of `RobustPearsonLoss`.
    """

    def __init__(
        self,
        *,
        rank_weight: float = 1.0,
        local: Local = "correlation",
        levels: Sequence[int | None] = (2, 4, 8, 16, 32, None),
        temperature: float = 0.1,
        similarity: Similarity = "cosine",
        **robust_pearson: Any,
    ) -> None:
        super().__init__(**robust_pearson)
        if not 0 <= rank_weight < float("inf"):
            raise ValueError(f"rank_weight must be finite and not negative, not {rank_weight}")
        if local not in get_args(Local):
            raise ValueError(f"local must be one of {', '.join(get_args(Local))}, not {local!r}")
        if not levels:
            raise ValueError("levels must not be empty")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        self.rank_weight = rank_weight
        self.local = local
        self.levels = tuple(levels)
        self.temperature = temperature
        self.similarity = similarity

    def present_levels(self) -> int | None:
        """The number of levels at the present `progress`."""
        return self.levels[min(int(self.progress * len(self.levels)), len(self.levels) - 1)]

    def of_population(self, batch: Batch) -> Tensor:
        loss = super().of_population(batch)
        if self.rank_weight == 0 or batch.features is None:
            return loss
        normal = self.normal_targets(
            batch.prediction, batch.target, weight=batch.weight, group=batch.group
        )
        if self.local == "correlation":
            local = functional.similarity_correlation_loss(
                batch.features, normal, weight=batch.weight, group=batch.group
            )
        else:
            local = functional.similarity_rank_loss(
                batch.features,
                normal,
                levels=self.present_levels(),
                temperature=self.temperature,
                similarity=self.similarity,
                weight=batch.weight,
                group=batch.group,
            )
        return loss + self.rank_weight * local
