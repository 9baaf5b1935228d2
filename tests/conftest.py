from __future__ import annotations

import glob
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings

from own_networks import SLOW_AFTER

# Small tensors gain nothing from a second thread, and it waits where another test has the core.
os.environ["OMP_NUM_THREADS"] = "1"  # for what the tests start
_FOLDERS = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _FOLDERS))  # with networks of their own
torch.set_num_threads(1)

# What defines operators has to live on.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]

settings.register_profile("stable", derandomize=True, deadline=None, database=None)
settings.load_profile("stable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """A test is the same whichever ran before it."""
    torch.manual_seed(0)


PHANTOM_FLAGS = [
    *("--image-columns", "filename"),
    *("--target-columns", "head circumference (mm)"),
    *("--group-pattern", r"^(\d+)_"),
    *("--pixel-size-column", "pixel size(mm)"),
]
SMALL_FLAGS = [*("--image-size", "48", "68"), *("--network", "resnet10-narrow")]
SLOW_NETWORK = "own_networks:without_batch_statistics"
CHECKPOINTS = "runs/*/*/*/checkpoints/last.ckpt"


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of a few phantoms; their images are beside it, in `images`."""
    from finecorr.data.phantom import write_phantoms  # the core alone has no tables

    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 80, height=68, width=96)


@pytest.fixture(scope="session")
def phantom_flags(phantoms: Path) -> list[str]:
    """The arguments with which the commands read the phantoms."""
    return [str(phantoms), "--image-root", str(phantoms.parent / "images"), *PHANTOM_FLAGS]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, phantom_flags: list[str]) -> Path:
    """The folder of a short real training on the phantoms."""
    from finecorr.cli import main

    out = tmp_path_factory.mktemp("runs") / "fine_grained"
    flags = [*SMALL_FLAGS, "--epochs", "4", "--batch-size", "16"]
    assert main(["train", *phantom_flags, *flags, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """timm, of the environment, or of the folder in it where the Makefile has put it."""
    beside = Path(sys.prefix) / "timm"
    if find_spec("timm") is None and beside.is_dir():
        sys.path.append(str(beside))
        try:
            import_module("torchvision")
        except RuntimeError:
            # Its wheel has no operators for this build of torch, and timm needs their names only.
            for name in ("nms", "qnms"):
                operator = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                _OPERATORS.define(operator)  # type: ignore[no-untyped-call]
    module: ModuleType = pytest.importorskip("timm", reason="timm is not installed")
    return module


@pytest.fixture(scope="session")
def hc18() -> Path:
    """The folder of the HC18 data."""
    data = os.environ.get("FINECORR_DATA")
    if data is None:
        pytest.skip("the real data is not here: FINECORR_DATA names no folder (see CONTRIBUTING)")
    return Path(data) / "hc18"


def interrupted(
    arguments: list[str],
    checkpoints: Path,
    send: Callable[[int, int], None] = os.kill,
    stop: int = signal.SIGINT,
) -> str:
    """Runs finecorr until a training has a checkpoint, and interrupts it; what it said.

    Args:
        arguments: the command and its flags; its network is `SLOW_NETWORK`.
        checkpoints: the file, or a pattern of files.
        send: `os.kill`; or `os.killpg`, as a terminal does it: to all its processes.
        stop: what it is sent.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "finecorr", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {SLOW_AFTER: str(checkpoints)},
        start_new_session=True,
        # Where the tests are in the background of a shell, they and what they start ignore SIGINT.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 240
        while not glob.glob(str(checkpoints)):  # noqa: PTH207
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        send(process.pid, stop)
        _, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, error
    return error


@pytest.fixture
def unused_port() -> int:
    """Of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
