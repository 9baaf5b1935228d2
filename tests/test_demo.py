from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from finecorr.cli import main
from finecorr.demo import length, quality
from finecorr.tasks import TASKS


def _opened(printed: str, folder: Path) -> str:
    """What a browser is asked to open by the last line that was printed."""
    asked = folder / "asked"
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(asked))}\n')
    browser.chmod(0o755)
    command = shlex.split(printed.splitlines()[-1])
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    subprocess.run(command, env=environment, check=True, timeout=60)
    return asked.read_text().strip()


def test_the_demo_compares_two_losses_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shorter than the real one, which takes a minute."""
    monkeypatch.setattr(length, "SUBJECTS", 60)
    monkeypatch.setattr(length, "EPOCHS", 2)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    first = capsys.readouterr().out
    assert "mse" in first
    assert "fine_grained" in first
    assert (out / "scatter.png").exists()
    assert (out / "bland_altman.png").exists()
    page = (out / "report.html").read_text()
    assert all(words in page for words in ("mse", "fine_grained", "Learning curves"))
    said = [line.split()[0] for line in first.splitlines() if line and line[0].isupper()]
    assert said == ["Drawing", "Training", "Training", "Writing"]
    assert _opened(first, tmp_path) == (out / "report.html").as_uri()
    assert "Highest and lowest scores" not in page

    (out / "notes.txt").write_text("what I saw")
    assert main(["demo", "--out", str(out)]) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert main(["demo", "--out", str(out), "--overwrite"]) == 0
    assert capsys.readouterr().out == first
    assert (out / "notes.txt").exists()
    # The other demo has other runs.
    assert main(["demo", "--task", "quality", "--out", str(out), "--overwrite"]) == 2
    assert "holds no demo of this task" in capsys.readouterr().err
    assert (out / "phantoms" / "table.csv").exists()


def test_the_demo_of_quality_compares_two_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shorter than the real one, which takes two minutes."""
    for name, value in {"SUBJECTS": 20, "SIZE": (100, 140), "VERSIONS": 2, "EPOCHS": 1}.items():
        monkeypatch.setattr(quality, name, value)
    out = tmp_path / "demo"
    assert main(["demo", "--task", "quality", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for name in ("fit, image", "crops, type"):
        assert name in printed
    assert printed.count("It is not a human opinion of its quality.") == 1
    assert _opened(printed, tmp_path) == (out / "report.html").as_uri()
    assert (out / "scatter.png").exists()
    page = (out / "report.html").read_text()
    for words in ("<h3>Views</h3>", "Highest and lowest scores", "PLCC mapped"):
        assert words in page
    assert "no human opinion of quality" in page.split("</h1>")[0]

    fit, crops = (
        yaml.safe_load((out / name / "config.yaml").read_text()) for name in ("fit", "crops")
    )
    assert {name for name in fit if fit[name] != crops[name]} == {
        *("view", "image_size", "crop_size", "intensity"),
        *("rotation", "shift", "gain", "gamma"),
    }
    for config, task in ((fit, "score"), (crops, "quality")):
        for name in ("view", "flip", "rotation", "shift", "zoom", "gain", "gamma"):
            assert str(config[name]) == str(type(config[name])(TASKS[task].options[name]))
        assert config["intensity"] == [TASKS[task].options["intensity"]]
    tests = [pd.read_csv(out / name / "predictions.csv") for name in ("fit", "crops")]
    pd.testing.assert_frame_equal(tests[0][["image", "severity"]], tests[1][["image", "severity"]])


@pytest.mark.parametrize("task", ["length", "quality"])
def test_the_demo_does_not_touch_a_folder_that_is_not_its_own(tmp_path: Path, task: str) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--task", task, "--out", str(tmp_path), "--overwrite"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
