"""Correlation with the target on two levels: of the predictions, and of each sample's similarities.

The idea is that of "Fine-grained Correlation Loss for Regression" (Chen et al., MICCAI 2022, arXiv
2207.00347); the formulas are our own.
"""

from __future__ import annotations

from torch import Tensor

from finecorr.functional.features import bounded, check_features, feature_batch
from finecorr.functional.label_noise import weigh
from finecorr.functional.pearson import (
    log_errors,
    log_errors_of_moments,
    robust_pearson_and_belief,
    robust_pearson_loss,
)
from finecorr.functional.plain.step import Parts, plain_step
from finecorr.functional.similarity_correlation import (
    limits,
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
        return fine_grained_and_belief(prediction, target, features, rank_weight, weight, group)[0]
    if group is None:
        loss = robust_pearson_loss(prediction, target, robust=False, weight=weight)
        if rank_weight:
            level = similarity_correlation_of(features, target, weight, None, bound=True)
            loss = loss + rank_weight * level
        return loss
    return _of_populations(prediction, target, features, rank_weight, weight, group)


def fine_grained_and_belief(
    prediction: Tensor,
    target: Tensor,
    features: Tensor,
    rank_weight: float,
    weight: Tensor | None,
    group: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`fine_grained_loss`, and its label weights."""
    if not rank_weight:
        return robust_pearson_and_belief(prediction, target, features, weight, group)
    if group is None:

        def general(prediction: Tensor, features: Tensor | None, weight: Tensor) -> Tensor:
            assert features is not None
            return _of_populations(prediction, target, features, rank_weight, weight, None)

        local = limits(log=True, bound=True)
        parts = Parts(log_errors_of_moments, general, local, rank_weight)
        found = plain_step(prediction, target, features, weight, parts)
        if found is not None:
            return found
    known, weight = weigh(prediction, target, features, weight, group)
    loss = fine_grained_loss(
        *(prediction, target, features),
        rank_weight=rank_weight,
        robust=False,
        weight=weight,
        group=group,
    )
    return loss, known


def _of_populations(
    prediction: Tensor,
    target: Tensor,
    features: Tensor,
    rank_weight: float,
    weight: Tensor | None,
    group: Tensor | None,
) -> Tensor:
    batch, features = feature_batch(features, prediction, target, weight, group)
    loss = log_errors(batch)
    if rank_weight:
        loss = loss + rank_weight * similarity_correlation(batch, bounded(features, batch))
    return loss
