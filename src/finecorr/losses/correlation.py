"""Losses on the correlation of predictions and targets, and on their order."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from finecorr import functional
from finecorr.functional.concordance import concordance_part
from finecorr.functional.fine_grained import fine_grained_and_belief
from finecorr.functional.pairwise import MARGIN, PairLoss
from finecorr.functional.pearson import (
    pearson_part,
    robust_pearson_and_belief,
    robust_pearson_part,
)
from finecorr.functional.plain.parts import Part
from finecorr.functional.relations import Similarity
from finecorr.functional.spearman import STRENGTH, Regularization
from finecorr.losses.base import Batch, Loss, PredictionLoss, RobustLoss


class PearsonLoss(PredictionLoss):
    """One minus the Pearson correlation.

    See `finecorr.functional.pearson_loss`.
    """

    function = staticmethod(functional.pearson_loss)
    in_parts = staticmethod(pearson_part)
    fixes_scale = False

    def __init__(self) -> None:
        super().__init__()


class ConcordanceLoss(PredictionLoss):
    """One minus Lin's concordance: correlation, mean and spread in one number.

    See `finecorr.functional.concordance_loss`.
    """

    function = staticmethod(functional.concordance_loss)
    in_parts = staticmethod(concordance_part)

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


class RobustPearsonLoss(RobustLoss):
    """Pearson correlation, mean and spread, with each label weighed by how far it is believed.

    Args:
        robust: whether labels have weights; see `finecorr.functional.robust_pearson_loss`.
        warmup: labels have weights from this `progress` on, when the predictions have come near
            the scale of the targets.
    """

    reads_features = False  # but for label weights

    def __init__(self, *, robust: bool = True, warmup: float = 0.05) -> None:
        super().__init__(robust=robust, warmup=warmup)

    def of(self, batch: Batch) -> Tensor:
        return batch.of_predictions(functional.robust_pearson_loss, robust=False)

    def part(self, batch: Batch) -> Part | None:
        return None if self.weighs_now else batch.of_predictions(robust_pearson_part)

    def weighing_labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch.of_all(robust_pearson_and_belief)


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

    def of(self, batch: Batch) -> Tensor:
        options = {"levels": self.levels, "temperature": self.temperature}
        if batch.features is None:
            return batch.of_predictions(functional.prediction_rank_loss, **options)
        return batch.of_features(
            functional.similarity_rank_loss, similarity=self.similarity, **options
        )


class FineGrainedCorrelationLoss(RobustPearsonLoss):
    """Robust Pearson on the global level, similarities of the features on the local one.

    See `finecorr.functional.fine_grained_loss`. Without features there is no local level, and this
    is the robust Pearson loss: on the predictions themselves it would say what that has said.

    Args:
        rank_weight: weight of the local level; non-negative.
        robust_pearson: the options of `RobustPearsonLoss`.
    """

    reads_features = True

    def __init__(self, *, rank_weight: float = 1.0, **robust_pearson: Any) -> None:
        super().__init__(**robust_pearson)
        if not 0 <= rank_weight < float("inf"):
            raise ValueError(f"rank_weight must be finite and not negative, not {rank_weight}")
        self.rank_weight = rank_weight

    def of(self, batch: Batch) -> Tensor:
        if batch.features is None:
            return super().of(batch)
        return batch.of_all(
            functional.fine_grained_loss, rank_weight=self.rank_weight, robust=False
        )

    def part(self, batch: Batch) -> Part | None:
        return super().part(batch) if batch.features is None else None

    def weighing_labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.features is None:
            return super().weighing_labels(batch)
        return batch.of_all(fine_grained_and_belief, rank_weight=self.rank_weight)
