"""The labels of a target: their distribution, and those that stand out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation, skew

from finecorr.checking.findings import Finding, Histogram, Section, some
from finecorr.data.table import ImageTable
from finecorr.evaluation.observers import ceiling
from finecorr.evaluation.suspects import SUSPICIOUS

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
_STANDS_FOR_NONE = (-9999, -999, -99, -9, -1, 0, 99, 999, 9999, 99999)
_TIMES, _OFTENER = 3, 5
"""How often a value that stands for none occurs, and how many times as often as any other one."""
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
    for kind in (_placeholders, _other_units, _far_out):
        for place, what in kind(known, odd):
            odd[place] = True
            found.append(Finding(_KINDS[kind.__name__], what, int(cases[place])))
    if len(known) >= 3:
        lines.append(f"far out is measured on {_scaled(known[~odd] if (~odd).any() else known)[1]}")
    if table.standard_errors is not None:
        more, disagreed = _observers(table, known, cases)
        lines += more
        found += disagreed
    counts, edges = np.histogram(known, min(_BINS, max(len(values), 2)))
    return Section(title, lines, found, [Histogram(name, edges, counts)])


class _Odd(NamedTuple):
    place: int
    what: str


def _placeholders(labels: Array, _: NDArray[np.bool_]) -> list[_Odd]:
    """Values that stand for none: away from the others, or far more often than any other."""
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 3:
        return []
    found = []
    for value in values[(counts >= _TIMES) & np.isin(values, [values[0], values[-1]])]:
        others = values != value
        count = int(counts[~others][0])
        often = len(values) > _WHOLE and count >= _OFTENER * counts[others].max()
        rest = labels[labels != value]
        gap = np.abs(rest - value).min()
        away = value in _STANDS_FOR_NONE and gap > max(np.ptp(rest) / 4, 2 * _typical_step(rest))
        if often or away:
            what = f"{value:g}, as in {count} rows: does it stand for none?"
            found += [_Odd(int(place), what) for place in np.flatnonzero(labels == value)]
    return found


def _typical_step(values: Array) -> float:
    return float(np.quantile(np.diff(np.unique(values)), 0.9)) if len(set(values)) > 1 else 0.0


def _other_units(labels: Array, odd: NDArray[np.bool_]) -> list[_Odd]:
    """Those of the smaller of two clusters, whose medians differ by a factor of units."""
    places = np.flatnonzero(~odd)
    if len(places) < 10 or (labels[places] <= 0).any():
        return []
    order = places[np.argsort(labels[places])]
    values = labels[order]
    ratios = values[1:] / values[:-1]
    found: list[_Odd] = []
    for at in np.flatnonzero(ratios > _GAP) + 1:
        low, high = order[:at], order[at:]
        few, many = (low, high) if len(low) < len(high) else (high, low)
        ratio = float(np.median(labels[high]) / np.median(labels[low]))
        name = min(_FACTORS, key=lambda name: abs(np.log(_FACTORS[name] / ratio)))
        factor = _FACTORS[name]
        # A few labels need not be in the middle of the others: they have to fit among them, which
        # says something if the others are closer together than that.
        back = labels[few] * (factor if few is low else 1 / factor)
        ends = np.quantile(labels[many], [0.02, 0.98])
        fits = np.mean((back >= ends[0]) & (back <= ends[1])) >= 0.9
        near = abs(ratio / factor - 1) < _NEAR or len(few) <= 3
        apart = ratios[at - 1] > factor ** (1 / 3) and ends[1] < ends[0] * factor
        scales: list[Callable[[Array], Array]] = [np.asarray] if few is high else []
        # Where labels reach down to 0, as scores do, the logarithm makes outliers.
        if skew(np.log(labels[many])) > -_SKEWED:
            scales.append(np.log)
        scores = [_scores(labels[few], labels[many], scale).min() for scale in scales]
        stands = max(scores, default=0.0) > SUSPICIOUS
        if fits and near and apart and stands and len(few) <= len(many):
            side = "below" if few is low else "above"
            what = "{:.4g} is about a factor of {} {} the others ({} so): is it in another unit?"
            count = f"{len(few)} {'is' if len(few) == 1 else 'are'}"
            new = [_Odd(int(p), what.format(labels[p], name, side, count)) for p in few]
            found = max(found, new, key=len)
    return found


def _far_out(labels: Array, odd: NDArray[np.bool_]) -> list[_Odd]:
    places = np.flatnonzero(~odd)
    if len(places) < 10:
        return []
    score, scale = _scores(labels[places], labels[places]), _scaled(labels[places])[1]
    what = "{:.4g} is {:.1f} robust standard deviations from the median, on {}"
    far = np.flatnonzero(score > _FAR)
    far = far[np.argsort(-score[far])]
    return [_Odd(int(places[f]), what.format(labels[places[f]], score[f], scale)) for f in far]


_KINDS = {
    "_placeholders": "label that may stand for none",
    "_other_units": "label in another unit",
    "_far_out": "label far out",
}


def _scaled(labels: Array) -> tuple[Callable[[Array], Array], str]:
    """The scale on which labels are compared, and what it is called."""
    if labels.min() > 0 and skew(labels) > _SKEWED:
        return np.log, "the logarithmic scale, as all are positive and skewed"
    return np.asarray, "their own scale"


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
    lines = [f"the standard error of a label is {share:.0%} of the spread of labels"]
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
        what = f"the standard error of its label is {errors[sure][place]:.3g}, and {typical:.3g} "
        found.append(Finding("disagreement", f"{what}of most", case))
    return lines, found
