"""The commands as functions give what the commands give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import finecorr
from finecorr.cli import main
from finecorr.errors import InputError

TARGET = "head circumference (mm)"
FLAGS: dict[str, Any] = {
    "image_columns": ["filename"],
    "target_columns": [TARGET],
    "group_pattern": r"^(\d+)_",
    "pixel_size_column": "pixel size(mm)",
    "image_size": (48, 68),
    "network": "own_networks:without_batch_statistics",
    "epochs": 1,
    "batch_size": 16,
}


@pytest.fixture(scope="module")
def root(phantoms: Path) -> Path:
    return phantoms.parent / "images"


@pytest.fixture(scope="module")
def trained(phantoms: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> finecorr.Run:
    out = tmp_path_factory.mktemp("api") / "run"
    options = {"loss_options": {"delta": 0.5}, "hidden": [8], "mapped": False}
    return finecorr.train(
        phantoms, out=out, image_root=root, loss="huber", units=None, **options, **FLAGS
    )


def _words() -> list[str]:
    words = []
    for name, value in FLAGS.items():
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def test_train_gives_what_the_command_gives(
    trained: finecorr.Run, phantoms: Path, root: Path, tmp_path: Path
) -> None:
    flags = [
        "--loss",
        "huber",
        "--loss-options",
        '{"delta": 0.5}',
        "--hidden",
        "8",
        "--image-root",
        str(root),
    ]
    out = tmp_path / "run"
    assert main(["train", str(phantoms), *flags, *_words(), "--out", str(out)]) == 0
    for name in ("metrics.csv", "predictions.csv", "splits.csv", "config.yaml"):
        assert (out / name).read_bytes() == (trained.folder / name).read_bytes(), name
    one, other = (load_file(folder / "model.safetensors") for folder in (out, trained.folder))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    pd.testing.assert_frame_equal(trained.metrics, pd.read_csv(out / "metrics.csv"))
    assert len(trained.predictions) == len(pd.read_csv(out / "predictions.csv"))


def test_a_run_has_its_model(trained: finecorr.Run) -> None:
    assert trained.model is trained.model
    pd.testing.assert_frame_equal(trained.model.test_results, trained.metrics)
    assert trained.model.provenance.training["loss_options"] == {"delta": 0.5}


def test_evaluate_gives_what_the_command_gives(
    trained: finecorr.Run, phantoms: Path, root: Path, tmp_path: Path
) -> None:
    run = str(trained.folder)
    again = finecorr.evaluate(trained, out=tmp_path / "a")
    assert main(["evaluate", run, "--out", str(tmp_path / "b")]) == 0
    finecorr.evaluate(run, str(phantoms), out=tmp_path / "c", image_root=root, all_rows=True)
    flags = ["--image-root", str(root), "--all-rows", "--out", str(tmp_path / "d")]
    assert main(["evaluate", run, str(phantoms), *flags]) == 0
    for one, other in ("ab", "cd"):
        for name in ("metrics.csv", "predictions.csv"):
            found = [(tmp_path / folder / name).read_bytes() for folder in (one, other)]
            assert found[0] == found[1]
    pd.testing.assert_frame_equal(again.metrics, pd.read_csv(tmp_path / "a" / "metrics.csv"))
    with pytest.raises(InputError, match="already holds"):
        finecorr.evaluate(trained, out=tmp_path / "a", overwrite=False)
    finecorr.evaluate(trained, out=tmp_path / "a", overwrite=True)


def test_evaluate_per_subject_and_of_several(trained: finecorr.Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"predict_per": "subject", "all_rows": True}
    found = finecorr.evaluate(trained, out=tmp_path / "a", **options)
    assert found.predictions["group"].is_unique
    alone = finecorr.evaluate(trained, out=tmp_path / "b")
    twice = finecorr.evaluate(trained, out=tmp_path / "c", ensemble=[trained.folder])
    pd.testing.assert_frame_equal(twice.metrics, alone.metrics)


def test_compare_gives_what_the_command_gives(phantoms: Path, root: Path, tmp_path: Path) -> None:
    """So that the command has nothing left to do."""
    out = tmp_path / "comparison"
    plan: dict[str, Any] = {"folds": 2, "seeds": 1, "workers": 1}
    found = finecorr.compare(phantoms, ["mse"], out=out, image_root=root, **plan, **FLAGS)
    metrics = {path: path.read_bytes() for path in out.rglob("*.csv")}
    models = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert len(models) == 2
    words = [f"--{name}={value}" for name, value in plan.items()]
    flags = ["--losses", "mse", *words, *_words(), "--image-root", str(root), "--out", str(out)]
    assert main(["compare", str(phantoms), *flags]) == 0
    assert metrics == {path: path.read_bytes() for path in out.rglob("*.csv")}
    assert models == {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert "mse" in found.text()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 3}, "--epoch"),
    ({"epochs": "many"}, "--epochs: Expected a whole number. Got value: many"),
    ({"epochs": 1.5}, "--epochs: Expected a whole number. Got value: 1.5"),
    ({"epochs": 0}, "--epochs must be"),
    ({"epochs": True}, "--epochs"),
    ({"epochs": [1, 2]}, "2"),
    ({"epochs": {"all": 3}}, "--epochs"),
    ({"image_size": 48}, "--image-size"),
    ({"image_size": [48]}, "--image-size"),
    ({"loss": "msee"}, "msee"),
    ({"loss_options": {"sharpness": 1}}, "sharpness"),
    ({"loss_options": "soft"}, "--loss-options"),
    ({"target_columns": ["weight"]}, "no column 'weight' for --target-columns"),
    ({"target_columns": []}, "--target-columns names no column"),
    ({"rgb": "yes please"}, "--rgb"),
    ({"network": "resnet81"}, "did you mean resnet18?"),
    ({"task": "nonsense"}, "--task is one of length, quality, score"),
    ({"preset": ("hc19", "nowhere")}, "known names are hc18"),
    ({"config": "nowhere.yaml"}, "nowhere.yaml"),
]


@pytest.mark.parametrize(("flags", "words"), WRONG, ids=str)
def test_a_wrong_flag_is_said(
    flags: dict[str, Any], words: str, phantoms: Path, root: Path, tmp_path: Path
) -> None:
    given = {**FLAGS, "image_root": root, **flags}
    with pytest.raises(InputError) as error:
        finecorr.train(phantoms, out=tmp_path / "run", **given)
    assert words in str(error.value)
    assert len(str(error.value)) < 2000
    assert not list(tmp_path.iterdir())


def test_a_table_is_a_file(trained: finecorr.Run, tmp_path: Path) -> None:
    frame: Any = pd.DataFrame({"image": ["a.png"], "target": [1.0]})
    words = "a table is the path of a file, not a DataFrame: write it to one first"
    out = tmp_path / "out"
    with pytest.raises(InputError, match=words):
        finecorr.train(frame, out=out)
    with pytest.raises(InputError, match=words):
        finecorr.compare(frame, ["mse"], out=out)
    with pytest.raises(InputError, match=words):
        finecorr.evaluate(trained, frame, out=out)
    with pytest.raises(InputError, match=r"no table nowhere\.csv|no table"):
        finecorr.train("nowhere.csv", out=out)
    with pytest.raises(InputError, match="holds no trained model"):
        finecorr.evaluate(tmp_path / "nothing", out=out)
    assert not out.exists()


def test_values_are_what_they_are(phantoms: Path, root: Path, tmp_path: Path) -> None:
    """And not what a command line makes of a word."""
    frame = pd.read_csv(phantoms).rename(columns={TARGET: "null", "filename": "3"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {**FLAGS, "image_columns": ["3"], "target_columns": ["null"], "image_root": root}
    run = finecorr.train(tmp_path / "t.csv", out=tmp_path / "run", flip=0, **given)
    assert run.model.bundle.table.target_columns == ("null",)
    assert run.model.bundle.table.image_columns == ("3",)
    assert run.model.bundle.augmentation.flip == 0
    given |= {"target_columns": ["null", "--out"]}
    with pytest.raises(InputError, match="--target-columns: '--out' begins as a flag does"):
        finecorr.train(tmp_path / "t.csv", out=tmp_path / "other", **given)
    intensity: Any = {"intensity": (-100.0, 300)}
    run = finecorr.train(phantoms, out=tmp_path / "b", image_root=root, **FLAGS, **intensity)
    assert run.model.bundle.images.intensity == (-100.0, 300.0)
