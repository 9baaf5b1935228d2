"""Runs that are interrupted, at any moment, go on to the same end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor

from conftest import SLOW_NETWORK, SMALL_FLAGS, interrupted
from finecorr.cli import main
from finecorr.files import half_moved
from finecorr.models import training
from finecorr.models.module import RegressionModule
from finecorr.models.regressor import Regressor
from finecorr.runs import folder as run_folder
from finecorr.runs import run as run_module

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

    def half(checkpoint: Any, file: BinaryIO) -> None:
        saved.append(file)
        save(checkpoint, file)
        if len(saved) == 3:
            file.truncate(1000)
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


def test_after_the_best_epoch(
    phantom_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is worse, and not taken for the best."""
    flags = ["train", *phantom_flags, *FLAGS, "--epochs", "30", "--patience", "1"]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    stopping(monkeypatch, 1)
    assert main([*flags, "--out", str(tmp_path / "run")]) == 130
    monkeypatch.undo()
    assert main([*flags, "--resume", "--out", str(tmp_path / "run")]) == 0
    check_same(tmp_path / "run", tmp_path / "whole")


def test_before_it_can_be_resumed(
    phantom_flags: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started again, and nothing is left of the first attempt."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_config", stop)
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(tmp_path / "run")]
    assert main(flags) == 130
    monkeypatch.undo()
    left = tmp_path / "run" / f".{'0' * 32}.yaml"
    left.write_text("half a f")
    assert main(flags) == 0
    assert not left.exists()
    check_same(tmp_path / "run", run)


def test_before_it_replaces_a_run(
    phantom_flags: list[str],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There is nothing to resume but the other run, which is finished."""
    out = shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr(run_module, "prepare", stopped)
    assert main(["train", *phantom_flags, *FLAGS, "--overwrite", "--out", str(out)]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"
    check_same(out, run)


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
    flags = ["train", *phantom_flags, *FLAGS, "--network", SLOW_NETWORK]
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    error = interrupted([*flags, "--out", str(tmp_path / "run")], checkpoint, stop=stop)
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


@pytest.mark.parametrize(
    "start",
    [
        ["-m", "finecorr"],
        ["-c", "import sys; from finecorr.__main__ import main; sys.exit(main())"],
    ],
    ids=["module", "script"],
)
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("command", "loaded"),
    [
        (["losses"], "torch.torch_version"),
        (["losses"], "finecorr.losses.base"),
        (["suspects", "nowhere"], "lightning"),
        (["predict", "nowhere", "--out", "nothing.csv"], "pandas"),
    ],
)
def test_while_modules_are_loaded(
    command: list[str], loaded: str, stop: int, start: list[str]
) -> None:
    """One line, however early."""
    process = subprocess.Popen(
        # It prints the name of each module that it has loaded.
        [sys.executable, "-X", "importtime", *start, *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    try:
        assert any(line.endswith(f" {loaded}\n") for line in process.stderr)
        process.send_signal(stop)
        _, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    said = [line for line in error.splitlines() if line and not line.startswith("import time:")]
    assert said == ["interrupted"]


def test_a_replaced_run_is_never_torn(
    phantom_flags: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two files of the old run, which moves aside, or back."""
    out, rename = tmp_path / "run", Path.rename
    moved: list[str] = []
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(out)]
    assert main([*flags, "--epochs", "1"]) == 0
    old = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    def killed(self: Path, target: Path) -> Path:
        if self.name != "logs" and len(moved) == most:
            raise KeyboardInterrupt
        moved.append(self.name)
        return rename(self, target)

    for most in (1, 6, 10):  # the first ones, all but the last, and all but the folder's name
        moved.clear()
        monkeypatch.setattr(Path, "rename", killed)
        assert main([*flags, "--overwrite"]) == 130
        monkeypatch.undo()
        assert len(moved) == most
        assert main(flags) == 2  # a run is there, and it is whole again
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == old
    monkeypatch.setattr(run_module, "write_config", stopped)
    assert main([*flags, "--overwrite"]) == 130
    monkeypatch.undo()
    assert main(flags) == 2  # of which the old run is a part
    assert main([*flags, "--overwrite"]) == 0
    check_same(out, run)
    assert not list(out.glob(".*"))


