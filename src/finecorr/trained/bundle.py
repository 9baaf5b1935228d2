"""A trained model as one file that is safe to load: weights and description, no code."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from finecorr.data.asked import check_options
from finecorr.data.encoding import Encoding
from finecorr.data.image_options import AugmentationOptions, ImageOptions, check_lengths
from finecorr.data.options import TableOptions, name_and_unit
from finecorr.errors import InputError, spelled
from finecorr.files import replacing
from finecorr.models import networks
from finecorr.models.conformal import Calibration, Validation
from finecorr.models.networks.network import MissingNetwork
from finecorr.models.novelty import Novelty
from finecorr.models.regressor import NO_IMAGE, Architecture, Regressor
from finecorr.plain import value_of
from finecorr.trained.provenance import Provenance, without_folder

FILE = "model.safetensors"
_FORMAT = "finecorr-5"
_ANY_FORMAT = re.compile(r"finecorr-\d+")
_HEAD = re.compile(r"(hidden\.\d+|head)\.weight")
_NOVELTY = "novelty."
_OF_THE_MACHINE = (
    ("columns", "table", "."),
    ("columns", "image_root", None),
    ("images", "cache_mb", 0),
)
"""Options that are not of the model, but of where it was trained, and what they are elsewhere."""


@dataclass(frozen=True)
class Target:
    """What is predicted, and how it is learnt: `mean + std * (intercept + slope * score)`."""

    name: str
    unit: str | None
    """None where nobody has said it."""
    length: bool
    """Whether it is learnt in pixels, in which its mean and standard deviation are then;"""
    volume: bool
    """or, as a volume, in voxels: divided by the mm³ of one."""
    mean: float
    std: float
    slope: float
    intercept: float


@dataclass(frozen=True)
class Bundle:
    """A regressor, how its input is made and its output read, and where it comes from."""

    regressor: Regressor
    table: TableOptions
    """The columns it was trained on. The path of the table is of the machine that loads it: ".",
    which stands for none."""
    images: ImageOptions
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    validation: Validation = field(default_factory=Validation)
    novelty: Novelty | None = None
    provenance: Provenance = field(default_factory=Provenance)
    encoding: Encoding | None = None
    """Of rows of feature columns, in the place of images."""

    @property
    def sees(self) -> str:
        """What its network is given, in words."""
        if self.encoding is not None:
            return self.encoding.description
        return f"{self.images.description}, in {'colour' if self.images.rgb else 'grey'}"

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it predicts."""
        regressor = self.regressor
        names = self.table.target_columns
        units = self.table.units or [name_and_unit(name)[1] for name in names]
        numbers = (regressor.target_mean, regressor.target_std, regressor.slope)
        columns = [values.tolist() for values in (*numbers, regressor.intercept)]
        lengths = [power == 1 for power in self.table.lengths]
        volumes = [power == 3 for power in self.table.lengths]
        rows = zip(names, units, lengths, volumes, *columns, strict=True)
        return tuple(Target(*values) for values in rows)


def save(bundle: Bundle, folder: Path) -> None:
    """Writes the bundle into a folder, as `model.safetensors`."""
    weights = bundle.regressor.state_dict()
    if bundle.novelty is not None:
        weights |= {f"{_NOVELTY}{name}": t for name, t in bundle.novelty.state_dict().items()}
    # A file has each tensor by itself, also where a network uses one twice.
    weights = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()
    }
    with replacing(folder / FILE) as temporary:
        metadata = {_FORMAT: json.dumps(described(bundle), allow_nan=False)}
        # Not save_file, whose file nobody else may read.
        temporary.write_bytes(to_bytes(weights, metadata))


def described(bundle: Bundle) -> dict[str, Any]:
    """All that the file says beside the weights, as JSON has it."""
    architecture = asdict(bundle.regressor.architecture)
    architecture["network"] = without_folder(architecture["network"])
    parts: dict[str, Any] = {
        "targets": [asdict(target) for target in bundle.targets],
        "architecture": architecture,
        "images": asdict(bundle.images),
        "columns": asdict(bundle.table),
        "augmentation": asdict(bundle.augmentation),
        "validation": asdict(bundle.validation),
        "provenance": asdict(bundle.provenance),
        "encoding": None if bundle.encoding is None else asdict(bundle.encoding),
    }
    for part, option, _ in _OF_THE_MACHINE:
        del parts[part][option]
    return parts


def load(path: Path) -> Bundle:
    """Reads the bundle of a run folder, or its file; nothing in it can execute code.

    Raises:
        InputError: there is no bundle, or it is damaged, or it needs a network that is not
            installed.
    """
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise InputError(f"{path.parent} holds no trained model ({path.name} is missing)")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:
        raise InputError(f"{path} is damaged: {_line(error)}") from error
    if _FORMAT not in metadata:
        other = next(filter(_ANY_FORMAT.fullmatch, map(spelled, metadata)), None)
        what = "no model of finecorr" if other is None else f"in the format {other}, not {_FORMAT}"
        again = "" if other is None else ": train it again, or use the finecorr that wrote it"
        raise InputError(f"{path} is {what}{again}")
    try:
        said = json.loads(metadata[_FORMAT], parse_constant=_no_number, parse_float=_finite)
        return _bundle(said, load_file(path))
    except MissingNetwork as error:
        raise InputError(f"{path} needs its network: {error}") from error
    # What is wrong with a file that anybody may have written can be anything.
    except Exception as error:
        raise InputError(f"{path} is damaged: {_line(error)}") from error


