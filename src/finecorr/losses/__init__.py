"""The losses as modules with one calling convention, and the table of their names."""

from __future__ import annotations

import difflib
from typing import Any

from finecorr.losses.base import Loss
from finecorr.losses.baselines import (
    BlackboxSpearmanLoss,
    ConRLoss,
    GradientAlignedLoss,
    NormInNormLoss,
    RankNContrastLoss,
    RankSimLoss,
)
from finecorr.losses.correlation import (
    ConcordanceLoss,
    FineGrainedCorrelationLoss,
    PairwiseRankLoss,
    PearsonLoss,
    RobustPearsonLoss,
    SimilarityRankLoss,
    SpearmanLoss,
)
from finecorr.losses.global_batch import GlobalBatch
from finecorr.losses.memory import Memory
from finecorr.losses.pointwise import FocalMAELoss, FocalMSELoss, HuberLoss, MAELoss, MSELoss

__all__ = [
    "BlackboxSpearmanLoss",
    "ConRLoss",
    "ConcordanceLoss",
    "FineGrainedCorrelationLoss",
    "FocalMAELoss",
    "FocalMSELoss",
    "GlobalBatch",
    "GradientAlignedLoss",
    "HuberLoss",
    "Loss",
    "MAELoss",
    "MSELoss",
    "Memory",
    "NormInNormLoss",
    "PairwiseRankLoss",
    "PearsonLoss",
    "RankNContrastLoss",
    "RankSimLoss",
    "RobustPearsonLoss",
    "SimilarityRankLoss",
    "SpearmanLoss",
    "available",
    "build",
]

_LOSSES: dict[str, type[Loss]] = {
    "fine_grained": FineGrainedCorrelationLoss,
    "robust_pearson": RobustPearsonLoss,
    "pearson": PearsonLoss,
    "concordance": ConcordanceLoss,
    "spearman": SpearmanLoss,
    "similarity_rank": SimilarityRankLoss,
    "pairwise_rank": PairwiseRankLoss,
    "mse": MSELoss,
    "mae": MAELoss,
    "huber": HuberLoss,
    "focal_mse": FocalMSELoss,
    "focal_mae": FocalMAELoss,
    "norm_in_norm": NormInNormLoss,
    "gradient_aligned": GradientAlignedLoss,
    "rank_n_contrast": RankNContrastLoss,
    "ranksim": RankSimLoss,
    "conr": ConRLoss,
    "blackbox_spearman": BlackboxSpearmanLoss,
}


def available() -> dict[str, str]:
    """The names that `build` knows, each with one line of explanation."""
    return {name: (loss.__doc__ or "").partition("\n")[0] for name, loss in _LOSSES.items()}


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
