"""Models and rows of images to predictions, with what can be said of how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.table import ImageTable
from finecorr.errors import InputError
from finecorr.models.conformal import ROUNDING, Calibration
from finecorr.models.streaming import ROWS, Member, Outcome, Row, outcomes
from finecorr.trained.bundle import Bundle
from finecorr.trained.options import PredictionOptions

_AT_ONCE = 4096
"""Rows of a table of which all cells are taken."""
_NOVEL = 0.01
"""The share of the images of new subjects that are marked, if these are like the training's."""


class Predictor:
    """A model, or several whose predictions are averaged.

    Args:
        bundles: the models, all of the same targets.
        options: what is asked for.

    Raises:
        InputError: they do not go together.
    """

    def __init__(self, bundles: Sequence[Bundle], options: PredictionOptions) -> None:
        options.check()
        first, *others = bundles
        self.targets = first.table.target_columns
        self._bundle, self._options = first, options
        self._several = bool(others) or options.tta > 1
        self.volumes = first.images.volumes
        """Whether it sees volumes."""
        for other in others:
            if (other.table.target_columns, other.table.lengths) != (
                self.targets,
                first.table.lengths,
            ):
                raise InputError(
                    f"--ensemble: a model of {list(other.table.target_columns)} does not predict "
                    f"the same as one of {list(self.targets)}"
                )
            for ours, theirs in zip(first.targets, other.targets, strict=True):
                if ours.unit and theirs.unit and ours.unit != theirs.unit:
                    raise InputError(
                        f"--ensemble: a model of {theirs.name!r} in {theirs.unit} does not predict "
                        f"the same as one in {ours.unit}"
                    )
            if (other.encoding is None) != (first.encoding is None) or (
                other.encoding is not None
                and first.encoding is not None
                and (other.encoding.names, other.encoding.categories)
                != (first.encoding.names, first.encoding.categories)
            ):
                raise InputError(
                    "--ensemble: the models predict from different columns, or one from images"
                )
            if other.images.volumes != self.volumes:
                raise InputError(
                    "--ensemble: a model of volumes does not see what one of pictures sees"
                )
        if self._several and options.predict_per == "subject":
            raise InputError(
                "--tta and --ensemble say how sure the prediction of a row is: leave out "
                "--predict-per subject"
            )
        if options.tta > 1 and not any(_varies(bundle) for bundle in bundles):
            raise InputError(
                "--tta: nothing varied in the training (--flip, --rotation and the others were 0), "
                "so that all versions of an image would be the same"
            )
        self._members = [
            Member(
                bundle.regressor,
                bundle.images,
                bundle.table.lengths,
                bundle.augmentation,
                bundle.novelty,
                bundle.encoding,
            )
            for bundle in bundles
        ]
        self.widths = self._half_widths()
        """For each target, half of its interval, if one is asked for."""

    def _half_widths(self) -> list[float]:
        level = self._options.interval
        if level is None:
            return []
        if self._several:
            raise InputError(
                "--interval knows the errors of one model without --tta: leave out --tta and "
                "--ensemble, or --interval"
            )
        validation = self._bundle.validation
        by_row = self._options.predict_per == "row"
        found = validation.rows if by_row else validation.subjects
        widths = []
        for i, name in enumerate(self.targets):
            calibration = found[i] if found else None
            if calibration is None:
                raise InputError(
                    f"--interval: the model has no validation subjects for {name!r}: train it with "
                    "a share for them in --split-fractions"
                )
            width = calibration.quantile(level)
            if not np.isfinite(width):
                raise InputError(
                    f"--interval {level:g} needs {_needed(level)} validation subjects, and the "
                    f"model has {calibration.subjects}"
                )
            widths.append(width)
        return widths

    def outcomes(self, rows: Iterable[Row]) -> Iterator[Outcome]:
        """One for each row."""
        return outcomes(self._members, rows, versions=self._options.tta)

    def frames(self, rows: Iterable[Row]) -> Iterator[tuple[pd.DataFrame, list[Outcome]]]:
        """Some rows after the other, `ROWS` at a time: the columns of their predictions.

        These are, for each target, its prediction, in the unit of the table; `low` and `high`,
        where an interval is asked for; `sd`, where there are several members or versions, between
        them; `novel`, 1 for a row that is unlike the training images (further from them than 99 %
        of the validation subjects' images are, or than all, where these are fewer than 99); and
        `fault`, why there is no prediction.
        """
        found = self.outcomes(rows)
        while chunk := list(islice(found, ROWS)):
            yield self._frame(chunk), chunk

    def _frame(self, found: Sequence[Outcome]) -> pd.DataFrame:
        values = np.stack([outcome.values for outcome in found])
        means = values.mean(axis=1)
        columns = {name: means[:, i] for i, name in enumerate(self.targets)}
        for i, (name, width) in enumerate(zip(self.targets, self.widths, strict=False)):
            columns[f"low {name}"] = means[:, i] - width
            columns[f"high {name}"] = means[:, i] + width
        if self._several:
            spread = values.std(axis=1, ddof=1)
            columns |= {f"sd {name}": spread[:, i] for i, name in enumerate(self.targets)}
        frame = pd.DataFrame(columns)
        distances = self._bundle.validation.distances
        if distances is not None:
            frame["novel"] = _novel(distances, np.array([outcome.distance for outcome in found]))
        frame["fault"] = [outcome.fault for outcome in found]
        return frame


def _varies(bundle: Bundle) -> bool:
    if bundle.encoding is not None:
        return False
    options = asdict(bundle.augmentation)
    if not all(bundle.table.lengths):
        del options["zoom"]
    return any(options.values())


def rows_of(table: ImageTable) -> Iterator[Row]:
    """Those of a table, with the sizes of pixels that it knows."""
    if table.features is not None:
        for start in range(0, len(table), _AT_ONCE):
            cells = table.features.cells.iloc[start : start + _AT_ONCE]
            for of_row in zip(*(cells[name].tolist() for name in cells), strict=True):
                yield Row((), cells=of_row)
        return
    for row in range(len(table)):
        side = np.nan if table.pixel_sizes is None else float(table.pixel_sizes[row])
        known = None if np.isnan(side) else side
        yield Row(table.images[row], table.frame(row), table.all_frames, known)


def _novel(distances: Calibration, found: NDArray[np.float64]) -> pd.Series:
    limit = max(_NOVEL, 1 / (distances.subjects + 1))
    marked = pd.Series(distances.p_values(np.nan_to_num(found)) <= limit + ROUNDING, dtype="Int64")
    return marked.mask(np.isnan(found))


def _needed(level: float) -> int:
    """The smallest K with K / (K + 1) >= level, as `Calibration.quantile` compares them."""
    return int(np.ceil((level - ROUNDING) / (1 - level + ROUNDING)))
