"""A trained run on tables: evaluations, from options to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from finecorr.config import CONFIG, read_config, with_table
from finecorr.data.frames import raise_faults
from finecorr.data.options import TableOptions
from finecorr.data.records import write_record
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError
from finecorr.evaluation.sureness import coverage, error_by_spread_correlation
from finecorr.evaluation.within import correlation_within_groups
from finecorr.files import all_or_none, check_folder, half_moved
from finecorr.report import trainings
from finecorr.runs.folder import BLAND_ALTMAN, METRICS, PREDICTIONS, SCATTER
from finecorr.runs.seen import seen_by
from finecorr.runs.tested import Evaluation, evaluate_predictions
from finecorr.trained import bundle
from finecorr.trained.inputs import check_features, note_views, overridden, sized
from finecorr.trained.options import PredictionOptions
from finecorr.trained.predictor import Predictor, rows_of

WITHIN_GROUPS = "within_groups.csv"
_EVALUATION = (METRICS, PREDICTIONS, SCATTER, BLAND_ALTMAN, WITHIN_GROUPS, trainings.REPORT)
EVALUATION = {METRICS: _EVALUATION}
"""The files of an evaluation, by the last that is written: a folder that has it has all."""


def evaluate(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    options: PredictionOptions,
    *,
    ensemble: Sequence[Path] = (),
    all_rows: bool = False,
    mapped: bool | None = None,
    overwrite: bool = False,
) -> tuple[Evaluation, int]:
    """Evaluates a run's model on a table, leaving out what it was trained on.

    Args:
        run: the run folder.
        overrides: fields of `TableOptions` that differ from the run's.
        out: folder for `metrics.csv`, `predictions.csv`, `scatter.png`, `bland_altman.png`, the
            page, `report.html`, and where there are groups to correlate within,
            `within_groups.csv`, the correlations within each.
        options: what is predicted; per subject, for its mean label.
        ensemble: further models, whose predictions are averaged with the first's.
        all_rows: also evaluate on rows of subjects that training or validation have seen.
        mapped: also PLCC and RMSE after the logistic mapping; None for what the training did.
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
    paths = (run, *ensemble)
    models = [bundle.load(path) for path in paths]
    model, predictor = models[0], Predictor(models, options)
    trained = with_table(run, model.table)
    columns = overridden(trained, overrides)
    whole = read_table(columns)
    check_features(whole, model.encoding)
    keep = whole.labelled.copy()
    if not all_rows:
        for path, member in zip(paths, models, strict=True):
            keep &= ~seen_by(path, whole, columns, with_table(path, member.table))
    left_out = int((whole.labelled & ~keep).sum())
    table = whole.take(np.flatnonzero(keep))
    table = sized(table, columns, options.pixel_size, volumes=model.images.volumes)
    _check_left(table, left_out)
    values = _values(predictor, table)
    predictions = values.mean(axis=1)
    spread = values.std(axis=1, ddof=1) if values.shape[1] > 1 else None
    if options.predict_per == "subject":
        table, predictions = _by_subject(table, predictions)
        whole, keep = table, np.ones(len(table), dtype=np.bool_)
    further, notes = _sureness(table, predictions, spread, predictor.widths, options.interval)
    with all_or_none(out, EVALUATION) as folder:
        evaluation = evaluate_predictions(
            table, predictions, folder, mapped=mapped, further=further, notes=notes
        )
        if table.within is not None:
            within = _within_groups(table, table.within, predictions)
            write_record(folder / WITHIN_GROUPS, within)
        made = (predictions, spread, evaluation)
        _write_page(folder, run, model, trained, whole, keep, *made, quality=mapped)
    return evaluation, left_out


def _check_left(table: ImageTable, left_out: int) -> None:
    """Raises InputError if too few labels are left."""
    known = np.isfinite(table.targets).sum(axis=0)
    for column, labels in zip(table.target_columns, known, strict=True):
        if labels < 2:
            raise InputError(
                f"{table.source}: {labels} labels of {column!r} are left after leaving out "
                f"{left_out} rows of subjects that training has seen; use --all-rows to evaluate "
                "on those, too"
            )


