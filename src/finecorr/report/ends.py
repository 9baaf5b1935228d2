"""The cases at both ends of the scale, by truth and by prediction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZE = 6
"""Cases at an end."""


class End(NamedTuple):
    """The outermost cases come first."""

    name: str
    by_truth: list[int]
    by_prediction: list[int]

    @property
    def both(self) -> set[int]:
        return set(self.by_truth) & set(self.by_prediction)


def ends(prediction: Array, truth: Array) -> list[End]:
    """Up to 6 cases with the highest and as many with the lowest values.

    Of equal truths, those are taken that are predicted so: one is as good as another.

    Args:
        prediction: `(n,)`; NaN for a case that is not predicted.
        truth: `(n,)`; NaN for a missing label.

    Returns:
        The highest and the lowest; nothing where fewer than two cases have both, or where all
        predictions or all truths are the same.
    """
    known = np.flatnonzero(np.isfinite(prediction) & np.isfinite(truth))
    size = min(SIZE, len(known) // 2)
    if not size or not np.ptp(prediction[known]) or not np.ptp(truth[known]):
        return []
    by_truth = known[np.lexsort((prediction[known], truth[known]))]
    by_prediction = known[np.argsort(prediction[known], kind="stable")]
    return [
        End("Highest", *(order[::-1][:size].tolist() for order in (by_truth, by_prediction))),
        End("Lowest", *(order[:size].tolist() for order in (by_truth, by_prediction))),
    ]
