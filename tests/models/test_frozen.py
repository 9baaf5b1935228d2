"""Features of a network that does not learn: what they are, and when they are computed again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError
from finecorr.models import frozen
from finecorr.models.frozen import frozen_features
from finecorr.models.regressor import Architecture, Regressor

CROPS = ImageOptions(view="crops", crop_size=(32, 32), intensity=("type",))


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    rng = np.random.default_rng(0)
    for i in range(7):
        pixels = rng.integers(0, 256, (40 + i % 2, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    names = [f"{i}.png" for i in range(7)]
    pd.DataFrame({"image": names, "target": range(7)}).to_csv(tmp_path / "t.csv", index=False)
    return read_table(TableOptions(tmp_path / "t.csv"))


@pytest.fixture
def regressor() -> Regressor:
    architecture = Architecture("resnet10-narrow", 1, (32, 32), 1)
    return Regressor(architecture)


def _count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each computation has seen."""
    seen: list[int] = []
    forward = Regressor.features

    def counted(self: Regressor, image: torch.Tensor) -> torch.Tensor:
        seen.append(len(image))
        return forward(self, image)

    monkeypatch.setattr(Regressor, "features", counted)
    return seen


def test_they_are_those_of_the_network(
    table: ImageTable, regressor: Regressor, tmp_path: Path
) -> None:
    found = frozen_features(regressor, table, CROPS, tmp_path / "features")
    images = Images(table, CROPS)
    assert found.rows.tolist() == list(range(7))
    regressor.eval()
    with torch.no_grad():
        for i in range(7):
            expected = regressor.features(images[i][None])[0]
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-4)


def test_of_several_crops_each_has_its_own(
    table: ImageTable, regressor: Regressor, tmp_path: Path
) -> None:
    four = replace(CROPS, test_crops=4)
    found = frozen_features(regressor, table, four, tmp_path / "features")
    assert found.rows.tolist() == np.repeat(np.arange(7), 4).tolist()
    corner = Images(table, four).crop(3, (41 - 32, 50 - 32))
    with torch.no_grad():
        expected = regressor.eval().features(corner[None])[0]
    torch.testing.assert_close(found[3 * 4 + 3], expected, atol=1e-5, rtol=1e-4)


def test_they_are_computed_once_and_again_where_anything_is_another(
    table: ImageTable, regressor: Regressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "features"
    seen = _count(monkeypatch)

    def computed(table: ImageTable, options: ImageOptions = CROPS) -> int:
        seen.clear()
        frozen_features(regressor, table, options, folder)
        return sum(seen)

    assert computed(table) == 7
    assert computed(table) == 0
    assert computed(table, replace(CROPS, cache_mb=1)) == 0
    assert computed(table, replace(CROPS, intensity=("image",))) == 7
    assert computed(table) == 7
    assert len(list(folder.iterdir())) == 1
    path = table.images[2][0]
    os.utime(path, (1, 1))
    assert computed(table) == 7
    assert computed(table.take(np.arange(6))) == 6
    with torch.no_grad():
        regressor.get_parameter("backbone.conv1.weight").mul_(2)
    assert computed(table.take(np.arange(6))) == 6


def test_what_is_whole_and_of_others_stays(
    table: ImageTable, regressor: Regressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "features"
    (folder / "mine").mkdir(parents=True)
    first = frozen_features(regressor, table, CROPS, folder)
    (path,) = folder.glob("*/*.safetensors")
    whole = path.read_bytes()
    seen = _count(monkeypatch)
    for damaged in (whole[:-40], b""):
        path.write_bytes(damaged)
        again = frozen_features(regressor, table, CROPS, folder, replace=False)
        assert all(torch.equal(first[i], again[i]) for i in range(7))
    assert sum(seen) == 14
    with torch.no_grad():
        regressor.get_parameter("backbone.conv1.weight").mul_(2)
    with pytest.raises(InputError, match="features of other weights or images, on which trainings"):
        frozen_features(regressor, table, CROPS, folder, replace=False)
    assert path.exists()
    frozen_features(regressor, table, CROPS, folder)
    assert not path.exists()
    assert (folder / "mine").exists()
    with torch.no_grad():
        regressor.get_parameter("backbone.conv1.weight").fill_(torch.inf)
    with pytest.raises(InputError, match="its features are no finite numbers"):
        frozen_features(regressor, table, CROPS, folder)


def test_they_are_of_the_code_of_ones_own_network(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "own_network_that_changes.py"
    code.write_text(
        "from torch import nn\n"
        "def build(channels):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    seen = _count(monkeypatch)
    own = Regressor(Architecture("own_network_that_changes:build", 1, (32, 32), 1))
    for more in ("", "", "# another\n"):
        code.write_text(code.read_text() + more)
        frozen_features(own, table, CROPS, tmp_path / "features")
    assert sum(seen) == 14


def test_an_interrupted_computation_goes_on(
    table: ImageTable, regressor: Regressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "_ROWS", 3)
    whole = frozen_features(regressor, table, CROPS, tmp_path / "whole")
    forward, left = Regressor.features, [4]

    def interrupted(self: Regressor, image: torch.Tensor) -> torch.Tensor:
        left[0] -= len(image)
        if left[0] < 0:
            raise KeyboardInterrupt
        return forward(self, image)

    monkeypatch.setattr(Regressor, "features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        frozen_features(regressor, table, CROPS, tmp_path / "features")
    monkeypatch.undo()
    monkeypatch.setattr(frozen, "_ROWS", 3)
    seen = _count(monkeypatch)
    found = frozen_features(regressor, table, CROPS, tmp_path / "features")
    assert sum(seen) == 4
    assert found.rows.tolist() == whole.rows.tolist()
    assert all(torch.equal(found[i], whole[i]) for i in range(7))
