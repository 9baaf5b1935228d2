"""What a task stands for, and trainings on quality: what they see, and what they keep."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from finecorr.cli import main
from finecorr.errors import InputError
from finecorr.models.module import RegressionModule
from finecorr.models.networks import build
from finecorr.tasks import TASKS, expand_task
from finecorr.trained import bundle

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    image_mean, image_std = (0.5,) * 3, (0.25,) * 3
    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Conv2d(channels, 8, 3, stride=2)
    def forward(self, image):
        return self.layer(image).relu().mean((2, 3))
"""
SMALL = [*("--crop-size", "32", "32"), *("--batch-size", "16")]
QUALITY = ["--task", "quality", *SMALL]
OWN_FLAGS = [*("--network", "quality_network:Net"), *("--weights", "none", "--features", "last")]


@pytest.fixture(scope="module")
def exposures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one texture that differ in exposure alone."""
    folder = tmp_path_factory.mktemp("exposures")
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 1, 90)
    for i, score in enumerate(scores):
        height, width = (40, 56) if i % 3 else (56, 40)
        pixels = (rng.uniform(0, 255, (height, width, 3)) * score).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    names = [f"{i:02d}.png" for i in range(len(scores))]
    pd.DataFrame({"image": names, "target": scores}).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quality_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def _srcc(run: Path) -> float:
    metrics = pd.read_csv(run / "metrics.csv").set_index("metric")["value"]
    return float(metrics["SRCC"])


def test_a_task_is_flags_that_others_override() -> None:
    assert expand_task(["train", "t.csv"]) == ["train", "t.csv"]
    for words in (["--task", "quality"], ["--task=quality"]):
        found = expand_task(["train", "t.csv", *words, "--epochs", "2"])
        assert found == ["train", *TASKS["quality"].flags(), "t.csv", "--epochs", "2"]
    assert "--loss" not in expand_task(["compare", "--task", "score"], {"loss"})
    for wrong in (["--task", "beauty"], ["--task"], ["--task", "score", "--task", "length"]):
        with pytest.raises(InputError, match="--task is one of length, quality, score"):
            expand_task(["train", *wrong])


def test_lengths_are_what_nothing_stands_for() -> None:
    """`--task length` names the defaults of the flags."""
    from dataclasses import fields

    from finecorr.flags import TRAIN_OPTIONS

    defaults = {option.name: option.default for cls in TRAIN_OPTIONS for option in fields(cls)}
    for name, value in TASKS["length"].options.items():
        default = defaults[name]
        if isinstance(default, tuple):
            (default,) = default
        assert (f"{default:g}" if isinstance(default, float) else default) == value, name


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_says_what_a_task_stands_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--view crops --intensity type --rgb" in shown


def test_exposure_is_seen_by_quality_and_not_by_a_stretched_image(
    exposures: Path, tmp_path: Path
) -> None:
    shared = [str(exposures), "--epochs", "6", "--batch-size", "8", "--network", "resnet10-narrow"]
    shared += ["--weights", "none", "--features", "last", "--learning-rate", "3e-3"]
    quality = [*shared, "--task", "quality", *("--crop-size", "32", "32")]
    assert main(["train", *quality, "--out", str(tmp_path / "quality")]) == 0
    score = [*shared, "--task", "score", *("--image-size", "40", "40")]
    assert main(["train", *score, "--out", str(tmp_path / "score")]) == 0
    assert _srcc(tmp_path / "quality") > 0.8
    assert _srcc(tmp_path / "score") < 0.5
    config = yaml.safe_load((tmp_path / "quality" / "config.yaml").read_text())
    assert (config["view"], config["intensity"], config["gamma"]) == ("crops", ["type"], 0)
    assert (config["network"], config["mapped"]) == ("resnet10-narrow", True)
    assert "task" not in config
    metrics = pd.read_csv(tmp_path / "quality" / "metrics.csv")["metric"]
    assert "PLCC mapped" in list(metrics)


@pytest.mark.usefixtures("own")
def test_a_frozen_network_predicts_what_its_features_did(exposures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [str(exposures), *QUALITY, *OWN_FLAGS, "--frozen", "--epochs", "3", "--out", str(out)]
    assert main(["train", *flags]) == 0
    assert (out / "features").is_dir()
    trained = bundle.load(out).regressor.backbone.get_parameter("layer.weight")
    torch.manual_seed(3)
    assert torch.equal(trained, torch.nn.Conv2d(3, 8, 3, stride=2).weight)
    csv = tmp_path / "predictions.csv"
    assert main(["predict", str(out), "--out", str(csv)]) == 0
    tested = pd.read_csv(out / "predictions.csv").set_index("image")["predicted target"]
    everything = pd.read_csv(csv).set_index("image")["target"]
    np.testing.assert_allclose(everything[tested.index], tested, rtol=1e-4, atol=1e-5)
    assert main(["evaluate", str(out), "--out", str(tmp_path / "evaluation")]) == 0
    # Another training of the same images has their features already.
    assert main(["train", *flags, "--overwrite", "--seed", "1"]) == 0


def test_weights_of_a_file_are_found_from_any_folder(
    exposures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build("resnet10-narrow", 3).module
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    monkeypatch.chdir(tmp_path)
    flags = [str(exposures), *QUALITY, "--network", "resnet10-narrow", "--features", "last"]
    flags += ["--weights", "weights.pt", "--epochs", "1", "--frozen-epochs", "1"]
    assert main(["train", *flags, "--out", "run"]) == 0
    trained = bundle.load(Path("run")).regressor.backbone.get_parameter("conv1.weight")
    assert torch.equal(trained, network.get_parameter("conv1.weight"))
    monkeypatch.chdir(exposures.parent)
    config = str(tmp_path / "run" / "config.yaml")
    assert main(["train", "--config", config, "--out", str(tmp_path / "again")]) == 0


@pytest.mark.usefixtures("own")
def test_losses_of_a_frozen_network_share_its_features(
    exposures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "comparison"
    flags = [str(exposures), *QUALITY, *OWN_FLAGS, "--frozen", "--epochs", "2"]
    flags += ["--losses", "mse,fine_grained", "--folds", "2", "--seeds", "1", "--out", str(out)]
    assert main(["compare", *flags, "--no-mapped"]) == 0
    assert len(list((out / "features").glob("*/*.safetensors"))) == 1
    assert not list(out.glob("runs/*/*/*/features"))
    assert "mapped" not in (out / "summary.md").read_text()


def test_a_comparison_does_not_mix_weights(
    exposures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pt"
    flags = ["compare", str(exposures), "--network", "resnet10-narrow", "--weights", str(weights)]
    flags += ["--image-size", "32", "32", "--epochs", "1", "--repeats", "1", "--seeds", "1"]
    flags += ["--out", str(tmp_path / "compared")]
    for seed, code in ((0, 0), (0, 0), (1, 2)):
        torch.manual_seed(seed)
        torch.save(build("resnet10-narrow", 1).weighted.state_dict(), weights)
        assert main([*flags, "--losses", "mse"]) == code
    assert "or the file of --weights, is no longer the one" in capsys.readouterr().err


@pytest.mark.usefixtures("own")
def test_a_model_says_which_network_it_needs(
    exposures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = [str(exposures), *QUALITY, *OWN_FLAGS, "--epochs", "1", "--out", str(out)]
    assert main(["train", *flags]) == 0
    del sys.modules["quality_network"]
    (tmp_path / "quality_network.py").rename(tmp_path / "gone.py")
    assert main(["predict", str(out), "--out", str(tmp_path / "p.csv")]) == 2
    said = capsys.readouterr().err
    assert "needs its network: --network quality_network:Net" in said
    assert "install the package, or name its folder in PYTHONPATH" in said


@pytest.mark.usefixtures("own")
def test_crops_and_dropout_go_on_as_they_would_have(
    exposures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["train", str(exposures), *QUALITY, *OWN_FLAGS, "--epochs", "3", "--frozen-epochs", "1"]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    step = RegressionModule.training_step

    def interrupted(self: RegressionModule, *arguments: object) -> object:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RegressionModule, "training_step", interrupted)
    assert main([*flags, "--out", str(tmp_path / "run")]) == 130
    monkeypatch.undo()
    sys.path.insert(0, str(tmp_path))
    assert main([*flags, "--out", str(tmp_path / "run"), "--resume"]) == 0
    sys.path.remove(str(tmp_path))
    whole, resumed = (load_file(tmp_path / name / bundle.FILE) for name in ("whole", "run"))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


@pytest.mark.usefixtures("own")
def test_the_head_alone_learns_at_first(exposures: Path, tmp_path: Path) -> None:
    flags = ["train", str(exposures), *QUALITY, *OWN_FLAGS, "--epochs", "2", "--no-mapped"]
    assert main([*flags, "--frozen-epochs", "2", "--out", str(tmp_path / "frozen")]) == 0
    assert main([*flags, "--frozen-epochs", "1", "--out", str(tmp_path / "then")]) == 0
    torch.manual_seed(3)
    start = torch.nn.Conv2d(3, 8, 3, stride=2).weight
    frozen, then = (
        bundle.load(tmp_path / name).regressor.backbone.get_parameter("layer.weight")
        for name in ("frozen", "then")
    )
    assert torch.equal(frozen, start)
    assert not torch.equal(then, start)


def test_crops_on_a_grid_are_averaged(exposures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [str(exposures), *QUALITY, "--network", "resnet10-narrow", "--weights", "none"]
    flags += ["--features", "last", "--epochs", "1", "--test-crops", "2", "--out", str(out)]
    assert main(["train", *flags]) == 0
    model = bundle.load(out)
    name = pd.read_csv(out / "predictions.csv")["image"][0]
    with Image.open(exposures.parent / name) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    wide = pixels.shape[2] > pixels.shape[1]
    places = [(4, 0), (4, 24)] if wide else [(0, 4), (24, 4)]
    crops = torch.stack([pixels[:, t : t + 32, s : s + 32] for t, s in places])
    with torch.no_grad():
        expected = model.regressor(crops).mean()
    found = pd.read_csv(out / "predictions.csv")["predicted target"][0]
    assert found == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--pixel-size-column", "target"], "a length shows in the whole image only"),
        (["--frozen", "--weights", "none"], "--weights none has learnt nothing"),
        (["--weights", "pretrained"], "there are none for resnet10-narrow"),
        (["--weights", "absent.pt"], "no such file"),
        (["--hidden", "0"], "--hidden must be numbers from 1"),
        (["--hidden", "--dropout", "0.5"], "--dropout is for the layers of --hidden"),
        (["--frozen-epochs", "9"], "--frozen-epochs must be from 0 to 1"),
        (["--backbone-rate", "0"], "--backbone-rate must be positive"),
        (["--features", "stages"], "resnet10-narrow shows no stages"),
        (["--network", "os:abort"], "Python's own library"),
        (["--intensity", "5", "1"], "the lower first, not 5 1"),
        (["--tas", "quality"], "unrecognized arguments: --tas"),
        (["--config", "task.yaml"], "give --task quality there, or write those into the file"),
    ],
)
def test_what_does_not_go_together(
    flags: list[str],
    words: str,
    exposures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.yaml").write_text("task: quality\n")
    out = tmp_path / "run"
    given = [str(exposures), *QUALITY, "--network", "resnet10-narrow", "--weights", "none"]
    given += ["--features", "last", "--epochs", "1", *flags, "--out", str(out)]
    assert main(["train", *given]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()
