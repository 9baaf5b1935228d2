"""How a model is trained: flags, known before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import MAX_SEED, TableOptions
from finecorr.errors import InputError
from finecorr.models import networks
from finecorr.models.networks import FeatureKind

if TYPE_CHECKING:
    from finecorr.losses import Loss

Sharing = Literal["ddp", "fsdp"]
_MOST = 2**31 - 1
_MOST_WORKERS = 1024
_WIDEST = 2**16
_OF_IMAGES = (
    *("weights", "features", "frozen", "frozen_epochs", "backbone_rate", "loading_workers"),
    "tolerate",
)
"""Flags of a training that are for images."""


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained. Each field is a flag of the command line."""

    loss: str = field(
        default="fine_grained", metadata={"help": "a name that `finecorr losses` lists"}
    )
    loss_options: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "options of the loss: --loss-options.NAME VALUE, or YAML"},
    )
    network: str = field(
        default="resnet18",
        metadata={
            "help": f"one of {', '.join(networks.available())}; {networks.OF_COLUMNS} for "
            "--feature-columns, whose layers are those of --hidden; timm/NAME of timm; "
            "hf/NAME-OR-FOLDER of Hugging Face; or package.module:function of one's own, which is "
            "called with the number of channels and returns a module from images (n, channels, "
            "height, width) to features (n, d)"
        },
    )
    weights: str = field(
        default="none",
        metadata={
            "help": "what the network starts from: pretrained, if timm or Hugging Face have "
            "weights for it; a file (safetensors, or a state dict); or none, for random "
            "ones"
        },
    )
    features: FeatureKind = field(
        default="last",
        metadata={
            "help": "last: means of the network's last maps; stages: means and standard "
            "deviations of the maps of all its stages, which show quality better (timm "
            "and hf)"
        },
    )
    hidden: tuple[int, ...] = field(
        default=(),
        metadata={"help": "widths of the layers between the features and the linear head"},
    )
    dropout: float = field(
        default=0.0,
        metadata={"help": "share of the values that dropout zeroes in each of these layers"},
    )
    frozen: bool = field(
        default=False,
        metadata={
            "help": "train the head alone: the features of each image are computed once, and kept "
            "beside the run; without augmentation"
        },
    )
    frozen_epochs: int = field(
        default=0, metadata={"help": "epochs at the start in which the head alone learns"}
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
            "help": "images in a step, on all devices together, over which the loss is taken; a "
            "device takes its share in pieces of --batch-size images, with the exact "
            "gradient of the whole; 0 for one batch on each device"
        },
    )
    memory: int = field(
        default=64,
        metadata={
            "help": "a step of fewer images than this is filled up with the latest ones before "
            "it, for the loss only, without a gradient; 0 for none"
        },
    )
    learning_rate: float = field(
        default=1e-3, metadata={"help": "peak of the one-cycle schedule of AdamW"}
    )
    weight_decay: float = field(default=1e-2, metadata={"help": "weight decay of AdamW"})
    average: float = field(
        default=0.05,
        metadata={"help": "share of the training over which the weights are averaged; 0 for none"},
    )
    patience: int = field(
        default=0,
        metadata={
            "help": "stop after this many epochs without a better validation SRCC, and take the "
            "weights of the best epoch; 0 for the weights at the end of --epochs"
        },
    )
    seed: int = field(
        default=0,
        metadata={"help": "seed of splits, weights, order, augmentation and replaced labels"},
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "32-true, bf16-mixed or 16-mixed; auto is bf16-mixed where that is faster"
        },
    )
    loading_workers: int = field(
        default=0, metadata={"help": "processes that load images which do not fit into memory"}
    )
    tolerate: int = field(
        default=0,
        metadata={
            "help": "leave out up to this many images that cannot be read, and list them in "
            "left_out.csv; with more, the training stops"
        },
    )
    devices: int = field(
        default=1,
        metadata={
            "help": "GPUs on each node (processes, if there are none); the loss is that of the "
            "images on all of them together"
        },
    )
    num_nodes: int = field(
        default=1,
        metadata={
            "help": "machines; the command runs on each of them, started by torchrun or by SLURM"
        },
    )
    strategy: Sharing = field(
        default="ddp",
        metadata={
            "help": "ddp: each device has the whole model; fsdp: each has a part of it, for "
            "models that are too large for one device"
        },
    )

    def check(self) -> None:
        """Raises InputError if an option is unknown or out of its range."""
        networks.check(self.network)
        if self.loss != TrainingOptions.loss or self.loss_options:
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
            ("tolerate", 0, _MOST),
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
                "--dropout is for the layers of --hidden, and there are none: give --dropout 0, too"
            )
        if self.frozen and self.weights == "none" and not networks.is_own(self.network):
            raise InputError(
                "--frozen keeps the network as it is, and --weights none has learnt nothing: give "
                "--weights pretrained, or a file"
            )
        if self.frozen and self.frozen_epochs:
            raise InputError(
                "--frozen freezes the network in all epochs, --frozen-epochs in the first: give one"
            )
        if not 0 <= self.average < 1:
            raise InputError(f"--average must be in [0, 1), not {self.average}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"--weight-decay must not be negative, not {self.weight_decay}")
        if self.precision not in ("auto", "32-true", "bf16-mixed", "16-mixed"):
            raise InputError(
                f"--precision must be auto, 32-true, bf16-mixed or 16-mixed, not {self.precision}"
            )
        self._check_processes()

    def check_input(
        self, table: TableOptions, images: ImageOptions, augmentation: AugmentationOptions
    ) -> None:
        """Raises InputError if the network does not see what rows have, images or columns, or a
        flag of images cannot take effect."""
        of_columns = table.feature_columns is not None
        if of_columns != (self.network == networks.OF_COLUMNS):
            raise InputError(
                f"--network {self.network} sees images, and --feature-columns has none: leave it "
                f"out, or give --task table (--network {networks.OF_COLUMNS})"
                if of_columns
                else f"--network {self.network} is for --feature-columns, and sees no images"
            )
        if not of_columns:
            return
        for part in (images, augmentation, self):
            for option in fields(part):
                name, value = option.name, getattr(part, option.name)
                if (part is not self or name in _OF_IMAGES) and value != option.default:
                    raise InputError(
                        f"--{name.replace('_', '-')} is for images, and cannot take effect with "
                        "--feature-columns: leave it out"
                    )

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

    def build_loss(self) -> Loss:
        """The loss; an unknown name, or an option that it does not take, is an InputError."""
        import torch

        from finecorr import losses

        try:
            loss: Loss = losses.build(self.loss, **self.loss_options)
            # Options out of their range are found in the first call.
            loss(torch.arange(4.0), torch.arange(4.0), torch.eye(4))
        except (ValueError, TypeError) as error:
            raise InputError(f"--loss {self.loss}: {error}") from error
        if self.step_size < self.memory:
            loss = losses.Memory(loss, self.memory)
        return losses.GlobalBatch(loss) if self.processes > 1 else loss
