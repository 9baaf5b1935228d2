"""One training, from a data module to the best regressor."""

from __future__ import annotations

import re
import sys
import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from tqdm import tqdm

from finecorr import losses
from finecorr.data.images import ImageOptions
from finecorr.data.module import ImageDataModule
from finecorr.errors import InputError, InputWarning
from finecorr.models import networks
from finecorr.models.checkpoints import Checkpoint, Patience, WholeFiles
from finecorr.models.ended import stopped_by
from finecorr.models.module import Diverged, RegressionModule
from finecorr.models.networks import FeatureKind
from finecorr.models.outliers import OutlierCount
from finecorr.models.place import ALONE, Place
from finecorr.models.prediction import calibrate
from finecorr.models.processes import Sharing, trainer_options
from finecorr.models.quiet import quiet
from finecorr.models.regressor import Architecture, Regressor, features_of
from finecorr.models.stopping import StopBetweenSteps, writing_logs

LOGS = "logs"
MAX_SEED = 2**32 - 1
"""What NumPy and scikit-learn take."""
_MOST = 2**31 - 1
_MOST_WORKERS = 1024
_WIDEST = 2**16


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained. Each field is a flag of the command line."""

    loss: str = field(
        default="fine_grained", metadata={"help": "a name that `finecorr losses` lists"}
    )
    loss_options: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "options of the loss, as --loss-options.NAME VALUE or as YAML"},
    )
    network: str = field(
        default="resnet18",
        metadata={
            "help": f"one of {', '.join(networks.available())}; timm/NAME of timm; "
            "hf/NAME-OR-FOLDER of Hugging Face; or package.module:function of one's own, which is "
            "called with the number of channels and returns a module from images (n, channels, "
            "height, width) to features (n, d)"
        },
    )
    weights: str = field(
        default="none",
        metadata={
            "help": "what the network starts from: pretrained, for those that timm or Hugging Face "
            "have for it; a file (safetensors, or a state dict); or none, for random ones"
        },
    )
    features: FeatureKind = field(
        default="last",
        metadata={
            "help": "last: means of the network's last maps; stages: means and standard deviations "
            "of the maps of all its stages, where what people see of quality is (timm and hf)"
        },
    )
    hidden: tuple[int, ...] = field(
        default=(),
        metadata={"help": "widths of the layers between the features and the linear head"},
    )
    dropout: float = field(default=0.0, metadata={"help": "share of each of these layers"})
    frozen: bool = field(
        default=False,
        metadata={
            "help": "the head alone learns: the features of each image are computed once, and kept "
            "beside the run; without augmentation"
        },
    )
    frozen_epochs: int = field(
        default=0, metadata={"help": "epochs from the start in which the head alone learns"}
    )
    backbone_rate: float | None = field(
        default=None,
        metadata={
            "help": "peak of the learning rate of the network without its head (default: that of "
            "--learning-rate)"
        },
    )
    epochs: int = field(default=30, metadata={"help": "passes over the training images"})
    batch_size: int = field(default=64, metadata={"help": "images that a device takes at once"})
    population: int = field(
        default=0,
        metadata={
            "help": "images in a step, on all devices together: the loss is taken over these. "
            "A device takes its share in pieces of --batch-size images, with the exact gradient of "
            "the whole; 0 for one batch on each device"
        },
    )
    memory: int = field(
        default=64,
        metadata={
            "help": "a step of fewer images than this is filled up with the latest ones before it, "
            "for the loss only: no gradient is taken of these; 0 for none"
        },
    )
    learning_rate: float = field(
        default=1e-3, metadata={"help": "peak of the one-cycle schedule of AdamW"}
    )
    weight_decay: float = field(default=1e-2, metadata={"help": "of AdamW"})
    average: float = field(
        default=0.05,
        metadata={"help": "share of the training over which weights are averaged; 0 for none"},
    )
    patience: int = field(
        default=0,
        metadata={
            "help": "epochs without a better validation SRCC before it stops and takes the weights "
            "of the best one; 0 for the weights at the end of --epochs"
        },
    )
    seed: int = field(
        default=0, metadata={"help": "of splits, weights, order, augmentation and replaced labels"}
    )
    precision: str = field(
        default="auto",
        metadata={"help": "32-true, bf16-mixed or 16-mixed (auto: bf16-mixed where it is faster)"},
    )
    loading_workers: int = field(
        default=0, metadata={"help": "processes that load images which do not fit into memory"}
    )
    devices: int = field(
        default=1,
        metadata={
            "help": "GPUs, or processes where there are none, on each node: the loss is that of "
            "the images of all together"
        },
    )
    num_nodes: int = field(
        default=1,
        metadata={"help": "machines; the command runs on each, started by torchrun or by SLURM"},
    )
    strategy: Sharing = field(
        default="ddp",
        metadata={
            "help": "ddp: each device has the whole model; fsdp: each has a part of it, for models "
            "that are too large for one device"
        },
    )

    def check(self) -> None:
        """Raises InputError if an option is unknown or out of its range."""
        networks.check(self.network)
        self.build_loss()
        for name, lowest, highest in (
            ("epochs", 1, _MOST),
            ("batch_size", 2, _MOST),
            ("population", 0, _MOST),
            ("memory", 0, _MOST),
            ("frozen_epochs", 0, self.epochs),
            ("patience", 0, _MOST),
            ("seed", 0, MAX_SEED),
            ("loading_workers", 0, _MOST_WORKERS),
            ("devices", 1, _MOST_WORKERS),
            ("num_nodes", 1, _MOST_WORKERS),
        ):
            if not lowest <= getattr(self, name) <= highest:
                flag = name.replace("_", "-")
                raise InputError(
                    f"--{flag} must be from {lowest} to {highest}, not {getattr(self, name)}"
                )
        for name in ("learning_rate", "backbone_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {rate}")
        if not all(1 <= width <= _WIDEST for width in self.hidden):
            given = " ".join(map(str, self.hidden))
            raise InputError(f"--hidden must be numbers from 1 to {_WIDEST}, not {given}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--dropout must be in [0, 1), not {self.dropout}")
        if self.dropout and not self.hidden:
            raise InputError(
                "--dropout is of the layers of --hidden, and there are none: give --dropout 0, too"
            )
        if self.frozen and self.weights == "none" and not networks.is_own(self.network):
            raise InputError(
                "--frozen keeps the network as it is, and --weights none has learnt nothing: give "
                "--weights pretrained, or a file"
            )
        if self.frozen and self.frozen_epochs:
            raise InputError("--frozen is throughout, and --frozen-epochs at the start: give one")
        if not 0 <= self.average < 1:
            raise InputError(f"--average must be in [0, 1), not {self.average}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"--weight-decay must not be negative, not {self.weight_decay}")
        if self.precision not in ("auto", "32-true", "bf16-mixed", "16-mixed"):
            raise InputError(
                f"--precision must be auto, 32-true, bf16-mixed or 16-mixed, not {self.precision}"
            )
        self._check_processes()

    @property
    def processes(self) -> int:
        """Of the training: one for each device."""
        return self.devices * self.num_nodes

    @property
    def step_size(self) -> int:
        """Images of a step, of all devices together."""
        return self.population or self.batch_size * self.processes

    def _check_processes(self) -> None:
        if self.population and self.population < max(2, self.processes):
            raise InputError(
                f"--population {self.population} is less than {max(2, self.processes)}: give 0, or "
                "an image for each device at least"
            )
        if self.processes > 1 and self.frozen:
            raise InputError("--frozen: the head alone learns on one device: leave out --devices")
        if self.strategy == "fsdp" and self.average:
            raise InputError("--strategy fsdp cannot average weights: give --average 0, too")
        if self.strategy == "fsdp" and self.frozen_epochs:
            raise InputError("--strategy fsdp: all weights learn, without --frozen-epochs")

    def build_loss(self) -> losses.Loss:
        """The loss; an unknown name, or an option that it does not take, is an InputError."""
        try:
            loss = losses.build(self.loss, **self.loss_options)
            # Options out of their range are found in the first call.
            loss(torch.arange(4.0), torch.arange(4.0), torch.eye(4))
        except (ValueError, TypeError) as error:
            raise InputError(f"--loss {self.loss}: {error}") from error
        if self.step_size < self.memory:
            loss = losses.Memory(loss, self.memory)
        return losses.GlobalBatch(loss) if self.processes > 1 else loss


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    regressor: Regressor
    """As it is at the end; with `patience`, as it was at the best validation SRCC."""
    outliers: OutlierCount | None
    """How far the loss believed the training labels, if it weighs them."""


class Interrupted(Exception):
    """The person at the keyboard stopped the training; its last checkpoint is there."""


def new_regressor(images: ImageOptions, targets: int, options: TrainingOptions) -> Regressor:
    """The regressor with the weights that its training starts from.

    Args:
        images: what it sees.
        targets: how many it predicts.
        options: of its training.

    Raises:
        InputError: there is no such network, or its weights cannot be had, or it does not take
            these images.
    """
    L.seed_everything(options.seed, verbose=False)
    pretrained = options.weights == "pretrained"
    network = networks.build(
        options.network, images.channels, options.features, pretrained=pretrained
    )
    known = network.mean is not None and (
        options.weights != "none" or networks.is_own(options.network)
    )
    if options.frozen and not known:
        raise InputError(
            f"--frozen: nothing says how images are normalised for {options.network} (a module of "
            "one's own says it with image_mean and image_std)"
        )
    regressor = Regressor(
        Architecture(
            options.network,
            images.channels,
            images.size,
            targets,
            options.features,
            options.hidden,
            options.dropout,
            network.config,
        ),
        network,
    )
    if not pretrained and options.weights != "none":
        networks.load_weights(network, Path(options.weights))
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
        finecorr.errors.Stopped: an image can no longer be read, or a process that loads images was
            killed; it goes on as after Ctrl-C.
        OSError: what the system refuses, as where a disk is full; it goes on in the same way.
    """
    regressor.standardise_targets(data.training_targets())
    backbone = regressor.backbone
    if options.frozen:
        # What does not learn is neither averaged nor saved in every epoch.
        regressor.backbone = nn.Identity()
    if not regressor.knows_images:
        regressor.normalise_images(*data.training_intensity())
    learning, layout = regressor, torch.channels_last
    if options.strategy == "fsdp":
        # What is shared out among the devices stays so, and has to be in torch's own layout.
        learning, layout = deepcopy(regressor), torch.contiguous_format
    module = RegressionModule(
        # torch's annotations do not know this form.
        learning.to(memory_format=layout),  # type: ignore[call-overload]
        options.build_loss(),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        backbone_rate=options.backbone_rate,
        frozen_epochs=options.epochs if options.frozen else options.frozen_epochs,
        seed=options.seed,
        piece_size=options.batch_size,
        sharded=options.strategy == "fsdp",
    )
    last = Checkpoint(folder, "last")
    data.first_epoch = last.epochs() if resume else 0
    stop = StopBetweenSteps()
    callbacks: list[L.Callback] = [last, stop, _ProgressBar(options.loss)]
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
    curves = CSVLogger(folder, LOGS)
    with quiet():
        trainer = L.Trainer(
            max_epochs=options.epochs,
            **trainer_options(
                options.devices,
                options.num_nodes,
                options.strategy,
                static=options.frozen_epochs == 0,
            ),
            precision=_precision(options.precision),  # type: ignore[arg-type]
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
        try:
            with stop, writing_logs(folder / LOGS):
                trainer.fit(
                    module,
                    datamodule=data,
                    ckpt_path=last.file if data.first_epoch else None,
                    weights_only=True,
                )
        except Diverged:
            with place.the_same_in_all():
                raise
        except InputError as error:
            # A process that loads images hands its error on with its traceback before it.
            said = re.split(r"errors\.(?:InputError|Stopped): ", str(error))[-1].strip()
            raise type(error)(said) from error
        except RuntimeError as error:
            if (stopped := stopped_by(error)) is not None:
                raise stopped from error
            raise
        except (KeyboardInterrupt, SystemExit) as end:
            # Lightning ends the process on Ctrl-C.
            if not place.leads:
                raise SystemExit from end
            raise Interrupted from end
        if module.skipped and place.leads:
            warnings.warn(
                f"{module.skipped} of {trainer.global_step} steps were skipped, as the loss was no "
                "finite number",
                InputWarning,
                stacklevel=2,
            )
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


def epochs_done(printed: str) -> int:
    """How many epochs a training had behind it, by what it had printed."""
    reached = re.findall(r", epoch (\d+)/\d+", printed)
    return int(reached[-1]) if reached else 0


def _precision(precision: str) -> str:
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
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
