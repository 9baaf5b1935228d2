"""A trained model as one file that is safe to load: weights and description, no code."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from finecorr.data.options import ImageOptions, TableOptions
from finecorr.errors import InputError
from finecorr.files import replacing
from finecorr.models.networks.network import MissingNetwork
from finecorr.models.regressor import Architecture, Regressor

FILE = "model.safetensors"
_FORMAT = "finecorr-3"
_HIDDEN = re.compile(r"hidden\.\d+\.weight")


@dataclass(frozen=True)
class Bundle:
    """A regressor, and how its input is made and its output read."""

    regressor: Regressor
    table: TableOptions
    """The columns it was trained on, and where."""
    images: ImageOptions


def save(bundle: Bundle, folder: Path) -> None:
    """Writes the bundle into a folder, as `model.safetensors`."""
    description = {
        "architecture": asdict(bundle.regressor.architecture),
        "table": asdict(bundle.table),
        "images": asdict(bundle.images),
    }
    # A file has each tensor by itself, also where a network uses one twice.
    weights = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in bundle.regressor.state_dict().items()
    }
    with replacing(folder / FILE) as temporary:
        metadata = {_FORMAT: json.dumps(description, default=str)}
        # Not save_file, whose file nobody else may read.
        temporary.write_bytes(to_bytes(weights, metadata))


def load(folder: Path) -> Bundle:
    """Reads the bundle of a run folder; nothing in it can execute code.

    Raises:
        InputError: the folder has no bundle, or it is damaged, or needs a network that is not
            installed.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no trained model ({FILE} is missing)")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if _FORMAT not in metadata:
        raise InputError(f"{path} was not written by this version of finecorr")
    try:
        description = json.loads(metadata[_FORMAT])
        table = from_plain(TableOptions, description["table"])
        images = from_plain(ImageOptions, description["images"])
        images.check()
        architecture = from_plain(Architecture, description["architecture"])
        expected = (images.channels, images.size, len(table.target_columns))
        if (architecture.channels, architecture.image_size, architecture.targets) != expected:
            raise ValueError("its network, images and targets do not fit together")
        weights = load_file(path)
        _check_hidden(architecture, weights)
        regressor = Regressor(architecture)
        regressor.load_state_dict(weights)
        if not all(torch.isfinite(value).all() for value in regressor.state_dict().values()):
            raise ValueError("it holds weights that are no finite numbers")
        return Bundle(regressor.eval(), table, images)
    except MissingNetwork as error:
        raise InputError(f"{path} needs its network: {error}") from error
    # What is wrong with a file that anybody may have written can be anything.
    except Exception as error:
        first, *more = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"{first} {more[0].strip()}" if more else first
        raise InputError(f"{path} is damaged: {reason}") from error


def _check_hidden(architecture: Architecture, weights: dict[str, Tensor]) -> None:
    """Before layers are built that are larger than the file."""
    widths = [len(value) for name, value in weights.items() if _HIDDEN.fullmatch(name)]
    if sorted(widths) != sorted(architecture.hidden) or not 0 <= architecture.dropout < 1:
        raise ValueError("its hidden layers are not those of its weights")


def from_plain(cls: Any, values: Any, *, partly: bool = False) -> Any:
    """A dataclass of the values that JSON or YAML has of it.

    Args:
        cls: the dataclass.
        values: those of its fields.
        partly: whether fields may be missing, which have their defaults then.

    Raises:
        ValueError: a field is not there, or of another type.
    """
    kinds = get_type_hints(cls)
    if not isinstance(values, dict) or not (
        set(values) <= set(kinds) if partly else set(values) == set(kinds)
    ):
        raise ValueError(f"its description of {cls.__name__} has other fields")
    return cls(**{name: _value(name, kinds[name], value) for name, value in values.items()})


def _value(name: str, kind: Any, value: Any) -> Any:
    origin, members = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        if value is None and NoneType in members:
            return None
        *others, last = [member for member in members if member is not NoneType]
        for member in others:
            with suppress(ValueError):
                return _value(name, member, value)
        return _value(name, last, value)
    if origin is tuple and isinstance(value, list):
        kinds = members[:1] * len(value) if members[-1] is Ellipsis else members
        return tuple(_value(name, *pair) for pair in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return value
    if origin is Literal and value in members:
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"its {name} is {value!r}")
