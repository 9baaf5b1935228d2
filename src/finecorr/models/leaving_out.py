"""What cannot be read while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from finecorr.data.dataset import Batch
from finecorr.data.decoding import Frame
from finecorr.data.left_out import LeftOut, Lost
from finecorr.models.place import Place


class LeavingOut(L.Callback):
    """Notes the images that cannot be read, and stops the training where they are too many: of
    those of a process in each step, and of those of all processes after each epoch.

    Args:
        left_out: of the training.
        folder: of the run, where they are listed.
        place: of this process.
    """

    def __init__(self, left_out: LeftOut, folder: Path, place: Place) -> None:
        self._left_out, self._folder, self._place = left_out, folder, place

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._take(list(batch.get("lost", {}).values()))

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(list(batch.get("lost", {}).values()))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        of_all = self._place.gathered(list(self._left_out.found.values()))
        with self._place.the_same_in_all():
            self._take([lost for process in of_all for lost in process])

    def _take(self, lost: list[Lost]) -> None:
        if self._left_out.add(lost) and self._place.leads:
            self._left_out.write(self._folder)

    def state_dict(self) -> dict[str, Any]:
        found = self._left_out.found.values()
        return {"found": [[str(lost.frame.path), lost.frame.number, *lost[1:]] for lost in found]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for path, number, *said in state_dict["found"]:
            self._left_out.add([Lost(Frame(Path(path), number), *said)])
