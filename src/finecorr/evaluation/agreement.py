"""How well predictions agree with the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finecorr.errors import InputError
from finecorr.evaluation.mapping import LogisticMapping
from finecorr.evaluation.ranks import Array, Concordance, Index, Order

MEASURES = {
    "PLCC": "Pearson linear correlation",
    "SRCC": "Spearman rank correlation",
    "KRCC": "Kendall rank correlation (tau-b)",
    "CCC": "Lin's concordance correlation",
    "MAE": "mean absolute error",
    "RMSE": "root mean squared error",
    "R2": "coefficient of determination",
    "bias": "mean error",
    "LLoA": "lower limit of agreement",
    "ULoA": "upper limit of agreement",
}
MAPPED_MEASURES = {
    "PLCC mapped": "Pearson linear correlation after the logistic mapping",
    "RMSE mapped": "root mean squared error after the logistic mapping",
}


def agreement(prediction: Array, target: Array, *, mapped: bool = False) -> dict[str, float]:
    """All of `MEASURES` for `(n,)` predictions and targets.

    With `e = prediction - target`, moments over n unless said otherwise:

    - PLCC: `cov(p, y) / (std(p) std(y))`.
    - SRCC: the PLCC of the ranks, of which ties have the mean.
    - KRCC: `(C - D) / sqrt(P Y)` with the numbers of concordant and discordant pairs, and of pairs
      with different predictions and different targets (tau-b: Kendall, 1945).
    - CCC: `2 cov(p, y) / (var(p) + var(y) + bias^2)` (Lin, 1989).
    - MAE: `mean |e|`. RMSE: `sqrt(mean e^2)`. R2: `1 - mean e^2 / var(y)`.
    - bias: `mean e`. LLoA and ULoA: `bias -+ 1.96 std(e)`, the deviation with n - 1 (Bland and
      Altman, 1986).

    A correlation with a constant is NaN, and so is R2 for a constant target. All are NaN where a
    prediction is, and all correlations where one is infinite.

    Args:
        prediction: `(n,)`.
        target: `(n,)`, without NaN.
        mapped: add `MAPPED_MEASURES`: PLCC and RMSE of the predictions after the mapping of
            `finecorr.evaluation.mapping`.
    """
    value = Agreement(prediction, target, mapped=mapped)
    measures = value(np.ones((len(target), 1)))[:, 0]
    return dict(zip(value.names, measures.tolist(), strict=True))


def limits_of_agreement(prediction: Array, target: Array) -> tuple[float, float, float]:
    """Bias, and the limits `bias -+ 1.96 * std` of the errors (Bland and Altman, 1986)."""
    value = agreement(prediction, target)
    return value["bias"], value["LLoA"], value["ULoA"]


class Agreement:
    """The measures of one model, for any number of each of its samples."""

    def __init__(self, prediction: Array, target: Array, *, mapped: bool = False) -> None:
        self.names = [*MEASURES, *(MAPPED_MEASURES if mapped else ())]
        # About a middle, for the digits of the moments, and in units that let no square overflow or
        # vanish: of errors in one for both, of correlations in each variable's own.
        self._prediction, self._target = prediction - target.mean(), target - target.mean()
        self._error = prediction - target
        self._unit = _unit(self._prediction, self._target)
        own_p, own_y = prediction - prediction.mean(), target - target.mean()
        self._target_unit = _unit(own_y)
        self._own = own_p / _unit(own_p), own_y / self._target_unit
        for values in (self._prediction, self._target, self._error):
            values /= self._unit
        finite = np.isfinite(prediction).all()
        # What is not finite has a rank, too.
        self._known = 1.0 if finite else np.nan
        of_mapping = self._own if finite else (np.zeros_like(target), target)
        self._mapping = LogisticMapping(*of_mapping) if mapped else None
        self._orders = Order(prediction), Order(target)
        self._pairs = Concordance(prediction, target)

    def __call__(self, weight: Array) -> Array:
        """`(measures, sets)` for `(n, sets)` numbers of each sample; NaN where undefined."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.stack(self._measures(weight))

    def _measures(self, weight: Array) -> list[Array]:
        total = weight.sum(0)
        p, y = (order.standing(weight) for order in self._orders)
        known = np.where(y.differing > 0, self._known, np.nan)
        correlated = np.where(p.differing > 0, known, np.nan)
        dp, dy = (_deviation(v, weight, total) for v in (self._prediction, self._target))
        covariance, target_variance = _products(weight * dy, dp), _products(weight * dy, dy)
        prediction_variance = _products(weight * dp, dp)
        own_p, own_y = (_deviation(v, weight, total) for v in self._own)
        bias = self._error @ weight / total
        square = self._error**2 @ weight
        de = _deviation(self._error, weight, total)
        limit = 1.96 * np.sqrt(_products(weight * de, de) / (total - 1))
        measures = [
            _correlation(weight, own_p, own_y) * correlated,
            _correlation(weight, p.rank, y.rank) * correlated,
            _ratio(self._pairs.difference(weight), p.differing, y.differing) * correlated,
            2 * covariance / (prediction_variance + target_variance + total * bias**2) * correlated,
            np.abs(self._error) @ weight / total * self._unit,
            np.sqrt(square / total) * self._unit,
            (1 - square / target_variance) * known,
            bias * self._unit,
            (bias - limit) * self._unit,
            (bias + limit) * self._unit,
        ]
        if self._mapping is not None:
            correlation = self._mapping.correlation(weight) * correlated
            unexplained = (1 - correlation**2) * _products(weight * own_y, own_y) / total
            measures += [correlation, np.sqrt(unexplained) * self._target_unit]
        return measures


def labelled(target: Array, group: NDArray[np.str_]) -> tuple[NDArray[np.bool_], Index]:
    """Which samples have a target, and for each of these the number of its group, from 0.

    Raises:
        InputError: no sample has a target.
    """
    known = np.isfinite(target)
    if not known.any():
        raise InputError("no sample has a target: there is nothing to evaluate")
    return known, np.unique(group[known], return_inverse=True)[1]


def _unit(*values: Array) -> float:
    """A power of two, which costs no digits, of the size of the largest value."""
    largest = max(np.abs(v).max(initial=0.0) for v in values)
    return float(np.ldexp(0.5, np.frexp(largest)[1])) if 0 < largest < np.inf else 1.0


def _deviation(values: Array, weight: Array, total: Array) -> Array:
    """`(n, sets)`: from the mean of each set."""
    return values[:, None] - values @ weight / total


def _products(first: Array, second: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->j", first, second))


def _correlation(weight: Array, first: Array, second: Array) -> Array:
    """Of deviations from the mean."""
    weighted = weight * first
    return _ratio(
        _products(weighted, second),
        _products(weighted, first),
        _products(weight * second, second),
    )


def _ratio(product: Array, first: Array, second: Array) -> Array:
    """`product / sqrt(first * second)`, which rounding may not lead beyond 1."""
    return np.clip(product / np.sqrt(first * second), -1, 1)
