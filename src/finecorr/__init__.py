"""Regression losses that optimise the correlation of predictions with the truth."""

from finecorr import functional, losses
from finecorr.losses import (
    FineGrainedCorrelationLoss,
    HuberLoss,
    MAELoss,
    MSELoss,
    PearsonLoss,
    RobustPearsonLoss,
    SimilarityRankLoss,
)

__version__ = "0.1.0"

__all__ = [
    "FineGrainedCorrelationLoss",
    "HuberLoss",
    "MAELoss",
    "MSELoss",
    "PearsonLoss",
    "RobustPearsonLoss",
    "SimilarityRankLoss",
    "functional",
    "losses",
]
