"""What the system refuses in the middle of the work: a sentence, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import PHANTOM_FLAGS, SMALL_FLAGS
from finecorr.cli import main
from finecorr.models import prediction, training
from finecorr.models.module import RegressionModule
from test_interrupted import FLAGS, check_same

RESUME = "the same command with --resume goes on from here"


def limit_files(size: int) -> None:
    """Until the end of `no_file_larger_than`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As if there were no more room: what is longer cannot be written, whoever writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit_files(size)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one message."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("error: ") == 1
    return error.partition("error: ")[2].strip()


@pytest.fixture
def own_flags(phantoms: Path, tmp_path: Path) -> list[str]:
    """Of a copy of the phantoms, whose images may be damaged."""
    table = shutil.copytree(phantoms.parent, tmp_path / "phantoms") / "table.csv"
    return ["train", str(table), "--image-root", str(table.parent / "images"), *PHANTOM_FLAGS]


@pytest.mark.parametrize(
    ("size", "file", "resumed"),
    [(1000, "splits.csv", False), (50, "logs", True), (500_000, "checkpoints/last.ckpt", True)],
)
def test_a_disk_that_is_full_while_it_trains(
    size: int,
    file: str,
    resumed: bool,
    phantom_flags: list[str],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(out)]
    step = RegressionModule.training_step
    if size == 50:  # what is before the logs is larger than they are

        def limited(self: RegressionModule, *arguments: Any) -> Any:
            limit_files(size)
            return step(self, *arguments)

        monkeypatch.setattr(RegressionModule, "training_step", limited)
    with no_file_larger_than(10**8 if size == 50 else size):
        assert main(flags) == 2
    monkeypatch.undo()
    message = said(capsys)
    assert message.startswith(f"{out / file}: file too large")
    assert (RESUME in message) == resumed
    assert main([*flags, "--resume"] if resumed else flags) == 0
    check_same(out, run)
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(
    ("size", "file"),
    [(2000, "outliers.csv"), (20_000, "scatter.png"), (10**6, "model.safetensors")],
)
def test_a_disk_that_is_full_after_the_last_epoch(
    size: int,
    file: str,
    phantom_flags: list[str],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(out)]
    calibrate = prediction.calibrate

    def limited(*arguments: Any) -> None:
        calibrate(*arguments)
        limit_files(size)

    monkeypatch.setattr(training, "calibrate", limited)
    with no_file_larger_than(10**8):
        assert main(flags) == 2
    monkeypatch.undo()
    message = said(capsys)
    assert message.startswith(f"{out / file}: file too large")
    assert RESUME in message
    assert main([*flags, "--resume"]) == 0
    check_same(out, run)


def test_a_replaced_run_stays_while_the_disk_is_full(
    phantom_flags: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(out)]
    assert main([*flags, "--epochs", "1"]) == 0
    with no_file_larger_than(500_000):
        assert main([*flags, "--overwrite"]) == 2
    assert "with --resume in the place of --overwrite goes on from here" in said(capsys)
    assert (out / ".replaced" / "model.safetensors").exists()
    assert main([*flags, "--resume"]) == 0
    assert not (out / ".replaced").exists()
    check_same(out, run)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_image_that_is_damaged_while_it_trains(
    workers: str,
    own_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [*own_flags, *FLAGS, "--cache-mb", "0", "--loading-workers", workers]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    images = tmp_path / "phantoms" / "images"
    step = RegressionModule.training_step

    def damaging(self: RegressionModule, *arguments: Any) -> Any:
        if self.current_epoch == 1:
            for path in images.iterdir():
                path.write_bytes(b"")
        return step(self, *arguments)

    shutil.copytree(images, tmp_path / "kept")
    monkeypatch.setattr(RegressionModule, "training_step", damaging)
    assert main([*flags, "--out", str(tmp_path / "run")]) == 2
    monkeypatch.undo()
    message = said(capsys)
    assert "HC.png has changed since the start: it cannot be read" in message
    assert message.endswith(RESUME)
    assert message.startswith(str(tmp_path / "phantoms" / "table.csv"))
    shutil.copytree(tmp_path / "kept", images, dirs_exist_ok=True)
    assert main([*flags, "--out", str(tmp_path / "run"), "--resume"]) == 0
    check_same(tmp_path / "run", tmp_path / "whole")


def test_a_killed_process_that_loads_images(
    phantom_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers = ["--cache-mb", "0", "--loading-workers", "2"]
    flags = ["train", *phantom_flags, *FLAGS, *workers, "--out", str(tmp_path / "run")]
    step = RegressionModule.training_step

    def killing(self: RegressionModule, *arguments: Any) -> Any:
        if self.current_epoch == 1:
            multiprocessing.active_children()[0].kill()
        return step(self, *arguments)

    monkeypatch.setattr(RegressionModule, "training_step", killing)
    assert main(flags) == 2
    monkeypatch.undo()
    message = said(capsys)
    assert message.startswith("a process of --loading-workers was killed")
    assert message.endswith(RESUME)
    assert main([*flags, "--resume"]) == 0


def test_a_disk_that_is_full_for_what_a_model_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is left of half an evaluation, and what there is of predictions beside them; and the
    next call has all of it."""
    for size in (1000, 100_000):
        with no_file_larger_than(size):
            assert main(["evaluate", str(run), "--out", str(tmp_path / "evaluation")]) == 2
        assert "file too large" in said(capsys)
        assert not list(tmp_path.iterdir())
    partial = tmp_path / "predict.partial"
    with no_file_larger_than(100):
        assert main(["predict", str(run), "--out", str(tmp_path / "predict")]) == 2
    assert said(capsys) == f"{partial}: file too large"
    assert list(tmp_path.iterdir()) == [partial]
    for command in ("evaluate", "predict"):
        assert main([command, str(run), "--out", str(tmp_path / command)]) == 0
    assert not partial.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_small_disk(
    small_disk: Path,
    phantom_flags: list[str],
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same on a file system that is really full."""
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(small_disk / "run")]
    assert main(flags) == 2
    message = said(capsys)
    assert "last.ckpt: no space left on device: make room on the disk; then" in message
    assert RESUME in message
    larger = ["mount", "-o", "remount,size=100m", str(small_disk)]
    subprocess.run(larger, check=True)
    assert main([*flags, "--resume"]) == 0
    check_same(small_disk / "run", run)


def test_a_comparison_says_which_file(
    phantom_flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A training that finds no room fails with a sentence, and the same command trains it."""
    out = tmp_path / "comparison"
    plan = ["--losses", "mse", "mae", "--folds", "2", "--workers", "1", "--seeds", "1"]
    flags = ["compare", *phantom_flags, *SMALL_FLAGS, "--epochs", "1", *plan, "--out", str(out)]
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, -1)); "
        "from finecorr.__main__ import main; sys.exit(main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", limit, *flags], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "every training failed; the first: mse fold-1 seed-0: error: " in result.stderr
    assert "checkpoints/last.ckpt: file too large" in result.stderr