def test_what_has_replaced_a_run_is_not_lost(
    phantom_flags: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when its model is there, and the old run, too."""
    out = tmp_path / "run"
    flags = ["train", *phantom_flags, *FLAGS, "--out", str(out)]
    assert main([*flags, "--epochs", "1"]) == 0
    monkeypatch.setattr(run_folder.shutil, "rmtree", stopped)  # type: ignore[attr-defined]
    assert main([*flags, "--overwrite"]) == 130
    monkeypatch.undo()
    assert (out / ".replaced").exists()
    assert main([*flags, "--overwrite", "--learning-rate", "1e30"]) == 2  # it diverges
    check_same(out, run)
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_while_a_model_predicts(
    command: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Regressor, "in_unit", stopped)
    assert main([command, str(run), "--out", str(tmp_path / "out")]) == 130
    assert not list(tmp_path.iterdir())


def stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def killed_at(rename: int, code: str, *words: str) -> int:
    """Runs code in a process that is killed before that rename, from 0; returns its exit code."""
    kill = (
        "import os, signal, sys\n"
        "rename, left = os.rename, [int(sys.argv.pop(1))]\n"
        "def counted(*paths):\n"
        "    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left[0] -= 1\n"
        "    rename(*paths)\n"
        "os.rename = os.replace = counted\n"
    )
    command = [sys.executable, "-c", kill + code, str(rename), *words]
    return subprocess.run(command, check=False, capture_output=True).returncode


MOVE = """
from pathlib import Path
from finecorr.files import all_or_none
with all_or_none(Path(sys.argv[1]), {"end.csv": ("end.csv", "one.csv", "old.csv")}) as folder:
    for name in ("one.csv", "end.csv", "part/one.csv", "part/end.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(sys.argv[2])
"""


@pytest.mark.parametrize("before", [False, True])
def test_the_file_that_says_that_all_are_there_comes_last(before: bool, tmp_path: Path) -> None:
    """Killed before each of the renames; the next call has the same end, and nothing is left."""
    ends = 0
    for rename in range(20):
        out = tmp_path / str(rename) / "deep" / "out"
        if before:
            (out / "part").mkdir(parents=True)
            for name in ("end.csv", "one.csv", "old.csv", "own.csv", "part/end.csv"):
                (out / name).write_text("old")
        code = killed_at(rename, MOVE, str(out), "new")
        assert code in (0, -signal.SIGKILL)
        texts = {path.name: path.read_text() for path in out.glob("*.csv")}
        if texts.get("end.csv") == "new":
            assert texts["one.csv"] == "new"
            assert "old.csv" not in texts
            assert (out / "part" / "end.csv").read_text() == "new"
        elif "end.csv" in texts:  # the old ones, all of them
            assert set(texts.values()) == {"old"}
            assert not half_moved(out)
        elif texts:
            assert half_moved(out)
        assert killed_at(100, MOVE, str(out), "again") == 0
        found = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file()}
        own = {"own.csv": "old"} if before else {}
        names = ("one.csv", "end.csv", "part/one.csv", "part/end.csv")
        assert found == {**dict.fromkeys(names, "again"), **own}
        assert not half_moved(out)
        assert not list((tmp_path / str(rename)).rglob(".*"))
        ends += code == 0
    assert 0 < ends < 18


def test_half_an_evaluation_is_none(run: Path, tmp_path: Path) -> None:
    """Killed while its files move into the folder, it is repeated without --overwrite."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    evaluate = "from finecorr.cli import main; sys.exit(main(sys.argv[1:]))"
    flags = ["evaluate", str(run)]
    assert main([*flags, "--out", str(whole)]) == 0
    names = sorted(path.name for path in whole.iterdir())
    # Each of its files is renamed once, their folder is, and then they move.
    code = killed_at(len(names) + 2, evaluate, *flags, "--out", str(out))
    assert code == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == ["bland_altman.png"]
    assert main([*flags, "--out", str(out)]) == 0
    for name in set(names) - {"report.html"}:  # which says how it was made
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    assert main([*flags, "--out", str(out)]) == 2


def test_what_a_killed_call_left_is_removed_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    predict = "from finecorr.cli import main; sys.exit(main(sys.argv[1:]))"
    flags = ["predict", str(run), "--out", str(out)]
    assert killed_at(0, predict, *flags) == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path.name != "predictions.csv.partial"]
    assert len(left) == 1
    other = tmp_path / f".{'0' * 32}.csv"  # of a call that writes another file at this moment
    other.write_text("half a f")
    assert main(flags) == 0
    assert sorted(tmp_path.iterdir()) == sorted([other, out])
