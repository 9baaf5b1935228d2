"""The labels of a target: their distribution, and those that stand out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation, skew

from finecorr.checking.findings import Finding, Histogram, Section, some
from finecorr.data.table import ImageTable
from finecorr.evaluation.contradiction import SUSPICIOUS
from finecorr.evaluation.observers import ceiling

Array = NDArray[np.float64]

_FAR = 5.0
"""Robust standard deviations from which on a label is far out."""
_SKEWED = 1.0
_FACTORS = {
    "1000": 1000.0,
    "100": 100.0,
    "25.4 (inch and mm)": 25.4,
    "10": 10.0,
    "2.54 (inch and cm)": 2.54,
}
_NEAR = 0.25
"""How far, as a share, the medians of two clusters may be from a factor."""
_GAP = 1.25
"""Ratio of neighbours between two clusters."""
_FEW, _MOST, _ROOM = 3, 0.9, 0.15
_CODES = (-9999, -999, -99, -9, -1, 0, 99, 999, 9999, 99999)
_ONCE = (-9999, -999, -99, 999, 9999, 99999)
"""These say it where they are there once."""
_TIMES, _OFTENER = 3, 5
"""How often another code occurs, and how many times as often as any other value."""
_MIDDLE = 3.29
"""Standard deviations in which the middle 90 % of a normal distribution are."""
_WHOLE = 20
"""Different values up to which labels are grades, which repeat."""
_BINS = 24


def look_at_labels(table: ImageTable, target: int) -> Section:
    """What there is to say of a target, by its position."""
    name, labels = table.target_columns[target], table.targets[:, target]
    title = f"Labels: {name}"
    cases = np.flatnonzero(np.isfinite(labels))
    known = labels[cases]
    missing = len(labels) - len(known)
    first = f"{some(len(known), 'label')}, {missing or 'none'} missing"
    if len(known) < 2 or known.min() == known.max():
        return Section(title, [first])
    five = np.quantile(known, [0, 0.05, 0.5, 0.95, 1])
    values, counts = np.unique(known, return_counts=True)
    lines = [
        first,
        "min {:.4g}, 5 % {:.4g}, median {:.4g}, 95 % {:.4g}, max {:.4g}".format(*five),
        f"{len(values)} different values; {counts[counts > 1].sum()} labels share theirs; "
        f"skewness {skew(known):+.2f}",
    ]
    found, odd = [], np.zeros(len(known), dtype=np.bool_)
    for kind in (_codes, _other_units, _far_out):
        for place, what in kind(known, odd):
            odd[place] = True
            found.append(Finding(_KINDS[kind.__name__], what, int(cases[place])))
    if len(known) >= 3:
        scale = _scaled(known[~odd] if (~odd).any() else known)[1]
        lines.append(f"whether a label is far out is judged by {scale}")
    if table.standard_errors is not None:
        more, disagreed = _observers(table, known, cases)
        lines += more
        found += disagreed
    # By halves: from the lowest to the highest may be more than a float holds.
    bins = min(_BINS, max(len(values), 2))
    counts, edges = np.histogram(known, 2 * np.linspace(five[0] / 2, five[-1] / 2, bins + 1))
    return Section(title, lines, found, [Histogram(name, edges, counts)])


class _Odd(NamedTuple):
    place: int
    what: str


def _codes(labels: Array, _: NDArray[np.bool_]) -> list[_Odd]:
    """Codes for a missing label: away from the others, or far more often than any other."""
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 3:
        return []
    found = []
    enough = (counts >= _TIMES) | np.isin(values, _ONCE)
    for value in values[enough & np.isin(values, [values[0], values[-1]])]:
        others = values != value
        count = int(counts[~others][0])
        often = len(values) > _WHOLE and count >= max(_TIMES, _OFTENER * counts[others].max())
        rest = labels[labels != value]
        gap = np.abs(rest - value).min()
        wide = np.ptp(np.quantile(rest, [0.05, 0.95]))
        away = value in _CODES and (
            gap > max(wide / 4, 2 * _typical_step(rest)) or value < 0 < rest.min()
        )
        if often or away:
            what = f"{value:g}, in {some(count, 'row')}: is it a code for a missing label?"
            found += [_Odd(int(place), what) for place in np.flatnonzero(labels == value)]
    return found


def _typical_step(values: Array) -> float:
    return float(np.quantile(np.diff(np.unique(values)), 0.9)) if len(set(values)) > 1 else 0.0


def _other_units(labels: Array, odd: NDArray[np.bool_]) -> list[_Odd]:
    """Those of the smaller of two clusters, whose medians differ by a factor of units."""
    places = np.flatnonzero(~odd & (labels > 0))
    if len(places) < max(10, 0.9 * (~odd).sum()):
        return []
    order = places[np.argsort(labels[places])]
    ratios = labels[order][1:] / labels[order][:-1]
    found: dict[int, tuple[int, _Odd]] = {}
    for at in np.flatnonzero(ratios > _GAP) + 1:
        above = bool(at > len(order) / 2)
        few, many = (order[at:], order[:at]) if above else (order[:at], order[at:])
        name = _factor(labels[few], labels[many], above, float(ratios[at - 1]))
        if name is None:
            continue
        side = "above" if above else "below"
        others = f", like {len(few) - 1} more" if len(few) > 1 else ""
        for place in few.tolist():
            what = (
                f"{labels[place]:.4g} is {side} the others by a factor of about {name}{others}: "
                "is it in another unit?"
            )
            # Of several clusters that a label is in, the largest one.
            if len(few) > found.get(place, (0,))[0]:
                found[place] = len(few), _Odd(place, what)
    return [said for _, said in found.values()]


def _factor(few: Array, many: Array, above: bool, gap: float) -> str | None:
    """The factors of units by which few labels may be above, or below, the others, the nearest
    first."""
    scales: list[Callable[[Array], Array]] = [np.asarray] if above else []
    # Where labels reach down to 0, as scores do, the logarithm makes outliers.
    if skew(np.log(many)) > -_SKEWED:
        scales.append(np.log)
    scores = [_scores(few, many, scale).min() for scale in scales]
    if max(scores, default=0.0) <= SUSPICIOUS:
        return None
    low, high = np.quantile(many, [0.05, 0.95]) * [1 - _ROOM, 1 + _ROOM]
    ratio = float(np.median(few) / np.median(many))
    ratio = ratio if above else 1 / ratio
    names = []
    for name, factor in sorted(_FACTORS.items(), key=lambda item: abs(np.log(item[1] / ratio))):
        back = few / factor if above else few * factor
        # A few need not be like the middle of the others, and have to be among them: that says
        # something where the others are closer together than the factor, and the few apart.
        near = abs(ratio / factor - 1) < _NEAR or len(few) <= _FEW
        among = np.mean((back >= low) & (back <= high)) >= _MOST
        if near and among and gap > factor ** (1 / 3) and high < low * factor:
            names.append(name)
    return " or ".join(names) or None


def _far_out(labels: Array, odd: NDArray[np.bool_]) -> list[_Odd]:
    places = np.flatnonzero(~odd)
    if len(places) < 10:
        return []
    score, scale = _scores(labels[places], labels[places]), _scaled(labels[places])[1]
    what = "{:.4g} is {:.1f} robust standard deviations from the median, by {}"
    far = np.flatnonzero(score > _FAR)
    far = far[np.argsort(-score[far])]
    return [_Odd(int(places[f]), what.format(labels[places[f]], score[f], scale)) for f in far]


_KINDS = {
    "_codes": "possible code for a missing label",
    "_other_units": "label in another unit",
    "_far_out": "label far out",
}


def _scaled(labels: Array) -> tuple[Callable[[Array], Array], str]:
    """The scale on which labels are compared, and what it is called."""
    if labels.min() > 0 and skew(labels) > _SKEWED:
        return np.log, "its logarithm, as all are positive and skewed"
    return np.asarray, "its value"


def _scores(labels: Array, among: Array, scale: Callable[[Array], Array] | None = None) -> Array:
    """`(n,)`: how many robust standard deviations labels are from the median of others.

    That is the larger one by their median absolute deviation and by their middle 90 %: labels may
    have a sharp middle and wide wings.
    """
    scale = scale or _scaled(among)[0]
    values, others = scale(labels), scale(among)
    low, high = np.quantile(others, [0.05, 0.95])
    spread = max(median_abs_deviation(others, scale="normal"), (high - low) / _MIDDLE)
    if spread == 0:
        return np.zeros(len(labels))
    return np.asarray(np.abs(values - np.median(others)) / spread)


def _observers(
    table: ImageTable, known: Array, cases: NDArray[np.intp]
) -> tuple[list[str], list[Finding]]:
    """How far those disagree whose mean the label is."""
    assert table.standard_errors is not None
    errors = table.standard_errors[cases]
    sure = np.isfinite(errors)
    if not sure.any():
        return [], []
    share = np.sqrt((errors[sure] ** 2).mean()) / known[sure].std()
    lines = [f"the standard error of a label is {share:.0%} of the standard deviation of labels"]
    found = []
    if share >= 1:
        what = "the observers disagree by more than their means differ: there is nothing to learn"
        found.append(Finding("disagreement", what))
    else:
        lines.append(ceiling(known[sure], errors[sure], draws=100).text())
    typical = np.median(errors[sure])
    score = _scores(errors[sure], errors[sure])
    for place in np.flatnonzero((score > _FAR) & (errors[sure] > 2 * typical)):
        case = int(cases[sure][place])
        what = f"the standard error of its label is {errors[sure][place]:.3g}; the median is "
        found.append(Finding("disagreement", f"{what}{typical:.3g}", case))
    return lines, found
