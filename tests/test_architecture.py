"""The map in docs/architecture.md: who may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import finecorr
from strategies import assert_near

ROOT = Path(finecorr.__file__).parent
ANYBODY = {"errors", "files"}
MAY_IMPORT = {
    "functional": set(),
    "losses": {"functional"},
    "errors": set(),
    "files": {"errors"},
    "data": ANYBODY,
    "evaluation": ANYBODY,
    "models": {"data", "losses", "pieces", "functional", *ANYBODY},
    "bundle": {"models", "data", *ANYBODY},
    "export": {"bundle", "models", "data", *ANYBODY},
    "pages": {"evaluation", "models", "data", *ANYBODY},
    "runs": {"evaluation", "bundle", "models", "data", *ANYBODY},
    "inference": {"runs", "pages", "evaluation", "bundle", "models", "data", *ANYBODY},
    "comparison": {"runs", "pages", "evaluation", "bundle", "models", "data", *ANYBODY},
    "demo": {"comparison", "runs", "pages", "evaluation", "models", "data", *ANYBODY},
    "metrics": {"functional"},
    "tasks": ANYBODY,
    "cross_tables": {"inference", "runs", "evaluation", "data", *ANYBODY},
    "cli": {
        "tasks",
        "cross_tables",
        "demo",
        "comparison",
        "inference",
        "export",
        "runs",
        "pages",
        "evaluation",
        "models",
        "data",
        "losses",
        *ANYBODY,
    },
    "pieces": set(),
    "__init__": {"functional", "losses", "pieces"},
    "__main__": {"cli"},
}
CORE_THIRD_PARTY = {"torch", "numpy", "scipy"}


def _room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = _room(path)
    ours = {name.split(".")[1] for name in _imports(path) if name.startswith("finecorr.")}
    assert ours - {room} <= MAY_IMPORT[room]
    if room in ("functional", "losses", "pieces", "__init__"):
        others = {name.split(".")[0] for name in _imports(path)} - {"finecorr"}
        assert others - set(sys.stdlib_module_names) <= CORE_THIRD_PARTY


def test_every_room_is_on_the_map() -> None:
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text()
    for path in ROOT.rglob("*.py"):
        if path.name != "__init__.py":
            assert f"  {path.name} " in page, f"{path.name} is missing in docs/architecture.md"


def test_the_command_says_what_is_missing() -> None:
    """As where only the core is installed."""
    code = "import sys; sys.modules['monai'] = None; from finecorr.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr.startswith("finecorr: error: monai")
    assert 'pip install "finecorr[app]"' in result.stderr


def test_import_finecorr_loads_the_core_only() -> None:
    names = "(finecorr.losses, finecorr.functional, finecorr.PearsonLoss)"
    code = f"import finecorr, sys; {names}; print(*{{m.split('.')[0] for m in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    app = {"lightning", "monai", "pandas", "sklearn", "matplotlib", "jsonargparse", "PIL"}
    assert not app & set(loaded.stdout.split())


def test_the_command_hears_ctrl_c_before_torch_is_loaded() -> None:
    code = "import finecorr.__main__, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(finecorr.__all__) <= set(dir(finecorr))
    for name in finecorr.__all__:
        assert getattr(finecorr, name).__name__.endswith(name)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        getattr(finecorr, "absent")  # noqa: B009


def test_ray_is_loaded_only_where_it_is_asked_for() -> None:
    code = "import sys; sys.modules['ray'] = None; import finecorr.cli"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_of_a_new_loss() -> None:
    text = (ROOT.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    loss = names["CosineLoss"]()
    prediction, target = torch.randn(2, 20, 2).double()
    expected = 1 - torch.cosine_similarity(prediction, target, dim=0)
    assert_near(loss(prediction, target), expected.mean(), 1e-12)
    missing = torch.arange(20) % 3 == 0
    holes = target.masked_fill(missing[:, None], torch.nan)
    rows = prediction[~missing], target[~missing]
    assert_near(loss(prediction, holes), loss(*rows), 1e-12)
    group = torch.arange(20) // 10
    parts = [loss(prediction[group == g], target[group == g]) for g in (0, 1)]
    assert_near(loss(prediction, target, group=group), torch.stack(parts).mean(), 1e-12)
