"""The map in docs/architecture.md: who may import what."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import torch

import finecorr
from finecorr.__main__ import APP
from finecorr.comparison.processes import PRELOADED
from finecorr.flags import COMMANDS
from finecorr.models.options import TrainingOptions
from finecorr.models.regressor import Regressor
from finecorr.trained import bundle
from finecorr.trained.bundle import Bundle
from strategies import assert_near

ROOT = Path(finecorr.__file__).parent
CORE = {"functional", "losses", "metrics", "pieces"}
HANDED_ON = {"functional", "losses", "pieces", "trained", "api", "checking"}
"""What `finecorr` itself hands on."""


def _may_import() -> dict[str, set[str]]:
    """By the table of the map, in which each line imports what stands below it."""
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("## What may import what")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    allowed: dict[str, set[str]] = {}
    for first, second in reversed(rows):
        below = set(allowed)
        named = below if "below" in second else set(re.findall(r"`(\w+)`", second))
        assert named <= below, f"{first} imports what does not stand below it: {named - below}"
        for room in re.findall(r"`(\w+)`", first):
            allowed[room] = named | (set() if room in CORE else {"errors", "files"})
    return allowed | {"errors": set(), "files": {"errors"}, "__init__": HANDED_ON}


MAY_IMPORT = _may_import()
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
    if room in ("functional", "losses", "pieces"):
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


def test_what_is_looked_for_is_the_extra_app() -> None:
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"]
    wanted = {part.split(">")[0] for part in project["optional-dependencies"]["app"]}
    of = packages_distributions()
    named = {name.lower() for package in APP for name in of[package]}
    assert wanted - named == {"torch", "python-gdcm", "pylibjpeg-openjpeg"}
    assert named <= wanted | {"pytorch-lightning"}


HEAVY = {
    *("PIL", "jinja2", "jsonschema", "lightning", "matplotlib", "monai", "nibabel"),
    *("numpy", "openpyxl"),
    *("pandas", "plotly", "pyarrow", "pydicom", "ray", "scipy", "sklearn", "tensorboard", "timm"),
    *("torch", "torch._dynamo", "torchmetrics", "transformers"),
}


def _loaded(code: str, *arguments: str, ends: int = 0) -> set[str]:
    """What of `HEAVY`, and which modules of ours, are there when the code has run."""
    shown = "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", f"{shown}\n{code}", *arguments], capture_output=True, text=True
    )
    assert result.returncode == ends, result.stderr
    names = result.stdout.rpartition("loaded: ")[2].split()
    return {name for name in names if name in HEAVY or name.startswith("finecorr.")}


def _after(*arguments: str, ends: int = 0) -> set[str]:
    return _loaded("from finecorr.__main__ import main; sys.exit(main())", *arguments, ends=ends)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids="-".join)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    assert not _after(*command, "--help") & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--nonsense"],
        ["nonsense"],
        ["train", "nowhere.csv", "--out", "nothing"],
        ["train", "nowhere.csv", "--out", "nothing", "--epochs", "0"],
        ["compare", "nowhere.csv", "--out", "nothing"],
        ["check", "nowhere.csv"],
        ["check", "nowhere.csv", "--decode", "0"],
    ],
    ids="-".join,
)
def test_a_mistake_in_the_flags_loads_nothing_heavy(words: list[str]) -> None:
    assert not _after(*words, ends=2) & HEAVY


def test_the_loss_that_is_not_checked_is_one() -> None:
    TrainingOptions().build_loss()


def test_listing_the_losses_loads_the_core_only() -> None:
    assert _after("losses") & HEAVY <= {"torch", "numpy", "scipy"}


PREDICTING = {"numpy", "torch", "scipy", "pandas", "pyarrow", "PIL"}


def test_predicting_loads_nothing_that_trains_or_draws(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network that needs nothing itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    model = bundle.load(run)
    architecture = replace(
        model.regressor.architecture, network="own_networks:without_batch_statistics"
    )
    bundle.save(Bundle(Regressor(architecture), model.table, model.images), tmp_path)
    shutil.copy(run / "config.yaml", tmp_path)
    loaded = _after("predict", str(tmp_path), "--out", str(tmp_path / "predictions.csv"))
    assert loaded & HEAVY <= PREDICTING
    trains = {"runs", "report", "data.module", "data.splits", "models.training", "evaluating"}
    assert not loaded & {f"finecorr.{name}" for name in trains}
    assert not {name for name in loaded if name.startswith("finecorr.evaluation")}


def test_predicting_with_monai_loads_no_more_than_monai_does(run: Path, tmp_path: Path) -> None:
    loaded = _after("predict", str(run), "--out", str(tmp_path / "predictions.csv"))
    with_monai = _loaded("import torch; from monai.networks import nets")
    assert "lightning" not in with_monai
    assert loaded & HEAVY <= with_monai | PREDICTING


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


def test_trainings_are_forks_of_a_server_that_has_read_what_they_need() -> None:
    """multiprocessing says nothing of a module that is not there."""
    code = (
        f"import sys, {', '.join(PRELOADED)}; before = set(sys.modules)\n"
        "import finecorr.comparison.execution\n"
        "print('further:', *set(sys.modules) - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(result.stdout.rpartition("further:")[2].split()) & HEAVY
