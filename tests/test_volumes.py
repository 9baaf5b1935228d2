"""The same commands for volumes: what a user does with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import finecorr
from dicom_files import write_series
from finecorr.cli import main
from finecorr.data import pictures
from finecorr.data.phantom.volume import write_volume_phantoms
from finecorr.errors import InputError
from finecorr.models import networks
from finecorr.trained import bundle

VOLUME, LENGTH = "head volume (ml)", "head length (mm)"
SIZE = ["--image-size", "32", "32", "32"]
TARGETS = ["--target-columns", VOLUME, LENGTH]
SCALES = ["--volume-columns", VOLUME, "--length-columns", LENGTH]
SMALL = ["--network", "resnet10-narrow", "--batch-size", "8", "--epochs", "2"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of the phantom; one of them is a folder of DICOM slices."""
    path = write_volume_phantoms(tmp_path_factory.mktemp("phantoms"), 30, side=20)
    rows = pd.read_csv(path)
    first = path.parent / rows["image"][0]
    picture = pictures.read(first, volumes=True)
    assert picture.pixel_size is not None
    depth, height, width = picture.pixel_size
    first.unlink()
    write_series(path.parent / "images" / "000", picture.values[0], (depth, height, width))
    rows.loc[0, "image"] = "images/000"
    rows.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert main(["train", str(table), *TARGETS, *SCALES, *SIZE, *SMALL, "--out", str(out)]) == 0
    return out


