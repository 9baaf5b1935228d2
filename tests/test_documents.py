"""Every block of code in the documents runs; every command runs, or is one that is accepted.

A new page needs nothing here: its code runs in an empty folder, and its commands are parsed. What
needs data is run in a folder with some: see `WITH_DATA`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from documents import DOCUMENTS, ROOT, Block, anchors, blocks, prose
from finecorr import losses
from finecorr.cli import main, parsed
from finecorr.errors import InputError
from finecorr.flags import CHECK_OPTIONS, COMMANDS, COMPARE_OPTIONS, TRAIN_OPTIONS, build

GALLERY = ("comparison", "quality", "check")
page = pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.name)

WITH_DATA = (
    "README.md",
    "recipes.md",
    "check.md",
    "degradation.md",
    "models.md",
    "export.md",
    "tables.md",
)
"""Pages whose commands run, in a folder with what they name."""
TRAINED = ("models.md", "export.md")
"""Those of them that start from a trained run."""
NOT_RUN = ("--preset", "--devices")
"""Flags that ask for data or devices that are not here."""
_SMALL = [
    *("--network", "resnet10-narrow", "--weights", "none", "--features", "last", "--no-frozen"),
    *("--no-rgb", "--image-size", "48", "68", "--crop-size", "48", "48"),
    *("--epochs", "2", "--batch-size", "16", "--memory", "0", "--population", "0"),
]
SMALL = {
    "train": _SMALL,
    "compare": [*_SMALL, *("--losses", "mse", "--folds", "2", "--seeds", "1")],
    "suspects": ["--folds", "2"],
    "predict": ["--pixel-size", "0.2"],
}
SMALL_TABLES = {"train": ["--epochs", "2"], "compare": ["--epochs", "2", "--seeds", "1"]}
"""What makes a command run in seconds, after its own flags; for tables without pictures."""
TARGET = "head circumference (mm)"


@page
def test_code_runs_and_commands_are_accepted(
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    has_data = page.name in WITH_DATA
    of_columns = page.name == "tables.md"
    small = SMALL_TABLES if of_columns else SMALL
    if of_columns:
        write_columns(tmp_path)
    elif has_data:
        write_data(tmp_path, request.getfixturevalue("phantoms"))
    if page.name in TRAINED:
        for name in ("heads", "second", "third"):
            (tmp_path / "runs" / name).symlink_to(request.getfixturevalue("run"))
    names = names_of(page)
    for block in blocks(page):
        if block.language == "python":
            if "--8<--" not in block.text:
                exec(compile(block.text, str(page), "exec"), names)
        elif block.language != "text":
            for words in block.commands():
                accept(words)
                if has_data and words[0] == "finecorr" and not {*NOT_RUN} & {*words}:
                    assert main([*words[1:], *small.get(words[1], [])]) == 0, words
    if page.name in WHAT_THEY_SAY:
        WHAT_THEY_SAY[page.name](names, capsys.readouterr().out)


def write_data(folder: Path, phantoms: Path) -> None:
    """Tables and images under the names that the pages have for them."""
    frame = pd.read_csv(phantoms)
    subject = frame["filename"].str.extract(r"^(\d+)_", expand=False)
    table = pd.DataFrame(
        {
            "file": "images/" + frame["filename"],
            "patient": subject,
            "scene": subject,
            "circumference": frame[TARGET],
            "pixel_mm": frame["pixel size(mm)"],
            "quality": frame[TARGET].rank(pct=True),
        }
    )
    for name in ("scores", "heads", "photos"):
        table.to_csv(folder / f"{name}.csv", index=False)
    table.rename(columns={"file": "image"}).to_csv(folder / "table.csv", index=False)
    other = table.assign(patient="other " + table["patient"])
    other.to_csv(folder / "other_hospital.csv", index=False)
    images = phantoms.parent / "images"
    for name in ("images", "new_images", "folder_or_table", "IMAGES"):
        (folder / name).symlink_to(images)
    shutil.copy(images / frame["filename"][0], folder / "head.png")
    (folder / "runs").mkdir()


def write_columns(folder: Path) -> None:
    """Tables of a number and a category, of which a target is made."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"age": rng.normal(40, 10, 150).round(1), "sex": rng.choice(["f", "m"], 150)}
    )
    table["y"] = table["age"] + 5 * (table["sex"] == "m") + rng.normal(0, 2, 150)
    table.to_csv(folder / "table.csv", index=False)
    table.head(20).drop(columns="y").to_csv(folder / "new.csv", index=False)


