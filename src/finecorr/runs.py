"""The main job: a table to a run folder, with a trained and evaluated model."""

from __future__ import annotations

import hashlib
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from finecorr.config import CONFIG, read_config
from finecorr.data.augmentation import Augmentation
from finecorr.data.corruption import replace_labels
from finecorr.data.dataset import ImageDataset
from finecorr.data.images import Images, Inputs, note_smaller
from finecorr.data.left_out import FILE as LEFT_OUT
from finecorr.data.left_out import LeftOut
from finecorr.data.module import ImageDataModule
from finecorr.data.options import AugmentationOptions, ImageOptions, TableOptions
from finecorr.data.records import read_record, write_record
from finecorr.data.splits import MIN_LABELS, split_rows
from finecorr.data.table import ImageTable, check_target, read_table
from finecorr.errors import InputError, InputWarning, Interrupted, Stopped
from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.evaluation.figures import Panel, bland_altman, scatter
from finecorr.evaluation.measures import meanings
from finecorr.evaluation.observers import Ceiling, ceiling
from finecorr.evaluation.within import WITHIN_MEASURES
from finecorr.files import check_folder, is_temporary, remove_temporary, replacing
from finecorr.models import outliers, prediction, training
from finecorr.models.checkpoints import CHECKPOINTS
from finecorr.models.frozen import FEATURES, frozen_features
from finecorr.models.options import TrainingOptions
from finecorr.models.place import Place
from finecorr.models.processes import place_of
from finecorr.models.regressor import Regressor
from finecorr.models.validation import validated
from finecorr.run_options import RunOptions
from finecorr.trained import bundle
from finecorr.trained.card import CARD, card
from finecorr.trained.provenance import Provenance, described, measures, versions, without_folder

