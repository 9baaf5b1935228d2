"""Correlation with the target on two levels: of the predictions, and of each sample's similarities.

The idea is that of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022, arXiv
2207.00347); the formulas are our own.
"""

from __future__ import annotations

from torch import Tensor

from finecorr.functional.features import bounded, check_features, feature_batch
from finecorr.functional.label_noise import believed_weight, label_weights
from finecorr.functional.pearson import log_errors, robust_pearson_loss
from finecorr.functional.similarity_correlation import (
    similarity_correlation,
    similarity_correlation_of,
)


def fine_grained_loss(
    prediction: Tensor,
    target: Tensor,
    features: Tensor,
    *,
    rank_weight: float = 1.0,
    robust: bool = True,
    weight: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Robust Pearson loss of the predictions, and similarity correlation of the features.

        robust_pearson_loss + rank_weight * similarity_correlation_loss

    Both with the same label weights. The second does not change with the scale of the features, so
    that its gradient grows as they shrink; it is bounded here: where the standard deviation of the
    features (the root of their mean variance) is below 0.1, it is that of features of 0.1.

    Args:
        prediction: `(n,)` or `(n, targets)`, in the unit of `target`.
        target: the shape of `prediction`; NaN is a missing label.
        features: `(n, d)`, from which the prediction was made.
        rank_weight: non-negative.
        robust: whether labels have weights.
        weight: `(n,)`, non-negative: how much each sample counts.
        group: `(n,)` integers: everything is within each group, averaged by the groups' weights.

    Returns:
        A scalar, the mean over targets. What is undefined is left out, as in
        `finecorr.functional.pearson_loss`.

    Raises:
        ValueError, TypeError: see `finecorr.functional.moments.populations`; or an option is out of
            its range.
    """
    if not 0 <= rank_weight < float("inf"):
        raise ValueError(f"rank_weight must be finite and not negative, not {rank_weight}")
    check_features(features, target)
    if robust:
        data = {"weight": weight, "group": group}
        known = label_weights(prediction, target, features, **data)
        weight = believed_weight(prediction, target, believed=known, **data)
    if group is None:
        loss = robust_pearson_loss(prediction, target, robust=False, weight=weight)
        if rank_weight:
            level = similarity_correlation_of(features, target, weight, None, bound=True)
            loss = loss + rank_weight * level
        return loss
    batch, features = feature_batch(features, prediction, target, weight, group)
    loss = log_errors(batch)
    if rank_weight:
        loss = loss + rank_weight * similarity_correlation(batch, bounded(features, batch))
    return loss
