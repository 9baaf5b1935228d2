"""How far a prediction may be wrong, by subjects that the training has not seen: conformal
prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-12
"""Of probabilities: what is as near as this is the same."""
_MOST_SUBJECTS = 2**53
_LARGEST, _OTHERS = 1000, 1000
"""Scores that are kept: the largest; and of the others, where there are more, those of neighbours
that are larger."""


@dataclass(frozen=True)
class Calibration:
    """Scores of samples of subjects that are exchangeable with those to come.

    A subject counts once, however many samples it has: with K subjects, of which the k-th has n_k
    samples, a score weighs 1 / (K n_k) here. For a new sample of a new subject, a score is at most

        q = min {s : sum of the weights of scores <= s, times K / (K + 1), >= level}

    with a probability of `level` or more, whatever the distribution (hierarchical conformal
    prediction: Lee, Barber and Willett, "Distribution-free inference with hierarchical data",
    arXiv:2306.06342, 2023).
    """

    scores: tuple[float, ...]
    """Ascending, finite, of at least 0."""
    weights: tuple[float, ...]
    """Of them; their sum is 1."""
    subjects: int

    def quantile(self, level: float) -> float:
        """What the score of a sample of a new subject exceeds with a probability of `1 - level` at
        most; infinite where there are too few subjects to say."""
        reached = np.cumsum(self.weights) * (self.subjects / (self.subjects + 1))
        place = int(np.searchsorted(reached, level - ROUNDING))
        return self.scores[place] if place < len(self.scores) else np.inf

    def p_values(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n,)`: the probability of as large a score, or a larger one, at most:
        (1 + K times the weights of scores that are no smaller) / (K + 1)."""
        before = np.concatenate([[0.0], np.cumsum(self.weights)])
        no_smaller = 1 - before[np.searchsorted(self.scores, scores)]
        return np.asarray((1 + self.subjects * no_smaller) / (self.subjects + 1))

    def check(self) -> None:
        """Raises ValueError if this is none."""
        scores, weights = np.array(self.scores), np.array(self.weights)
        if (
            not 0 < len(scores) == len(weights)
            or not 1 <= self.subjects <= _MOST_SUBJECTS
            or not np.isfinite(scores).all()
            or (np.diff(scores, prepend=0.0) < 0).any()
            or not (weights > 0).all()
            or abs(weights.sum() - 1) > 1e-6
        ):
            raise ValueError("its calibration is none")


@dataclass(frozen=True)
class Validation:
    """What is known by the validation subjects; None where there is nothing to know it by."""

    rows: tuple[Calibration | None, ...] = ()
    """For each target, the absolute errors of rows, in its unit."""
    subjects: tuple[Calibration | None, ...] = ()
    """The same of subjects: of their mean prediction for their mean label."""
    distances: Calibration | None = None
    """Of rows, from the training images: that of `Novelty`, the largest of a row's images."""


def calibration(scores: NDArray[np.float64], subjects: NDArray[np.str_]) -> Calibration | None:
    """Of scores `(n,)`, NaN for none, and their subjects `(n,)`; None where there is no score."""
    known = np.isfinite(scores)
    scores, subjects = scores[known], subjects[known]
    if len(scores) == 0:
        return None
    names, member, count = np.unique(subjects, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weights = 1 / (len(names) * count[member[order]])
    scores = scores[order]
    # The larger of neighbours in the place of both: quantiles can only grow by it.
    tail = max(len(scores) - _LARGEST, 0)
    thinned = np.linspace(0, tail, min(tail, _OTHERS) + 1)[1:].round().astype(int) - 1
    ends = np.concatenate([thinned, np.arange(tail, len(scores))])
    sums = np.diff(np.cumsum(weights)[ends], prepend=0.0)
    return Calibration(tuple(scores[ends].tolist()), tuple(sums.tolist()), len(names))
