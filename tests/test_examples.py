"""The examples of the documentation run, and learn, as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import finecorr

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))
example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
alone = [path for path in EXAMPLES if path.stem != "distributed"]

# What a program with nn.MSELoss has no need of.
OURS = re.compile(
    r"finecorr|FineGrained|Correlation(Trainer|Regressor)|loss_function\b|criterion|\.progress"
    r"|features|hidden_states|compute_loss|get_loss|loss_is_scaled"
)

# Runs the program named first, and prints how it called the loss while it trained.
WATCH = """
import json, runpy, sys
from finecorr import FineGrainedCorrelationLoss
forward, calls = FineGrainedCorrelationLoss.forward, []
def watched(self, prediction, target, features=None, **options):
    if prediction.requires_grad:
        calls.append((self.progress, features is not None and features.requires_grad))
    return forward(self, prediction, target, features, **options)
FineGrainedCorrelationLoss.forward = watched
runpy.run_path(sys.argv[1], run_name="__main__")
print(json.dumps(calls))
"""


def _marked(line: str) -> bool:
    return re.search(r"# finecorr(:|$)", line) is not None


def test_there_is_one_for_each_host() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "distributed",
        "hugging_face_trainer",
        "lightning_module",
        "plain_loop",
        "scikit_learn",
    ]


def _learnt(printed: str) -> None:
    found = re.fullmatch(r"111 held-out patients: PLCC (0\.\d+), SRCC (0\.\d+)", printed)
    assert found, printed
    # A linear regression has 0.61 and 0.62 on the same patients.
    assert float(found[1]) > 0.5
    assert float(found[2]) > 0.5


def test_it_learns_in_several_processes(tmp_path: Path) -> None:
    path = EXAMPLES[0]
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(path)),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(finecorr.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    _learnt(result.stdout.strip())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", alone, ids=lambda path: path.stem)
def test_it_learns_and_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir()
    scratch.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(Path(finecorr.__file__).parents[1]),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),  # torch makes it when imported
    }
    result = subprocess.run(
        [sys.executable, "-c", WATCH, str(path)],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *_, printed, calls = result.stdout.splitlines()
    _learnt(printed)

    progress, has_features = zip(*json.loads(calls), strict=True)
    assert all(has_features)
    assert min(progress) < 0.1
    assert 0.9 < max(progress) <= 1
    assert len(set(progress)) >= 15

    assert list(here.iterdir()) == []
    assert list(scratch.iterdir()) == []


@example
def test_ten_lines_or_fewer_are_ours(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert 0 < sum(map(_marked, lines)) <= 10
    assert [line for line in lines if OURS.search(line) and not _marked(line)] == []


@example
def test_the_page_shows_it(path: Path) -> None:
    page = (path.parents[1] / "examples.md").read_text()
    assert f'--8<-- "examples/{path.name}"' in page
    assert f"(examples/{path.name})" in page


def test_code_on_the_page_runs() -> None:
    page = (EXAMPLES[0].parents[1] / "examples.md").read_text()
    blocks = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "--8<--" not in code
    ]
    assert blocks
    for code in blocks:
        exec(code, {})
