"""The mathematics: pure functions of tensors."""

from finecorr.functional.pearson import outliers, pearson_loss, robust_pearson_loss
from finecorr.functional.pointwise import huber_loss, mae_loss, mse_loss
from finecorr.functional.similarity import prediction_rank_loss, similarity_rank_loss

__all__ = [
    "huber_loss",
    "mae_loss",
    "mse_loss",
    "outliers",
    "pearson_loss",
    "prediction_rank_loss",
    "robust_pearson_loss",
    "similarity_rank_loss",
]
