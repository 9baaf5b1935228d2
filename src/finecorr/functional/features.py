"""The features of a batch: the representation that losses of similarity compare."""

from __future__ import annotations

import torch
from torch import Tensor

from finecorr.functional.moments import Populations, populations

LEAST_STD = 0.1
"""Of features whose gradient is their own; see `bounded`."""


def check_features(features: Tensor, target: Tensor) -> None:
    """Raises ValueError or TypeError where `features` are not `(n, d)` floating point beside the
    `(n,)` or `(n, targets)` of `target`."""
    if not isinstance(features, Tensor) or not isinstance(target, Tensor):
        name, wrong = ("target", target) if isinstance(features, Tensor) else ("features", features)
        raise TypeError(f"{name} must be a tensor, not {type(wrong).__name__}")
    if not features.is_floating_point():
        raise TypeError(f"features must be floating point, not {features.dtype}")
    if target.ndim not in (1, 2):
        raise ValueError(f"target must be (n,) or (n, targets), not {tuple(target.shape)}")
    if features.ndim != 2 or len(features) != len(target) or features.shape[1] == 0:
        raise ValueError(
            f"features must be (n, d) with the n = {len(target)} of target and d >= 1, "
            f"not {tuple(features.shape)}"
        )
    if features.device != target.device:
        raise ValueError(f"features is on {features.device}, but target is on {target.device}")


def first_feature(features: Tensor, target: Tensor) -> Tensor:
    """In the shape of one target's predictions."""
    return features[:, 0] if target.ndim == 1 else features[:, :1]


def feature_batch(
    features: Tensor,
    prediction: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    group: Tensor | None,
) -> tuple[Populations, Tensor]:
    """The batch, and the features `(n, d)` of its samples: 0 for one that takes no part.

    Raises:
        ValueError, TypeError: `features` is not `(n, d)` floating point, or see
            `finecorr.functional.moments.populations`.
    """
    check_features(features, target)
    if prediction is None:
        prediction = features.new_zeros(target.shape)
    elif isinstance(prediction, Tensor) and prediction.is_floating_point():
        prediction = prediction.to(torch.promote_types(prediction.dtype, features.dtype))
    batch = populations(prediction, target, weight, group)
    features = features.to(batch.target.dtype)
    features = features if batch.order is None else features[batch.order]
    return batch, torch.where((batch.weight > 0).any(1, keepdim=True), features, 0)


def batch_with_features(
    features: Tensor | None,
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None,
    group: Tensor | None,
) -> tuple[Populations, Tensor | None]:
    """`feature_batch`, or without features the batch alone."""
    if features is None:
        return populations(prediction, target, weight, group), None
    return feature_batch(features, prediction, target, weight, group)


def bounded(features: Tensor, batch: Populations) -> Tensor:
    """The same features, with a bound for the gradient of a loss that does not change with their
    scale: where their standard deviation (the root of the mean variance over the dimensions, of the
    samples that take part) is below 0.1, it is that of features of 0.1.

    Such a gradient is the larger the smaller they are, and pushes them apart; with a fixed learning
    rate that can go on without end.
    """
    fixed = features.detach()
    share = (batch.weight > 0).any(1, keepdim=True).to(fixed.dtype)
    share = share / share.sum().clamp(min=1)
    deviation = fixed - (share * fixed).sum(0)
    variance = (share * deviation.square()).sum(0).mean()
    return fixed + (variance.sqrt() / LEAST_STD).clamp(max=1) * (features - fixed)


def directions(features: Tensor) -> Tensor:
    """Features of length 1, or 0 where they were."""
    # By the largest entry first, so that squares neither overflow nor vanish.
    largest = features.detach().norm(torch.inf, dim=1, keepdim=True)
    features = features / torch.where(largest > 0, largest, 1)
    length = features.norm(dim=1, keepdim=True)
    return features / torch.where(length > 0, length, 1)
