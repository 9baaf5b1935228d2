"""Images that open and cannot be decoded: small real trainings that leave them out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from conftest import PHANTOM_FLAGS, SMALL_FLAGS
from finecorr.cli import main
from finecorr.data import images
from finecorr.data.dataset import ImageDataset, joined
from finecorr.data.image_options import ImageOptions
from finecorr.data.images import Images
from finecorr.data.left_out import LeftOut
from finecorr.data.options import TableOptions
from finecorr.data.table import read_table
from finecorr.models.module import RegressionModule
from test_devices import FLAGS as DEVICE_FLAGS
from test_devices import ended, start
from test_interrupted import check_same, stopping
from test_refused import RESUME, said

FLAGS = [*SMALL_FLAGS, "--epochs", "3", "--batch-size", "16", "--split-fractions", ".6", ".2", ".2"]
LAZY = ["--cache-mb", "0"]
SPLITS = ("train", "validation", "test")


@pytest.fixture
def lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded at the start."""
    monkeypatch.setattr(images, "SAMPLE", 0)


@pytest.fixture(scope="module")
def broken(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of phantoms, of which one of each split opens and cannot be decoded."""
    folder = tmp_path_factory.mktemp("broken") / "phantoms"
    table = shutil.copytree(phantoms.parent, folder) / "table.csv"
    out = folder.parent / "whole"
    assert main([*flags_of(table), "--epochs", "1", "--out", str(out)]) == 0
    splits = pd.read_csv(out / "splits.csv").drop_duplicates("split").set_index("split")["image"]
    for name in SPLITS:
        path = folder / "images" / splits[name]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return table


def flags_of(table: Path) -> list[str]:
    root = ["--image-root", str(table.parent / "images")]
    return ["train", str(table), *root, *PHANTOM_FLAGS, *FLAGS]


def left_out(run: Path) -> pd.DataFrame:
    frame = pd.read_csv(run / "left_out.csv")
    assert list(frame) == ["row", "image", "reason"]
    return frame


@pytest.fixture(scope="module")
def tolerant(broken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in which the start has found them."""
    out = tmp_path_factory.mktemp("runs") / "tolerant"
    assert main([*flags_of(broken), "--tolerate", "3", "--out", str(out)]) == 0
    return out


def test_the_start_names_all_and_refuses_or_leaves_them_out(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*flags_of(broken), "--epochs", "1", "--out", str(tmp_path / "run")]
    for most in ("0", "2"):
        assert main([*flags, "--tolerate", most]) == 2
        message = said(capsys)
        assert "3 faults" in message
        assert "leave them out (--tolerate 3)" in message
        assert message.count("cannot be read as an image: ") == 3
        assert not (tmp_path / "run").exists()
    assert main([*flags, "--tolerate", "3"]) == 0
    output = capsys.readouterr()
    assert output.err.count("it is left out") == 3
    assert "it is left out (3 of --tolerate 3)" in output.err
    assert "3 images, and 1 rows of the test split for them (left_out.csv)" in output.out


@pytest.mark.usefixtures("lazily")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_found_at_the_start_or_in_training_they_are_left_out_alike(
    workers: str,
    broken: Path,
    tolerant: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    flags = [*flags_of(broken), *LAZY, "--loading-workers", workers, "--tolerate", "3"]
    assert main([*flags, "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("it is left out") == 3
    weights = load_file(out / "model.safetensors")
    for name, values in load_file(tolerant / "model.safetensors").items():
        assert torch.equal(weights[name], values), name
    for name in ("left_out.csv", "predictions.csv", "metrics.csv", "outliers.csv", "splits.csv"):
        assert (out / name).read_bytes() == (tolerant / name).read_bytes(), name
    listed = left_out(out)
    splits = pd.read_csv(out / "splits.csv").set_index("row")["split"]
    assert sorted(splits[listed["row"]]) == sorted(SPLITS)
    assert listed["reason"].str.startswith("cannot be read as an image: ").all()
    for name in ("predictions.csv", "outliers.csv"):
        assert not pd.read_csv(out / name)["row"].isin(listed["row"]).any()
    tested = set(splits[splits == "test"].index) - set(listed["row"])
    assert set(pd.read_csv(out / "predictions.csv")["row"]) == tested


@pytest.mark.usefixtures("lazily")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_one_more_stops_the_run_which_goes_on_when_it_may_be(
    workers: str, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*flags_of(broken), *LAZY, "--loading-workers", workers]
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert main([*flags, "--tolerate", "3", "--out", str(whole)]) == 0
    capsys.readouterr()
    assert main([*flags, "--out", str(out)]) == 2
    message = said(capsys)
    assert ".png cannot be read as an image" in message
    assert message.endswith(RESUME)
    assert not (out / "left_out.csv").exists()
    assert main([*flags, "--tolerate", "2", "--out", str(out), "--resume"]) == 2
    message = said(capsys)
    assert "; 2 are left out already (--tolerate)" in message
    assert message.endswith(RESUME)
    assert len(left_out(out)) == 2
    assert main([*flags, "--tolerate", "3", "--out", str(out), "--resume"]) == 0
    check_same(out, whole)
    assert (out / "left_out.csv").read_bytes() == (whole / "left_out.csv").read_bytes()


@pytest.mark.usefixtures("lazily")
@pytest.mark.parametrize("more", [[], ["--patience", "3"]])
def test_an_interrupted_run_goes_on_to_the_same_end(
    more: list[str], broken: Path, tmp_path: Path
) -> None:
    flags = [*flags_of(broken), *LAZY, *more, "--tolerate", "3"]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 1)
        assert main([*flags, "--out", str(tmp_path / "run")]) == 130
    assert main([*flags, "--out", str(tmp_path / "run"), "--resume"]) == 0
    check_same(tmp_path / "run", tmp_path / "whole")
    files = [tmp_path / name / "left_out.csv" for name in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.usefixtures("lazily")
def test_the_gradient_is_that_of_the_others(broken: Path, tmp_path: Path) -> None:
    """Another image stands in its place, and has no label."""
    labels: list[torch.Tensor] = []
    step = RegressionModule.training_step

    def seen(self: RegressionModule, batch: Any, index: int) -> Any:
        if "lost" in batch:
            (lost,) = batch["lost"]
            place = batch["index"].tolist().index(lost)
            labels.append(batch["target"][place])
            assert batch["image"][place].std() > 0
            assert batch["target"].isnan().sum() == 1
        return step(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RegressionModule, "training_step", seen)
        flags = [*flags_of(broken), *LAZY, "--tolerate", "3"]
        assert main([*flags, "--out", str(tmp_path / "run")]) == 0
    assert labels
    assert all(label.isnan().all() for label in labels)


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    image_mean, image_std = (0.5,), (0.25,)
    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Conv2d(channels, 8, 3, stride=2)
    def forward(self, image):
        return self.layer(image).relu().mean((2, 3))
"""


@pytest.mark.parametrize("sample", [0, 256])
def test_of_a_frozen_network(
    sample: int,
    broken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "left_out_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(images, "SAMPLE", sample)
    own = ["--frozen", "--network", "left_out_network:Net"]
    flags = [*flags_of(broken), *own, *LAZY, "--out", str(tmp_path / "run")]
    assert main([*flags, "--tolerate", "2"]) == 2
    assert "cannot be read as an image" in said(capsys)
    assert main([*flags, "--tolerate", "3", "--epochs", "2"]) == 0
    listed = left_out(tmp_path / "run")
    assert len(listed) == 3
    assert not pd.read_csv(tmp_path / "run" / "predictions.csv")["row"].isin(listed["row"]).any()
    # Features that are there already say it, too.
    capsys.readouterr()
    assert main([*flags, "--tolerate", "2", "--overwrite"]) == 2
    assert "2 are left out already" in said(capsys)
    assert main([*flags, "--tolerate", "3", "--overwrite"]) == 0
    assert len(left_out(tmp_path / "run")) == 3


def by_slurm(arguments: list[str], port: int) -> list[Any]:
    """Two processes that decode nothing at the start."""
    code = "import sys; from finecorr.data import images; images.SAMPLE = 0; "
    code += "from finecorr.__main__ import main; sys.exit(main())"
    tasks = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    place = {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "127.0.0.1"}
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "MASTER_PORT": str(port)}
    return [
        start(
            [sys.executable, "-c", code, *arguments],
            **(tasks | place | job),
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
        )
        for rank in range(2)
    ]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_on_two_devices(strategy: str, broken: Path, tmp_path: Path, unused_port: int) -> None:
    """It is the training of one; and each is said once."""
    flags = [*flags_of(broken), *DEVICE_FLAGS, *LAZY, "--average", "0", "--tolerate", "3"]
    assert main([*flags, "--out", str(tmp_path / "1")]) == 0
    two = [*flags, "--devices", "2", "--strategy", strategy, "--out", str(tmp_path / "2")]
    results = ended(by_slurm(two, unused_port))
    assert [code for code, *_ in results] == [0, 0], results
    assert "".join(error for *_, error in results).count("it is left out") == 3
    for name in ("left_out.csv", "splits.csv"):
        files = [tmp_path / number / name for number in "12"]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    ours, theirs = (pd.read_csv(tmp_path / number / "predictions.csv") for number in "12")
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-3)


def test_too_many_on_two_devices(broken: Path, tmp_path: Path, unused_port: int) -> None:
    flags = [*flags_of(broken), *DEVICE_FLAGS, *LAZY, "--devices", "2", "--tolerate", "1"]
    results = ended(by_slurm([*flags, "--out", str(tmp_path / "run")], unused_port))
    assert [code for code, *_ in results] == [2, 2], results
    errors = "".join(error for *_, error in results)
    assert "1 are left out already (--tolerate)" in errors
    assert "Traceback" not in errors


def test_of_a_row_with_a_broken_image_there_is_no_prediction(
    broken: Path, tolerant: Path, tmp_path: Path
) -> None:
    """And it is trained on by its other one."""
    names = pd.read_csv(broken)["filename"]
    table = pd.read_csv(broken).assign(other=names)
    whole = tmp_path / "images"
    shutil.copytree(broken.parent / "images", whole)
    listed = left_out(tolerant)["image"].map(lambda path: Path(path).name)
    for name in listed:
        shutil.copy(whole / names[~names.isin(listed)].iloc[0], whole / f"other_{name}")
        table.loc[names == name, "other"] = f"other_{name}"
    table["subject"] = names.str.extract(r"^(\d+)_")[0]
    table.to_csv(tmp_path / "table.csv", index=False)
    flags = ["train", str(tmp_path / "table.csv"), "--image-root", str(whole), *PHANTOM_FLAGS[2:4]]
    flags += ["--image-columns", "filename", "other", "--group-column", "subject", *FLAGS]
    assert main([*flags, "--tolerate", "3", "--out", str(tmp_path / "run")]) == 0
    found = left_out(tmp_path / "run")
    assert len(found) == 3
    splits = pd.read_csv(tmp_path / "run" / "splits.csv").set_index("row")["split"]
    tested = pd.read_csv(tmp_path / "run" / "predictions.csv")["row"]
    assert not tested.isin(found["row"]).any()
    trained = set(pd.read_csv(tmp_path / "run" / "outliers.csv")["row"])
    assert {row for row in found["row"] if splits[row] == "train"} <= trained


def test_a_comparison_is_of_the_rows_that_are_left(broken: Path, tmp_path: Path) -> None:
    losses = ["--losses", "mse", "mae", "--folds", "2", "--seeds", "1", "--workers", "1"]
    flags = ["compare", *flags_of(broken)[1:-4], "--epochs", "1", *losses, "--tolerate", "3"]
    assert main([*flags, "--out", str(tmp_path / "out")]) == 0
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    (first, *others) = (tmp_path / "out").rglob("left_out.csv")
    assert len(others) == 3
    rows = pd.read_csv(first)["row"]
    assert len(rows) == 3
    assert not found["row"].isin(rows).any()
    assert found["row"].nunique() == len(pd.read_csv(broken)) - 3


def test_too_few_test_rows_are_left(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(broken)
    folder = tmp_path / "images"
    shutil.copytree(broken.parent / "images", folder)
    table["split"] = np.where(np.arange(len(table)) % 8 == 0, "test", "train")
    table.to_csv(tmp_path / "table.csv", index=False)
    for name in table["filename"][table["split"] == "test"][2:]:
        (folder / name).write_bytes(b"")
    flags = ["train", str(tmp_path / "table.csv"), "--image-root", str(folder), *PHANTOM_FLAGS[:4]]
    flags += [*FLAGS, "--split-column", "split", "--tolerate", "50", "--epochs", "1"]
    assert main([*flags, "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "of 'head circumference (mm)' are left in it: too few" in message


def test_all_of_a_batch(broken: Path, tmp_path: Path) -> None:
    """Whatever is lost, each process has images."""
    table = pd.read_csv(broken)
    folder = tmp_path / "images"
    shutil.copytree(broken.parent / "images", folder)
    for name in table["filename"][:3]:
        (folder / name).write_bytes(b"")
    options = TableOptions(
        broken, folder, image_columns=("filename",), target_columns=("head circumference (mm)",)
    )
    rows = read_table(options)
    ledger = LeftOut(rows, 9, says=False)
    data = ImageDataset(rows, Images(rows, ImageOptions(), ledger), (False,), left_out=ledger)
    batch = joined([data[0], data[1]])
    assert batch["image"].shape == (2, 1, 136, 192)
    assert batch["target"].isnan().all()
    assert sorted(batch["lost"]) == [0, 1]
    some = joined([data[0], data[5]])
    assert torch.equal(some["image"][0], data[5]["image"])
    assert sorted(some["lost"]) == [0]
