"""Runs that are interrupted, at any moment, go on to the same end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import SMALL_FLAGS
from finecorr import runs
from finecorr.cli import main
from finecorr.models import training
from finecorr.models.module import RegressionModule
from finecorr.models.regressor import Regressor

FLAGS = [*SMALL_FLAGS, "--epochs", "4", "--batch-size", "16"]
FILES = ("model.safetensors", "metrics.csv", "predictions.csv", "outliers.csv", "splits.csv")


def check_same(folder: Path, other: Path) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def stopping(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """As if Ctrl-C were pressed in that epoch."""
    step = RegressionModule.training_step

    def interrupted(self: RegressionModule, *arguments: Any) -> Any:
        if self.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(RegressionModule, "training_step", interrupted)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device")])
def test_in_the_middle_of_a_checkpoint(
    error: Any,
    phantom_flags: list[str],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one of the epoch before is still there, whole."""
    save, saved = torch.save, []

    def half(checkpoint: Any, path: Path) -> None:
        saved.append(path)
        save(checkpoint, path)
        if len(saved) == 3:
            path.write_bytes(path.read_bytes()[:1000])
            raise error

    monkeypatch.setattr(torch, "save", half)
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(tmp_path / "run")]
    assert main(flags) in (130, 2)
    monkeypatch.undo()
    assert len(saved) == 3
    assert main([*flags, "--resume"]) == 0
    check_same(tmp_path / "run", run)
    logs = tmp_path / "run" / "logs" / "version_1" / "metrics.csv"
    assert "\n2," in logs.read_text() or ",2," in logs.read_text()


def test_in_a_folder_that_is_moved(
    phantom_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its old place is another run, with a best epoch of its own."""
    flags = ["train", *phantom_flags, *FLAGS, "--patience", "3"]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    stopping(monkeypatch, 3)
    assert main([*flags, "--out", str(tmp_path / "run")]) == 130
    (tmp_path / "run").rename(tmp_path / "moved")
    assert main([*flags, "--seed", "1", "--out", str(tmp_path / "run")]) == 130
    monkeypatch.undo()
    assert main([*flags, "--resume", "--out", str(tmp_path / "moved")]) == 0
    check_same(tmp_path / "moved", tmp_path / "whole")


def test_after_early_stopping(
    phantom_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["train", *phantom_flags, *FLAGS, "--epochs", "30", "--patience", "1"]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    steps, step = [], RegressionModule.training_step

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "calibrate", stop)
    assert main([*flags, "--out", str(tmp_path / "run")]) == 130
    monkeypatch.undo()

    def counted(self: RegressionModule, *arguments: Any) -> Any:
        steps.append(self.global_step)
        return step(self, *arguments)

    monkeypatch.setattr(RegressionModule, "training_step", counted)
    assert main([*flags, "--resume", "--out", str(tmp_path / "run")]) == 0
    assert steps == []
    check_same(tmp_path / "run", tmp_path / "whole")


def test_before_it_can_be_resumed(
    phantom_flags: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started again, and nothing is left of the first attempt."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_write_text", stop)
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(tmp_path / "run")]
    assert main(flags) == 130
    monkeypatch.undo()
    left = tmp_path / "run" / f".{'0' * 32}.yaml"
    left.write_text("half a f")
    assert main(flags) == 0
    assert not left.exists()
    check_same(tmp_path / "run", run)


def test_with_processes_that_load_images(
    phantom_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["train", *phantom_flags, *FLAGS, "--cache-mb", "0"]
    workers = [*flags, "--loading-workers", "2"]
    assert main([*workers, "--out", str(tmp_path / "whole")]) == 0
    stopping(monkeypatch, 2)
    assert main([*workers, "--out", str(tmp_path / "run")]) == 130
    monkeypatch.undo()
    assert main([*workers, "--resume", "--out", str(tmp_path / "run")]) == 0
    check_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_as_a_batch_system_does_it(stop: int, phantom_flags: list[str], tmp_path: Path) -> None:
    """A process of its own, which says how it goes on, also where it is told to end."""
    flags = ["train", *phantom_flags, *FLAGS, "--epochs", "300", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "finecorr", *flags],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(stop)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command with --resume goes on from here" in error
    assert "Traceback" not in error


def test_a_loss_that_is_no_number_spoils_nothing(
    phantom_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The step is skipped, and that is said; a training of which nothing is left stops."""
    scores, every = Regressor.scores, [5]

    def overflowing(self: Regressor, image: Tensor) -> tuple[Tensor, Tensor]:
        found, features = scores(self, image)
        calls.append(self.training)
        if self.training and sum(calls) % every[0] == 0:
            found = found * torch.inf
        return found, features

    calls: list[bool] = []
    monkeypatch.setattr(Regressor, "scores", overflowing)
    flags = ["train", *phantom_flags, *FLAGS]
    assert main([*flags, "--out", str(tmp_path / "some")]) == 0
    steps = sum(calls)
    assert f"{steps // 5} of {steps} steps were skipped" in capsys.readouterr().err
    every[0] = 1
    assert main([*flags, "--epochs", "30", "--out", str(tmp_path / "all")]) == 2
    assert "diverged: try a lower" in capsys.readouterr().err