SPLITS = "splits.csv"
METRICS = "metrics.csv"
PREDICTIONS = "predictions.csv"
SCATTER = "scatter.png"
BLAND_ALTMAN = "bland_altman.png"
_WRITTEN = (
    *(CONFIG, SPLITS, LEFT_OUT, outliers.FILE, METRICS, PREDICTIONS, SCATTER, BLAND_ALTMAN),
    *(CARD, bundle.FILE),
    *(training.LOGS, CHECKPOINTS),
)
_REPLACED = ".replaced"
_MOVING = ".replaced.moving"
"""What a run that is replaced is in, while its files move there, or back."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions for labelled rows, and how well they agree with the truth."""

    predictions: pd.DataFrame
    """`row`, `image`, `group`, and for each target its truth and `predicted` value."""
    metrics: pd.DataFrame
    """`target`, `metric`, `value`, `low`, `high`."""
    within: str | None = None
    """The column within whose groups some metrics are."""
    ceiling: Ceiling | None = None
    """That the observers' disagreement sets, where it is known."""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By target, sentences on what was said of how sure the predictions are."""
    left_out: str = ""
    """A sentence on the images that could not be read."""

    def summary(self) -> str:
        """The metrics as a text table."""
        lines, meaning = [], meanings(self.within)
        width = self.metrics["metric"].str.len().max() + 2
        for target, rows in self.metrics.groupby("target", sort=False):
            lines += [f"{target}", f"  {'':{width}}{'value':>9}   95 % interval"]
            for row in rows.itertuples():
                interval = f"{row.low:.4g} to {row.high:.4g}"
                name = str(row.metric)
                lines.append(f"  {name:{width}}{row.value:9.4g}   {interval:20} {meaning[name]}")
            lines += [f"  {note}" for note in self.notes.get(str(target), ())]
        if self.ceiling is not None:
            lines.append(f"  {self.ceiling.text()}")
        if self.left_out:
            lines.append(self.left_out)
        subjects = self.predictions["group"].nunique()
        return "\n".join([f"{len(self.predictions)} images of {subjects} subjects", *lines])


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
        prepared = _prepared(table_options.absolute(), *parts, features, place)
    out = run_options.out
    if place.leads:
        out.mkdir(parents=True, exist_ok=True)
        for folder in (out, out / CHECKPOINTS):
            remove_temporary(folder)
    with _in_place_of_another(out) if run_options.overwrite and place.leads else nullcontext():
        if place.leads:
            write_record(out / SPLITS, prepared.record)
            # A folder that has it can be resumed.
            _write_text(out / CONFIG, _yaml(prepared.config))
            prepared.data.dataset.left_out.write(out)
        trained = training.train(
            prepared.data,
            prepared.regressor,
            training_options,
            out,
            place=place,
            resume=run_options.resume,
        )
        tested, predictions = prediction.predict(
            trained.regressor, prepared.data.dataset, prepared.data.indices["test"], place
        )
        table, indices = prepared.table, prepared.data.indices
        dataset, left_out = prepared.data.dataset, prepared.data.dataset.left_out
        validation, novelty = validated(
            trained.regressor,
            prepared.data.dataset,
            table,
            indices["train"],
            indices.get("validation", []),
            place,
        )
        place.leave()
        if trained.outliers is not None:
            counts = outliers.outlier_table(trained.outliers, table, prepared.targets)
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
            image_options,
            augmentation_options,
            validation,
            novelty,
            _provenance(prepared, training_options, run_options, evaluation),
        )
        _write_text(out / CARD, card(model, out.resolve().name))
        bundle.save(model, out)
        shutil.rmtree(out / CHECKPOINTS)
    shutil.rmtree(out / _REPLACED, ignore_errors=True)
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
    prepared: _Prepared, training: TrainingOptions, run: RunOptions, evaluation: Evaluation
) -> Provenance:
    flags = {**asdict(training), **asdict(run)}
    for name in ("out", "overwrite", "resume", "license", "note"):
        del flags[name]
    flags["network"] = without_folder(training.network)
    flags["weights"] = Path(training.weights).name
    with (run.out / SPLITS).open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    return Provenance(
        {name: _plain(value) for name, value in flags.items()},
        described(prepared.table, prepared.record, fingerprint),
        measures(evaluation.metrics),
        versions(training.network),
        run.license,
        run.note,
    )


class _Prepared(NamedTuple):
    """All that a training needs, before anything is written."""

    options: TableOptions
    config: dict[str, Any]
    table: ImageTable
    targets: NDArray[np.float64]
    """`(rows, targets)` that are trained with."""
    record: pd.DataFrame
    """Of the rows, for `splits.csv`."""
    regressor: Regressor
    data: ImageDataModule


def _prepared(
    table_options: TableOptions,
    image_options: ImageOptions,
    augmentation_options: AugmentationOptions,
    training_options: TrainingOptions,
    run_options: RunOptions,
    features: Path | None,
    place: Place,
) -> _Prepared:
    lengths = table_options.lengths
    if any(lengths) and image_options.view == "crops":
        raise InputError("a length is seen in the whole image only: it needs --view fit")
    config = _config(
        table_options, image_options, augmentation_options, training_options, run_options
    )
    out = run_options.out
    if place.leads:  # When others look, it may have begun to write.
        _check_out(run_options, config)
    table = read_table(table_options)
    splits = split_rows(table, run_options, training_options.seed)
    if training_options.patience > 0 and "validation" not in splits:
        raise InputError(
            "--patience needs validation rows: give --split-fractions a share for them"
        )
    targets, replaced = _replace_training_labels(table, splits, run_options, training_options.seed)
    record = pd.DataFrame(
        {
            "row": table.rows,
            "image": table.names,
            "group": table.groups,
            "split": splits,
            "label_replaced": replaced.astype(int),
            "content": _contents(table, training_options.weights),
        }
    )
    if run_options.resume and place.leads:
        _check_same([out], record, training_options.weights)
    left_out = LeftOut(table, training_options.tolerate, says=place.leads)
    regressor = training.new_regressor(image_options, len(table.target_columns), training_options)
    images: Inputs = (
        frozen_features(
            regressor,
            table,
            image_options,
            features or out / FEATURES,
            replace=not run_options.resume,
            left_out=left_out,
        )
        if training_options.frozen
        else Images(table, image_options, left_out)
    )
    dataset = ImageDataset(table, images, lengths, targets, left_out)
    note_smaller(table.source, images)
    for i, name in enumerate(table.target_columns):
        if lengths[i]:
            check_target(table.source, f"{name} in pixels", dataset.targets[:, i])
    data = ImageDataModule(
        dataset,
        splits,
        Augmentation(augmentation_options, lengths=all(lengths)),
        step_size=training_options.step_size,
        batch_size=training_options.batch_size,
        workers=training_options.loading_workers if _loads(images) else 0,
        seed=training_options.seed,
    )
    for name in ("train", "validation"):
        if 0 < (count := len(data.indices.get(name, ()))) < place.processes:
            raise InputError(
                f"--devices: {place.processes} processes need an image each in every step, and the "
                f"{name} split has {count} with a label: use fewer devices"
            )
    return _Prepared(table_options, config, table, targets, record, regressor, data)


def differences(
    table_options: TableOptions,
    image_options: ImageOptions,
    augmentation_options: AugmentationOptions,
    training_options: TrainingOptions,
    run_options: RunOptions,
) -> list[str]:
    """The flags in which `train` with these options would differ from the run in its folder."""
    options = (image_options, augmentation_options, training_options, run_options)
    return _differences(run_options.out, _config(table_options.absolute(), *options))


def _loads(images: Inputs) -> bool:
    """Whether images are decoded while it trains."""
    return isinstance(images, Images) and not images.in_memory


def write_config(path: Path, table_options: TableOptions, *options: Any) -> None:
    """What `finecorr train --config` reads, of the options of `train`."""
    _write_text(path, _yaml(_config(table_options.absolute(), *options)))


def _config(*options: Any) -> dict[str, Any]:
    """Everything that determines the result, flat as the flags are."""
    config: dict[str, Any] = {}
    for part in options:
        config.update(asdict(part))
    for name in ("out", "overwrite", "resume"):
        del config[name]
    if config["weights"] not in ("pretrained", "none"):
        config["weights"] = str(Path(config["weights"]).absolute())
    return {name: _plain(value) for name, value in config.items()}


def _plain(value: Any) -> Any:
    """What YAML can hold without naming a class."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _check_out(options: RunOptions, config: dict[str, Any]) -> None:
    out = options.out
    check_folder(out)
    _settle(out)
    if options.resume:
        if options.overwrite:
            raise InputError("--resume goes on with a run and --overwrite replaces it: use one")
        if (out / bundle.FILE).exists():
            raise InputError(f"{out} holds a finished run: there is nothing to resume")
        if not (out / CONFIG).exists():
            raise InputError(f"{out} holds no run to resume")
        flags = ", ".join(_differences(out, config))
        if flags:
            raise InputError(f"{out} was started with another {flags}: resume it with the same")
    elif (out / CONFIG).exists() or (out / _REPLACED).exists():
        if not options.overwrite:
            raise InputError(
                f"{out} already holds a run: choose another folder, or use --overwrite, or "
                "--resume if it was interrupted"
            )
    elif out.exists() and any(not _is_of_a_start(path) for path in out.iterdir()):
        raise InputError(f"{out} is not empty, and holds no run: choose another folder")


