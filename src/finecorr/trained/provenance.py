"""Where a model comes from: how it was trained, on what, and how well it did."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from finecorr.data.table import ImageTable
from finecorr.models.networks import OF_COLUMNS

_PACKAGES = {"timm": "timm", "hf": "transformers"}
"""What the networks of a source are of; the others are MONAI's."""


@dataclass(frozen=True)
class Measure:
    """A result on the test split, with the limits of its 95 % interval; None where undefined."""

    target: str
    metric: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from."""

    training: dict[str, Any] = field(default_factory=dict)
    """The flags of the training; of paths, the names alone."""
    data: dict[str, Any] = field(default_factory=dict)
    """`fingerprint`: the SHA-256 of the run's `splits.csv`; `splits`: for each the numbers of
    `images` and `subjects`; `labels`: for each target, of its training labels their `count`,
    `lowest`, `median` and `highest`."""
    test: tuple[Measure, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    """Of finecorr, Python, torch, and the package that the network is of."""
    license: str | None = None
    note: str | None = None


def without_folder(name: str) -> str:
    """The name of a network that may be a folder of this machine: its last part."""
    source, separator, path = name.partition("/")
    return f"{source}{separator}{Path(path).name if Path(path).is_dir() else path}"


def described(table: ImageTable, record: pd.DataFrame, fingerprint: str) -> dict[str, Any]:
    """`Provenance.data` of a table whose `record` has the columns `group` and `split`."""
    splits = record["split"].to_numpy()
    labels = {}
    for name, values in zip(table.target_columns, table.targets[splits == "train"].T, strict=True):
        known = values[np.isfinite(values)]
        labels[name] = {
            "count": len(known),
            "lowest": float(known.min()),
            "median": float(np.median(known)),
            "highest": float(known.max()),
        }
    return {
        "fingerprint": f"sha256:{fingerprint}",
        "splits": {
            name: {"images": int(rows["group"].size), "subjects": int(rows["group"].nunique())}
            for name, rows in record.groupby("split", sort=False)
        },
        "labels": labels,
    }


def measures(metrics: pd.DataFrame) -> tuple[Measure, ...]:
    """Of a frame with `target`, `metric`, `value`, `low` and `high`."""
    return tuple(
        Measure(str(row.target), str(row.metric), *map(_finite, (row.value, row.low, row.high)))
        for row in metrics.itertuples()
    )


def versions(network: str) -> dict[str, str]:
    """Of what makes and runs a model with that network."""
    package: str | None = "monai"
    if network == OF_COLUMNS:
        package = None
    elif ":" in network:
        package = network.partition(".")[0].partition(":")[0]
    elif "/" in network:
        package = _PACKAGES[network.partition("/")[0]]
    # torch says of itself which build it is, as its package's version need not.
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in filter(None, ("finecorr", package)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