def _values(predictor: Predictor, table: ImageTable) -> NDArray[np.float64]:
    """`(rows, members * versions, targets)`

    Raises:
        InputError: images cannot be read; all of them are named.
    """
    found = list(
        tqdm(
            predictor.outcomes(rows_of(table)),
            "predicting",
            len(table),
            leave=False,
            unit=table.kind[:-1],
            disable=None,
        )
    )
    raise_faults(
        table.source,
        [
            f"row {row}: {outcome.fault}"
            for row, outcome in zip(table.rows, found, strict=True)
            if outcome.fault
        ],
    )
    unfit = sum(outcome.unfit for outcome in found)
    differing = [row for row, outcome in enumerate(found) if outcome.differs]
    note_views(table, unfit, differing, volumes=predictor.volumes)
    return np.stack([outcome.values for outcome in found])


def _sureness(
    table: ImageTable,
    predictions: NDArray[np.float64],
    spread: NDArray[np.float64] | None,
    widths: Sequence[float],
    level: float | None,
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Columns of what was said of how sure the predictions are; and of each target, sentences on
    whether it holds."""
    columns: dict[str, NDArray[np.float64]] = {}
    notes: dict[str, list[str]] = {}
    for i, name in enumerate(table.target_columns):
        truth, predicted = table.targets[:, i], predictions[:, i]
        notes[name] = []
        if widths and level is not None:
            low, high = predicted - widths[i], predicted + widths[i]
            columns |= {f"low {name}": low, f"high {name}": high}
            held = coverage(truth, low, high, table.groups)
            notes[name].append(
                f"The {100 * level:g} % intervals, {widths[i]:.4g} to either side, hold the truth "
                f"of {100 * held.value:.1f} % of the samples ({100 * held.low:.1f} to "
                f"{100 * held.high:.1f} %), each subject counting once."
            )
        if spread is not None:
            columns[f"sd {name}"] = spread[:, i]
            told = error_by_spread_correlation(predicted - truth, spread[:, i], table.groups)
            notes[name].append(
                f"The spread of the averaged predictions (sd) and their absolute errors have an "
                f"SRCC of {told.value:.2f} ({told.low:.2f} to {told.high:.2f})"
                f"{': it says nothing of the errors' if not told.low > 0 else ''}."
            )
    return pd.DataFrame(columns), notes


def _everywhere(values: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values of these rows among all, NaN for the others."""
    found = np.full((len(rows), values.shape[1]), np.nan)
    found[rows] = values
    return found


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


def _write_page(
    out: Path,
    run: Path,
    model: bundle.Bundle,
    trained: TableOptions,
    table: ImageTable,
    evaluated: NDArray[np.bool_],
    predictions: NDArray[np.float64],
    spread: NDArray[np.float64] | None,
    evaluation: Evaluation,
    *,
    quality: bool,
) -> None:
    """`predictions` and `spread` are of the rows that are evaluated."""
    config = read_config(run)
    loss = config.get("loss", run.resolve().name)
    if not isinstance(loss, str):
        raise InputError(f"{run / CONFIG} is damaged: its loss is {loss!r}")
    candidate = trainings.Candidate(
        loss,
        _everywhere(predictions, evaluated),
        [run],
        None if spread is None else _everywhere(spread, evaluated),
    )
    trainings.write_page(
        out / trainings.REPORT,
        f"{run.resolve().name} on {table.source.name}",
        table,
        model.images,
        [candidate],
        {
            str(target): trainings.Result(
                rows.assign(loss=loss, p=np.nan),
                notes=[*trainings.notes_on(evaluation.ceiling), *evaluation.notes[str(target)]],
            )
            for target, rows in evaluation.metrics.groupby("target", sort=False)
        },
        {
            "Data": f"{trainings.described(table)}; evaluated: {evaluated.sum()} {table.kind}",
            "Model": f"{run.resolve()}, trained on {trained.table}",
            "Network": f"{model.regressor.architecture.network} on {model.sees}",
            "Configuration of the training": yaml.safe_dump(config, sort_keys=False).strip(),
        },
        quality=quality,
        trained_on=table.source == trained.table,
    )
