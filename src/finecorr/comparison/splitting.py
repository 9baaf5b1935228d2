"""The splits that all losses of a comparison are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from finecorr.evaluation.ranking import Average
from finecorr.models.options import TrainingOptions

_WITHOUT_VALIDATION = (0.8, 0.0, 0.2)


@dataclass(frozen=True)
class Splitting:
    """Folds of the subjects, random splits by subject, or the split of a column of the table."""

    kind: Literal["folds", "repeats", "column"]
    number: int
    """How many splits there are."""
    column: str | None = None

    @property
    def average(self) -> Average:
        """Over the splits."""
        return "median" if self.kind == "repeats" else "mean"

    def name(self, split: int) -> str:
        """That of the folder of a split, by its number from 1."""
        names = {"folds": f"fold-{split}", "repeats": f"repeat-{split}", "column": "split"}
        return names[self.kind]

    def options(self, split: int, training: TrainingOptions) -> dict[str, Any]:
        """The fields of `RunOptions` that make it; `training` has the first seed."""
        seed = training.seed
        if self.kind == "folds":
            return {"folds": self.number, "fold": split, "split_seed": seed}
        if self.kind == "repeats":
            return {"split_fractions": _WITHOUT_VALIDATION, "split_seed": seed + split - 1}
        # Of a published split, all training rows are trained on, unless some are to say when to
        # stop.
        fractions = {} if training.patience > 0 else {"split_fractions": _WITHOUT_VALIDATION}
        return {"split_seed": seed, **fractions}

    def described(self, seeds: int) -> str:
        """What is done, in words."""
        splits = {
            "folds": f"{self.number} folds by subject, each the test split in turn",
            "repeats": f"{_counted(self.number, 'random 80/20 split')} by subject",
            "column": f"that of column {self.column!r}",
        }
        return f"{splits[self.kind]}; {_counted(seeds, 'training')} of each loss on each"

    def value(self, splits: int, seeds: int) -> str:
        """What a value of so many splits and seeds is, in words."""
        if self.kind == "folds":
            return f"the mean over {_counted(splits, 'fold')} and {_counted(seeds, 'seed')}"
        of_seeds = f"the mean over {seeds} seeds" if seeds > 1 else "that of one training"
        if self.kind == "column":
            return f"{of_seeds}, on the split of column {self.column!r}"
        median = f"the median of {_counted(splits, 'random 80/20 split')} by subject"
        return f"{median}, and in each of these {of_seeds}" if seeds > 1 else median


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
