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
from finecorr.pieces import InPieces, in_pieces

__version__ = "0.1.0"

__all__ = [
    "FineGrainedCorrelationLoss",
    "HuberLoss",
    "InPieces",
    "MAELoss",
    "MSELoss",
    "PearsonLoss",
    "RobustPearsonLoss",
    "SimilarityRankLoss",
    "functional",
    "in_pieces",
    "losses",
]
