"""What others use, with the names and defaults of their papers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from finecorr import functional
from finecorr.functional import baselines
from finecorr.losses.base import Batch, Loss, PredictionLoss

Pointwise = Literal["mse", "mae"]

_POINTWISE = {"mse": functional.mse_loss, "mae": functional.mae_loss}


class NormInNormLoss(PredictionLoss):
    """p-norm of the difference of normalised predictions and targets (Li et al., ACM MM 2020).

    See `finecorr.functional.baselines.norm_in_norm_loss`.
    """

    function = staticmethod(baselines.norm_in_norm_loss)
    fixes_scale = False

    def __init__(self, *, p: float = 1.0, q: float = 2.0) -> None:
        super().__init__(p=p, q=q)


class GradientAlignedLoss(PredictionLoss):
    """Errors, and differences of pairs, plain and normalised (Zhu et al., ICML 2025).

    See `finecorr.functional.baselines.gradient_aligned_loss`.
    """

    function = staticmethod(baselines.gradient_aligned_loss)

    def __init__(self, *, alpha: float = 0.5) -> None:
        super().__init__(alpha=alpha)


class BlackboxSpearmanLoss(PredictionLoss):
    """One minus the exact Spearman correlation, blackbox gradient (Rolinek et al., CVPR 2020).

    See `finecorr.functional.baselines.blackbox_spearman_loss`.
    """

    function = staticmethod(baselines.blackbox_spearman_loss)
    fixes_scale = False

    def __init__(self, *, interpolation: float = 1.0) -> None:
        super().__init__(interpolation=interpolation)


class FeatureTermLoss(Loss):
    """A loss of each sample, plus `feature_weight` times a loss of the features."""

    needs_features = True

    def __init__(self, pointwise: Pointwise, feature_weight: float) -> None:
        super().__init__()
        if pointwise not in _POINTWISE:
            raise ValueError(f"pointwise must be one of {', '.join(_POINTWISE)}, not {pointwise!r}")
        if not 0 <= feature_weight < float("inf"):
            raise ValueError(
                f"feature_weight must be finite and not negative, not {feature_weight}"
            )
        self.pointwise = pointwise
        self.feature_weight = feature_weight

    def of(self, batch: Batch) -> Tensor:
        if batch.features is None:
            raise ValueError(
                f"{type(self).__name__} needs features, the representation (n, d) from which the "
                "prediction was made"
            )
        error = batch.of_predictions(_POINTWISE[self.pointwise])
        return error + self.feature_weight * self.feature_term(batch)

    def feature_term(self, batch: Batch) -> Tensor:
        raise NotImplementedError


class RankNContrastLoss(FeatureTermLoss):
    """Absolute error, and features in the exact order of the targets (Zha et al., NeurIPS 2023).

    `pointwise + feature_weight * similarity_rank_loss`, with the negative Euclidean distance over
    a temperature of 2, as in the paper. There, the features are learnt first, and the predictions
    afterwards from fixed features; here both at once.
    """

    def __init__(
        self,
        *,
        pointwise: Pointwise = "mae",
        feature_weight: float = 1.0,
        temperature: float = 2.0,
    ) -> None:
        super().__init__(pointwise, feature_weight)
        self.temperature = temperature

    def feature_term(self, batch: Batch) -> Tensor:
        return batch.of_features(
            functional.similarity_rank_loss, temperature=self.temperature, similarity="euclidean"
        )


class RankSimLoss(FeatureTermLoss):
    """Absolute error, and neighbours ranked alike in features and targets (Gong et al., ICML 2022).

    `pointwise + feature_weight * ranksim_loss`.
    """

    def __init__(
        self,
        *,
        pointwise: Pointwise = "mae",
        feature_weight: float = 100.0,
        interpolation: float = 200.0,
    ) -> None:
        super().__init__(pointwise, feature_weight)
        self.interpolation = interpolation

    def feature_term(self, batch: Batch) -> Tensor:
        return batch.of_features(baselines.ranksim_loss, interpolation=self.interpolation)


class ConRLoss(FeatureTermLoss):
    """Absolute error, and features of wrongly close predictions apart (Keramati et al., ICLR 2024).

    `pointwise + feature_weight * conr_loss`. The paper's `window = 1` and `push = 0.01` are for
    ages in years, whose standard deviation is about 20. Here they are for targets with a standard
    deviation of about 1.
    """

    def __init__(
        self,
        *,
        pointwise: Pointwise = "mae",
        feature_weight: float = 1.0,
        window: float = 0.05,
        temperature: float = 0.07,
        push: float = 0.2,
    ) -> None:
        super().__init__(pointwise, feature_weight)
        self.window = window
        self.temperature = temperature
        self.push = push

    def feature_term(self, batch: Batch) -> Tensor:
        return batch.of_all(
            baselines.conr_loss, window=self.window, temperature=self.temperature, push=self.push
        )
