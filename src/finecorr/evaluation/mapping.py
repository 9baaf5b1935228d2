"""The logistic mapping of predictions to targets that is customary in image quality assessment.

A score of quality need not be on the scale of the opinions that it is compared with, so that the
Video Quality Experts Group (VQEG, final report of phase I, 2000) fits, by least squares,

    f(p) = b2 + (b1 - b2) / (1 + exp(-(p - b3) / |b4|))

and reports PLCC and RMSE of `f(p)`. As `b1` and `b2` are a linear regression on the logistic
function, PLCC after the mapping is the largest correlation, in absolute value, of a logistic
function of p with the target, over its centre `b3` and its slope `1 / |b4|`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from finecorr.evaluation.ranks import Array

_STARTS = [(centre, log_slope) for centre in (-1.0, 0.0, 1.0) for log_slope in (0.0, 1.4)]
_BOUNDS = [-30.0, -4.0], [30.0, 5.0]
"""Of the centre, in standard deviations of the predictions from their mean, and the logarithm of
the slope. They are as good as a linear function, an exponential function and a step."""
_PARAMETERS = 4
_STEPS = 2
"""Of a resample, from the best of all samples on: the error of a correlation at its maximum is
of second order in that of the parameters, and each step squares the latter."""
_DAMPING = 1e-3
"""Of Levenberg and Marquardt: where the function is all but linear, the two parameters do the
same."""


class LogisticMapping:
    """The best logistic mapping for any number of each of `(n,)` samples."""

    def __init__(self, prediction: Array, target: Array) -> None:
        spread = prediction.std()
        self._score = (prediction - prediction.mean()) / (spread if spread > 0 else 1.0)
        self._target = target
        fits = [least_squares(self._residual, start, bounds=_BOUNDS) for start in _STARTS]
        self._best = min(fits, key=lambda fit: float(fit.cost)).x

    def correlation(self, weight: Array) -> Array:
        """`(sets,)`: of the mapped predictions with the target; never negative.

        Each set, `(n, sets)` numbers of each sample, has a mapping of its own. It is NaN where
        there are no more samples than parameters, which fit any of them.
        """
        if len(self._target) <= _PARAMETERS:
            return np.full(weight.shape[1], np.nan)
        y = _deviation(self._target[:, None], weight)
        variance = _mean(y * y, weight)
        variance = np.where(variance > 0, variance, 1)
        low, high = np.array(_BOUNDS)[:, :, None]
        parameters = np.repeat(self._best[:, None], weight.shape[1], axis=1)
        explained, step = self._regression(parameters, y, weight)
        for _ in range(_STEPS):
            parameters = np.clip(parameters + step, low, high)
            new, step = self._regression(parameters, y, weight)
            explained = np.maximum(explained, new)
        return np.asarray(np.sqrt(np.clip(explained / variance, 0, 1)))

    def _residual(self, parameters: Array) -> Array:
        """Of the linear regression of the target on the logistic function."""
        logistic = expit((self._score - parameters[0]) * np.exp(parameters[1]))
        s, y = logistic - logistic.mean(), self._target - self._target.mean()
        variance = s @ s
        return np.asarray(y - (s @ y / variance if variance > 0 else 0.0) * s)

    def _regression(self, parameters: Array, y: Array, weight: Array) -> tuple[Array, Array]:
        """The variance of the target that the regressions explain, `(sets,)`, and how to better
        their parameters, `(2, sets)`: Gauss-Newton on the residual of the regression (variable
        projection, with Kaufman's Jacobian, 1975)."""
        slope = np.exp(parameters[1])
        scaled = (self._score[:, None] - parameters[0]) * slope
        logistic = expit(scaled)
        steepness = logistic * (1 - logistic)
        s = _deviation(logistic, weight)
        variance = _mean(s * s, weight)
        variance = np.where(variance > 0, variance, np.inf)  # so steep that s is constant
        factor = _mean(s * y, weight) / variance
        columns = []
        for derivative in (-slope * steepness, scaled * steepness):
            d = _deviation(derivative, weight)
            columns.append(factor * (d - s * (_mean(s * d, weight) / variance)))
        first, second = columns
        residual = y - factor * s
        a = _mean(first * first, weight) * (1 + _DAMPING)
        b = _mean(first * second, weight)
        c = _mean(second * second, weight) * (1 + _DAMPING)
        u, v = _mean(first * residual, weight), _mean(second * residual, weight)
        determinant = a * c - b * b
        determinant = np.where(determinant > 0, determinant, np.inf)
        step = np.stack([c * u - b * v, a * v - b * u]) / determinant
        return factor * _mean(s * y, weight), np.clip(step, -1, 1)


def _mean(values: Array, weight: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->j", weight, values) / weight.sum(0))


def _deviation(values: Array, weight: Array) -> Array:
    """`(n, sets)`: from the mean of each set."""
    return np.asarray(values - _mean(np.broadcast_to(values, weight.shape), weight))
