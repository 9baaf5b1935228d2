"""What the README shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

README = Path(__file__).parents[1] / "README.md"


def test_the_loss_in_five_lines() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    torch.manual_seed(0)
    backbone, head = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh()), nn.Linear(8, 1)
    batches = [(torch.rand(16, 1, 3, 4), torch.rand(16)) for _ in range(3)]
    names = {"backbone": backbone, "head": head, "batches": batches}
    exec(code, names)
    for parameter in [*backbone.parameters(), *head.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
        assert parameter.grad.isfinite().all()


def test_what_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README.read_text()):
        assert (README.parent / target).exists(), target
