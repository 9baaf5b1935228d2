"""Which trainings a comparison of losses consists of: one for each loss, split and seed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from finecorr import bundle
from finecorr.comparison.splitting import Splitting
from finecorr.data.augmentation import AugmentationOptions
from finecorr.data.images import ImageOptions
from finecorr.data.table import TableOptions
from finecorr.errors import InputError
from finecorr.models.frozen import FEATURES
from finecorr.models.training import MAX_SEED, TrainingOptions
from finecorr.runs import CONFIG, RunOptions

VARIANT = "@"
"""Between the name of a loss and that of a variant of it."""
RUNS = "runs"
_FOLDS = 5
_MOST = 1000
"""Folds, seeds, or trainings at a time."""


@dataclass(frozen=True)
class ComparisonOptions:
    """What is compared, and where it goes. Each field is a flag of the command line."""

    out: Path = field(metadata={"help": "folder for the comparison; what is there is not repeated"})
    losses: tuple[str, ...] = field(
        default=("mse", "robust_pearson", "fine_grained"),
        metadata={
            "help": "names that `finecorr losses` lists; NAME@VARIANT is the same loss with other "
            "options"
        },
    )
    loss_options: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata={
            "help": "options of the losses, as YAML: {NAME or NAME@VARIANT: {OPTION: VALUE}}"
        },
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "parts of the subjects that take turns as the test split (default: "
            f"{_FOLDS}, where there is neither --repeats nor --split-column)"
        },
    )
    repeats: int | None = field(
        default=None,
        metadata={
            "help": "random splits in the place of folds, each of 80 % of the subjects for "
            "training and 20 % for testing, of which the median is reported"
        },
    )
    seeds: int = field(
        default=3, metadata={"help": "trainings of each loss and split: --seed, and those after it"}
    )
    corrupt_labels: float = field(
        default=0.0,
        metadata={"help": "share of the training rows that get another row's label"},
    )
    mapped: bool = field(
        default=False,
        metadata={"help": "also PLCC and RMSE after the logistic mapping of image quality"},
    )
    workers: int = field(
        default=1,
        metadata={
            "help": "trainings side by side: each has --devices GPUs, or its share of the cores"
        },
    )
    executor: Literal["processes", "ray"] = field(
        default="processes",
        metadata={
            "help": "where the trainings run: as processes of this machine, or as tasks of a Ray "
            "cluster, which is that of RAY_ADDRESS, or the one that `ray start` has started "
            "here, or else a local one; it may have room for fewer than --workers, and all its "
            "nodes need finecorr, and the table, its images and --out under the same paths"
        },
    )

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        if not self.losses:
            raise InputError("--losses names no loss")
        double = sorted({name for name in self.losses if self.losses.count(name) > 1})
        if double:
            raise InputError(f"--losses names {', '.join(double)} more than once")
        for name in self.losses:
            if not re.fullmatch(rf"\w+({VARIANT}[\w.-]+)?", name):
                raise InputError(
                    f"--losses: {name!r} is neither NAME nor NAME{VARIANT}VARIANT, where VARIANT "
                    "is letters, digits, points and dashes: it becomes the name of a folder"
                )
        unknown = sorted(set(self.loss_options) - set(self.losses))
        if unknown:
            raise InputError(
                f"--loss-options has options for {', '.join(unknown)}, which --losses does not name"
            )
        for name, lowest in (("folds", 2), ("repeats", 1), ("seeds", 1), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= _MOST:
                raise InputError(f"--{name} must be from {lowest} to {_MOST}, not {value}")
        if self.executor == "ray" and find_spec("ray") is None:
            raise InputError('--executor ray: Ray is missing: pip install "finecorr[ray]"')


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
    def finished(self) -> bool:
        return (self.folder / bundle.FILE).exists()

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
    return Splitting("folds", _FOLDS if options.folds is None else options.folds)


def plan(options: ComparisonOptions, data: Data, training: TrainingOptions) -> list[Run]:
    """The trainings, in an order in which all losses advance together.

    Raises:
        InputError: an option is at fault.
    """
    options.check()
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
                options.out / RUNS / loss / name / f"seed-{seed}",
                corrupt_labels=options.corrupt_labels,
                **splits.options(split, first),
            ),
        )
