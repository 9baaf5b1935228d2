"""A comparison of losses on a table: from options to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from finecorr.comparison.execution import Executor, Failure, execute, log_of
from finecorr.comparison.options import REFERENCE, ComparisonOptions
from finecorr.comparison.plan import RUNS, Data, Run, plan, splitting
from finecorr.comparison.processes import processes
from finecorr.comparison.reported import write_page
from finecorr.comparison.summary import (
    CRITERION,
    measure_each,
    rank_losses,
    shared_trainings,
    summarise,
    suspect_labels,
)
from finecorr.comparison.tables import ranking_text, table_text
from finecorr.config import config_of, differences
from finecorr.data.left_out import FILE as LEFT_OUT
from finecorr.data.records import read_record, write_record
from finecorr.data.splits import split_rows
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError
from finecorr.files import check_folder, remove_temporary, replacing
from finecorr.models.frozen import FEATURES
from finecorr.models.options import TrainingOptions
from finecorr.report import trainings
from finecorr.report.verdict import LOSSES, MODELS, Kind, verdict
from finecorr.runs.folder import PREDICTIONS, SPLITS
from finecorr.runs.same import check_same_table
from finecorr.runs.tested import observers_ceiling

RESULTS = "results.csv"
ALL_PREDICTIONS = "predictions.parquet"
SUMMARY = "summary.md"
LATEX = "summary.tex"
SUSPECTS = "suspects.csv"
RUN = ("loss", "fold", "seed")
"""What tells a training of a comparison from the others."""


@dataclass(frozen=True)
class Comparison:
    """What came out of the trainings that did not fail."""

    findings: dict[str, trainings.Result]
    """For each target."""
    suspects: pd.DataFrame | None
    """As `finecorr.comparison.summary.suspect_labels` gives them; None where no loss weighs
    labels."""
    failures: Sequence[Failure]
    within: str | None = None
    """The column within whose groups some measures are."""
    kind: Kind = LOSSES
    """What is compared."""

    def text(self) -> str:
        """The verdict and the tables for each target, in Markdown."""
        parts = [_section(target, found, self.kind) for target, found in self.findings.items()]
        if self.within is not None:
            parts.append(f"within: mean of the correlations in each group of {self.within!r}\n")
        return "\n".join(parts)


def compare(data: Data, training: TrainingOptions, options: ComparisonOptions) -> Comparison:
    """Trains every loss on every split with every seed, and compares them on the test rows.

    All losses get the same splits, and with the same seed the same initial weights and the same
    order of the samples. Each training is a run, in `runs/LOSS/SPLIT/seed-SEED`, where the split is
    `fold-NUMBER`, `repeat-NUMBER` of random ones, or `split` for that of a column of the table.
    Those that are finished are not repeated, and those that were interrupted go on. The folder also
    gets `results.csv` (each measure of each training), `predictions.parquet`, `summary.md` and
    `summary.tex` (the table with intervals and corrected p-values) and the page, `report.html`; and
    where some of the losses weigh labels, `suspects.csv`: all labels that were tested on,
    those first that the predictions of these losses contradict most.

    Raises:
        InputError: an option or the table is at fault, and no training was started; or so many
            failed that there is nothing to compare.
        finecorr.errors.Interrupted: Ctrl-C.
    """
    data.images.check()
    data.augmentation.check()
    _check_out(options.out)
    runs = plan(options, data, training)
    _check_unchanged(runs, options.out)
    table = read_table(data.table)
    check_same_table([run.folder for run in runs], table, training.weights)
    for run in {run.split: run for run in runs}.values():
        split_rows(table, run.options, run.training.seed)
    failures = execute(runs, options.workers, _executor(options, training.devices))
    finished = [run for run in runs if run.finished]
    if not finished:
        raise InputError(f"every training failed; the first: {explain(failures[0])}")
    predictions = pd.concat([_predictions(run, table) for run in finished], ignore_index=True)
    if table.within is not None:
        within = pd.Series(table.within, index=table.rows)
        predictions["within"] = within[predictions["row"]].to_numpy()
    shared = shared_trainings(predictions)
    if shared.empty:
        reasons = "; ".join(map(explain, failures))
        raise InputError(f"trainings failed, and no split and seed has all losses: {reasons}")
    suspects = _suspects(finished, predictions)
    splits = splitting(options, data.table)
    value = splits.value(shared["fold"].nunique(), shared["seed"].nunique())
    tested = table.take(np.flatnonzero(np.isin(table.rows, predictions["row"])))
    notes = [f"Each value is {value}.", *trainings.notes_on(observers_ceiling(tested))]
    kind = LOSSES
    if any(run.is_reference for run in finished):
        kind = MODELS
        notes.append(
            f"{REFERENCE} is scikit-learn's, with its defaults, on the same rows and labels; it is "
            "no loss, and leaves no file to predict with."
        )
    findings, results = {}, []
    for target, part in predictions.groupby("target", sort=False):
        measured = measure_each(part, mapped=options.mapped)
        results.append(measured.assign(target=target)[[*RUN, "target", "metric", "value"]])
        metrics = summarise(part, mapped=options.mapped, average=splits.average)
        of_target = None if suspects is None else suspects[suspects["target"] == target]
        findings[str(target)] = trainings.Result(
            metrics, rank_losses(measured, splits.average), of_target, notes=notes
        )
    comparison = Comparison(findings, suspects, failures, table.within_column, kind)
    remove_temporary(options.out)
    with replacing(options.out / ALL_PREDICTIONS) as temporary:
        predictions.to_parquet(temporary, index=False)
    write_record(options.out / RESULTS, pd.concat(results))
    (options.out / SUSPECTS).unlink(missing_ok=True)  # of losses that are no longer compared
    if suspects is not None:
        write_record(options.out / SUSPECTS, suspects)
    with replacing(options.out / SUMMARY) as temporary:
        temporary.write_text(comparison.text(), encoding="utf-8")
    with replacing(options.out / LATEX) as temporary:
        tables = [_latex(found, kind) for found in findings.values()]
        temporary.write_text("\n".join(tables), encoding="utf-8")
    page = options.out / trainings.REPORT
    write_page(page, table, finished, options, predictions, findings, kind)
    return comparison


def explain(failure: Failure) -> str:
    """In a line, with the file that says more."""
    return f"{failure.run.name}: {failure.reason} (see {log_of(failure.run)})"


def _suspects(runs: Sequence[Run], predictions: pd.DataFrame) -> pd.DataFrame | None:
    robust = {
        run.loss for run in runs if not run.is_reference and run.training.build_loss().weighs_labels
    }
    chosen = predictions[predictions["loss"].isin(robust)]
    return None if chosen.empty else suspect_labels(chosen)


def _section(target: str, found: trainings.Result, kind: Kind) -> str:
    said = verdict(found.metrics, CRITERION, kind=kind)
    parts = [f"## {target}", f"{said.headline} {said.explanation}"]
    parts += [*found.notes, table_text(found.metrics, "markdown", kind)]
    if found.ranking is not None:
        parts.append(f"Rank by {CRITERION} in each split and seed, 1 being the best:")
        parts.append(ranking_text(found.ranking, "markdown", kind))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _latex(found: trainings.Result, kind: Kind) -> str:
    ranks = "" if found.ranking is None else f"\n{ranking_text(found.ranking, 'latex', kind)}"
    return f"{table_text(found.metrics, 'latex', kind)}{ranks}"


def _executor(options: ComparisonOptions, devices: int) -> Executor:
    if options.executor == "ray":
        # Not before it is asked for: Ray is an extra.
        from finecorr.comparison.ray_tasks import ray_tasks

        return ray_tasks(options.workers, devices)
    return processes(options.workers)


def _check_out(out: Path) -> None:
    check_folder(out)
    # Features alone are of a comparison that was interrupted before its first training.
    others = [path for path in out.iterdir() if path.name != FEATURES] if out.exists() else []
    if others and not (out / RUNS).is_dir():
        raise InputError(f"{out} is not empty, and holds no comparison: choose another folder")


def _check_unchanged(runs: Sequence[Run], out: Path) -> None:
    changed: dict[str, list[str]] = {}
    for run in runs:
        if run.started:
            data = run.data
            parts = (data.table, data.images, data.augmentation, run.training, run.options)
            for flag in differences(run.folder, config_of(*parts)):
                changed.setdefault(flag, []).append(run.name)
    if changed:
        flags = ", ".join(f"{flag} ({len(names)} runs)" for flag, names in changed.items())
        raise InputError(
            f"{out} holds runs that were made with another {flags}: use the same, or another --out"
        )


def _predictions(run: Run, table: ImageTable) -> pd.DataFrame:
    """`loss`, `fold`, `seed`, `row`, `image` (where there are some), `group`, `target`, `truth`,
    `prediction`."""
    targets = run.data.table.target_columns
    numbers = [*targets, *(f"predicted {target}" for target in targets)]
    names = [name for name in table.cases if name != "row"]
    wide = read_record(run.folder / PREDICTIONS, names, numbers, ["row"])
    splits = read_record(run.folder / SPLITS, ["split"], whole=["row"])
    tested = splits["row"][splits["split"] == "test"]
    file = run.folder / LEFT_OUT
    kept = np.isin(table.rows, tested)
    if file.exists():
        kept &= ~np.isin(table.rows, read_record(file, [], whole=["row"])["row"])
    expected = table.rows[table.labelled & kept]
    predicted = wide[[f"predicted {target}" for target in targets]]
    truth = table.targets[np.isin(table.rows, expected)]
    if wide["row"].tolist() != expected.tolist() or not (
        np.isfinite(predicted).all(axis=None)
        and np.allclose(wide[list(targets)], truth, equal_nan=True)
    ):
        raise InputError(
            f"{run.folder / PREDICTIONS} is damaged: its rows are not those of the test split; "
            f"remove {run.folder} to train again"
        )
    parts = []
    for target in targets:
        part = wide[list(table.cases)].assign(
            target=target, truth=wide[target], prediction=wide[f"predicted {target}"]
        )
        parts.append(part)
    long = pd.concat(parts, ignore_index=True)
    return long.assign(loss=run.loss, fold=run.fold, seed=run.seed)[[*RUN, *long.columns]]
