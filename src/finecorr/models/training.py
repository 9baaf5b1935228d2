"""One training, from a data module to the best regressor."""

from __future__ import annotations

import re
import sys
import warnings
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from tqdm import tqdm

from finecorr.data.image_options import ImageOptions
from finecorr.data.module import ImageDataModule
from finecorr.errors import InputError, InputWarning, Interrupted
from finecorr.models import networks
from finecorr.models.checkpoints import Checkpoint, Patience, WholeFiles
from finecorr.models.ended import stopped_by
from finecorr.models.leaving_out import LeavingOut
from finecorr.models.module import Diverged, RegressionModule
from finecorr.models.networks.weights import load_weights
from finecorr.models.options import TrainingOptions
from finecorr.models.outliers import OutlierCount
from finecorr.models.place import ALONE, Place
from finecorr.models.prediction import calibrate
from finecorr.models.processes import trainer_options
from finecorr.models.quiet import quiet
from finecorr.models.regressor import NO_IMAGE, Architecture, Regressor, features_of
from finecorr.models.stopping import StopBetweenSteps, writing_logs

LOGS = "logs"


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    regressor: Regressor
    """As it is at the end; with `patience`, as it was at the best validation SRCC."""
    outliers: OutlierCount | None
    """How far the loss believed the training labels, if it weighs them."""


def new_regressor(
    images: ImageOptions, targets: int, options: TrainingOptions, width: int | None = None
) -> Regressor:
    """The regressor with the weights that its training starts from.

    Args:
        images: what it sees.
        targets: how many it predicts.
        options: of its training.
        width: of the rows that it sees in the place of images, if it does.

    Raises:
        InputError: there is no such network, or its weights cannot be had, or it does not take
            these images.
    """
    L.seed_everything(options.seed, verbose=False)
    pretrained = options.weights == "pretrained"
    channels, size = (images.channels, images.size) if width is None else (width, NO_IMAGE)
    network = networks.build(
        options.network,
        channels,
        options.features,
        pretrained=pretrained,
        dimensions=len(size),
    )
    known = network.mean is not None and (
        options.weights != "none" or width is not None or networks.is_own(options.network)
    )
    if options.frozen and not known:
        raise InputError(
            f"--frozen: nothing says how images are normalised for {options.network} (a module of "
            "one's own says it with image_mean and image_std)"
        )
    regressor = Regressor(
        Architecture(
            options.network,
            channels,
            size,
            targets,
            options.features,
            options.hidden,
            options.dropout,
            network.config,
        ),
        network,
    )
    if not pretrained and options.weights != "none":
        load_weights(network, Path(options.weights))
    if known and network.mean is not None and network.std is not None:
        regressor.normalise_images(network.mean, network.std)
    if images.view == "crops" and not images.test_crops:
        height, width = images.size
        found = features_of(regressor.backbone.eval(), images.channels, (height + 32, width + 64))
        if isinstance(found, Exception) or found.shape[1] != regressor.feature_count:
            reason = found if isinstance(found, Exception) else "its features depend on the size"
            raise InputError(
                f"--network {options.network} does not take images of every size ({reason}): give "
                "--test-crops N, to predict from crops"
            )
        regressor.backbone.train()
    return regressor


def train(
    data: ImageDataModule,
    regressor: Regressor,
    options: TrainingOptions,
    folder: Path,
    *,
    place: Place = ALONE,
    resume: bool = False,
) -> Trained:
    """Trains a regressor.

    Args:
        data: the batches.
        regressor: of `new_regressor` for the same options, just made.
        options: how it is trained.
        folder: where logs and checkpoints go.
        place: of this process in the training; each calls this, and has the result.
        resume: go on from the last checkpoint in `folder`, if there is one.

    Raises:
        Interrupted: Ctrl-C; a training with `resume` goes on from the last whole epoch.
        InputError: it diverged.
        finecorr.errors.Stopped: more images than `tolerate` cannot be read, or a process that loads
            images was killed; it goes on as after Ctrl-C.
        OSError: what the system refuses, as where a disk is full; it goes on in the same way.
    """
    regressor.standardise_targets(data.training_targets())
    backbone = regressor.backbone
    if options.frozen:
        # What does not learn is neither averaged nor saved in every epoch.
        regressor.backbone = nn.Identity()
    if not regressor.knows_images:
        regressor.normalise_images(*data.training_intensity())
    module = _module(regressor, options, data.images_per_step)
    last = Checkpoint(folder, "last")
    data.first_epoch = last.epochs() if resume else 0
    callbacks: list[L.Callback] = [
        last,
        LeavingOut(data.dataset.left_out, folder, place),
        _ProgressBar(options.loss),
    ]
    outliers = None
    if module.loss.weighs_labels:
        outliers = OutlierCount(data.dataset.table_rows, regressor.architecture.targets)
        callbacks.append(outliers)
    window = options.average * options.epochs * data.steps_per_epoch
    if window > 1:
        callbacks.append(EMAWeightAveraging(decay=1 - 1 / window))
    chosen = last
    # Not by default: much is learnt at the end, where the schedule's rate is low, and which epoch
    # is the best on a few validation samples is chance.
    if options.patience > 0:
        chosen = Checkpoint(folder, "best", best=True)
        # Before `last`, which says what the best epoch is, that of its own epoch among them.
        callbacks = [chosen, *callbacks, Patience(options.patience)]
    with quiet():
        _fit(module, data, options, folder, callbacks, place, last.file)
        saved = torch.load(chosen.file, map_location="cpu", weights_only=True)
        prefix = "regressor."
        regressor.load_state_dict(
            {
                name.removeprefix(prefix): values
                for name, values in saved["state_dict"].items()
                if name.startswith(prefix)
            }
        )
        calibrate(regressor, data.dataset, data.indices["train"], place)
    regressor.backbone = backbone
    return Trained(regressor.eval(), outliers)