def _is_of_a_start(path: Path) -> bool:
    """Whether a run that was killed before it could be resumed leaves such a file."""
    return path.name in (FEATURES, SPLITS) or is_temporary(path)


def _differences(out: Path, config: dict[str, Any]) -> list[str]:
    """The flags in which the run in the folder differs."""
    before = read_config(out)
    return [
        f"--{name.replace('_', '-')}"
        for name in config
        if name != "tolerate" and config[name] != before.get(name)
    ]


@contextmanager
def _in_place_of_another(out: Path) -> Iterator[None]:
    """Lays the run that is in the folder aside until another has taken its place.

    It comes back if that fails, and stays in `.replaced` while the other is interrupted, or stopped
    from outside. What else is in the folder is not touched.
    """
    aside, moving = out / _REPLACED, out / _MOVING
    if aside.exists():  # by a call that was interrupted, of which this is the next
        _remove_run(out)
    else:
        moving.mkdir()
        for name in _WRITTEN:
            if (out / name).exists():
                (out / name).rename(moving / name)
        moving.rename(aside)
    try:
        yield
    except (Interrupted, Stopped, OSError):
        raise
    except Exception:
        _remove_run(out)
        _put_back(aside.rename(moving), out)
        raise


def _put_back(moving: Path, out: Path) -> None:
    for path in moving.iterdir():
        path.rename(out / path.name)
    moving.rmdir()


