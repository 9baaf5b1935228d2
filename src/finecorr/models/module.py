"""How a regressor learns: the Lightning module."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torchmetrics.aggregation import CatMetric

from finecorr.data.dataset import Batch
from finecorr.errors import InputError
from finecorr.losses import Loss
from finecorr.models.regressor import Regressor
from finecorr.pieces import in_pieces

_IN_A_ROW = 20
"""Steps that may be skipped; a training that has diverged skips all."""


class Diverged(InputError):
    """The weights, or the losses of many steps, are no finite numbers; in all processes alike."""

    def __init__(self) -> None:
        super().__init__("the training diverged: try a lower --learning-rate")


class RegressionModule(L.LightningModule):
    """A regressor with its loss, AdamW and a one-cycle schedule.

    Logs `loss` in each epoch, and of the validation rows, where there are some, `validation_SRCC`,
    `validation_PLCC` and `validation_MAE` (in the table's unit), means over targets.

    Args:
        regressor: what is trained.
        loss: on standardised targets.
        learning_rate: the peak of the one-cycle schedule.
        weight_decay: of AdamW.
        backbone_rate: the peak for the network without its head, if it is another one.
        frozen_epochs: of the training, from its start, in which the head alone learns.
        seed: of what a step draws (dropout).
        piece_size: images of a step that go through the network at once.
        sharded: whether each device has a share of the weights.
    """

    def __init__(
        self,
        regressor: Regressor,
        loss: Loss,
        *,
        learning_rate: float,
        weight_decay: float,
        backbone_rate: float | None = None,
        frozen_epochs: int = 0,
        seed: int = 0,
        piece_size: int = 64,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.regressor = regressor
        self.loss = loss
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._backbone_rate = backbone_rate
        self._frozen_epochs = frozen_epochs
        self._seed = seed
        self._piece_size = piece_size
        self._sharded = sharded
        self.skipped = 0
        """Steps whose loss was no finite number."""
        self._skipped_in_a_row = 0
        self._predictions = CatMetric(nan_strategy="disable")
        self._targets = CatMetric(nan_strategy="disable")
        self._weights = CatMetric(nan_strategy="disable")

    def configure_model(self) -> None:
        if not self._sharded or isinstance(self.regressor, FSDPModule):
            return
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        for part in self.regressor.backbone.children():
            if any(True for _ in part.parameters()):
                fully_shard(part, mesh=mesh)
        fully_shard(self.regressor, mesh=mesh)
        register_fsdp_forward_method(self.regressor, "scores")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._sharded:  # Then Lightning brings back parameters and buffers alone.
            checkpoint["loss"] = self.loss.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._sharded:
            self.loss.load_state_dict(checkpoint["loss"])

    def _keep_weights(self, keep: bool) -> None:
        """Whether the weights that were fetched from other devices are kept for the next batch, of
        which a device may have one more than another, which then sends nothing."""
        for part in self.regressor.modules():
            if isinstance(part, FSDPModule):
                part.set_reshard_after_forward(not keep, recurse=False)
                if not keep:
                    part.reshard()

    def on_train_epoch_start(self) -> None:
        if not self._frozen_epochs:
            return
        frozen = self.current_epoch < self._frozen_epochs
        self.regressor.backbone.requires_grad_(not frozen)
        # Its batch statistics do not move, either.
        self.regressor.backbone.train(not frozen)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # So that a resumed training draws what it would have drawn.
        place = np.random.SeedSequence([self._seed, self.global_step, self.global_rank])
        torch.manual_seed(int(place.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The `loss`, and, unless it is no finite number, how far it believed the labels,
        `label_weight`: `(n, targets)`."""
        self.loss.progress = self.global_step / self.trainer.estimated_stepping_batches
        scores, features = in_pieces(self.regressor.scores, batch["image"], size=self._piece_size)
        target = self.regressor.standardised(batch["target"])
        weight = batch.get("weight")
        ranked = None if self.loss.ranks_features_alone else features
        loss, believed = self.loss.with_label_weights(scores, target, ranked, weight=weight)
        if not torch.isfinite(loss):
            self.skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= _IN_A_ROW:
                raise Diverged
            return {"loss": loss}
        self._skipped_in_a_row = 0
        if not self.loss.fixes_scale and self.trainer.enable_validation:
            self._predictions.update(scores.detach())
            self._targets.update(target)
            self._weights.update(scores.new_ones(len(scores)) if weight is None else weight)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(scores))
        return {"loss": loss, "label_weight": believed}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # One batch whose numbers overflow must not spoil all that was learnt before. A scaler looks
        # for itself, and wants to see the gradient.
        if (
            self._skipped_in_a_row
            and getattr(self.trainer.precision_plugin, "scaler", None) is None
        ):
            optimizer.zero_grad()

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
        if self._sharded:
            # Batch statistics are those of the first process, as DistributedDataParallel has it.
            for buffer in self.regressor.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._keep_weights(True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._predictions.update(self.regressor(batch["image"]) * batch["unit"])
        self._targets.update(batch["target"] * batch["unit"])

    def on_validation_epoch_end(self) -> None:
        self._keep_weights(False)
        prediction = self._predictions.compute().double().cpu().numpy()
        target = self._targets.compute().double().cpu().numpy()
        self._predictions.reset()
        self._targets.reset()
        if not np.isfinite(prediction).all():
            raise Diverged
        self.log_dict(_validation(prediction, target))

    def on_train_epoch_end(self) -> None:
        values = self.regressor.state_dict().values()
        finite = all(bool(torch.isfinite(value).all()) for value in values)
        # Batch statistics are those of each process.
        if not self.trainer.strategy.reduce_boolean_decision(finite):
            raise Diverged

    def configure_optimizers(self) -> Any:
        regressor, rates = self.regressor, [self._learning_rate]
        groups = [list(regressor.parameters())]
        if self._backbone_rate is not None:
            groups = [
                [*regressor.hidden.parameters(), *regressor.head.parameters()],
                list(regressor.backbone.parameters()),
            ]
            rates.append(self._backbone_rate)
        optimizer = torch.optim.AdamW(
            [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)],
            weight_decay=self._weight_decay,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _validation(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> dict[str, float]:
    srcc, plcc, mae = [], [], []
    for guess, truth in zip(prediction.T, target.T, strict=True):
        known = np.isfinite(truth)
        guess, truth = guess[known], truth[known]
        # A constant prediction ranks nothing, and must not look better than a wrong ranking.
        constant = len(guess) == 0 or guess.min() == guess.max()
        srcc.append(-1.0 if constant else stats.spearmanr(guess, truth).statistic)
        plcc.append(-1.0 if constant else stats.pearsonr(guess, truth).statistic)
        mae.append(np.abs(guess - truth).mean() if len(guess) else np.nan)
    return {
        "validation_SRCC": float(np.mean(srcc)),
        "validation_PLCC": float(np.mean(plcc)),
        "validation_MAE": float(np.mean(mae)),
    }
