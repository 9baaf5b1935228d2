"""All measures that somebody asks for, at once."""

from __future__ import annotations

import numpy as np

from finecorr.evaluation.agreement import MAPPED_MEASURES, MEASURES, Agreement
from finecorr.evaluation.ranks import Array
from finecorr.evaluation.within import Groups, WithinGroups, within_meanings


def meanings(within: str | None) -> dict[str, str]:
    """What each measure is, by the name of the column within whose groups some are."""
    named = {} if within is None else within_meanings(within)
    return {**MEASURES, **MAPPED_MEASURES, **named}


class Measures:
    """The measures of one model, for any number of each of its samples.

    Args:
        prediction: `(n,)`.
        target: `(n,)`, without NaN.
        mapped: add `MAPPED_MEASURES`.
        within: add `WITHIN_MEASURES`, within these groups.
    """

    def __init__(
        self,
        prediction: Array,
        target: Array,
        *,
        mapped: bool = False,
        within: Groups | None = None,
    ) -> None:
        self._parts: list[Agreement | WithinGroups] = [Agreement(prediction, target, mapped=mapped)]
        if within is not None:
            self._parts.append(WithinGroups(prediction, target, within))
        self.names = [name for part in self._parts for name in part.names]

    def __call__(self, weight: Array) -> Array:
        """`(measures, sets)` for `(n, sets)` numbers of each sample; NaN where undefined."""
        return np.concatenate([part(weight) for part in self._parts])
