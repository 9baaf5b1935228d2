"""Trainings on several devices: real processes, started in the ways that people have."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from conftest import SLOW_NETWORK, interrupted
from finecorr.cli import main
from finecorr.models.training import piece_size

FLAGS = [
    *("--image-size", "48", "68", "--network", SLOW_NETWORK),
    *("--flip", "0", "--rotation", "0", "--shift", "0", "--zoom", "0", "--gain", "0"),
    *("--gamma", "0", "--precision", "32-true", "--population", "16", "--batch-size", "3"),
]
UNVALIDATED = ["--split-fractions", "0.7", "0", "0.3"]
FILES = ("model.safetensors", "metrics.csv", "predictions.csv", "outliers.csv", "splits.csv")
COMMAND = [sys.executable, "-m", "finecorr"]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def by_lightning(arguments: list[str]) -> list[subprocess.Popen[str]]:
    return [start([*COMMAND, *arguments])]


def by_torchrun(arguments: list[str]) -> list[subprocess.Popen[str]]:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [start([*COMMAND[:2], *torchrun, "-m", "finecorr", *arguments])]


def by_slurm(arguments: list[str]) -> list[subprocess.Popen[str]]:
    """With what `srun` tells its tasks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tasks = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    place = {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "127.0.0.1"}
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "MASTER_PORT": port}
    return [
        start(
            [*COMMAND, *arguments],
            **(tasks | place | job),
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
        )
        for rank in range(2)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    found = [process.communicate(timeout=240) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, found, strict=True)]


@pytest.fixture(scope="module")
def arguments(phantom_flags: list[str]) -> list[str]:
    return ["train", *phantom_flags, *FLAGS, "--epochs", "3"]


@pytest.fixture(scope="module")
def one(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one device."""
    out = tmp_path_factory.mktemp("devices") / "one"
    ((code, _, error),) = ended([start([*COMMAND, *arguments, "--out", str(out)])])
    assert code == 0, error
    return out


@pytest.fixture(scope="module")
def two(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two, which Lightning has started."""
    out = tmp_path_factory.mktemp("devices") / "two"
    results = ended(by_lightning([*arguments, "--devices", "2", "--out", str(out)]))
    check_printed(results)
    return out


def check_printed(results: list[tuple[int, str, str]]) -> None:
    """Nothing twice."""
    assert all(code == 0 for code, *_ in results), results
    outputs, errors = ("".join(texts) for texts in list(zip(*results, strict=True))[1:])
    assert outputs.count("test split:") == 1
    assert errors.count("epoch 3/3") == 1


def check_like(found: Path, expected: Path) -> None:
    """Every image counts once, and is in its place."""
    weights = load_file(found / "model.safetensors")
    for name, values in load_file(expected / "model.safetensors").items():
        torch.testing.assert_close(weights[name], values, rtol=1e-4, atol=1e-5)
    for name in FILES[1:]:
        ours, theirs = (pd.read_csv(folder / name) for folder in (found, expected))
        if name == "outliers.csv":  # by weight, of which some are nearly alike
            ours, theirs = (frame.sort_values("row", ignore_index=True) for frame in (ours, theirs))
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-3)


def test_it_is_the_training_of_one_device(one: Path, two: Path) -> None:
    """In pieces, too."""
    check_like(two, one)


