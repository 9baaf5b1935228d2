"""A trained run on tables: evaluations, from options to files."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from finecorr import bundle, pages
from finecorr.data.names import BETWEEN, find_file, real_paths
from finecorr.data.options import Per, TableOptions
from finecorr.data.records import read_record, write_record
from finecorr.data.table import SPLITS as KNOWN_SPLITS
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError, InputWarning
from finecorr.evaluation.within import correlation_within_groups
from finecorr.files import all_or_none, check_folder, half_moved
from finecorr.predicting import by_subject, overridden, predictions_of
from finecorr.runs import (
    BLAND_ALTMAN,
    CONFIG,
    METRICS,
    PREDICTIONS,
    SCATTER,
    SPLITS,
    Evaluation,
    evaluate_predictions,
    read_config,
)

WITHIN_GROUPS = "within_groups.csv"
_EVALUATION = (METRICS, PREDICTIONS, SCATTER, BLAND_ALTMAN, WITHIN_GROUPS, pages.REPORT)
EVALUATION = {METRICS: _EVALUATION}
"""The files of an evaluation, by the last that is written: a folder that has it has all."""


def evaluate(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    *,
    all_rows: bool = False,
    mapped: bool | None = None,
    predict_per: Per = "row",
    overwrite: bool = False,
) -> tuple[Evaluation, int]:
    """Evaluates a run's model on a table, leaving out what it was trained on.

    Args:
        run: the run folder.
        overrides: fields of `TableOptions` that differ from the run's.
        out: folder for `metrics.csv`, `predictions.csv`, `scatter.png`, `bland_altman.png`, the
            page, `report.html`, and where there are groups to correlate within,
            `within_groups.csv`, the correlations within each.
        all_rows: also evaluate on rows of subjects that training or validation have seen.
        mapped: also PLCC and RMSE after the logistic mapping; None for what the training did.
        predict_per: "subject" for the mean prediction and the mean label of each subject.
        overwrite: replace an evaluation that is in `out`.

    Returns:
        The evaluation, and how many rows were left out.

    Raises:
        InputError: the run, the table or an image is at fault; nothing was written.
    """
    check_folder(out)
    there = [name for name in _EVALUATION if (out / name).exists()]
    if there and not overwrite and not half_moved(out):
        raise InputError(
            f"{out} already holds {', '.join(there)}: choose another, or use --overwrite"
        )
    if (out / bundle.FILE).exists():
        raise InputError(f"{out} holds a run, whose own evaluation is there: choose another folder")
    if mapped is None:
        mapped = read_config(run).get("mapped") is True
    model = bundle.load(run)
    options = overridden(model.table, overrides)
    whole = read_table(options)
    seen = np.zeros(len(whole), dtype=np.bool_)
    if not all_rows:
        seen = _seen(run, whole, options, model.table)
    keep = whole.labelled & ~seen
    left_out = int((whole.labelled & ~keep).sum())
    table = whole.take(np.flatnonzero(keep))
    for column, labels in zip(
        table.target_columns, np.isfinite(table.targets).sum(axis=0), strict=True
    ):
        if labels < 2:
            raise InputError(
                f"{options.table}: {labels} labels of {column!r} are left after leaving out "
                f"{left_out} rows of subjects that training has seen; use --all-rows to evaluate "
                "on those, too"
            )
    predictions = predictions_of(model, table, options)
    if predict_per == "subject":
        table, predictions = by_subject(table, predictions)
        whole, keep = table, np.ones(len(table), dtype=np.bool_)
    with all_or_none(out, EVALUATION) as folder:
        evaluation = evaluate_predictions(table, predictions, folder, mapped=mapped)
        if table.within is not None:
            within = _within_groups(table, table.within, predictions)
            write_record(folder / WITHIN_GROUPS, within)
        _write_page(folder, run, model, whole, keep, predictions, evaluation, quality=mapped)
    return evaluation, left_out


def _within_groups(
    table: ImageTable, groups: NDArray[np.str_], predictions: NDArray[np.float64]
) -> pd.DataFrame:
    """`target`, `group`, `samples`, `PLCC`, `SRCC` and `KRCC`."""
    parts = []
    for i, target in enumerate(table.target_columns):
        within = correlation_within_groups(predictions[:, i], table.targets[:, i], groups)
        within.insert(0, "target", target)
        parts.append(within)
    return pd.concat(parts)


def _seen(
    run: Path, table: ImageTable, options: TableOptions, trained: TableOptions
) -> NDArray[np.bool_]:
    """`(n,)`: whether training or validation have seen the row's image, or its subject."""
    if not (run / SPLITS).exists() or trained.image_root is None:
        raise InputError(
            f"{run} does not say what training has seen ({SPLITS} is missing): use --all-rows"
        )
    record = read_record(run / SPLITS, ["image", "group", "split"])
    if record.empty or not record["split"].isin(KNOWN_SPLITS).all():
        raise InputError(
            f"{run / SPLITS} is damaged: it does not say which rows are in which split"
        )
    record = record[record["split"] != "test"]
    found = [
        find_file(trained.image_root, name)
        for names in record["image"]
        for name in (names.split(BETWEEN) if len(trained.image_columns) > 1 else [names])
    ]
    seen_images = set(real_paths(path for path in found if path is not None).values())
    files = real_paths(path for row in table.images for path in row)
    seen = np.array([any(files[path] in seen_images for path in row) for row in table.images])
    known = np.isin(table.groups, np.array(record["group"].to_list(), dtype=np.str_))
    named = known | np.isin(table.names, np.array(record["image"].to_list(), dtype=np.str_))
    root = trained.image_root if options.image_root is None else options.image_root
    # Under another root, a subject of the same name is somebody else.
    if os.path.realpath(root) == os.path.realpath(trained.image_root):
        return np.asarray(seen | known)
    if (named & ~seen).any():
        warnings.warn(
            f"{(named & ~seen).sum()} rows have images or subjects with the names of those that "
            f"training has seen in {trained.image_root}; as {root} is another folder, they are "
            "taken for others",
            InputWarning,
            stacklevel=2,
        )
    return seen


def _write_page(
    out: Path,
    run: Path,
    model: bundle.Bundle,
    table: ImageTable,
    evaluated: NDArray[np.bool_],
    predictions: NDArray[np.float64],
    evaluation: Evaluation,
    *,
    quality: bool,
) -> None:
    config = read_config(run)
    loss = config.get("loss", run.resolve().name)
    if not isinstance(loss, str):
        raise InputError(f"{run / CONFIG} is damaged: its loss is {loss!r}")
    everywhere = np.full(table.targets.shape, np.nan)
    everywhere[evaluated] = predictions
    pages.write_page(
        out / pages.REPORT,
        f"{run.resolve().name} on {table.source.name}",
        table,
        model.images,
        [pages.Predictor(loss, everywhere, [run])],
        {
            str(target): pages.Findings(
                rows.assign(loss=loss, p=np.nan), notes=pages.notes_on(evaluation.ceiling)
            )
            for target, rows in evaluation.metrics.groupby("target", sort=False)
        },
        {
            "Data": f"{pages.described(table)}; evaluated: {evaluated.sum()} images",
            "Model": f"{run.resolve()}, trained on {model.table.table}",
            "Network": f"{model.regressor.architecture.network} on {model.images.description}",
            "Configuration of the training": yaml.safe_dump(config, sort_keys=False).strip(),
        },
        quality=quality,
        trained_on=table.source == model.table.table,
    )
