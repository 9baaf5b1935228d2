"""A share of benchmarks/kills.py, as anyone runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.mark.skipif(sys.platform != "linux", reason="the script needs Linux")
@pytest.mark.parametrize(
    ("job", "phase"), [("train", "a checkpoint is written"), ("train --overwrite", "laid aside")]
)
def test_what_is_killed_goes_on_to_the_same_end(job: str, phase: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--only", job, "--phase", phase, "--signal", "KILL"]
    result = subprocess.run(
        [*command, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    table = pd.read_csv(tmp_path / "kills.csv", keep_default_na=False)
    assert list(table["ended"]) == [-9]
    assert "| all |  | 1 | 1 | 1 | 1 | 0 |" in result.stdout
