"""A trained model as one file that is safe to load: weights and description, no code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from finecorr.data.images import ImageOptions
from finecorr.data.table import TableOptions
from finecorr.errors import InputError
from finecorr.files import replacing
from finecorr.models.regressor import Architecture, Regressor

FILE = "model.safetensors"
_FORMAT = "finecorr-1"


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
    weights = {name: value.contiguous() for name, value in bundle.regressor.state_dict().items()}
    with replacing(folder / FILE) as temporary:
        metadata = {_FORMAT: json.dumps(description, default=str)}
        # Not save_file, whose file nobody else may read.
        temporary.write_bytes(to_bytes(weights, metadata))


def load(folder: Path) -> Bundle:
    """Reads the bundle of a run folder; nothing in it can execute code.

    Raises:
        InputError: the folder has no bundle, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no trained model ({FILE} is missing)")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if _FORMAT not in metadata:
            raise InputError(f"{path} was not written by this version of finecorr")
        description = json.loads(metadata[_FORMAT])
        regressor = Regressor(Architecture(**_tuples(description["architecture"])))
        regressor.load_state_dict(load_file(path))
        table = _tuples(description["table"])
        table["table"] = Path(table["table"])
        table["image_root"] = Path(table["image_root"])
        images = ImageOptions(**_tuples(description["images"]))
        return Bundle(regressor.eval(), TableOptions(**table), images)
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