def _fails(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    return capsys.readouterr().err


def test_what_takes_pictures_only(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _fails(["degrade", str(table.parent / "images"), "--out", str(tmp_path / "a")], capsys)
    assert "voxels, where a picture is read" in said
    assert not (tmp_path / "a").exists()


def test_a_run_knows_that_it_sees_volumes(run: Path) -> None:
    model = finecorr.load(run)
    assert yaml.safe_load((run / "config.yaml").read_text())["image_size"] == [32, 32, 32]
    assert [(t.name, t.volume, t.length) for t in model.targets] == [
        (VOLUME, True, False),
        (LENGTH, False, True),
    ]
    assert "32 x 32 x 32 voxels" in model.preprocessing
    assert "from a volume" in (run / "README.md").read_text()
    assert model.bundle.regressor.image_mean.shape == (1, 1, 1, 1)


def test_predictions_of_files_and_folders_are_those_of_the_table(
    run: Path, table: Path, tmp_path: Path
) -> None:
    by_table, by_folder = tmp_path / "table.csv", tmp_path / "folder.csv"
    assert main(["predict", str(run), "--out", str(by_table)]) == 0
    images = str(table.parent / "images")
    assert main(["predict", str(run), images, "--out", str(by_folder)]) == 0
    one, other = pd.read_csv(by_table), pd.read_csv(by_folder)
    assert ("images/" + other["image"]).tolist() == one["image"].tolist()
    np.testing.assert_allclose(one[[VOLUME, LENGTH]], other[[VOLUME, LENGTH]], rtol=1e-5)
    series = finecorr.load(run).predict(str(table.parent / "images" / "000"))
    np.testing.assert_allclose(series[[VOLUME, LENGTH]], one[[VOLUME, LENGTH]][:1], rtol=1e-5)
    tested = pd.read_csv(run / "predictions.csv")
    again = one.set_index(np.arange(2, 32)).loc[tested["row"]]
    np.testing.assert_allclose(tested[f"predicted {VOLUME}"], again[VOLUME], rtol=1e-4)


def test_what_is_said_besides_predictions(run: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    assert main(["predict", str(run), "--tta", "3", "--out", str(out)]) == 0
    found = pd.read_csv(out)
    assert (found[f"sd {VOLUME}"] > 0).all()
    assert main(["evaluate", str(run), "--out", str(tmp_path / "e")]) == 0
    assert "data:image/webp" in (tmp_path / "e" / "report.html").read_text()


def test_the_unit_of_a_volume_does_not_matter(run: Path, table: Path, tmp_path: Path) -> None:
    """In mm³ the same is learnt as in ml."""
    rows = pd.read_csv(table)
    rows[VOLUME] *= 1000
    for name in ("images",):
        (tmp_path / name).symlink_to(table.parent / name)
    rows.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "run"
    flags = [*TARGETS, *SCALES, *SIZE, *SMALL, "--out", str(out)]
    assert main(["train", str(tmp_path / "table.csv"), *flags]) == 0
    before, after = (pd.read_csv(folder / "predictions.csv") for folder in (run, out))
    predicted = f"predicted {VOLUME}"
    np.testing.assert_allclose(after[predicted], before[predicted] * 1000, rtol=1e-3)


def test_a_table_is_checked(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(table), *TARGETS, *SCALES, *SIZE, *SMALL, "--out", str(tmp_path / "c")]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "voxels from" in text
    assert "1 file of DICOM series" in text
    assert main([*words[:-2], "--spacing", "0.5"]) == 0
    assert "30 of 30 volumes are larger than" in capsys.readouterr().out
    sized = tmp_path / "table.csv"
    pd.read_csv(table).assign(side=7.0).to_csv(sized, index=False)
    more = ["--image-root", str(table.parent), "--pixel-size-column", "side"]
    assert "the files of volumes say how large voxels are" in _fails(
        ["check", str(sized), *words[2:-2], *more], capsys
    )


def test_a_spacing_is_said_and_what_is_cut(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(table), *TARGETS, *SCALES, *SIZE, *SMALL, "--spacing", "3"]
    assert main([*words, "--epochs", "1", "--out", str(tmp_path / "a")]) == 0
    assert "volumes are larger than --image-size: they are cut" in capsys.readouterr().err
    model = finecorr.load(tmp_path / "a")
    assert "voxels of 3 x 3 x 3 mm" in model.preprocessing
    uneven = [*words[:-1], "3", "2", "2", "--out", str(tmp_path / "b")]
    assert "which must be cubes" in _fails(uneven, capsys)


def test_features_of_a_frozen_network(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "deep_networks.py").write_text(
        "from torch import nn\n\n\ndef small(channels: int) -> nn.Module:\n"
        "    network = nn.Sequential(nn.Conv3d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(2),"
        " nn.Flatten())\n    network.image_mean, network.image_std = [0.3], [0.2]\n"
        "    return network\n"
    )
    flags = [*TARGETS, *SCALES, *SIZE, "--network", "deep_networks:small", "--frozen"]
    more = ["--batch-size", "8", "--epochs", "2", "--out", str(tmp_path / "a")]
    assert main(["train", str(table), *flags, *more]) == 0
    assert finecorr.load(tmp_path / "a").features(str(table)).shape == (30, 32)


@pytest.mark.parametrize("name", ["timm/resnet18", "hf/anything"])
def test_networks_of_pictures_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="takes pictures: for volumes there are"):
        networks.build(name, 1, dimensions=3)


@pytest.mark.parametrize("name", ["resnet10", "resnet50", "densenet121", "efficientnet-b0"])
def test_networks_of_volumes_have_the_same_names(name: str) -> None:
    module = networks.build(name, 1, dimensions=3).module.eval()
    with torch.no_grad():
        flat = networks.build(name, 1).module.eval()(torch.zeros(1, 1, 32, 32))
        assert module(torch.zeros(1, 1, 32, 32, 32)).shape == flat.shape


def test_what_is_refused(
    run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "x")]
    flat = ["train", str(table), *TARGETS, "--network", "resnet10-narrow", *out]
    assert "train takes volumes by --image-size DEPTH HEIGHT WIDTH" in _fails(flat, capsys)
    assert "--volume-columns needs volumes" in _fails([*flat, *SCALES], capsys)
    crops = [*flat, *SIZE, "--view", "crops"]
    assert "a volume is seen whole" in _fails(crops, capsys)
    if not torch.accelerator.is_available():
        half = [*flat, *SIZE, "--precision"]
        assert "some gradients of volumes are wrong" in _fails([*half, "bf16-mixed"], capsys)
        assert "16-mixed is for GPUs" in _fails([*half, "16-mixed"], capsys)
    export = ["export", str(run), "--format", "torch", "--out", str(tmp_path / "x.pt2")]
    assert "only those of pictures can be exported" in _fails(export, capsys)
    size = ["predict", str(run), "--pixel-size", "2", "--out", str(tmp_path / "x.csv")]
    assert "the files of volumes say how large voxels are" in _fails(size, capsys)
    sized = tmp_path / "table.csv"
    pd.read_csv(table).assign(side=7.0).to_csv(sized, index=False)
    more = ["--image-root", str(table.parent), "--pixel-size-column", "side"]
    for command in (["predict", "--out", str(tmp_path / "x.csv")], ["evaluate", *out]):
        words = [command[0], str(run), str(sized), *more, *command[1:]]
        assert "the files of volumes say how large voxels are" in _fails(words, capsys)
    with pytest.raises(InputError, match="the files of volumes say how large voxels are"):
        finecorr.load(run).predict([str(table.parent / "images" / "000")], pixel_size=np.ones(1))
    with pytest.raises(InputError, match="arrays do not say where their axes point"):
        finecorr.load(run).predict(np.zeros((32, 32, 32)))
    damaged = tmp_path / "damaged"
    shutil.copytree(table.parent / "images" / "000", damaged / "a")
    shutil.copy(table.parent / "images" / "001.nii.gz", damaged / "b.nii.gz")
    next((damaged / "a").iterdir()).write_bytes(b"nothing")
    assert main(["predict", str(run), str(damaged), "--out", str(tmp_path / "d.csv")]) == 0
    faults = pd.read_csv(tmp_path / "d.csv")["fault"].fillna("").tolist()
    assert "is damaged" in faults[0]
    assert faults[1:] == [""]
    assert not (tmp_path / "x").exists()


def test_a_file_that_says_other_than_its_network(run: Path, tmp_path: Path) -> None:
    loaded = bundle.load(run)
    assert loaded.images.volumes
    bundle.save(loaded, tmp_path)
    again = bundle.load(tmp_path)
    assert again.targets == loaded.targets
