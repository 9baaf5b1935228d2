"""The main job: a table to a run folder, with a trained and evaluated model."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finecorr.config import CONFIG, write_config
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.left_out import FILE as LEFT_OUT
from finecorr.data.options import TableOptions
from finecorr.data.records import write_record
from finecorr.data.splits import MIN_LABELS
from finecorr.data.table import ImageTable
from finecorr.errors import Stopped
from finecorr.files import remove_temporary, replacing
from finecorr.models import outliers, prediction, training
from finecorr.models.checkpoints import CHECKPOINTS
from finecorr.models.options import TrainingOptions
from finecorr.models.place import Place
from finecorr.models.processes import place_of
from finecorr.models.validation import validated
from finecorr.plain import plain
from finecorr.run_options import RunOptions
from finecorr.runs.folder import REPLACED, SPLITS, in_place_of_another
from finecorr.runs.preparing import Prepared, prepare
from finecorr.runs.tested import Evaluation, evaluate_predictions
from finecorr.trained import bundle
from finecorr.trained.card import CARD, card
from finecorr.trained.provenance import Provenance, described, measures, versions, without_folder


def train(
    table_options: TableOptions,
    image_options: ImageOptions,
    augmentation_options: AugmentationOptions,
    training_options: TrainingOptions,
    run_options: RunOptions,
    features: Path | None = None,
) -> Evaluation:
    """Trains a model on a table, and evaluates it on the test split.

    With several devices it is called in as many processes, of which the first one writes, and in
    which the others end.

    The run folder gets `config.yaml` (all options, for `finecorr train --config`), `splits.csv`,
    `logs/`, `model.safetensors`, for a loss that weighs labels `outliers.csv` (the training
    labels, in how many of the `epochs` each was `set_aside`, and its mean `weight`), where images
    could not be read `left_out.csv` (`row`, `image` and `reason`), and of the
    test split `metrics.csv`, `predictions.csv`, `scatter.png` and `bland_altman.png`. With a frozen
    network its features are in `features/`, or in the folder `features` that several runs share.

    Raises:
        InputError: an option, the table or an image is at fault; nothing was written.
        finecorr.models.Interrupted: Ctrl-C; with `resume` the run goes on, as it does
            after the next two.
        finecorr.errors.Stopped: more images than `tolerate` cannot be read, or a process was
            killed.
        OSError: what the system refuses, as where a disk is full.
    """
    for options in (image_options, augmentation_options, training_options):
        options.check()
    place = place_of(
        training_options.devices, training_options.num_nodes, training_options.strategy
    )
    parts = (image_options, augmentation_options, training_options, run_options)
    with place.the_same_in_all():
        prepared = prepare(table_options.absolute(), *parts, features, place)
    out = run_options.out
    if place.leads:
        out.mkdir(parents=True, exist_ok=True)
        for folder in (out, out / CHECKPOINTS):
            remove_temporary(folder)
    with in_place_of_another(out) if run_options.overwrite and place.leads else nullcontext():
        if place.leads:
            write_record(out / SPLITS, prepared.rows.record)
            # A folder that has it can be resumed.
            write_config(out / CONFIG, prepared.config)
            prepared.data.dataset.left_out.write(out)
        trained = training.train(
            prepared.data,
            prepared.regressor,
            training_options,
            out,
            place=place,
            resume=run_options.resume,
        )
        evaluation = _finish(trained, prepared, run_options, training_options, place)
    shutil.rmtree(out / REPLACED, ignore_errors=True)
    return evaluation


def _finish(
    trained: training.Trained,
    prepared: Prepared,
    run_options: RunOptions,
    training_options: TrainingOptions,
    place: Place,
) -> Evaluation:
    """Evaluates it on the test split, and writes what remains of the run's folder."""
    out = run_options.out
    table, dataset, indices = prepared.rows.table, prepared.data.dataset, prepared.data.indices
    left_out = dataset.left_out
    tested, predictions = prediction.predict(trained.regressor, dataset, indices["test"], place)
    validation, novelty = validated(
        trained.regressor,
        dataset,
        table,
        indices["train"],
        indices.get("validation", []),
        place,
    )
    place.leave()
    if trained.outliers is not None:
        counts = outliers.outlier_table(trained.outliers, table, prepared.rows.targets)
        write_record(out / outliers.FILE, counts)
    _check_tested(table, tested)
    left_out.write(out)
    evaluation = evaluate_predictions(
        table.take(tested), predictions, out, mapped=run_options.mapped
    )
    if left_out:
        count = len(np.unique(dataset.rows[indices["test"]])) - len(tested)
        note = (
            f"left out, as they cannot be read: {len(left_out)} images, and {count} rows of "
            f"the test split for them ({LEFT_OUT})"
        )
        evaluation = replace(evaluation, left_out=note)
    # The model comes last: a folder that has it is finished.
    model = bundle.Bundle(
        trained.regressor,
        prepared.options,
        prepared.images,
        prepared.augmentation,
        validation,
        novelty,
        _provenance(prepared, training_options, run_options, evaluation),
        prepared.encoding,
    )
    with replacing(out / CARD) as temporary:
        temporary.write_text(card(model, out.resolve().name), encoding="utf-8")
    bundle.save(model, out)
    shutil.rmtree(out / CHECKPOINTS)
    return evaluation


def _check_tested(table: ImageTable, tested: NDArray[np.intp]) -> None:
    """Raises Stopped if too few rows are left of the test split."""
    for name, values in zip(table.target_columns, table.targets[tested].T, strict=True):
        known = values[np.isfinite(values)]
        if len(known) < MIN_LABELS or known.min() == known.max():
            raise Stopped(
                f"{table.source}: images of the test split cannot be read, and {len(known)} labels "
                f"of {name!r} are left in it: too few to evaluate it"
            )


def _provenance(
    prepared: Prepared, training: TrainingOptions, run: RunOptions, evaluation: Evaluation
) -> Provenance:
    flags = {**asdict(training), **asdict(run)}
    for name in ("out", "overwrite", "resume", "license", "note"):
        del flags[name]
    flags["network"] = without_folder(training.network)
    flags["weights"] = Path(training.weights).name
    with (run.out / SPLITS).open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    return Provenance(
        {name: plain(value) for name, value in flags.items()},
        described(prepared.rows.table, prepared.rows.record, fingerprint),
        measures(evaluation.metrics),
        versions(training.network),
        run.license,
        run.note,
    )
