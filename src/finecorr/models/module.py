"""How a regressor learns: the Lightning module."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torchmetrics.aggregation import CatMetric

from finecorr.data.module import Batch
from finecorr.errors import InputError
from finecorr.losses import Loss, RobustPearsonLoss
from finecorr.models.regressor import Regressor

_MEMORY = "memory"
_DIVERGED = "the training diverged: try a lower --learning-rate"


class RegressionModule(L.LightningModule):
    """A regressor with its loss, AdamW and a one-cycle schedule.

    Logs `loss` in each epoch, and of the validation rows, where there are some, `validation_SRCC`,
    `validation_PLCC` and `validation_MAE` (in the table's unit), means over targets.

    Args:
        regressor: what is trained.
        loss: on standardised targets.
        learning_rate: the peak of the one-cycle schedule.
        weight_decay: of AdamW.
    """

    def __init__(
        self, regressor: Regressor, loss: Loss, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__()
        self.regressor = regressor
        self.loss = loss
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._predictions = CatMetric(nan_strategy="disable")
        self._targets = CatMetric(nan_strategy="disable")
        self._weights = CatMetric(nan_strategy="disable")

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The `loss`, and which samples it set aside, `outlier`: `(n, targets)`."""
        self.loss.progress = self.global_step / self.trainer.estimated_stepping_batches
        scores, features = self.regressor.scores(batch["image"])
        target = self.regressor.standardised(batch["target"])
        weight = batch["weight"]
        ranked = None if self.loss.ranks_features_alone else features
        # First, as the loss remembers the batch.
        outlier = self.loss.outliers(scores, target, weight=weight)
        loss: Tensor = self.loss(scores, target, ranked, weight=weight)
        if not self.loss.fixes_scale and self.trainer.enable_validation:
            self._predictions.update(scores.detach())
            self._targets.update(target)
            self._weights.update(weight)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(scores))
        return {"loss": loss, "outlier": outlier}

    def on_validation_epoch_start(self) -> None:
        # By the epoch's training batches, so that validation sees predictions in their unit and,
        # for a loss that fixes no direction, the right way round.
        if not self.loss.fixes_scale and self._weights.update_called:
            self.regressor.calibrate(
                self._predictions.compute(), self._targets.compute(), self._weights.compute()
            )
            self._weights.reset()
        self._predictions.reset()
        self._targets.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._predictions.update(self.regressor(batch["image"]) * batch["unit"])
        self._targets.update(batch["target"] * batch["unit"])

    def on_validation_epoch_end(self) -> None:
        prediction = self._predictions.compute().double().cpu().numpy()
        target = self._targets.compute().double().cpu().numpy()
        self._predictions.reset()
        self._targets.reset()
        if not np.isfinite(prediction).all():
            raise InputError(_DIVERGED)
        self.log_dict(_validation(prediction, target))

    def on_train_epoch_end(self) -> None:
        if not all(torch.isfinite(value).all() for value in self.regressor.state_dict().values()):
            raise InputError(_DIVERGED)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if isinstance(self.loss, RobustPearsonLoss):
            checkpoint[_MEMORY] = self.loss.memory.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if isinstance(self.loss, RobustPearsonLoss):
            self.loss.memory.restore(checkpoint[_MEMORY])

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, predictions in the table's unit, and the standardised scores behind them."""
        scores, _ = self.regressor.scores(batch["image"])
        return batch["row"], self.regressor.in_unit(scores) * batch["unit"], scores

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.regressor.parameters(), self._learning_rate, weight_decay=self._weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._learning_rate, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _validation(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> dict[str, float]:
    srcc, plcc, mae = [], [], []
    for guess, truth in zip(prediction.T, target.T, strict=True):
        known = np.isfinite(truth)
        guess, truth = guess[known], truth[known]
        # A constant prediction ranks nothing, and must not look better than a wrong ranking.
        constant = guess.min() == guess.max()
        srcc.append(-1.0 if constant else stats.spearmanr(guess, truth).statistic)
        plcc.append(-1.0 if constant else stats.pearsonr(guess, truth).statistic)
        mae.append(np.abs(guess - truth).mean())
    return {
        "validation_SRCC": float(np.mean(srcc)),
        "validation_PLCC": float(np.mean(plcc)),
        "validation_MAE": float(np.mean(mae)),
    }