def _settle(out: Path) -> None:
    """Ends what a call that was killed had begun with the run that it replaced."""
    if (out / _MOVING).exists():
        _put_back(out / _MOVING, out)
    elif (out / _REPLACED).exists() and (out / bundle.FILE).exists():
        shutil.rmtree(out / _REPLACED)
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _remove_run(out: Path) -> None:
    """Removes what a run writes, and nothing else that may be in its folder."""
    for name in _WRITTEN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _replace_training_labels(
    table: ImageTable, splits: NDArray[np.str_], options: RunOptions, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if not 0 <= options.corrupt_labels < 1:
        raise InputError(f"--corrupt-labels must be in [0, 1), not {options.corrupt_labels}")
    targets, replaced = table.targets.copy(), np.zeros(len(table), dtype=np.bool_)
    rows = np.flatnonzero((splits == "train") & table.labelled)
    rng = np.random.default_rng(seed)
    targets[rows], replaced[rows] = replace_labels(targets[rows], options.corrupt_labels, rng)
    return targets, replaced


def check_same_table(folders: Sequence[Path], table: ImageTable, weights: str) -> None:
    """Raises InputError if a run in one of the folders was started with other rows, labels, weights
    or pixel sizes, or with another file of `--weights`."""
    started = [folder for folder in folders if (folder / SPLITS).exists()]
    record = {"row": table.rows, "image": table.names, "group": table.groups}
    _check_same(started, pd.DataFrame({**record, "content": _contents(table, weights)}), weights)


def _check_same(folders: Sequence[Path], record: pd.DataFrame, weights: str) -> None:
    now = record.astype(str).to_numpy().tolist()
    for folder in folders:
        before = read_record(folder / SPLITS, list(record.columns))
        if before.to_numpy().tolist() != now:
            file = ", or the file of --weights," if Path(weights).is_file() else ""
            raise InputError(
                f"the table{file} is no longer the one that {folder} was started with: choose "
                "another --out"
            )


def _contents(table: ImageTable, weights: str) -> list[str]:
    """A fingerprint of what each row says beside its image and subject, and of the weights that
    its training starts from."""
    start = 0
    if Path(weights).is_file():
        with Path(weights).open("rb") as file:
            start = zlib.crc32(hashlib.file_digest(file, "sha256").digest())
    numbers: list[NDArray[Any]] = [table.targets]
    for column in (table.weights, table.pixel_sizes, table.frames):
        numbers.append(np.full((len(table), 1), -1.0) if column is None else column[:, None])
    rows = np.concatenate(numbers, axis=1, dtype=np.float64)
    return [f"x{zlib.crc32(row.tobytes(), start):08x}" for row in rows]


def evaluate_predictions(
    table: ImageTable,
    predictions: NDArray[np.float64],
    out: Path,
    *,
    mapped: bool = False,
    further: pd.DataFrame | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """Evaluates predictions for the rows of a table, and writes `metrics.csv`, `predictions.csv`,
    `scatter.png` and `bland_altman.png` into `out`.

    `further` are columns for `predictions.csv`, and `notes` those of the evaluation.

    `mapped`, and groups of the table to correlate within, add measures, as in
    `finecorr.evaluation.bootstrap.agreement_with_intervals`.
    """
    frame = pd.DataFrame({"row": table.rows, "image": table.names, "group": table.groups})
    metrics, panels = [], []
    for i, column in enumerate(table.target_columns):
        truth, predicted = table.targets[:, i], predictions[:, i]
        frame[column], frame[f"predicted {column}"] = truth, predicted
        result = agreement_with_intervals(
            predicted, truth, table.groups, mapped=mapped, within=table.within
        )
        metrics.append(result.assign(target=column))
        known = np.isfinite(truth)
        panels.append(Panel(f"{known.sum()} images", column, predicted[known], truth[known]))
    columns = ["target", "metric", "value", "low", "high"]
    if table.within_column is not None:
        _note_undefined(table.within_column, metrics)
    evaluation = Evaluation(
        frame,
        pd.concat(metrics, ignore_index=True)[columns],
        table.within_column,
        observers_ceiling(table),
        notes or {},
    )
    if further is not None:
        frame[further.columns] = further
    write_record(out / PREDICTIONS, frame)
    scatter(panels, out / SCATTER)
    bland_altman(panels, out / BLAND_ALTMAN)
    write_record(out / METRICS, evaluation.metrics)
    return evaluation


def _note_undefined(within: str, metrics: list[pd.DataFrame]) -> None:
    found = pd.concat(metrics).set_index("metric")["value"].loc[[*WITHIN_MEASURES]]
    if found.isna().any():
        warnings.warn(
            f"--within {within}: there is no correlation within the groups, because none has two "
            "images whose labels and predictions differ",
            InputWarning,
            stacklevel=3,
        )


def observers_ceiling(table: ImageTable) -> Ceiling | None:
    """What a perfect prediction of the labels would reach, where they are means of opinions."""
    if table.standard_errors is None:
        return None
    known = table.labelled
    return ceiling(table.targets[known, 0], table.standard_errors[known])


def _yaml(config: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