def _module(regressor: Regressor, options: TrainingOptions, images: int) -> RegressionModule:
    """How it learns, by steps of so many images."""
    # What is shared out among the devices stays so, and has to be in torch's own layout.
    learning = deepcopy(regressor) if options.strategy == "fsdp" else regressor.arrange()
    return RegressionModule(
        learning,
        options.build_loss(),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        backbone_rate=options.backbone_rate,
        frozen_epochs=options.epochs if options.frozen else options.frozen_epochs,
        seed=options.seed,
        piece_size=piece_size(images, options.processes, options.batch_size),
        sharded=options.strategy == "fsdp",
    )


def piece_size(images: int, processes: int, most: int) -> int:
    """How many images of a step go through the network at once: `most`, or what is near.

    Of a last piece of one image batch normalisation would have no statistics; and a process that
    has one more piece than another would wait for its share of the weights for ever.
    """
    shares = {images // processes, -(-images // processes)} - {1}
    sizes = chain(range(most, 1, -1), count(most + 1))  # More, where fewer do not go.
    return next(size for size in sizes if all(share % size != 1 for share in shares))


def _fit(
    module: RegressionModule,
    data: ImageDataModule,
    options: TrainingOptions,
    folder: Path,
    callbacks: list[L.Callback],
    place: Place,
    last: Path,
) -> None:
    """From the last checkpoint on, if some epochs of `data` are over; what stops it is raised as
    `train` says."""
    stop = StopBetweenSteps()
    trainer = _trainer(module, data, options, folder, [stop, *callbacks])
    try:
        with stop, writing_logs(folder / LOGS):
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=last if data.first_epoch else None,
                weights_only=True,
            )
    except Diverged:
        with place.the_same_in_all():
            raise
    except RuntimeError as error:
        if (stopped := stopped_by(error)) is not None:
            raise stopped from error
        raise
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning ends the process on Ctrl-C.
        if not place.leads:
            raise SystemExit(getattr(end, "code", None)) from end
        raise Interrupted from end
    if module.skipped and place.leads:
        warnings.warn(
            f"{module.skipped} of {trainer.global_step} steps were skipped, as the loss was no "
            "finite number",
            InputWarning,
            stacklevel=3,
        )


def _trainer(
    module: RegressionModule,
    data: ImageDataModule,
    options: TrainingOptions,
    folder: Path,
    callbacks: list[L.Callback],
) -> L.Trainer:
    curves = CSVLogger(folder, LOGS)
    return L.Trainer(
        max_epochs=options.epochs,
        **trainer_options(
            options.devices,
            options.num_nodes,
            options.strategy,
            static=options.frozen_epochs == 0,
        ),
        precision=precision_of(  # type: ignore[arg-type]
            options.precision, len(module.regressor.architecture.image_size)
        ),
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=[curves, TensorBoardLogger(folder, LOGS, curves.version)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=None if data.validates else 0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        deterministic="warn",
    )


def epochs_done(printed: str) -> int:
    """How many epochs a training had behind it, by what it had printed."""
    reached = re.findall(r", epoch (\d+)/\d+", printed)
    return int(reached[-1]) if reached else 0


def precision_of(asked: str, dimensions: int) -> str:
    """The one that Lightning is to take for images of so many dimensions.

    Raises:
        InputError: what is asked for goes wrong on a CPU.
    """
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and asked == "16-mixed":
        raise InputError("--precision 16-mixed is for GPUs: on a CPU give 32-true, or bf16-mixed")
    # Of three-dimensional convolutions in bfloat16, oneDNN 3.12 leaves some of the weights'
    # gradients unwritten now and then: torch 2.13 on an AMD EPYC.
    if on_cpu and asked == "bf16-mixed" and dimensions == 3:
        raise InputError(
            "--precision bf16-mixed: on a CPU, some gradients of volumes are wrong in it now and "
            "then: give 32-true, or leave it out"
        )
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    if dimensions == 3:
        return "32-true"
    # Without these instructions, bfloat16 on a CPU is emulated and slow.
    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, name, bool)() for name in instructions)
    return "bf16-mixed" if native else "32-true"


class _ProgressBar(L.Callback):
    """One line for the whole training; where nobody watches, as in a log, one for each epoch."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar = tqdm(
            desc=self._name,
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            disable=None if trainer.is_global_zero else True,  # None: no terminal
            unit="step",
        )

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        reached = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if "validation_SRCC" in metrics:
            reached += (
                f", validation SRCC {metrics['validation_SRCC']:.3f}, "
                f"MAE {metrics['validation_MAE']:.3g}"
            )
        self._bar.set_postfix_str(reached)
        if self._bar.disable and trainer.is_global_zero:
            print(f"{self._name}, {reached}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()
