"""Small tables of images to check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

import finecorr
from finecorr.checking.check import Check

COUNT = 40


def scene(seed: int, side: int = 64) -> np.ndarray:
    """`(side, side)` uint8: blobs that no other seed has."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    blobs = gaussian_filter(noise, side / 12)
    return np.asarray(255 * (blobs - blobs.min()) / np.ptp(blobs)).astype(np.uint8)


def scenes(folder: Path, count: int = COUNT, side: int = 64) -> list[str]:
    names = [f"picture{i:03d}.png" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(scene(i, side)).save(folder / name)
    return names


def labels(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.linspace(50, 90, count)).round(3)


def checked(folder: Path, names: Sequence[str], more: dict[str, Any], **flags: Any) -> Check:
    """What `finecorr.check` finds in a table of these images."""
    columns: dict[str, Any] = {"image": list(names), "target": labels(len(names)), **more}
    pd.DataFrame(columns).to_csv(folder / "table.csv", index=False)
    return finecorr.check(folder / "table.csv", **flags)


def rows(found: Check, kind: str) -> list[int]:
    """Of the findings of a kind, counted from 0."""
    findings = found.findings
    return [int(row) - 2 for row in findings["row"][findings["kind"] == kind].dropna()]


def kinds(found: Check) -> set[str]:
    return set(found.findings["kind"])
