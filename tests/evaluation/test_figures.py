from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finecorr.evaluation.figures import Panel, bland_altman, scatter


@pytest.mark.parametrize("count", [1, 2, 4])
def test_figures_are_written_whole(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=30)
    # Which Matplotlib would read as formulas, and this one as a wrong one.
    panels = [Panel("mse $_$", "price_$ per $_unit", target + 0.1, target)] * count
    for draw in (scatter, bland_altman):
        draw(panels, tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as image:
            assert image.size[0] >= 600
            assert np.asarray(image.convert("L")).std() > 5
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
