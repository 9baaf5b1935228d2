"""The labels of a run's table that cross-validated predictions contradict."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finecorr.comparison.compare import RESULTS, SUSPECTS, compare, explain
from finecorr.comparison.options import ComparisonOptions
from finecorr.comparison.plan import Data
from finecorr.config import CONFIG, read_config, with_table
from finecorr.data.frames import read_frame
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.records import read_record
from finecorr.errors import InputError
from finecorr.models.options import TrainingOptions
from finecorr.plain import from_plain
from finecorr.trained import bundle

_ROBUST = "robust_pearson"


def find_suspects(run: Path, options: ComparisonOptions) -> tuple[pd.DataFrame, Path]:
    """All labels of the table that a run was trained on, those first that models which have not
    seen them contradict most.

    The subjects are cross-validated as in a comparison, which `options.out` becomes. The models are
    trained as the run was, with its loss if it weighs labels and else with `robust_pearson`:
    any other learns wrong labels, too.

    Args:
        run: a run's folder; or that of a comparison, which has its suspects already.
        options: of the comparison, but for its losses, which are those of the run.

    Returns:
        See `finecorr.comparison.summary.suspect_labels`; and the folder of the comparison.

    Raises:
        InputError: the run, or an option, is at fault; or a training failed.
        finecorr.errors.Interrupted: Ctrl-C; the same call goes on.
    """
    if (run / RESULTS).is_file():
        return _of_comparison(run), run
    model = bundle.load(run)
    config = read_config(run)
    if not config:
        raise InputError(f"{run} does not say how it was trained: {CONFIG} is missing")
    training = _options(TrainingOptions, config)
    if not training.build_loss().weighs_labels:
        training = replace(training, loss=_ROBUST, loss_options={})
    if training.num_nodes > 1:
        # Each training of a comparison is on one node, which takes as many images in a step.
        training = replace(training, num_nodes=1, population=training.step_size)
    # Folds are drawn from all rows.
    table = replace(with_table(run, model.table), split_column=None)
    images, augmentation = (_options(kind, config) for kind in (ImageOptions, AugmentationOptions))
    options = replace(
        options,
        losses=(training.loss,),
        loss_options={training.loss: training.loss_options},
    )
    comparison = compare(Data(table, images, augmentation), training, options)
    if comparison.failures:
        raise InputError("; ".join(map(explain, comparison.failures)))
    assert comparison.suspects is not None
    return comparison.suspects, options.out


def _of_comparison(folder: Path) -> pd.DataFrame:
    if not (folder / SUSPECTS).is_file():
        raise InputError(
            f"no loss of the comparison {folder} weighs labels: add {_ROBUST} to its --losses"
        )
    names, numbers = ["group", "target"], ["label", "prediction", "score"]
    if "image" in read_frame(folder / SUSPECTS, []).columns:
        names = ["image", *names]
    suspects = read_record(folder / SUSPECTS, names, numbers, ["row"])
    if suspects[["label", "prediction"]].isin([np.inf, -np.inf, np.nan]).any(axis=None):
        raise InputError(f"{folder / SUSPECTS} is damaged: it holds something that is not a number")
    return suspects[["row", *names, *numbers]]


def _options(kind: Any, config: dict[str, Any]) -> Any:
    names = [option.name for option in fields(kind) if option.name in config]
    try:
        return from_plain(kind, {name: config[name] for name in names}, partly=True)
    except ValueError as error:
        raise InputError(f"{CONFIG} of the run is damaged: {error}") from error
