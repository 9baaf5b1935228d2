"""What the demos share: trainings that differ in one thing, side by side."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from finecorr.comparison.summary import summarise
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.table import read_table
from finecorr.errors import InputError
from finecorr.evaluation.figures import Panel, bland_altman, scatter
from finecorr.files import check_folder
from finecorr.models.options import TrainingOptions
from finecorr.report import trainings
from finecorr.report.verdict import LOSSES, Kind
from finecorr.run_options import RunOptions
from finecorr.runs.folder import BLAND_ALTMAN, SCATTER
from finecorr.runs.run import train


@dataclass(frozen=True)
class Contender:
    """One of the trainings."""

    name: str
    images: ImageOptions
    augmentation: AugmentationOptions
    training: TrainingOptions
    run: RunOptions


@dataclass(frozen=True)
class Trial:
    """All of them, on one target of a table."""

    contenders: Sequence[Contender]
    table: TableOptions
    shown: ImageOptions
    """How the page reads the images."""
    title: str
    """Of the page."""
    provenance: Mapping[str, str]
    """For the page, beside the table."""
    tested: str
    """What the test split has, after its number."""
    kind: Kind = LOSSES
    """What they differ in."""

    def run(self, out: Path) -> str:
        """Trains them, writes the figures and the page, and returns the result as text. Its last
        line opens the page."""
        (target,) = self.table.target_columns
        panels, predictions = [], []
        for number, one in enumerate(self.contenders, 1):
            say(
                f"Training {number} of {len(self.contenders)}, {one.training.epochs} epochs: "
                f"{one.name}"
            )
            evaluation = train(self.table, one.images, one.augmentation, one.training, one.run)
            tested = evaluation.predictions.rename(
                columns={target: "truth", f"predicted {target}": "prediction"}
            )
            predictions.append(tested.assign(loss=one.name, fold=1, seed=0))
            panels.append(
                Panel(one.name, target, tested["prediction"].to_numpy(), tested["truth"].to_numpy())
            )
        say("Writing the figures and the page with the images")
        scatter(panels, out / SCATTER)
        bland_altman(panels, out / BLAND_ALTMAN)
        together = pd.concat(predictions)
        metrics = summarise(together, mapped=self._mapped)
        self._write_page(out, together, metrics)
        values = metrics.pivot(index="loss", columns="metric", values="value")
        names = [one.name for one in self.contenders]
        result = values.loc[names, ["PLCC", "SRCC", "MAE"]].rename_axis(self.kind.one)
        table = result.to_string(float_format=lambda value: f"{value:.3f}")
        return (
            f"\ntest split, {len(tested)} {self.tested}:\n{table}\n\n"
            f"figures: {out / SCATTER}, {out / BLAND_ALTMAN}\n"
            f"page, with the images: {out / trainings.REPORT}; this opens it:\n"
            f"{_opening(out / trainings.REPORT)}"
        )

    @property
    def _mapped(self) -> bool:
        """Whether the target is a quality."""
        return any(one.run.mapped for one in self.contenders)

    def _write_page(self, out: Path, predictions: pd.DataFrame, metrics: pd.DataFrame) -> None:
        (target,) = self.table.target_columns
        table = read_table(self.table)
        by_row = predictions.pivot(index="row", columns="loss", values="prediction")
        by_row = by_row.reindex(table.rows)
        trainings.write_page(
            out / trainings.REPORT,
            self.title,
            table,
            self.shown,
            [
                trainings.Candidate(one.name, by_row[[one.name]].to_numpy(), [one.run.out])
                for one in self.contenders
            ],
            {target: trainings.Result(metrics)},
            {"Data": trainings.described(table), **self.provenance},
            kind=self.kind,
            quality=self._mapped,
        )


def say(what: str) -> None:
    """What comes next, at once."""
    print(what, flush=True)


def _opening(page: Path) -> str:
    """The command that opens it in a browser, on any system."""
    return shlex.join([sys.executable, "-m", "webbrowser", page.resolve().as_uri()])


def claim(out: Path, images: Path, overwrite: bool) -> None:
    """Removes the images of the demo that is in the folder.

    Raises:
        InputError: it is not to be replaced, or what is there is no such demo.
    """
    check_folder(out)
    if out.exists() and any(out.iterdir()):
        if not images.is_dir():
            raise InputError(
                f"{out} is not empty, and holds no demo of this task: choose another --out"
            )
        if not overwrite:
            raise InputError(
                f"{out} already holds this demo: choose another --out, or use --overwrite"
            )
    shutil.rmtree(images, ignore_errors=True)
