"""A trained run on tables: evaluation, and predictions where nothing is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from finecorr import bundle, pages
from finecorr.data.images import Images
from finecorr.data.module import ImageDataset
from finecorr.data.table import ImageTable, TableOptions, read_folder, read_table
from finecorr.errors import InputError
from finecorr.evaluation.within import correlation_within_groups
from finecorr.models import training
from finecorr.runs import (
    METRICS,
    SPLITS,
    Evaluation,
    absolute,
    evaluate_predictions,
    read_config,
    write_table,
)

WITHIN_GROUPS = "within_groups.csv"


def evaluate(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    *,
    all_rows: bool = False,
    mapped: bool = False,
    within_groups: bool = False,
    overwrite: bool = False,
) -> tuple[Evaluation, int]:
    """Evaluates a run's model on a table, leaving out what it was trained on.

    Args:
        run: the run folder.
        overrides: fields of `TableOptions` that differ from the run's.
        out: folder for `metrics.csv`, `predictions.csv`, `scatter.png`, `bland_altman.png` and the
            page, `report.html`.
        all_rows: also evaluate on rows of subjects that training or validation have seen.
        mapped: also PLCC and RMSE after the logistic mapping.
        within_groups: also correlations within each subject (`within_groups.csv`), and their mean.
        overwrite: replace an evaluation that is in `out`.

    Returns:
        The evaluation, and how many rows were left out.

    Raises:
        InputError: the run, the table or an image is at fault; nothing was written.
    """
    if (out / METRICS).exists() and not overwrite:
        raise InputError(f"{out} already holds an evaluation: choose another, or use --overwrite")
    model = bundle.load(run)
    options = _overridden(model.table, overrides)
    if len(options.target_columns) != len(model.table.target_columns):
        raise InputError(f"the model predicts {list(model.table.target_columns)}, in this order")
    whole = read_table(options)
    keep = whole.labelled & (all_rows | ~_seen(run, whole, options, model.table))
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
    predictions = _predict(model, table, options)
    out.mkdir(parents=True, exist_ok=True)
    evaluation = evaluate_predictions(table, predictions, out, mapped=mapped, within=within_groups)
    if within_groups:
        write_table(out / WITHIN_GROUPS, _within_groups(table, predictions))
    _write_page(out, run, model, whole, keep, predictions, evaluation)
    return evaluation, left_out


def predict(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    *,
    pixel_size: float | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predicts for every row of a table or every image of a folder, and writes a CSV file.

    Args:
        run: the run folder.
        overrides: fields of `TableOptions` that differ from the run's; `table` may be a folder.
        out: the CSV file.
        pixel_size: of all images, for a model of lengths where no column gives it.
        overwrite: replace the file if it is there.

    Returns:
        What was written: `image`, and a column for each target.

    Raises:
        InputError: the run, the table or an image is at fault; nothing was written.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another name, or use --overwrite")
    model = bundle.load(run)
    options = _overridden(model.table, overrides)
    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise InputError(f"--pixel-size must be positive, not {pixel_size}")
    if options.table.is_dir():
        table = read_folder(options.table, options)
        if any(options.lengths) and pixel_size is None:
            raise InputError(
                f"the model predicts {', '.join(options.target_columns)} in units of length and a "
                "folder has no pixel sizes: give --pixel-size, or a table with a column "
                f"{options.pixel_size_column!r}"
            )
    else:
        columns = options
        if pixel_size is not None:
            columns = replace(options, pixel_size_column=None, length_columns=None)
        # Each image is predicted for itself, whoever it is of.
        columns = replace(columns, group_column=None, group_pattern=None)
        table = read_table(columns, need_targets=False)
    if pixel_size is not None:
        table = replace(table, pixel_sizes=np.full(len(table), pixel_size))
    predictions = _predict(model, table, options)
    frame = pd.DataFrame({"image": table.names})
    for column, values in zip(options.target_columns, predictions.T, strict=True):
        frame[column] = values
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, frame)
    return frame


def _within_groups(table: ImageTable, predictions: NDArray[np.float64]) -> pd.DataFrame:
    """`target`, `group`, `samples`, `PLCC`, `SRCC` and `KRCC`."""
    parts = []
    for i, target in enumerate(table.target_columns):
        within = correlation_within_groups(predictions[:, i], table.targets[:, i], table.groups)
        within.insert(0, "target", target)
        parts.append(within)
    return pd.concat(parts)


def _overridden(trained: TableOptions, overrides: dict[str, Any]) -> TableOptions:
    """The options of the training with others in their place.

    Another table has its own root, and one way to name the subject takes the place of the other.
    What only training needs is not asked for.
    """
    implied: dict[str, Any] = {"split_column": None, "weight_column": None}
    if "table" in overrides:
        implied["image_root"] = None
    if "group_column" in overrides or "group_pattern" in overrides:
        implied |= {"group_column": None, "group_pattern": None}
    return absolute(replace(trained, **{**implied, **overrides}))


def _seen(
    run: Path, table: ImageTable, options: TableOptions, trained: TableOptions
) -> NDArray[np.bool_]:
    """`(n,)`: whether training or validation have seen the row's image, or its subject."""
    if not (run / SPLITS).exists() or trained.image_root is None:
        return np.zeros(len(table), dtype=np.bool_)
    record = pd.read_csv(run / SPLITS, dtype="string")
    record = record[record["split"] != "test"]
    seen_images = {(trained.image_root / name).resolve() for name in record["image"]}
    seen = np.array([image.resolve() in seen_images for image in table.images])
    # Under another root, a subject of the same name is somebody else.
    if options.image_root == trained.image_root:
        seen |= np.isin(table.groups, record["group"].to_numpy(dtype=str))
    return seen


def _predict(model: bundle.Bundle, table: ImageTable, options: TableOptions) -> NDArray[np.float64]:
    images = Images(table, model.images)
    dataset = ImageDataset(table, images, options.lengths)
    return training.predict(model.regressor, dataset)


def _write_page(
    out: Path,
    run: Path,
    model: bundle.Bundle,
    table: ImageTable,
    evaluated: NDArray[np.bool_],
    predictions: NDArray[np.float64],
    evaluation: Evaluation,
) -> None:
    config = read_config(run)
    loss = config.get("loss", run.resolve().name)
    everywhere = np.full(table.targets.shape, np.nan)
    everywhere[evaluated] = predictions
    height, width = model.images.image_size
    pages.write_page(
        out / pages.REPORT,
        f"{run.resolve().name} on {table.source.name}",
        table,
        model.images,
        [pages.Predictor(loss, everywhere, [run])],
        {
            str(target): pages.Findings(rows.assign(loss=loss, p=np.nan))
            for target, rows in evaluation.metrics.groupby("target", sort=False)
        },
        {
            "Data": f"{pages.described(table)}; evaluated: {evaluated.sum()} images",
            "Model": f"{run.resolve()}, trained on {model.table.table}",
            "Network": f"{model.regressor.architecture.network} on {height} x {width} pixels",
            "Configuration of the training": yaml.safe_dump(config, sort_keys=False).strip(),
        },
        trained_on=table.source == model.table.table,
    )
