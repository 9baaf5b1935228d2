"""What others use: losses of other papers, as published, under the contract of ours.

Where a formula of a paper breaks, is random, or does not say what a weight is, the docstring says
what is done here. Rank-N-Contrast is `similarity_rank_loss` with `similarity="euclidean"` and
`temperature=2`; `finecorr.losses.RankNContrastLoss` adds the error of each sample.
"""

from finecorr.functional.baselines.blackbox import blackbox_spearman_loss
from finecorr.functional.baselines.conr import conr_loss
from finecorr.functional.baselines.focal import focal_mae_loss, focal_mse_loss
from finecorr.functional.baselines.gradient_aligned import gradient_aligned_loss
from finecorr.functional.baselines.norm_in_norm import norm_in_norm_loss
from finecorr.functional.baselines.ranksim import ranksim_loss

__all__ = [
    "blackbox_spearman_loss",
    "conr_loss",
    "focal_mae_loss",
    "focal_mse_loss",
    "gradient_aligned_loss",
    "norm_in_norm_loss",
    "ranksim_loss",
]
