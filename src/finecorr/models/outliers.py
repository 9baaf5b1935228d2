"""How far the loss believed the training labels, and how often it set them aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from finecorr.data.dataset import Batch
from finecorr.data.records import read_record
from finecorr.data.table import ImageTable

FILE = "outliers.csv"
SET_ASIDE = 0.5
"""The label weight below which a label is set aside."""


class OutlierCount(L.Callback):
    """Counts, for each label, how often it was trained on, which is once in an epoch for each image
    of its row, how often the loss set it aside, and the sum of its weights.

    Those of all processes go into the checkpoints, so that an interrupted training counts on.

    Args:
        rows: of the table.
        targets: labels of each row.
    """

    def __init__(self, rows: int, targets: int) -> None:
        self.set_aside = torch.zeros(rows, targets, dtype=torch.long)
        """`(rows, targets)`"""
        self.weight = torch.zeros(rows, targets)
        """`(rows, targets)`"""
        self.epochs = torch.zeros(rows, dtype=torch.long)
        """`(rows,)`: how often the row was in a batch."""
        self._own: list[Tensor] = []
        """The three of the images that this process had in this epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        counts = (self.set_aside, self.weight, self.epochs)
        self._own = [torch.zeros_like(values, device=pl_module.device) for values in counts]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if "label_weight" not in outputs:  # The step was skipped.
            return
        weight, (set_aside, total, epochs) = outputs["label_weight"], self._own
        row = batch["row"]
        if "lost" in batch:
            there = ~torch.isin(batch["index"], torch.tensor([*batch["lost"]]).to(row))
            weight, row = weight[there], row[there]
        # A row may have several images in a batch.
        set_aside.index_add_(0, row, (weight < SET_ASIDE).long())
        total.index_add_(0, row, weight.to(total.dtype))
        epochs.index_add_(0, row, torch.ones_like(row))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        of_all = [trainer.strategy.reduce(own, reduce_op="sum").cpu() for own in self._own]
        for count, values in zip((self.set_aside, self.weight, self.epochs), of_all, strict=True):
            count += values

    def state_dict(self) -> dict[str, Tensor]:
        return {"set_aside": self.set_aside, "weight": self.weight, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        self.set_aside, self.weight = state_dict["set_aside"], state_dict["weight"]
        self.epochs = state_dict["epochs"]


def outlier_table(
    count: OutlierCount, table: ImageTable, labels: NDArray[np.float64]
) -> pd.DataFrame:
    """The labels that were trained on, those first that were set aside in the most epochs, and of
    these the least believed.

    Args:
        count: of the training.
        table: the rows.
        labels: `(rows, targets)` that were trained with, in the table's unit.

    Returns:
        `row`, `image`, `group`, `target`, `label`, `set_aside` (in how many epochs), `epochs`
        (of how many) and `weight` (the mean over them).
    """
    set_aside, epochs = count.set_aside.cpu().numpy(), count.epochs.cpu().numpy()
    rows, targets = np.nonzero(np.isfinite(labels) & (epochs > 0)[:, None])
    frame = pd.DataFrame(
        {
            **{name: np.asarray(values)[rows] for name, values in table.cases.items()},
            "target": np.array(table.target_columns)[targets],
            "label": labels[rows, targets],
            "set_aside": set_aside[rows, targets],
            "epochs": epochs[rows],
            "weight": count.weight.cpu().numpy()[rows, targets] / epochs[rows],
        }
    )
    return frame.sort_values(["set_aside", "weight"], ascending=[False, True], kind="stable")


def read_outliers(run: Path) -> pd.DataFrame:
    """`row`, `target`, `label`, `set_aside` and `epochs`, as a run has written them; nothing where
    its loss weighs none, or where nothing is left of the run but its model."""
    columns = ["row", "target", "label", "set_aside", "epochs"]
    if not (run / FILE).exists():
        return pd.DataFrame(columns=columns)
    whole = ["row", "set_aside", "epochs"]
    return read_record(run / FILE, texts=["target"], numbers=["label"], whole=whole)[columns]
