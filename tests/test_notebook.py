"""The page on notebooks runs, block by block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "notebook.md"
TARGET = "head circumference (mm)"


def test_every_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 10
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    # What the page says of it.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison", "phantoms", "runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["first"]
    for name in ("runs/first/scatter.png", "runs/first/README.md", "comparison/report.html"):
        assert (tmp_path / name).is_file(), name
    assert names["values"].shape == (4, 1)
    assert names["answer"].index.equals(names["new"].index)
    sure = names["sure"]
    assert (sure[f"low {TARGET}"] < sure[TARGET]).all()
    assert (sure[f"high {TARGET}"] > sure[TARGET]).all()
    assert names["distance"][0] == 0
    assert np.isfinite(names["features"]).all()
    metrics = names["run"].metrics.set_index("metric")["value"]
    assert metrics["SRCC"] > 0.6
    shown = capsys.readouterr().out
    assert "Model of 'head circumference (mm)'" in shown
    assert "resnet10-narrow on 48 x 68 pixels, grey" in shown
    assert "mm fine_grained" in shown
    assert "--epoch" in shown
