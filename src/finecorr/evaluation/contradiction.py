"""How much predictions contradict labels."""

from __future__ import annotations

import numpy as np
from scipy.stats import median_abs_deviation

from finecorr.evaluation.ranks import Array

SUSPICIOUS = 3.5
"""Score from which on a label is suspected (Iglewicz and Hoaglin, 1993)."""
_NEIGHBOURS = 100
_LEAST_SPREAD = 0.5
"""Of that of all samples: a few neighbours that happen to agree are no measure."""


def contradiction(prediction: Array, label: Array) -> Array:
    """`(n,)`: how far each label is from where samples of like size have theirs.

    Where labels spread more about the predictions, as those of large sizes may do, a far one says
    less. With the residual `e = label - prediction`, and over the 100 samples with the nearest
    predictions,

        |e - median(e)| / max(1.4826 median |e - median(e)|, half of the same over all samples)

    It is 0 where that is 0 / 0.

    Args:
        prediction: `(n,)` of models that have not seen the label.
        label: `(n,)`, without NaN.
    """
    order = np.argsort(prediction, kind="stable")
    error = (label - prediction)[order]
    count, n = min(_NEIGHBOURS, len(error)), len(error)
    first = np.clip(np.arange(n) - count // 2, 0, n - count)
    near = error[first[:, None] + np.arange(count)]
    spread = median_abs_deviation(near, axis=1, scale="normal")
    least = _LEAST_SPREAD * median_abs_deviation(error, scale="normal")
    distance = np.abs(error - np.median(near, axis=1))
    scores = np.empty(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores[order] = np.nan_to_num(distance / np.maximum(spread, least), posinf=np.inf)
    return scores
