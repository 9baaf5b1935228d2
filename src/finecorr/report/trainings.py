"""What trainings left in their folders, as a report page."""

from __future__ import annotations

import platform
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import finecorr
from finecorr.data.columns import listed
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.left_out import LeftOut, Unreadable
from finecorr.data.options import name_and_unit
from finecorr.data.records import read_record
from finecorr.data.table import ImageTable
from finecorr.data.view import slices
from finecorr.errors import InputWarning
from finecorr.evaluation.contradiction import SUSPICIOUS
from finecorr.evaluation.observers import Ceiling
from finecorr.models import training
from finecorr.models.outliers import read_outliers
from finecorr.report.contents import Model, Report, Target
from finecorr.report.page import write_report
from finecorr.report.thumbnails import thumbnail
from finecorr.report.verdict import LOSSES, Kind

REPORT = "report.html"
_OFTEN = 0.5
"""Share of the epochs from which on a label that was set aside is shown."""


@dataclass(frozen=True)
class Candidate:
    """One loss, or what else is compared, with what it predicts and the runs in which it was
    trained."""

    loss: str
    predictions: NDArray[np.float64]
    """`(rows, targets)`; NaN for a row that is not predicted."""
    runs: Sequence[Path]
    spread: NDArray[np.float64] | None = None
    """`(rows, targets)`: how far what is averaged to the predictions differs; NaN for none."""


@dataclass(frozen=True)
class Result:
    """How well one target is predicted."""

    metrics: pd.DataFrame
    """As `finecorr.report.verdict.verdict` takes them."""
    ranking: pd.DataFrame | None = None
    """Of the losses, as `finecorr.evaluation.ranking.ranking` gives it."""
    suspects: pd.DataFrame | None = None
    """Labels, the most contradicted ones first: `row`, `prediction` and `score`."""
    notes: Sequence[str] = ()
    """What must be known of the metrics, a sentence each."""


def write_page(
    path: Path,
    title: str,
    table: ImageTable,
    images: ImageOptions,
    candidates: Sequence[Candidate],
    results: Mapping[str, Result],
    provenance: Mapping[str, str],
    *,
    kind: Kind = LOSSES,
    quality: bool = False,
    trained_on: bool = True,
) -> None:
    """Writes the page, with the rows that are predicted and the training labels set aside.

    Args:
        path: of the file.
        title: of the page.
        table: the rows.
        images: how their images are read.
        candidates: the losses.
        results: for each target.
        provenance: how it was made, beside versions, hardware, date and command.
        kind: what the candidates differ in.
        quality: whether the cases with the highest and the lowest scores are shown.
        trained_on: whether the runs were trained on this table, whose labels they set aside.
    """
    runs = [run for candidate in candidates for run in candidate.runs]
    outliers = _still_there(_outliers(runs if trained_on else []), table)
    predicted = np.any([np.isfinite(one.predictions).any(axis=1) for one in candidates], axis=0)
    shown = np.flatnonzero(predicted | np.isin(table.rows, outliers["row"].to_numpy()))
    table = table.take(shown)
    curves = [_curve(candidate.runs) for candidate in candidates]
    targets = []
    for i, column in enumerate(table.target_columns):
        models = [
            Model(
                one.loss,
                one.predictions[shown, i],
                curve,
                None if one.spread is None else one.spread[shown, i],
            )
            for one, curve in zip(candidates, curves, strict=True)
        ]
        targets.append(_target(table, i, models, results[column], outliers))
    report = Report(
        title,
        pd.DataFrame({"image": table.shown, **table.cases}),
        targets,
        ()
        if table.features is not None
        else _Thumbnails(Images(table, images, LeftOut(table, sys.maxsize, says=False))),
        {**provenance, **_environment()},
        subjects_named=table.subjects_named,
        within=table.within_column,
        kind=kind,
        quality=quality,
    )
    write_report(report, path)


def _still_there(outliers: pd.DataFrame, table: ImageTable) -> pd.DataFrame:
    """Those of rows that the table still has."""
    gone = ~outliers["row"].isin(table.rows)
    if gone.any():
        warnings.warn(
            f"{gone.sum()} labels that the loss set aside are of rows which {table.source} no "
            "longer has: the page leaves them out",
            InputWarning,
            stacklevel=3,
        )
    return outliers[~gone]


