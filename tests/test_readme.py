"""What README and documentation show runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

README = Path(__file__).parents[1] / "README.md"


def test_the_loss_in_five_lines() -> None:
    code, _ = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    torch.manual_seed(0)
    backbone, head = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh()), nn.Linear(8, 1)
    batches = [(torch.rand(16, 1, 3, 4), torch.rand(16)) for _ in range(3)]
    names = {"backbone": backbone, "head": head, "batches": batches}
    exec(code, names)
    for parameter in [*backbone.parameters(), *head.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    "page", [README, README.parent / "docs" / "models.md"], ids=lambda p: p.name
)
def test_a_model_in_python(
    page: Path, run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, code = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    named = re.findall(r'"((?:runs/|folder|images)[^"]*)"', code)
    for name in named:
        (tmp_path / name).parent.mkdir(exist_ok=True)
    images = phantoms.parent / "images"
    for name in dict.fromkeys(named):
        (tmp_path / name).symlink_to(run if name.startswith("runs/") else images)
    monkeypatch.chdir(tmp_path)
    # The model of the page may predict something else than lengths.
    code = code.replace('"folder_of_images")', '"folder_of_images", pixel_size=0.2)')
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["predictions"]) == len(list(images.iterdir()))
    assert names["predictions"]["fault"].eq("").all()


def test_evaluation_of_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    page = README.parent / "docs" / "evaluation.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    rng = np.random.default_rng(0)
    names = {name: rng.normal(size=40) for name in ("prediction", "other_prediction", "target")}
    exec(code, {**names, "subject": np.arange(40).astype(str)})
    assert "SRCC" in capsys.readouterr().out


def test_what_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README.read_text()):
        path, _, anchor = target.partition("#")
        assert (README.parent / path).exists(), target
        if anchor:
            text = (README.parent / path).read_text()
            headings = re.findall("^#+ (.*)$", text, re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_the_tables_are_those_of_the_results(tmp_path: Path) -> None:
    root = README.parent
    shutil.copytree(root / "docs" / "results", tmp_path / "results")
    pages = [root / "README.md", root / "docs" / "results.md"]
    copies = [Path(shutil.copy(page, tmp_path)) for page in pages]
    flags = [text for copy in copies for text in ("--page", str(copy))]
    script = root / "benchmarks" / "report.py"
    subprocess.run([sys.executable, script, tmp_path / "results", *flags], check=True)
    for page, copy in zip(pages, copies, strict=True):
        assert "| fine_grained | 0.9" in copy.read_text()
        assert copy.read_text() == page.read_text()
