"""Rows of numbers and categories as vectors, by what the training rows have in them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from finecorr.data.columns import Columns, listed
from finecorr.errors import InputError, InputWarning, spelled

_MOST_CATEGORIES = 1000
_FEW = 20
"""Categories that are never too many."""
_BINS = 16
_ROUNDING = 1e-12
"""The spread of a constant, as a share of it."""
_EXAMPLES = 3


@dataclass(frozen=True)
class Number:
    """A column of numbers: `(x - mean) / std`, and how far `x` is through each of the bins between
    `edges`, from 0 to 1 (piecewise linear encoding: Y. Gorishniy et al., "On embeddings for
    numerical features in tabular deep learning", 2022). A missing one is the mean."""

    name: str
    mean: float
    std: float
    """0 for a constant, of which nothing can be learnt: it is always 0."""
    edges: tuple[float, ...]
    """Quantiles of the training rows, ascending; none where there are fewer than three."""
    missing: bool
    """Whether some training rows have none: a further input is then 1 where it is missing."""

    @property
    def width(self) -> int:
        return 1 + max(len(self.edges) - 1, 0) + self.missing

    def check(self) -> None:
        """Raises ValueError if it cannot be."""
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"its column {spelled(self.name)} has no mean and deviation")
        ascend = all(low < high for low, high in pairwise(self.edges))
        if len(self.edges) in (1, 2) or not (ascend and all(map(math.isfinite, self.edges))):
            raise ValueError(f"its column {spelled(self.name)} has edges that do not ascend")

    def encode(self, values: NDArray[np.float64], into: NDArray[np.float32]) -> None:
        """Writes the inputs `(n, width)`."""
        missing = np.isnan(values)
        values = np.where(missing, self.mean, values)
        if self.std > 0:
            into[:, 0] = (values - self.mean) / self.std
        for place, (low, high) in enumerate(pairwise(self.edges), 1):
            into[:, place] = ((values - low) / (high - low)).clip(0, 1)
        if self.missing:
            into[:, -1] = missing

    def strange(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """`(n,)`: where it is missing, which it never was in the training."""
        return np.isnan(values) & (not self.missing)


@dataclass(frozen=True)
class Category:
    """A column of categories: one input for each, which is 1 where the row is of it."""

    name: str
    values: tuple[str, ...]
    """Those of the training rows, ascending; "" is a missing one."""

    @property
    def width(self) -> int:
        return len(self.values)

    @cached_property
    def _places(self) -> pd.Index[str]:
        return pd.Index(self.values, dtype=object)

    def check(self) -> None:
        """Raises ValueError if it cannot be."""
        if not self.values or list(self.values) != sorted(set(self.values)):
            raise ValueError(f"its column {spelled(self.name)} has no categories, or one twice")

    def encode(self, values: NDArray[np.object_], into: NDArray[np.float32]) -> None:
        """Writes the inputs `(n, width)`."""
        codes = self._places.get_indexer(pd.Index(values, dtype=object))
        known = np.flatnonzero(codes >= 0)
        into[known, codes[known]] = 1

    def strange(self, values: NDArray[np.object_]) -> NDArray[np.bool_]:
        """`(n,)`: where it is none of the training's."""
        return self._places.get_indexer(pd.Index(values, dtype=object)) < 0


@dataclass(frozen=True)
class Encoding:
    """How a row becomes a vector."""

    columns: tuple[Number | Category, ...]

    @property
    def width(self) -> int:
        """Of a vector."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if isinstance(column, Category))

    @property
    def description(self) -> str:
        """For a page."""
        count = len(self.columns)
        return f"{count} column{'' if count == 1 else 's'}, as {self.width} numbers"

    def check(self) -> None:
        """Raises ValueError if it cannot be."""
        if not self.columns or len(set(self.names)) < len(self.names):
            raise ValueError("it has no feature columns, or one twice")
        for column in self.columns:
            column.check()

    def __call__(self, columns: Columns) -> Tensor:
        """`(n, width)` float32; infinite where a number is too far from the training's."""
        return self.vectors([columns.cells[name].to_numpy() for name in self.names])

    def vectors(self, cells: Sequence[NDArray[Any]]) -> Tensor:
        """The same of the cells `(n,)` of each column."""
        found = np.zeros((len(cells[0]), self.width), dtype=np.float32)
        end = 0
        with np.errstate(over="ignore", invalid="ignore"):
            for one, values in zip(self.columns, cells, strict=True):
                start, end = end, end + one.width
                one.encode(values, found[:, start:end])
        return torch.from_numpy(found)

    def strange(self, cells: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
        """`(n, columns)`: what the training has not seen the like of: an unknown category, which is
        none of the known; a missing number where none was missing, which is taken for the mean."""
        found = [one.strange(values) for one, values in zip(self.columns, cells, strict=True)]
        return np.stack(found, axis=1)

    def arrays(self, rows: Sequence[tuple[float | str, ...]]) -> list[NDArray[Any]]:
        """The cells `(n,)` of each column, of some rows."""
        return [
            np.array(values, dtype=np.float64 if isinstance(one, Number) else object)
            for one, values in zip(self.columns, zip(*rows, strict=True), strict=True)
        ]

    def check_kinds(self, source: Path, columns: Columns, rows: NDArray[np.int64]) -> None:
        """Raises InputError if a column of numbers is one of categories here."""
        for name in sorted({*columns.categories} - {*self.categories}):
            cells = columns.cells[name]
            place = int(np.flatnonzero(cells != "")[0])
            raise InputError(
                f"{source}: column {spelled(name)!r} is of numbers in the training, and is not "
                f"here: row {rows[place]} has {spelled(cells.iloc[place])!r}"
            )

    def note_strange(self, source: Path, columns: Columns, rows: NDArray[np.int64]) -> None:
        """Says with an `InputWarning` what the training has not seen the like of."""
        of_columns = self.strange([columns.cells[name].to_numpy() for name in self.names])
        for one, strange in zip(self.columns, of_columns.T, strict=True):
            places = np.flatnonzero(strange)
            if not len(places):
                continue
            cells = columns.cells[one.name].iloc[places[:_EXAMPLES]]
            examples = ", ".join(
                f"row {rows[place]}" + (f" ({spelled(cell)})" if isinstance(cell, str) else "")
                for place, cell in zip(places, cells, strict=False)
            )
            what = (
                "a category that the training rows do not have, and are taken for none of them"
                if isinstance(one, Category)
                else "no number, which all training rows have, and are taken to have their mean"
            )
            warnings.warn(
                f"{source}: in column {spelled(one.name)!r}, {len(places)} of {len(columns)} rows "
                f"have {what}: {examples}",
                InputWarning,
                stacklevel=2,
            )


def encoding_of(source: Path, columns: Columns) -> Encoding:
    """That of the training rows.

    Raises:
        InputError: a column has too many categories, or its numbers are too large.
    """
    found: list[Number | Category] = []
    for name in columns.names:
        cells = columns.cells[name]
        found.append(
            _category(source, name, cells)
            if name in columns.categories
            else _number(source, name, cells.to_numpy())
        )
    return Encoding(tuple(found))


def _number(source: Path, name: str, cells: NDArray[np.float64]) -> Number:
    known = cells[~np.isnan(cells)]
    if not len(known):
        return Number(name, 0.0, 0.0, (), missing=False)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(known.mean()), float(known.std())
    if not math.isfinite(std):
        raise InputError(
            f"{source}: feature column {spelled(name)!r} is from {known.min():g} to "
            f"{known.max():g}, which is too large to compute with: give it in another unit"
        )
    constant = known.min() == known.max() or std <= _ROUNDING * abs(mean)
    missing = len(known) < len(cells)
    if constant:
        return Number(name, mean, 0.0, (), missing)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)))
    return Number(name, mean, std, tuple(edges.tolist()) if len(edges) > 2 else (), missing)


def _category(source: Path, name: str, cells: pd.Series[str]) -> Category:
    values = sorted(set(cells))
    if len(values) > _MOST_CATEGORIES or (len(values) > _FEW and 2 * len(values) > len(cells)):
        raise InputError(
            f"{source}: feature column {spelled(name)!r} has {len(values)} different texts in "
            f"{len(cells)} training rows ({listed(values[:_EXAMPLES])} ...): it names rows, and "
            "does not describe them; leave it out of --feature-columns"
        )
    return Category(name, tuple(values))


class Vectors:
    """The rows of a table as vectors, in the place of images: see `finecorr.data.images.Inputs`."""

    def __init__(self, values: Tensor) -> None:
        count = len(values)
        self.vectors = values
        self.rows: NDArray[np.intp] = np.arange(count)
        self.factors = np.ones(count)
        self.pixel_sizes = np.full((count, 2), np.nan)
        self.unfit = np.zeros(count, dtype=np.bool_)
        self.lost = np.zeros(count, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> Tensor:
        return self.vectors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        return (self.vectors.shape[1],)
