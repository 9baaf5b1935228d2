"""What is compared, and how: flags, known before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from finecorr.errors import InputError

VARIANT = "@"
"""Between the name of a loss and that of a variant of it."""
REFERENCE = "HistGradientBoostingRegressor"
"""What --reference is called among the losses."""
FOLDS = 5
_MOST = 1000
"""Folds, seeds, or trainings at a time."""


@dataclass(frozen=True)
class ComparisonOptions:
    """What is compared, and where it goes. Each field is a flag of the command line."""

    out: Path = field(
        metadata={
            "help": "folder for the comparison; trainings that are finished there are not repeated"
        }
    )
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
            f"{FOLDS}, where there is neither --repeats nor --split-column)"
        },
    )
    repeats: int | None = field(
        default=None,
        metadata={
            "help": "this many random splits instead of folds, each with 80 % of the subjects for "
            "training and 20 % for testing; the median is reported"
        },
    )
    reference: bool = field(
        default=False,
        metadata={
            "help": "add scikit-learn's HistGradientBoostingRegressor with its defaults, on the "
            "same rows and labels: what one would take instead of a network "
            "(--feature-columns)"
        },
    )
    seeds: int = field(
        default=3, metadata={"help": "trainings of each loss and split: --seed, and those after it"}
    )
    corrupt_labels: float = field(
        default=0.0,
        metadata={"help": "give this share of the training rows another row's label"},
    )
    mapped: bool = field(
        default=False,
        metadata={"help": "also report PLCC and RMSE after the logistic mapping of image quality"},
    )
    workers: int = field(
        default=1,
        metadata={
            "help": "trainings at the same time; each has --devices GPUs, or its share of the cores"
        },
    )
    executor: Literal["processes", "ray"] = field(
        default="processes",
        metadata={
            "help": "where the trainings run: processes of this machine, or tasks of a Ray "
            "cluster (that of RAY_ADDRESS, or the one that `ray start` has started here, "
            "or a local one), all of whose nodes need finecorr, and the table, its images "
            "and --out under the same paths"
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