def names_of(page: Path) -> dict[str, Any]:
    """What the code of a page takes for granted."""
    if page.name == "tables.md":
        return {"dataframe": pd.read_csv("new.csv")}
    if page.name == "README.md":
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh())
        batches = [(torch.rand(16, 1, 3, 4), torch.rand(16)) for _ in range(3)]
        return {"backbone": backbone, "head": nn.Linear(8, 1), "batches": batches}
    if page.name == "evaluation.md":
        rng = np.random.default_rng(0)
        arrays = {
            name: rng.normal(size=40) for name in ("prediction", "other_prediction", "target")
        }
        return {**arrays, "subject": np.arange(40).astype(str)}
    return {}


def _the_loss_has_gradients(names: dict[str, Any], _: str) -> None:
    for parameter in [*names["backbone"].parameters(), *names["head"].parameters()]:
        assert parameter.grad.abs().sum() > 0
        assert parameter.grad.isfinite().all()
    assert Path("runs/quality/model.safetensors").is_file()


def _recipes_leave_what_they_say(names: dict[str, Any], _: str) -> None:
    _all_are_predicted(names, _)
    said = re.findall(r"^\| ((?:`[^`|]+`(?:, )?)+) \|", prose(ROOT / "docs" / "recipes.md"), re.M)
    files = {name for line in said for name in re.findall("`([^`]+)`", line)}
    assert "model.safetensors" in files
    # Which is there only where an image could not be read.
    for name in files - {"left_out.csv"}:
        assert Path("runs/heads", name).exists(), name
    for name in ("report.html", "summary.md", "summary.tex", "results.csv", "predictions.parquet"):
        assert Path("comparison", name).is_file(), name
    assert Path("runs/heads/suspects/suspects.csv").is_file()


def _all_are_predicted(names: dict[str, Any], _: str) -> None:
    predictions = names["predictions"]
    assert len(predictions) == len(list(Path("images").iterdir()))
    assert predictions["fault"].eq("").all()


def _exported_files_agree(names: dict[str, Any], shown: str) -> None:
    assert f"{TARGET}: {names['value']:.2f}" in shown
    assert names["prediction"].item() == pytest.approx(names["value"], rel=1e-4)


def _srcc_is_shown(_: dict[str, Any], shown: str) -> None:
    assert "SRCC" in shown


def _the_notebook_is_right(names: dict[str, Any], shown: str) -> None:
    assert sorted(path.name for path in Path().iterdir()) == ["comparison", "phantoms", "runs"]
    assert [path.name for path in Path("runs").iterdir()] == ["first"]
    for name in ("runs/first/scatter.png", "runs/first/README.md", "comparison/report.html"):
        assert Path(name).is_file(), name
    assert names["values"].shape == (4, 1)
    assert names["answer"].index.equals(names["new"].index)
    sure = names["sure"]
    assert (sure[f"low {TARGET}"] < sure[TARGET]).all()
    assert (sure[f"high {TARGET}"] > sure[TARGET]).all()
    assert names["distance"][0] == 0
    assert np.isfinite(names["features"]).all()
    assert names["run"].metrics.set_index("metric")["value"]["SRCC"] > 0.6
    assert f"Model of '{TARGET}'" in shown
    assert "resnet10-narrow on 48 x 68 pixels, in grey" in shown
    assert "mm fine_grained" in shown
    assert "--epoch" in shown


WHAT_THEY_SAY = {
    "README.md": _the_loss_has_gradients,
    "recipes.md": _recipes_leave_what_they_say,
    "models.md": _all_are_predicted,
    "export.md": _exported_files_agree,
    "evaluation.md": _srcc_is_shown,
    "notebook.md": _the_notebook_is_right,
}
"""What is true when a page has run, by what its code has named and shown."""


