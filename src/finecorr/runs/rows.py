"""The rows of a table as a training takes them: in splits, with labels replaced on purpose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.corruption import replace_labels
from finecorr.data.options import TableOptions
from finecorr.data.splits import split_rows
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError
from finecorr.models.options import TrainingOptions
from finecorr.run_options import RunOptions
from finecorr.runs.same import contents


class Rows(NamedTuple):
    """Those of a table, as a training takes them."""

    table: ImageTable
    splits: NDArray[np.str_]
    targets: NDArray[np.float64]
    """`(rows, targets)` that are trained with."""
    record: pd.DataFrame
    """For `splits.csv`."""


def prepared_rows(
    table_options: TableOptions, run_options: RunOptions, training_options: TrainingOptions
) -> Rows:
    """The rows in their splits, with labels replaced where that is asked for.

    Raises:
        InputError: an option, or the table, is at fault.
    """
    table = read_table(table_options)
    splits = split_rows(table, run_options, training_options.seed)
    if training_options.patience > 0 and "validation" not in splits:
        raise InputError(
            "--patience needs validation rows: give --split-fractions a share for them"
        )
    targets, replaced = _replace_training_labels(table, splits, run_options, training_options.seed)
    record = pd.DataFrame(
        {
            **table.cases,
            "split": splits,
            "label_replaced": replaced.astype(int),
            **contents(table, training_options.weights),
        }
    )
    return Rows(table, splits, targets, record)


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