def _target(
    table: ImageTable, i: int, models: Sequence[Model], result: Result, outliers: pd.DataFrame
) -> Target:
    """One of the table's, whose rows are all shown."""
    column = table.target_columns[i]
    case = pd.Series(range(len(table)), index=table.rows)
    suspects = result.suspects
    if suspects is not None:
        suspects = _placed(suspects[suspects["score"] >= SUSPICIOUS], case)
    return Target(
        *name_and_unit(column),
        table.targets[:, i],
        models,
        result.metrics,
        notes=result.notes,
        ranking=result.ranking,
        suspects=suspects,
        set_aside=_placed(outliers[outliers["target"] == column], case),
    )


class _Thumbnails(Sequence[bytes]):
    """Made when they are asked for: of many images the page shows some."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return int(self._images.rows[-1]) + 1

    def __getitem__(self, case: Any) -> Any:
        first = self._images.of_row(case)
        try:
            image = self._images[first].float()
        except Unreadable:
            image = torch.zeros(self._images.shape(first))  # A run has left it out.
        return thumbnail(slices(image).numpy())


def notes_on(ceiling: Ceiling | None) -> list[str]:
    """What it says of the metrics, a sentence each."""
    if ceiling is None:
        return []
    text = ceiling.text()
    return [
        f"{text[0].upper()}{text[1:]}; a perfect prediction reaches no more on average, as the "
        "labels are means of opinions that differ."
    ]


def seen(table: ImageTable, images: ImageOptions) -> str:
    """What a network sees of a row, in words."""
    if table.features is None:
        return images.description
    return f"{len(table.features.names)} columns: {listed(table.features.names)}"


def described(table: ImageTable) -> str:
    """Where a table is from, and how much is in it."""
    return f"{table.source}: {len(table)} {table.kind} of {len(set(table.groups))} subjects"


def _placed(rows: pd.DataFrame, case: pd.Series[int]) -> pd.DataFrame:
    """With the position of each row on the page, `case`."""
    return rows.assign(case=case[rows["row"]].to_numpy())


def _curve(runs: Sequence[Path]) -> pd.DataFrame | None:
    """Means over the runs: `epoch`, `loss`, `validation`."""
    logs = [
        # A training that was interrupted has not written all of it.
        read_record(path, [], optional=["epoch", "loss", "validation_SRCC"])
        for run in runs
        for path in sorted((run / training.LOGS).glob("version_*/metrics.csv"))
    ]
    if not logs:
        return None
    means = pd.concat(logs).groupby("epoch")[["loss", "validation_SRCC"]].mean().reset_index()
    means["epoch"] = means["epoch"].astype(int)
    return means.rename(columns={"validation_SRCC": "validation"})


def _outliers(runs: Sequence[Path]) -> pd.DataFrame:
    """The labels that were set aside in most epochs: `row`, `target`, `label`, `set_aside` and
    `epochs`, sums over the runs."""
    cells, counts = ["row", "target", "label"], ["set_aside", "epochs"]
    found = [counted for counted in map(read_outliers, runs) if len(counted)]
    together = pd.concat(found) if found else pd.DataFrame(columns=[*cells, *counts])
    sums = together.groupby(cells, sort=False)[counts].sum().reset_index()
    share = sums["set_aside"] / sums["epochs"]
    often = sums.assign(share=share)[share > _OFTEN]
    return often.sort_values(["share", "epochs"], ascending=False, kind="stable")


def _environment() -> dict[str, str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    ours = {"finecorr": finecorr.__version__, "torch": torch.__version__}
    others = {name: version(name) for name in ("lightning", "monai", "numpy", "scipy")}
    return {
        "Versions": ", ".join(f"{name} {found}" for name, found in {**ours, **others}.items()),
        "Hardware": f"{device}, {platform.machine()}, Python {platform.python_version()}",
        "Date": date.today().isoformat(),
        "Again": f"finecorr {shlex.join(sys.argv[1:])}",
    }