def accept(words: list[str]) -> None:
    """Fails where a command is none, or has a flag or a file that there is not."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "finecorr":
        _accept_ours(rest)
    elif program in ("torchrun", "srun"):
        _accept_ours(rest[rest.index("finecorr") + 1 :])
    elif program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text(), words
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert rest[0] == "install"
        for extra in re.findall(r"[\w-]+(?=[\],])", "".join(re.findall(r"\[.*?\]", rest[1]))):
            assert extra in project["optional-dependencies"], words
    elif program == "python" and rest[:2] == ["-m", "pytest"]:
        assert all((ROOT / path).exists() for path in rest[2:]), words
    elif program == "python":
        script = (ROOT / rest[0]).read_text()
        for flag in (word for word in rest[1:] if word.startswith("--")):
            assert f'"{flag}"' in script, f"{rest[0]} has no {flag}"
    else:
        pytest.fail(f"nothing here knows what {' '.join(words)!r} is: is it a command?")


def _accept_ours(words: list[str]) -> None:
    command, calls = parsed(words)
    kinds = {"train": TRAIN_OPTIONS, "check": CHECK_OPTIONS, "compare": COMPARE_OPTIONS}
    for options in calls:
        if command == "compare":
            options.losses = [name for names in options.losses for name in names.split(",")]
            assert {name.partition("@")[0] for name in options.losses} <= {*losses.available()}
        for kind in kinds.get(command, ()):
            build(kind, options)


@pytest.mark.parametrize(
    "command",
    [
        "finecorr train scores.csv --out run --epoch 3",
        "finecorr train scores.csv --out run --epochs many",
        "finecorr compare scores.csv --out run --losses mse,fine_graind",
        "finecor losses",
        "make demonstration",
        'pip install ".[application]"',
        "python benchmarks/report.py results --pages docs/results.md",
        "python -m pytest tests/test_nothing.py",
        "torchrun --nproc-per-node 2 -m finecorr train scores.csv --out run --device 4",
    ],
)
def test_a_wrong_command_is_not_accepted(command: str) -> None:
    (words,) = Block("bash", command).commands()
    with pytest.raises((AssertionError, InputError, pytest.fail.Exception)):
        accept(words)


@page
def test_text_is_no_command(page: Path) -> None:
    """So that no command escapes by its name."""
    words = ("finecorr", "pip", "make", "python", "torchrun", "srun", "$", "import", "from")
    for block in blocks(page):
        if block.language == "text":
            for line in block.text.splitlines():
                assert not line.startswith(tuple(f"{word} " for word in words)), line


_OTHERS = {"--preset", "--nproc-per-node", "--ntasks-per-node"}
"""Flags that no parser of ours has: one that is expanded before, and those of other programs."""


@page
def test_flags_in_the_text_are_there(page: Path) -> None:
    ours = {
        flag
        for _, made in COMMANDS.values()
        for action in made()._actions
        for flag in action.option_strings
    }
    shown = {
        flag
        for code in re.findall(r"`([^`\n]+)`", prose(page))
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }
    scripts = "".join(script.read_text() for script in (ROOT / "benchmarks").glob("*.py"))
    assert [flag for flag in shown - ours - _OTHERS if f'"{flag}"' not in scripts] == []


@page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        if path.startswith("gallery/"):
            assert Path(path).stem in GALLERY  # which are made with the site
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_the_check_of_hc18_shows_what_its_page_says(
    hc18: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (b for b in blocks(ROOT / "docs" / "check.md") if b.language == "console")
    command, _, expected = block.text.partition("\n")
    words = command.removeprefix("$ finecorr ").replace("DIR", str(hc18)).split()
    assert main(words) == 0
    assert capsys.readouterr().out.replace(str(hc18), "DIR").rstrip() == expected.rstrip()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


@pytest.mark.parametrize(
    ("folder", "pages"),
    [("results", ["README.md", "docs/results.md"]), ("results/earlier", ["docs/trials.md"])],
)
def test_the_tables_are_those_of_the_results(folder: str, pages: list[str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / folder, tmp_path / "results")
    copies = [Path(shutil.copy(ROOT / name, tmp_path)) for name in pages]
    # As where a page has been left behind.
    for copy in copies:
        tables = r"(<!-- [\w-]+ -->\n).*?(<!-- / -->)"
        copy.write_text(re.sub(tables, r"\1\2", copy.read_text(), flags=re.DOTALL))
    flags = [text for copy in copies for text in ("--page", str(copy))]
    script = ROOT / "benchmarks" / "report.py"
    subprocess.run([sys.executable, script, tmp_path / "results", *flags], check=True)
    for name, copy in zip(pages, copies, strict=True):
        assert "| fine_grained | 0.9" in copy.read_text() or name == "README.md"
        assert copy.read_text() == (ROOT / name).read_text()


def test_tables_of_a_task_alone(tmp_path: Path) -> None:
    """As `results.py --tasks circumference` leaves it, without the losses of other papers."""
    shutil.copy(ROOT / "docs" / "results" / "circumference.csv", tmp_path)
    script = ROOT / "benchmarks" / "report.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    assert "| fine_grained | 0.9" in (tmp_path / "tables.md").read_text()
