"""The mathematics: pure functions of tensors."""

from finecorr.functional import baselines
from finecorr.functional.concordance import concordance_loss
from finecorr.functional.pairwise import pairwise_rank_loss
from finecorr.functional.pearson import outliers, pearson_loss, robust_pearson_loss
from finecorr.functional.pointwise import huber_loss, mae_loss, mse_loss
from finecorr.functional.similarity import prediction_rank_loss, similarity_rank_loss
from finecorr.functional.similarity_correlation import similarity_correlation_loss
from finecorr.functional.spearman import soft_rank, spearman_loss

__all__ = [
    "baselines",
    "concordance_loss",
    "huber_loss",
    "mae_loss",
    "mse_loss",
    "outliers",
    "pairwise_rank_loss",
    "pearson_loss",
    "prediction_rank_loss",
    "robust_pearson_loss",
    "similarity_correlation_loss",
    "similarity_rank_loss",
    "soft_rank",
    "spearman_loss",
]
