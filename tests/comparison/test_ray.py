"""Real, small trainings on Ray clusters of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import CHECKPOINTS, SLOW_NETWORK, SMALL_FLAGS, interrupted
from finecorr.cli import main
from finecorr.comparison.execution import execute, log_of
from finecorr.comparison.options import ComparisonOptions
from finecorr.comparison.plan import Data, Run, plan
from finecorr.comparison.processes import processes
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError
from finecorr.models.options import TrainingOptions

ray = pytest.importorskip("ray")
from finecorr.comparison.ray_tasks import ray_tasks, share  # noqa: E402

# One thread for each training, whoever starts it: their number changes the last digits.
WORKERS = max(2, os.cpu_count() or 1)
EPOCHS = 3
TRAINED = "runs/mse/fold-1/seed-0/predictions.csv"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def first_run(out: Path, table: Path, seed: int = 0) -> Run:
    """The first training of the comparison of `FLAGS`."""
    data = Data(
        TableOptions(
            table,
            table.parent / "images",
            image_columns=("filename",),
            target_columns=("head circumference (mm)",),
            group_pattern=r"^(\d+)_",
            pixel_size_column="pixel size(mm)",
        ),
        ImageOptions(image_size=(48, 68)),
        AugmentationOptions(),
    )
    options = ComparisonOptions(out, losses=("mse",), folds=2, seeds=1)
    training = TrainingOptions(network=SLOW_NETWORK, epochs=EPOCHS, batch_size=16, seed=seed)
    return plan(options, data, training)[0]


FLAGS = [*SMALL_FLAGS, "--epochs", str(EPOCHS), "--batch-size", "16", "--losses", "mse"]
FLAGS += ["--folds", "2", "--seeds", "1", "--workers", str(WORKERS), "--executor", "ray"]
FLAGS += ["--network", SLOW_NETWORK]


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> str:
    """Of the first training, in a process of this machine."""
    out = tmp_path_factory.mktemp("comparison")
    assert execute([first_run(out, phantoms)], WORKERS, processes(WORKERS)) == []
    return (out / TRAINED).read_text()


@pytest.mark.usefixtures("cluster")
def test_the_same_numbers_as_in_a_process_though_other_trainings_fail(
    predictions: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts.txt"

    class Fatal(AugmentationOptions):
        def check(self) -> None:
            with starts.open("a") as file:
                print("started", file=file)
            os.kill(os.getpid(), signal.SIGKILL)

    class Faulty(AugmentationOptions):
        def check(self) -> None:
            raise RuntimeError("a defect")

    # Ray's processes are in another folder.
    monkeypatch.chdir(tmp_path)
    table = Path(os.path.relpath(phantoms))
    out = Path("out")
    good, fatal, faulty = (first_run(out, table, seed) for seed in range(3))
    fatal = replace(fatal, data=replace(fatal.data, augmentation=Fatal()))
    faulty = replace(faulty, data=replace(faulty.data, augmentation=Faulty()))
    elsewhere = first_run(out, Path("elsewhere.csv"), 3)

    failures = execute([fatal, faulty, elsewhere, good], WORKERS, ray_tasks(WORKERS, 1))
    reasons = {failure.run.seed: failure.reason for failure in failures}
    assert set(reasons) == {1, 2, 3}
    assert "worker died" in reasons[1]
    assert starts.read_text() == "started\n"
    assert reasons[2] == "RuntimeError: a defect"
    assert "Traceback" in log_of(faulty).read_text()
    assert reasons[3].startswith(f"{tmp_path / 'elsewhere.csv'} is not on the node")
    assert (out / TRAINED).read_text() == predictions
    assert ray.is_initialized(), "the cluster was there before"


@pytest.mark.usefixtures("cluster")
def test_interrupted_and_started_again_it_ends_with_the_same_numbers(
    predictions: str, tmp_path: Path, phantom_flags: list[str]
) -> None:
    """Started on a cluster of its own, and again on another."""
    flags = [*phantom_flags, *FLAGS, "--out", str(tmp_path)]
    error = interrupted(["compare", *flags], tmp_path / CHECKPOINTS, os.killpg)
    assert "the same command goes on from here" in error
    assert not list(tmp_path.glob("runs/*/*/*/model.safetensors"))
    assert main(["compare", *flags]) == 0
    assert (tmp_path / TRAINED).read_text() == predictions
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("nodes", "workers", "cores_and_gpus"),
    [
        ([{"CPU": 8.0}], 1, (8, 0)),
        ([{"CPU": 8.0}], 3, (2, 0)),
        ([{"CPU": 8.0}], 9, (1, 0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], 1, (8, 0)),
        ([{"CPU": 8.0}, {"CPU": 8.0}, {}], 4, (4, 0)),
        ([{"CPU": 64.0}, {"CPU": 16.0, "GPU": 4.0}], 2, (4, 1)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 2.0, "GPU": 4.0}], 8, (0, 1)),
    ],
)
def test_what_a_training_asks_for(
    nodes: list[dict[str, float]], workers: int, cores_and_gpus: tuple[int, int]
) -> None:
    assert share(nodes, workers) == cores_and_gpus


def test_what_a_training_on_several_devices_asks_for() -> None:
    nodes = [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 64.0}]
    assert share(nodes, 2, 4) == (8, 4)
    with pytest.raises(InputError, match="no node of the cluster has more than 8"):
        share(nodes, 2, 9)
