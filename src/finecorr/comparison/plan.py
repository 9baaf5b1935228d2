"""Which trainings a comparison of losses consists of: one for each loss, split and seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from finecorr.comparison.options import FOLDS, REFERENCE, VARIANT, ComparisonOptions
from finecorr.comparison.splitting import Splitting
from finecorr.config import CONFIG
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import MAX_SEED, TableOptions
from finecorr.errors import InputError
from finecorr.models.frozen import FEATURES
from finecorr.models.options import TrainingOptions
from finecorr.run_options import RunOptions
from finecorr.runs.folder import METRICS
from finecorr.trained import bundle

RUNS = "runs"
_ERROR = "mse"
"""What the reference minimises."""


@dataclass(frozen=True)
class Data:
    """What all trainings share."""

    table: TableOptions
    images: ImageOptions
    augmentation: AugmentationOptions


@dataclass(frozen=True)
class Run:
    """One training of a comparison: an ordinary run with its folder."""

    loss: str
    split: str
    """Its name."""
    fold: int
    """The number of the split."""
    seed: int
    data: Data
    training: TrainingOptions
    options: RunOptions

    @property
    def folder(self) -> Path:
        return self.options.out

    @property
    def features(self) -> Path:
        """Of a frozen network: those of all trainings."""
        return next(path for path in self.folder.parents if path.name == RUNS).parent / FEATURES

    @property
    def name(self) -> str:
        return f"{self.loss} {self.split} seed-{self.seed}"

    @property
    def is_reference(self) -> bool:
        """Whether it is no training of a network, and leaves no model."""
        return self.loss == REFERENCE

    @property
    def finished(self) -> bool:
        return (self.folder / (METRICS if self.is_reference else bundle.FILE)).exists()

    @property
    def started(self) -> bool:
        return (self.folder / CONFIG).exists()


def splitting(options: ComparisonOptions, table: TableOptions) -> Splitting:
    """Which splits are asked for.

    Raises:
        InputError: two ways at once.
    """
    ways = {
        "--folds": options.folds,
        "--repeats": options.repeats,
        "--split-column": table.split_column,
    }
    given = [flag for flag, value in ways.items() if value is not None]
    if len(given) > 1:
        raise InputError(
            f"{' and '.join(given)} each say what the splits are: leave out all but one, or say "
            f"{given[-1]} null where a file of flags has it"
        )
    if options.repeats is not None:
        return Splitting("repeats", options.repeats)
    if table.split_column is not None:
        return Splitting("column", 1, table.split_column)
    return Splitting("folds", FOLDS if options.folds is None else options.folds)


def plan(options: ComparisonOptions, data: Data, training: TrainingOptions) -> list[Run]:
    """The trainings, in an order in which all losses advance together.

    Raises:
        InputError: an option is at fault.
    """
    options.check()
    training.check_input(data.table, data.images, data.augmentation)
    if options.reference and data.table.feature_columns is None:
        raise InputError(
            "--reference learns from columns of numbers and categories: it is for --feature-columns"
        )
    splits = splitting(options, data.table)
    if training.num_nodes > 1:
        raise InputError("each training of a comparison is on one node: leave out --num-nodes")
    for flag, count in ("--seeds", options.seeds), ("--repeats", options.repeats or 1):
        if training.seed + count - 1 > MAX_SEED:
            raise InputError(f"--seed {training.seed} and {flag} {count} end above {MAX_SEED}")
    if splits.kind == "repeats" and training.patience > 0:
        raise InputError("--patience needs validation rows, and the splits of --repeats have none")
    trainings = {}
    for loss in options.losses:
        name = loss.partition(VARIANT)[0]
        trainings[loss] = replace(
            training, loss=name, loss_options=options.loss_options.get(loss, {})
        )
        trainings[loss].check()
    if options.reference:
        trainings[REFERENCE] = replace(training, loss=_ERROR, loss_options={})
    # What they are measured within is for the comparison, and may change.
    data = replace(data, table=replace(data.table, within=None))
    return list(_runs(options, data, splits, trainings, training))


def _runs(
    options: ComparisonOptions,
    data: Data,
    splits: Splitting,
    trainings: dict[str, TrainingOptions],
    first: TrainingOptions,
) -> Iterator[Run]:
    seeds = range(first.seed, first.seed + options.seeds)
    for seed, split, loss in itertools.product(seeds, range(1, splits.number + 1), trainings):
        name = splits.name(split)
        yield Run(
            loss,
            name,
            split,
            seed,
            data,
            replace(trainings[loss], seed=seed),
            RunOptions(
                out=options.out / RUNS / loss / name / f"seed-{seed}",
                corrupt_labels=options.corrupt_labels,
                **splits.options(split, first),
            ),
        )