@pytest.mark.parametrize("launched", [by_torchrun, by_slurm])
def test_however_the_processes_were_started(
    launched: Any, one: Path, arguments: list[str], tmp_path: Path
) -> None:
    results = ended(launched([*arguments, "--devices", "2", "--out", str(tmp_path / "run")]))
    check_printed(results)
    check_like(tmp_path / "run", one)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_it_goes_on_after_an_interruption(
    strategy: str, two: Path, arguments: list[str], tmp_path: Path
) -> None:
    """The latest samples are remembered, too."""
    out = tmp_path / "run"
    alone = [*arguments, "--average", "0"] if strategy == "fsdp" else arguments
    arguments = [*alone, "--devices", "2", "--strategy", strategy]
    if strategy == "fsdp":
        two = tmp_path / "two"
        check_printed(ended(by_lightning([*arguments, "--out", str(two)])))
        assert main([*alone, "--out", str(tmp_path / "one")]) == 0
        check_like(two, tmp_path / "one")
    arguments = [*arguments, "--out", str(out)]
    error = interrupted(arguments, out / "checkpoints" / "last.ckpt", os.killpg)
    assert error.count("the same command with --resume goes on from here") == 1
    assert error.count("interrupted") == 1
    assert "Traceback" not in error
    check_printed(ended(by_lightning([*arguments, "--resume"])))
    for name in FILES:
        assert (out / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "2 processes were started, but --devices 1 and --num-nodes 1 make 1"),
        (["--devices", "2", "--patience", "1", *UNVALIDATED], "needs va"),
        (["--devices", "2", "--learning-rate", "1e30", "--overwrite"], "the training diverged"),
        (
            [*("--devices", "2", "--network", "own_networks:SpoiltInOneProcess"), *UNVALIDATED],
            "the training diverged",
        ),
    ],
)
def test_a_mistake_is_said_once(
    flags: list[str], words: str, arguments: list[str], tmp_path: Path
) -> None:
    results = ended(by_slurm([*arguments, *flags, "--out", str(tmp_path / "run")]))
    errors = "".join(error for *_, error in results)
    assert [code for code, *_ in results] == [2, 2]
    assert errors.count(words) == 1
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--devices", "0"], "--devices must be from 1"),
        (["--devices", "9", "--population", "8"], "--population 8 is less than 9"),
        (["--num-nodes", "2"], "start the command with torchrun, or with srun"),
        (["--strategy", "fsdp"], "--average 0"),
        (["--devices", "2", "--frozen", "--weights", "pretrained"], "leave out --devices"),
        (["--devices", "60", "--population", "0"], "60 processes need an image each"),
        (["--devices", "2", "--population", "3", "--hidden", "4"], "a process has one, of which"),
    ],
)
def test_what_is_refused(
    flags: list[str],
    words: str,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, *flags, "--out", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_pieces_of_a_step() -> None:
    """As many in each process, none of them of a single image."""
    for images, processes, most in product(range(2, 40), range(1, 5), range(2, 9)):
        shares = {len(range(rank, images, processes)) for rank in range(processes)} - {0}
        size = piece_size(images, processes, most)
        pieces = {n: [len(part) for part in torch.split(torch.arange(n), size)] for n in shares}
        assert all(1 not in of for share, of in pieces.items() if share > 1)
        assert len({len(of) for of in pieces.values()}) == 1
        assert size == most or 1 in {share % most for share in shares}


def test_labels_are_counted_and_not_rows(
    arguments: list[str], phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process without an image would leave the others waiting."""
    table = pd.read_csv(phantoms)
    number = table["filename"].str.extract(r"^(\d+)_")[0].astype(int)
    table["split"] = np.select([number % 5 == 0, number % 5 == 1], ["test", "validation"], "train")
    unlabelled = table.index[table["split"] == "validation"][3:]
    table.loc[unlabelled, "head circumference (mm)"] = np.nan
    table.to_csv(tmp_path / "table.csv", index=False)
    flags = [*arguments[2:], "--split-column", "split", "--devices", "4"]
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "table.csv"), *flags, *out]) == 2
    assert "the validation split has 3 with a label" in capsys.readouterr().err


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_each_training_of_a_comparison_has_its_devices(
    executor: str, arguments: list[str], tmp_path: Path
) -> None:
    """Interrupted while it trains, it goes on to what it would have been."""
    if executor == "ray":
        pytest.importorskip("ray")
    losses = ["--losses", "pearson", "--repeats", "1", "--seeds", "1", "--executor", executor]
    command = ["compare", *arguments[1:], *losses, "--devices", "2"]
    out = tmp_path / "comparison"
    run = out / "runs" / "pearson" / "repeat-1" / "seed-0"
    interrupted([*command, "--out", str(out)], run / "checkpoints" / "last.ckpt")
    assert not (run / "model.safetensors").exists()
    ((code, _, error),) = ended([start([*COMMAND, *command, "--out", str(out)])])
    assert code == 0, error
    log = run.with_suffix(".log.txt").read_text()
    assert "epoch 1/3" not in log
    assert log.count("epoch 3/3") == 1
    if executor == "ray":
        return
    again = tmp_path / "run"
    flags = ["train", "--config", str(run.with_suffix(".yaml")), "--out", str(again)]
    ((code, _, error),) = ended([start([*COMMAND, *flags])])
    assert code == 0, error
    assert (again / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
