"""The commands as functions, for a notebook: they return what came out, beside the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from finecorr.checking.check import Check
from finecorr.checking.check import check as check_table
from finecorr.checking.options import CheckOptions
from finecorr.cli import parsed
from finecorr.comparison.compare import Comparison
from finecorr.comparison.compare import compare as compare_losses
from finecorr.comparison.plan import Data
from finecorr.data.image_options import ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError
from finecorr.evaluating import evaluate as evaluate_run
from finecorr.flags import COMPARE_OPTIONS, TRAIN_OPTIONS, build, overrides
from finecorr.models.options import TrainingOptions
from finecorr.runs.run import train as train_run
from finecorr.runs.tested import Evaluation
from finecorr.trained.model import Model, load
from finecorr.trained.options import PredictionOptions

Name = str | Path


@dataclass(frozen=True)
class Run:
    """A training that is finished."""

    folder: Path
    """With its files: see `finecorr.runs.run.train`."""
    evaluation: Evaluation
    """On its test split."""

    @property
    def metrics(self) -> pd.DataFrame:
        """`target`, `metric`, `value`, and the limits `low` and `high` of its 95 % interval."""
        return self.evaluation.metrics

    @property
    def predictions(self) -> pd.DataFrame:
        """For the rows of the test split."""
        return self.evaluation.predictions

    @cached_property
    def model(self) -> Model:
        """The trained model."""
        return load(self.folder)


def train(table: Name, *, out: Name, **flags: Any) -> Run:
    """What `finecorr train` does.

    Args:
        table: its path.
        out: folder for the run.
        flags: those of the command, with underscores: `target_columns=["quality"], epochs=40`, and
            `task`, `preset=("hc18", folder)` and `config` among them.

    Raises:
        InputError: a flag, the table or an image is at fault.
    """
    options = _options("train", [table], {"out": out, **flags})
    return Run(Path(out), train_run(*(build(kind, options) for kind in TRAIN_OPTIONS)))


def check(table: Name, **flags: Any) -> Check:
    """What `finecorr check` does; what a training would be refused for is in `Check.refused`.

    Args:
        table: its path.
        flags: those of the command, with underscores, `out` among them.

    Raises:
        InputError: a flag is at fault, or the table cannot be read at all.
    """
    options = _options("check", [table], flags)
    kinds = (TableOptions, ImageOptions, TrainingOptions, CheckOptions)
    return check_table(*(build(kind, options) for kind in kinds))


def evaluate(run: Name | Run, table: Name | None = None, *, out: Name, **flags: Any) -> Evaluation:
    """What `finecorr evaluate` does with one table.

    Args:
        run: the run, or its folder.
        table: its path (default: that of the training).
        out: folder for the evaluation.
        flags: those of the command, with underscores.

    Raises:
        InputError: a flag, the run, the table or an image is at fault.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    tables = [] if table is None else [table]
    options = _options("evaluate", [folder, *tables], {"out": out, **flags})
    given = {**overrides(options), **({} if table is None else {"table": Path(table)})}
    evaluation, _ = evaluate_run(
        folder,
        given,
        Path(out),
        build(PredictionOptions, options),
        ensemble=[Path(other) for other in options.ensemble],
        all_rows=options.all_rows,
        mapped=options.mapped,
        overwrite=options.overwrite,
    )
    return evaluation


def compare(table: Name, losses: Sequence[str], *, out: Name, **flags: Any) -> Comparison:
    """What `finecorr compare` does.

    Args:
        table: its path.
        losses: their names.
        out: folder for the comparison.
        flags: those of the command, with underscores.

    Raises:
        InputError: a flag, the table or an image is at fault.
    """
    options = _options("compare", [table], {"losses": list(losses), "out": out, **flags})
    data_and_more = [build(kind, options) for kind in COMPARE_OPTIONS]
    columns, images, augmentation, training, comparison = data_and_more
    return compare_losses(Data(columns, images, augmentation), training, comparison)


def _options(command: str, places: Sequence[Name], flags: Mapping[str, Any]) -> Any:
    """The flags as the command line has them, so that both mean the same."""
    for place in places:
        if not isinstance(place, str | Path):
            raise InputError(
                f"a table is the path of a file, not a {type(place).__name__}: write it to one "
                "first, so that what is trained on it can be repeated"
            )
    words = [command, *map(str, places)]
    for name, value in flags.items():
        words += _words(f"--{name.replace('_', '-')}", value)
    _, (options,) = parsed(words)
    return options


def _words(flag: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, Mapping):
        return [f"{flag}={json.dumps(value)}"]
    if isinstance(value, list | tuple):
        texts = list(map(str, value))
        for text in texts:
            if text.startswith("-") and not _is_number(text):
                raise InputError(f"{flag}: {text!r} begins as a flag does: give it another name")
        return [flag, *texts]
    return [f"{flag}={value}"]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