def _bundle(said: dict[str, Any], weights: dict[str, Tensor]) -> Bundle:
    kinds = {
        "targets": tuple[Target, ...],
        "architecture": Architecture,
        "images": ImageOptions,
        "columns": TableOptions,
        "augmentation": AugmentationOptions,
        "validation": Validation,
        "provenance": Provenance,
        "encoding": Encoding | None,
    }
    if not isinstance(said, dict) or set(said) != set(kinds):
        raise ValueError("its description has other parts")
    for part, option, elsewhere in _OF_THE_MACHINE:
        if not isinstance(said[part], dict) or option in said[part]:
            raise ValueError(f"its {part} are others")
        said[part][option] = elsewhere
    parts: dict[str, Any] = {name: value_of(name, kind, said[name]) for name, kind in kinds.items()}
    table, images, architecture = parts["columns"], parts["images"], parts["architecture"]
    check_options(table)
    images.check()
    check_lengths(table, images)
    parts["augmentation"].check()
    for calibration in _calibrations(parts["validation"], len(table.target_columns)):
        calibration.check()
    encoding = parts["encoding"]
    _check_encoding(encoding, table, architecture)
    seen = (images.channels, images.size) if encoding is None else (encoding.width, NO_IMAGE)
    expected = (*seen, len(table.target_columns))
    if (architecture.channels, architecture.image_size, architecture.targets) != expected:
        raise ValueError("its network, images and targets do not fit together")
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise ValueError("it holds weights that are no finite numbers")
    novelty = _novelty(
        {
            name.removeprefix(_NOVELTY): weights.pop(name)
            for name in list(weights)
            if name.startswith(_NOVELTY)
        }
    )
    regressor = _regressor(architecture, weights)
    if novelty is not None and len(novelty.mean) != regressor.feature_count:
        raise ValueError("its novelty is of other features")
    bundle = Bundle(
        regressor.eval(),
        table,
        images,
        parts["augmentation"],
        parts["validation"],
        novelty,
        parts["provenance"],
        encoding,
    )
    if bundle.targets != parts["targets"]:
        raise ValueError("what it says of its targets is not what its weights say")
    return bundle


def _check_encoding(
    encoding: Encoding | None, table: TableOptions, architecture: Architecture
) -> None:
    """Raises ValueError if it is not that of the columns and of the network."""
    of_columns = architecture.network == networks.OF_COLUMNS
    names = None if encoding is None else encoding.names
    if names != table.feature_columns or of_columns != (encoding is not None):
        raise ValueError("its encoding, columns and network do not fit together")
    if encoding is not None:
        encoding.check()
        if not {*(table.category_columns or ())} <= {*encoding.categories}:
            raise ValueError("its encoding has numbers in the place of categories")


def _calibrations(validation: Validation, targets: int) -> list[Calibration]:
    for of in (validation.rows, validation.subjects):
        if len(of) not in (0, targets):
            raise ValueError("its validation is of other targets")
    found = (*validation.rows, *validation.subjects, validation.distances)
    return [calibration for calibration in found if calibration is not None]


def _novelty(weights: dict[str, Tensor]) -> Novelty | None:
    if not weights:
        return None
    axes = weights.get("axes", torch.zeros(()))
    if axes.ndim != 2 or axes.numel() == 0:
        raise ValueError("its novelty has no axes")
    novelty = Novelty(axes.shape[1], axes.shape[0])
    _fill(novelty, weights)
    if not (novelty.variances > 0).all() or not novelty.rest > 0:
        raise ValueError("its novelty has variances that are not positive")
    return novelty


def _regressor(architecture: Architecture, weights: dict[str, Tensor]) -> Regressor:
    if not 0 <= architecture.dropout < 1:
        raise ValueError(f"its dropout is {architecture.dropout}")
    _check_size(architecture, weights)
    network = networks.build(
        architecture.network,
        architecture.channels,
        architecture.features,
        config=architecture.network_config,
        dimensions=len(architecture.image_size),
    )
    # Before layers are built that are larger than the file.
    alone = Regressor(replace(architecture, hidden=(), targets=1), network)
    widths = [alone.feature_count, *architecture.hidden, architecture.targets]
    expected = sorted((after, before) for before, after in pairwise(widths))
    found = sorted(tuple(value.shape) for name, value in weights.items() if _HEAD.fullmatch(name))
    if expected != found:
        raise ValueError("its hidden layers are not those of its weights")
    regressor = Regressor(architecture, network)
    _fill(regressor, weights)
    if not (regressor.image_std > 0).all() or not (regressor.target_std > 0).all():
        raise ValueError("it holds standard deviations that are not positive")
    return regressor


def _check_size(architecture: Architecture, weights: dict[str, Tensor]) -> None:
    """Of a network of the hub, which is as large as its configuration says."""
    if not architecture.network.startswith("hf/"):
        return
    if architecture.network_config is None:
        raise ValueError("it does not have the configuration of its network")
    with torch.device("meta"):
        network = networks.build(
            architecture.network,
            architecture.channels,
            architecture.features,
            config=architecture.network_config,
            dimensions=len(architecture.image_size),
        )
    parameters = sum(value.numel() for value in network.weighted.parameters())
    if parameters > sum(value.numel() for value in weights.values()):
        raise ValueError("its network is larger than its weights")


def _fill(module: nn.Module, weights: dict[str, Tensor]) -> None:
    own = module.state_dict()
    for name, value in weights.items():
        if name in own and own[name].dtype != value.dtype:
            raise ValueError(f"its {spelled(name)} is {value.dtype}, not {own[name].dtype}")
    module.load_state_dict(weights)


def _no_number(text: str) -> float:
    raise ValueError(f"its description has {text} in the place of a number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _no_number(text)


def _line(error: Exception) -> str:
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    return spelled(f"{first} {more[0].strip()}" if more else first)
