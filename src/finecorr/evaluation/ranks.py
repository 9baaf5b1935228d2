"""Ranks and ordered pairs of weighted samples, for many sets of weights at once.

The values stay and only the weights change, so that everything is sorted once. Weights are
`(n, sets)`, non-negative integers as floats: how often a set has each sample. All sums are exact
up to 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Standing:
    """What `Order` says of sets of samples."""

    rank: Array
    """`(n, sets)`: the mid-rank (ties averaged), times two and less its mean over the set."""
    differing: Array
    """`(sets,)`: the ordered pairs with different values; 0 where the set is constant."""


class Order:
    """The order of `(n,)` values."""

    def __init__(self, values: Array) -> None:
        self._ascending = np.argsort(values, kind="stable")
        ordered = values[self._ascending]
        self._lower = np.searchsorted(ordered, values, "left")
        self._not_higher = np.searchsorted(ordered, values, "right")

    def standing(self, weight: Array) -> Standing:
        sums = _running_sums(weight[self._ascending])
        lower, not_higher = sums[self._lower], sums[self._not_higher]
        total = sums[-1]
        differing = np.einsum("ij,ij->j", weight, total - (not_higher - lower))
        return Standing(lower + not_higher - total, differing)


class Concordance:
    """The concordant and discordant pairs of `(n,)` values of two variables.

    Two values of the first variable, numbered in their order, differ first in one binary digit. So
    for each digit, the samples fall into blocks with the same higher digits; in each block the
    samples with digit 1 are above those with digit 0, and running sums of the weight in the order
    of the second variable tell how much of the latter stands below and above each of the former.
    """

    def __init__(self, first: Array, second: Array) -> None:
        a = np.unique(first, return_inverse=True)[1]
        b = np.unique(second, return_inverse=True)[1]
        self._digits = [_digit(a, b, digit) for digit in range(int(a.max()).bit_length())]

    def difference(self, weight: Array) -> Array:
        """`(sets,)`: ordered pairs that are concordant, less those that are discordant."""
        result = np.zeros(weight.shape[1])
        for digit in self._digits:
            sums = _running_sums(weight[digit.zero])
            below_less_above = sums[digit.lower] + sums[digit.not_higher]
            below_less_above -= sums[digit.start] + sums[digit.end]
            result += np.einsum("ij,ij->j", weight[digit.one], below_less_above)
        return 2 * result


@dataclass(frozen=True)
class _Digit:
    zero: Index
    """The samples with digit 0, by block and then by the second variable."""
    one: Index
    """The samples with digit 1. For each of them, positions in `zero`:"""
    start: Index
    """of the first of its block,"""
    lower: Index
    """of the first in it that is not lower in the second variable,"""
    not_higher: Index
    """of the first in it that is higher,"""
    end: Index
    """and of the first of the next block."""


def _digit(a: Index, b: Index, digit: int) -> _Digit:
    block, values = a >> (digit + 1), int(b.max()) + 1
    key = block * values + b
    order = np.argsort(key, kind="stable")
    high = (a[order] >> digit & 1).astype(np.bool_)
    zero, one = order[~high], order[high]
    of_zero, of_one, first = key[zero], key[one], block[one] * values
    return _Digit(
        zero,
        one,
        np.searchsorted(of_zero, first, "left"),
        np.searchsorted(of_zero, of_one, "left"),
        np.searchsorted(of_zero, of_one, "right"),
        np.searchsorted(of_zero, first + values, "left"),
    )


def _running_sums(weight: Array) -> Array:
    """`(n + 1, sets)`, from 0."""
    sums = np.zeros((len(weight) + 1, weight.shape[1]))
    np.cumsum(weight, axis=0, out=sums[1:])
    return sums
