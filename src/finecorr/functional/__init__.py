"""The mathematics: pure functions of tensors."""

from finecorr.functional import baselines
from finecorr.functional.concordance import concordance_loss
from finecorr.functional.fine_grained import fine_grained_loss
from finecorr.functional.label_noise import believed_weight, label_weights
from finecorr.functional.pairwise import pairwise_rank_loss
from finecorr.functional.pearson import pearson_loss, robust_pearson_loss
from finecorr.functional.pointwise import huber_loss, mae_loss, mse_loss
from finecorr.functional.similarity import prediction_rank_loss, similarity_rank_loss
from finecorr.functional.similarity_correlation import similarity_correlation_loss
from finecorr.functional.spearman import soft_rank, spearman_loss

__all__ = [
    "baselines",
    "believed_weight",
    "concordance_loss",
    "fine_grained_loss",
    "huber_loss",
    "label_weights",
    "mae_loss",
    "mse_loss",
    "pairwise_rank_loss",
    "pearson_loss",
    "prediction_rank_loss",
    "robust_pearson_loss",
    "similarity_correlation_loss",
    "similarity_rank_loss",
    "soft_rank",
    "spearman_loss",
]
