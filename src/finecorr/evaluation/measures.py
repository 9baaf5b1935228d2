"""All measures that somebody asks for, at once."""

from __future__ import annotations

import numpy as np

from finecorr.evaluation.agreement import MAPPED_MEASURES, MEASURES, Agreement
from finecorr.evaluation.ranks import Array, Index
from finecorr.evaluation.within import WITHIN_MEASURES, WithinGroups

MEANINGS = {**MEASURES, **MAPPED_MEASURES, **WITHIN_MEASURES}


class Measures:
    """The measures of one model, for any number of each of its samples.

    Args:
        prediction: `(n,)`.
        target: `(n,)`, without NaN.
        member: `(n,)`: the group of each sample, numbered from 0 without gaps.
        mapped: add `MAPPED_MEASURES`.
        within: add `WITHIN_MEASURES`.
    """

    def __init__(
        self,
        prediction: Array,
        target: Array,
        member: Index,
        *,
        mapped: bool = False,
        within: bool = False,
    ) -> None:
        self._parts: list[Agreement | WithinGroups] = [Agreement(prediction, target, mapped=mapped)]
        if within:
            self._parts.append(WithinGroups(prediction, target, member))
        self.names = [name for part in self._parts for name in part.names]

    def __call__(self, weight: Array) -> Array:
        """`(measures, sets)` for `(n, sets)` numbers of each sample; NaN where undefined."""
        return np.concatenate([part(weight) for part in self._parts])
