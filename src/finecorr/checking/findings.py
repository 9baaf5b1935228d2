"""What was found: each a kind, where, and what; and the sections that they are in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from finecorr.data.table import ImageTable

_ROW = re.compile(r"row (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """Something to look at."""

    kind: str
    what: str
    case: int | None = None
    """The position of its row in the table; None where it is of the whole."""
    other: int | None = None
    """That of the other row of a pair."""
    refused: bool = False
    """Whether a training would be."""


@dataclass(frozen=True)
class Histogram:
    name: str
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Section:
    """One thing that was looked at."""

    title: str
    lines: Sequence[str]
    """What is so, found or not."""
    findings: Sequence[Finding] = ()
    histograms: Sequence[Histogram] = field(default_factory=tuple)

    @property
    def verdict(self) -> str:
        """In a line."""
        counts = Counter(finding.kind for finding in self.findings)
        return ", ".join(f"{kind} ({n})" for kind, n in counts.items()) or "nothing found"


def refusals(kind: str, faults: Sequence[str], table: ImageTable) -> list[Finding]:
    """A finding for each fault, as the readers of tables put them."""
    case = {int(row): position for position, row in enumerate(table.rows)}
    found = []
    for fault in faults:
        place = _ROW.fullmatch(fault)
        at = None if place is None else case.get(int(place[1]))
        what = fault if place is None or at is None else place[2]
        found.append(Finding(kind, what, at, refused=True))
    return found


def some(count: int, one: str, many: str | None = None) -> str:
    """A number of things."""
    return f"{count} {one if count == 1 else many or one + 's'}"
