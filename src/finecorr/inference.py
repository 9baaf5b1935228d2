"""A trained run on tables: evaluation, and predictions where nothing is known."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from finecorr import bundle, pages
from finecorr.data.dataset import ImageDataset
from finecorr.data.folder import read_folder
from finecorr.data.frames import raise_faults
from finecorr.data.images import Images, note_smaller
from finecorr.data.names import BETWEEN, find_file, real_paths, subjects
from finecorr.data.records import read_record, write_record
from finecorr.data.table import SPLITS as KNOWN_SPLITS
from finecorr.data.table import ImageTable, TableOptions, check_options, read_table
from finecorr.errors import InputError, InputWarning
from finecorr.evaluation.within import correlation_within_groups
from finecorr.files import all_or_none, check_folder, check_writable, half_moved, remove_temporary
from finecorr.models import prediction
from finecorr.runs import (
    BLAND_ALTMAN,
    CONFIG,
    METRICS,
    PREDICTIONS,
    SCATTER,
    SPLITS,
    Evaluation,
    absolute,
    evaluate_predictions,
    read_config,
)

WITHIN_GROUPS = "within_groups.csv"
_EVALUATION = (METRICS, PREDICTIONS, SCATTER, BLAND_ALTMAN, WITHIN_GROUPS, pages.REPORT)
EVALUATION = {METRICS: _EVALUATION}
"""The files of an evaluation, by the last that is written: a folder that has it has all."""
Per = Literal["row", "subject"]
"""What there is one prediction for."""


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
    options = _overridden(model.table, overrides)
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
    predictions = _predict(model, table, options)
    if predict_per == "subject":
        table, predictions = _by_subject(table, predictions)
        whole, keep = table, np.ones(len(table), dtype=np.bool_)
    with all_or_none(out, EVALUATION) as folder:
        evaluation = evaluate_predictions(table, predictions, folder, mapped=mapped)
        if table.within is not None:
            within = _within_groups(table, table.within, predictions)
            write_record(folder / WITHIN_GROUPS, within)
        _write_page(folder, run, model, whole, keep, predictions, evaluation, quality=mapped)
    return evaluation, left_out


def predict(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    *,
    pixel_size: float | Literal["file"] | None = None,
    predict_per: Per = "row",
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predicts for every row of a table or every image of a folder, and writes a CSV file.

    Args:
        run: the run folder.
        overrides: fields of `TableOptions` that differ from the run's; `table` may be a folder.
        out: the CSV file.
        pixel_size: of all images, for a model of lengths where no column gives it; "file" for what
            the images' files say, in mm.
        predict_per: "subject" for the mean prediction of each subject.
        overwrite: replace the file if it is there.

    Returns:
        What was written: `image` (and `frame`, where a column names it), or `group` and the number
        of its `rows`; and a column for each target.

    Raises:
        InputError: the run, the table or an image is at fault; nothing was written.
    """
    check_writable(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another name, or use --overwrite")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file")
    model = bundle.load(run)
    options = _overridden(model.table, overrides)
    if pixel_size is not None and pixel_size != "file" and not 0 < pixel_size < float("inf"):
        raise InputError(f"--pixel-size must be positive, or file, not {pixel_size}")
    if pixel_size is not None and not any(options.lengths):
        raise InputError("--pixel-size is for lengths, and the model predicts none")
    table = _unlabelled(options, pixel_size is None, predict_per)
    if isinstance(pixel_size, float):
        table = replace(table, pixel_sizes=np.full(len(table), pixel_size))
    elif pixel_size is None and options.pixel_size_column and table.pixel_sizes is None:
        raise InputError(
            f"the model predicts {', '.join(options.target_columns)} in units of length, and a "
            "folder has no pixel sizes: give --pixel-size, or a table with a column "
            f"{options.pixel_size_column!r}; or --pixel-size file if that column was in mm and "
            "the files of the images say it"
        )
    predictions = _predict(model, table, options)
    if predict_per == "subject":
        rows = Counter(table.groups.tolist())
        table, predictions = _by_subject(table, predictions)
        names = table.groups.tolist()
        frame = pd.DataFrame({"group": names, "rows": [rows[name] for name in names]})
    else:
        frame = pd.DataFrame({"image": table.names})
        if table.frames is not None:
            frame["frame"] = np.maximum(table.frames, 0) + 1
    for column, values in zip(options.target_columns, predictions.T, strict=True):
        frame[column] = values
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_temporary(out.parent, out.name)
    write_record(out, frame)
    return frame


