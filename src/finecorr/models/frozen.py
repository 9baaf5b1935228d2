"""Features of a network that does not learn, computed once and kept in a folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor
from tqdm import tqdm

from finecorr.data.dataset import ImageDataset
from finecorr.data.decoding import Frame
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.left_out import LeftOut, Lost, Unreadable
from finecorr.data.loading import prediction_loader
from finecorr.data.table import ImageTable
from finecorr.errors import InputError
from finecorr.files import remove_temporary, replacing, state
from finecorr.models import networks
from finecorr.models.regressor import Regressor

FEATURES = "features"
_ROWS = 512
"""Of the table in a file: what an interrupted computation has at least."""
_BATCH = 64
_LOST = "lost"
"""In a file: what cannot be read, as JSON."""
_OWN = re.compile("[0-9a-f]{32}")
"""The names of its folders."""


class Features:
    """The features of the images of a table, in the place of the images; of an image that is seen
    in several crops, those of each crop."""

    def __init__(self, source: Path, parts: list[dict[str, Tensor]]) -> None:
        self._source = source
        self._lost: dict[int, Lost] = {}
        start = 0
        for part in parts:
            self._lost |= {start + index: lost for index, lost in _lost_of(part).items()}
            start += len(part["rows"])
        names = parts[0].keys() - {_LOST}
        joined = {name: torch.cat([part[name] for part in parts]) for name in names}
        self._values = joined["features"]
        self.rows: NDArray[np.intp] = joined["rows"].numpy()
        self.factors: NDArray[np.float64] = joined["factors"].numpy()
        self.pixel_sizes: NDArray[np.float64] = joined["pixel_sizes"].numpy()
        self.unfit: NDArray[np.bool_] = joined["unfit"].numpy()
        self.lost = np.isin(np.arange(len(self)), [*self._lost])
        self.vectors = None if self._lost else self._values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Tensor:
        if index in self._lost:
            raise Unreadable(self._source, self._lost[index])
        return self._values[index]

    def shape(self, index: int) -> tuple[int, ...]:
        return (self._values.shape[1],)


def frozen_features(
    regressor: Regressor,
    table: ImageTable,
    options: ImageOptions,
    folder: Path,
    *,
    replace: bool = True,
    left_out: LeftOut | None = None,
) -> Features:
    """The features of all images of a table, as predictions see them; those that are in the folder
    already are not computed again.

    Args:
        regressor: with the weights of its network.
        table: the rows.
        options: what the network sees.
        folder: for folders of features.
        replace: whether those of other weights, or images, may go.
        left_out: the images that cannot be read, and how many may be (default: none).

    Raises:
        InputError: too many images cannot be read, or features are no finite numbers, or are not
            to be replaced.
    """
    left_out = LeftOut(table) if left_out is None else left_out
    own = folder / _key(regressor, table, options)
    parts = {start: _read(own, start) for start in range(0, len(table), _ROWS)}
    for known in parts.values():
        left_out.add(_lost_of(known or {}).values())
    todo = [start for start, part in parts.items() if part is None]
    if todo:
        others = [path for path in folder.glob("*") if path != own and _OWN.fullmatch(path.name)]
        if others and not replace:
            raise InputError(
                f"{folder} holds features of other weights or images, on which trainings began: "
                "--weights, the network or an image has changed since; use another --out"
            )
        for other in others:
            shutil.rmtree(other)
        own.mkdir(parents=True, exist_ok=True)
        remove_temporary(own)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        computing = regressor.to(device).arrange().eval()
        for start in tqdm(todo, "features", unit="part", leave=False, disable=None):
            rows = np.arange(start, min(start + _ROWS, len(table)))
            part = _computed(computing, table.take(rows), options, device, left_out)
            part["rows"] += start
            with replacing(_file(own, start)) as temporary:
                temporary.write_bytes(to_bytes(part))
            parts[start] = part
        regressor.cpu().train()
    return Features(table.source, [part for part in parts.values() if part is not None])


def _file(folder: Path, start: int) -> Path:
    return folder / f"{start:08d}.safetensors"


def _read(folder: Path, start: int) -> dict[str, Tensor] | None:
    """The features of the rows from `start` on, if they are there and whole."""
    try:
        part = load_file(_file(folder, start))
    except (OSError, SafetensorError):
        return None
    return part if _LOST in part else None


def _lost_of(part: dict[str, Tensor]) -> dict[int, Lost]:
    """By their positions in a part, the images that cannot be read."""
    if _LOST not in part:
        return {}
    known = json.loads(part[_LOST].numpy().tobytes())
    return {index: Lost(Frame(Path(path), number), *said) for index, path, number, *said in known}


def _computed(
    regressor: Regressor,
    table: ImageTable,
    options: ImageOptions,
    device: torch.device,
    left_out: LeftOut,
) -> dict[str, Tensor]:
    images = Images(table, options, left_out)
    dataset = ImageDataset(table, images, (False,) * len(table.target_columns))
    lost: dict[int, Lost] = {}
    indices, features = [], []
    with torch.inference_mode():
        for batch in prediction_loader(dataset, range(len(dataset)), _BATCH):
            lost |= batch.get("lost", {})
            left_out.add(lost.values())
            features.append(regressor.features(batch["image"].to(device)).cpu())
            indices.append(batch["index"])
    if not all(torch.isfinite(values).all() for values in features):
        raise InputError(
            f"--network {regressor.architecture.network}: its features are no finite numbers: its "
            "weights are damaged, or not made for such images"
        )
    index = torch.cat(indices)
    order = torch.argsort(index, stable=True)
    index = index[order]
    known = [
        [place, str(lost[image].frame.path), lost[image].frame.number, *lost[image][1:]]
        for place, image in enumerate(index.tolist())
        if image in lost
    ]
    return {
        _LOST: torch.from_numpy(np.frombuffer(json.dumps(known).encode(), np.uint8).copy()),
        "features": torch.cat(features)[order],
        "rows": torch.from_numpy(images.rows)[index],
        "factors": torch.from_numpy(images.factors)[index],
        "pixel_sizes": torch.from_numpy(images.pixel_sizes)[index],
        "unfit": torch.from_numpy(images.unfit)[index],
    }


def _key(regressor: Regressor, table: ImageTable, options: ImageOptions) -> str:
    """Another one wherever features may be others."""
    seen = asdict(options)
    for name in ("cache_mb", "max_megapixels"):
        del seen[name]
    network = regressor.architecture
    seen |= {"network": network.network, "kind": network.features, "config": network.network_config}
    digest = hashlib.sha256(json.dumps(seen, default=str).encode())
    digest.update(networks.code_of(network.network))
    for tensor in (regressor.image_mean, regressor.image_std, *_weights(regressor)):
        digest.update(to_bytes({"": tensor.contiguous()}))
    stated: dict[Path, tuple[str, int, int]] = {}
    for row, paths in enumerate(table.images):
        frame = -1 if table.frames is None else int(table.frames[row])
        for path in paths:
            if path not in stated:
                stated[path] = str(path), *state(path)
        files = [stated[path] for path in paths]
        digest.update(repr((files, frame, table.all_frames)).encode())
    return digest.hexdigest()[:32]


def _weights(regressor: Regressor) -> list[Tensor]:
    return list(regressor.backbone.state_dict().values())
