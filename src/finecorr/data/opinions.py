"""What several observers say of each row: their mean, how sure it is, and the weight that gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finecorr.data.frames import Frame
from finecorr.data.numbers import Numbers, checked
from finecorr.errors import InputError

Array = NDArray[np.float64]

_PRIOR = 4.0
"""Degrees of freedom."""


@dataclass(frozen=True)
class OpinionColumns:
    """Where the opinions are, if they are known."""

    scores: tuple[str, ...] | None
    """The columns of the scores of each observer;"""
    deviation: str | None
    """or that of the standard deviation of the opinions,"""
    observers: str | None
    """and that of their number, or a number."""

    @property
    def number(self) -> float | None:
        """Of observers, where it is no column."""
        given = re.fullmatch(r"[0-9]+(\.[0-9]+)?", self.observers or "")
        return float(given[0]) if given else None

    @property
    def flags(self) -> dict[str, list[str]]:
        """The columns that are asked for, by the flag that does it."""
        observers = None if self.number is not None else self.observers
        return {
            "--score-columns": list(self.scores or ()),
            "--sd-column": [] if self.deviation is None else [self.deviation],
            "--observers": [] if observers is None else [observers],
        }

    def check(self, targets: tuple[str, ...]) -> None:
        """Raises InputError if they contradict each other, or the columns of targets."""
        if (self.deviation is None) != (self.observers is None):
            raise InputError("give --sd-column and --observers together")
        if self.scores is None and self.deviation is None:
            return
        if self.scores is not None and self.deviation is not None:
            raise InputError("give --score-columns, or --sd-column and --observers, not both")
        if self.scores is not None and len(set(self.scores)) < max(2, len(self.scores)):
            raise InputError("--score-columns needs a column for each of at least two observers")
        if len(targets) > 1:
            flag = "--sd-column" if self.scores is None else "--score-columns"
            raise InputError(f"{flag} is for one target, and --target-columns names several")
        if self.number is not None and self.number < 2:
            raise InputError(f"--observers must be at least 2, or a column, not {self.observers}")

    def check_columns(self, source: Path, columns: list[str], target: str) -> None:
        """Raises InputError if a column has a name that means something else."""
        if self.scores is not None and target in columns:
            raise InputError(
                f"{source}: --target-columns calls the mean of --score-columns {target!r}, which "
                "is a column of the table: give the mean a name of its own"
            )
        if self.number is not None and self.observers in columns:
            raise InputError(
                f"{source}: --observers {self.observers} is a number, and also the name of a "
                "column: rename the column"
            )

    def read(
        self, frame: Frame, label: Array, numbers: Mapping[str, Numbers], faults: list[str]
    ) -> Opinions | None:
        """The opinions of each row; None where they are not known.

        Args:
            frame: the table.
            label: `(n,)`: the mean of the opinions, where the table has it.
            numbers: the columns.
            faults: to which cells are added that are no number, or out of their range.
        """
        if self.scores is not None:
            scores = [checked(frame, name, numbers, faults) for name in self.scores]
            return summarised(np.stack(scores, axis=1))
        if self.deviation is None or self.observers is None:
            return None
        count = np.full(len(label), self.number or np.nan)
        if self.number is None:
            needed = "the number of observers whose mean is the label"
            count = checked(
                frame,
                self.observers,
                numbers,
                faults,
                needed,
                lambda v: (v < 1) | (np.isnan(v) & np.isfinite(label)),
            )
        deviation = checked(
            frame, self.deviation, numbers, faults, "a number of at least 0", lambda v: v < 0
        )
        return Opinions(label, deviation, count)


@dataclass(frozen=True)
class Opinions:
    """Of the observers of each row."""

    mean: Array
    """`(n,)`: NaN where nobody has scored."""
    deviation: Array
    """`(n,)`: the standard deviation of their scores (with n - 1); NaN where it is not known."""
    count: Array
    """`(n,)`: how many there are."""


def summarised(scores: Array) -> Opinions:
    """What `(n, observers)` scores, NaN where an observer has not scored, say of each row."""
    known = np.isfinite(scores)
    count = known.sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, scores, 0).sum(axis=1) / count
    squares = (np.where(known, scores - mean[:, None], 0) ** 2).sum(axis=1)
    deviation = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
    return Opinions(mean, deviation, count)


def standard_errors(source: Path, opinions: Opinions) -> Array:
    """`(n,)`: of each mean of n opinions, `s`; NaN where nobody has scored.

    That two or three observers agree may be chance. So their deviation `d` is drawn to that of all
    rows, as if four degrees of freedom had it already (the moderated variance of Smyth, 2004, with
    a fixed prior):

        s^2 = ((n - 1) d^2 + 4 p^2) / (n - 1 + 4) / n,   p^2 = sum((n - 1) d^2) / sum(n - 1)

    Of a single opinion, or where the deviation is not known, that is `p^2 / n`.

    Args:
        source: the table.
        opinions: of its rows.

    Raises:
        InputError: no row has two observers and a deviation.
    """
    deviation, count = opinions.deviation, opinions.count
    scored = np.isfinite(opinions.mean) & (count > 0)
    known = scored & np.isfinite(deviation) & (count > 1)
    if not known.any():
        raise InputError(
            f"{source}: no row has the scores of two observers, so that nothing says how much they "
            "disagree"
        )
    freedom = np.where(known, count - 1, 0)
    squares = freedom * np.where(known, deviation, 0) ** 2
    pooled = squares.sum() / freedom.sum()
    moderated = (squares + _PRIOR * pooled) / (freedom + _PRIOR)
    return np.asarray(np.sqrt(moderated / np.where(scored, count, np.nan)))


def weights_of(errors: Array) -> Array:
    """`(n,)`: `1 / (s_i^2 + mean(s^2))` of the standard errors `s`, and 0 where they are NaN.

    The inverse variance of a label, to which the model's own error adds: it is taken to be as large
    as that of a label is on average, so that a row on which all agree counts at most twice as much
    as an average one.
    """
    known = np.isfinite(errors)
    squares = errors[known] ** 2
    average = squares.mean()
    result = np.zeros(len(errors))
    result[known] = 1 / (squares + average) if average > 0 else 1
    return result