def _unlabelled(options: TableOptions, with_pixel_sizes: bool, predict_per: Per) -> ImageTable:
    """The rows of a table, or the images of a folder."""
    by_subject = predict_per == "subject"
    if by_subject and options.group_column is None and options.group_pattern is None:
        raise InputError("--predict-per subject: who is it? Say --group-column or --group-pattern")
    if options.layout is None and options.table.is_dir():
        table = read_folder(options.table, options)
        if not by_subject:
            return table
        if options.group_pattern is None:
            raise InputError("--predict-per subject: a folder has no columns: say --group-pattern")
        groups, faults = subjects(
            [row[0] for row in table.images], table.names, options.group_pattern
        )
        raise_faults(table.source, faults, "these files")
        return replace(table, groups=groups)
    # What only an evaluation asks for.
    options = replace(options, within=None, score_columns=None, sd_column=None, observers=None)
    if not with_pixel_sizes:
        options = replace(options, pixel_size_column=None, length_columns=None)
    if not by_subject:
        # Each image is predicted for itself, whoever it is of.
        options = replace(options, group_column=None, group_pattern=None)
    return read_table(options, need_targets=False)


def _by_subject(
    table: ImageTable, predictions: NDArray[np.float64]
) -> tuple[ImageTable, NDArray[np.float64]]:
    """For each subject its first row, with the means of its labels and of its predictions.

    Raises:
        InputError: a group to correlate within would have a part of a subject, or never two.
    """
    _, first, member = np.unique(table.groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    if table.within is not None:
        _check_within_of_subjects(table, first[member])

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        by_group = pd.DataFrame(values).groupby(member).mean()  # without missing ones
        return by_group.to_numpy()[order]

    subjects = replace(table.take(first[order]), targets=means(table.targets))
    if table.standard_errors is not None:
        count = np.bincount(member, table.labelled)[order]
        squares = np.bincount(member, np.nan_to_num(table.standard_errors) ** 2)[order]
        errors = np.sqrt(squares) / np.where(count > 0, count, np.nan)
        subjects = replace(subjects, standard_errors=errors)
    return subjects, means(predictions)


def _check_within_of_subjects(table: ImageTable, first: NDArray[np.intp]) -> None:
    """`first` is `(n,)`: for each row the first of its subject."""
    assert table.within is not None
    torn = np.flatnonzero(table.within != table.within[first])
    if len(torn):
        row, other = torn[0], first[torn[0]]
        raise InputError(
            f"--predict-per subject: {table.groups[row]!s} has rows in several groups of --within "
            f"{table.within_column} ({table.within[other]!s} and {table.within[row]!s})"
        )
    if len(np.unique(table.within)) == len(np.unique(first)):
        raise InputError(
            f"--within {table.within_column} needs several predictions in a group, and with "
            "--predict-per subject each has one"
        )


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


def _overridden(trained: TableOptions, overrides: dict[str, Any]) -> TableOptions:
    """The options of the training with others in their place.

    Another table has its own root, format, groups to correlate within and opinions, as has another
    target, and one way to name the subject, or the frame, takes the place of the other. What only
    training needs is not asked for.
    """
    implied: dict[str, Any] = {"split_column": None, "weight_column": None}
    if "table" in overrides:
        own = ("layout", "image_root", "encoding", "separator", "decimal", "sheet", "within")
        implied |= dict.fromkeys(own)
    opinions = ("score_columns", "sd_column", "observers")
    if not {"table", "target_columns", *opinions}.isdisjoint(overrides):
        implied |= dict.fromkeys(opinions)
    if "group_column" in overrides or "group_pattern" in overrides:
        implied |= {"group_column": None, "group_pattern": None}
    if "frame_column" in overrides or "all_frames" in overrides:
        implied |= {"frame_column": None, "all_frames": False}
    options = absolute(replace(trained, **{**implied, **overrides}))
    check_options(options)
    names, before = options.target_columns, trained.target_columns
    if len(names) != len(before) or (names != before and set(names) == set(before)):
        raise InputError(f"the model predicts {list(before)}, in this order")
    if options.lengths != trained.lengths:
        lengths = [name for name, length in zip(before, trained.lengths, strict=True) if length]
        raise InputError(
            f"the model has learnt {', '.join(lengths) or 'no target'} as a length: that cannot be "
            "changed with --pixel-size-column or --length-columns"
        )
    return options


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


def _predict(model: bundle.Bundle, table: ImageTable, options: TableOptions) -> NDArray[np.float64]:
    images = Images(table, model.images)
    note_smaller(table.source, images)
    dataset = ImageDataset(table, images, options.lengths)
    return prediction.predict(model.regressor, dataset)[1]


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
