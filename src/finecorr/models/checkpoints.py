"""What an interrupted training goes on from: its last whole epoch, wherever its folder now is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from finecorr.files import replacing

CHECKPOINTS = "checkpoints"
MONITORED = "validation_SRCC"


class Checkpoint(ModelCheckpoint):
    """One file, `NAME.ckpt`: of the last epoch, or of the best one by validation SRCC."""

    def __init__(self, folder: Path, name: str, *, best: bool = False) -> None:
        super().__init__(
            folder / CHECKPOINTS,
            name,
            monitor=MONITORED if best else None,
            mode="max" if best else "min",
            enable_version_counter=False,
            save_on_train_epoch_end=True,  # when early stopping has counted
        )
        self.file = folder / CHECKPOINTS / f"{name}.ckpt"

    def epochs(self) -> int:
        """How many are behind a training that goes on from the file; 0 without one."""
        if not self.file.is_file():
            return 0
        saved = torch.load(self.file, map_location="cpu", weights_only=True, mmap=True)
        return int(saved["epoch"]) + 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The folder may have been moved, and then another run may be where it was.
        file = str(self.file)
        here: dict[str, Any] = {
            name: file if state_dict[name] else ""
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        scores = list(state_dict["best_k_models"].values())
        here["best_k_models"] = dict(zip([file], scores, strict=False))
        super().load_state_dict({**state_dict, **here, "dirpath": self.dirpath})


class Patience(EarlyStopping):
    """Stops a training that gets no better, also one that had stopped when it was interrupted."""

    def __init__(self, epochs: int) -> None:
        super().__init__(MONITORED, patience=epochs, mode="max", check_on_train_epoch_end=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside the one before, which is kept until then."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch ends its archive all the same, and that error hides why it was not written.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise
