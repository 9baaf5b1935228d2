"""What the page shows: cases, targets, and how each model does on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.report.ends import End, ends
from finecorr.report.verdict import LOSSES, Kind, best_first, number_text

Array = NDArray[np.float64]

GALLERY = 40
"""Cases of a gallery that the page has room for."""
_HARDEST = 20


@dataclass(frozen=True)
class Model:
    """What one loss has learnt for one target."""

    name: str
    """Of the loss, or of what else is compared."""
    prediction: Array
    """`(cases,)`; NaN for a case that the model does not predict, being trained on it."""
    curve: pd.DataFrame | None = None
    """The training: `epoch`, the training `loss` and the `validation` SRCC; NaN where not known."""
    spread: Array | None = None
    """`(cases,)`: how far what is averaged to the prediction differs; NaN for none."""


@dataclass(frozen=True)
class Target:
    """How the losses do on one target."""

    name: str
    unit: str | None
    truth: Array
    """`(cases,)`; NaN for a missing label."""
    models: Sequence[Model]
    metrics: pd.DataFrame
    """`loss`, `metric`, `value`, `low`, `high` and `p`, as `verdict` takes it."""
    criterion: str = "SRCC"
    """The metric that decides which loss is best."""
    notes: Sequence[str] = ()
    """What must be known of the metrics, a sentence each."""
    ranking: pd.DataFrame | None = None
    """By the criterion over folds and seeds, as `finecorr.evaluation.ranking.ranking` gives
    it."""
    suspects: pd.DataFrame | None = None
    """Cases whose labels the predictions contradict, the worst first: `case` (a position in
    `Report.cases`), `prediction` and `score`."""
    set_aside: pd.DataFrame | None = None
    """Cases that a robust loss set aside in training: `case`, the `label` that it was trained with,
    `set_aside` (in how many epochs) and `epochs` (of how many)."""

    @cached_property
    def error(self) -> Array:
        """`(cases,)`: absolute, the mean of the losses that predict the case; NaN for none."""
        errors = [np.abs(model.prediction - self.truth) for model in self.models]
        return pd.DataFrame(errors).mean().to_numpy()


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    cases: pd.DataFrame
    """`row` in the table, `image` (its name, or another name of the case) and `group` (subject)."""
    targets: Sequence[Target]
    thumbnails: Sequence[bytes | None] = ()
    """A JPEG, PNG or WebP file for each case, or None; empty where there are no images."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """How it was made: data, splits, versions, hardware, configuration, commands."""
    subjects_named: bool = True
    """Whether `group` is to be shown: without names, each case is a subject of its own."""
    within: str | None = None
    """The column within whose groups some metrics are."""
    kind: Kind = LOSSES
    """What the models differ in."""
    quality: bool = False
    """Whether to show the cases with the highest and the lowest scores, by truth and by
    prediction."""


def models_best_first(target: Target) -> list[Model]:
    """By the criterion."""
    order = best_first(target.metrics, target.criterion)["loss"].tolist()
    return sorted(target.models, key=lambda model: [*order, model.name].index(model.name))


def hardest(target: Target) -> list[int]:
    """The cases with the largest errors."""
    error = target.error
    order = np.argsort(-np.where(np.isnan(error), -np.inf, error), kind="stable")
    return [int(case) for case in order[:_HARDEST] if np.isfinite(error[case])]


def shown_of(gallery: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """What a gallery has room for."""
    return [] if gallery is None else gallery.head(GALLERY).to_dict("records")


def ends_of(report: Report, target: Target) -> list[End]:
    """Of the best model, if they are shown."""
    return ends(models_best_first(target)[0].prediction, target.truth) if report.quality else []


def quantity(value: float, unit: str | None) -> str:
    """In words, with its unit."""
    if not np.isfinite(value):
        return "none"
    text = number_text(value).replace("-", "\N{MINUS SIGN}")
    return f"{text} {unit}" if unit else text


def signed(value: float, unit: str | None) -> str:
    """The same, with its sign."""
    return f"{'+' if value > 0 else ''}{quantity(value, unit)}"
