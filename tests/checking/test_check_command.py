"""`finecorr check` from its flags to its files and exit code."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import chromium
from checked import COUNT, checked, labels, scenes
from finecorr.cli import main

HOSTILE = """a"b'<c>&d<img src=x onerror="hacked = 1">.png"""


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    return scenes(tmp_path)


def table(folder: Path, names: list[str], **more: Any) -> Path:
    path = folder / "table.csv"
    columns = {"image": names, "target": labels(len(names)), **more}
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_findings_are_no_mistake(
    tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (64, 64)).save(tmp_path / names[2])
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    path = table(tmp_path, names)
    assert main(["check", str(path)]) == 0
    shown = capsys.readouterr()
    assert "! constant image: row 4, picture002.png: all is 0" in shown.out
    assert not shown.err
    after = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == {**before, path: path.read_bytes()}


def test_the_command_of_a_training_is_checked_word_for_word(
    tmp_path: Path, names: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(table(tmp_path, names))
    flags = ["--epochs", "3", "--loss", "mse", "--seed", "4", "--mapped", "--overwrite"]
    out = ["--out", str(tmp_path / "page")]
    assert main(["check", path, "--task", "score", *flags, *out]) == 0
    assert sorted(file.name for file in (tmp_path / "page").iterdir()) == [
        "check.csv",
        "check.html",
    ]
    assert main(["check", "--config", str(run / "config.yaml")]) == 0
    assert "of 80 subjects" in capsys.readouterr().out


REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no label at all": ({"target": [None] * COUNT}, [], "has no value at all"),
    "one label": ({"target": [1.0] * COUNT}, [], "nothing to learn"),
    "labels that are none": (
        {"target": [*labels()[:-2].astype(str), "high", "low"]},
        [],
        "row 41, picture039.png: column 'target' is 'low', not a number",
    ),
    "splits that are none": (
        {"split": [*["train"] * 20, *["best"] * 20]},
        ["--split-column", "split"],
        "column 'split' is 'best'",
    ),
    "two subjects": ({"who": ["a", "b"] * 20}, ["--group-column", "who"], "subject"),
    "negative weights": ({"w": [-1.0] * COUNT}, ["--weight-column", "w"], "at least 0"),
    "no validation": (
        {},
        ["--patience", "3", "--split-fractions", "0.8", "0", "0.2"],
        "--patience needs validation rows",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_train_would_refuse(
    case: str, tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    columns, flags, said = REFUSED[case]
    (tmp_path / names[5]).write_bytes(b"broken")
    path = str(table(tmp_path, names, **columns))
    assert main(["check", path, *flags, "--out", str(tmp_path / "page")]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "picture005.png cannot be read" in shown.err
    assert "Duplicates: nothing found" in shown.out
    assert (tmp_path / "page" / "check.html").is_file()
    assert main(["train", path, *flags, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--target-columns", "absent"], "no column 'absent'"),
        (["--decode", "0"], "--decode must be"),
        (["--image-size", "3", "3"], "--image-size must be"),
        (["--out", "table.csv"], "is a file, not a folder"),
    ],
)
def test_what_cannot_be_looked_at_writes_nothing(
    flags: list[str],
    said: str,
    tmp_path: Path,
    names: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(table(tmp_path, names))
    assert main(["check", path, "--out", "page", *flags]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert not shown.out
    assert not (tmp_path / "page").exists()


def test_all_images_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{i}.png" for i in range(12)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    path = str(table(tmp_path, names))
    assert main(["check", path, "--out", str(tmp_path / "page")]) == 2
    assert "no image could be decoded" in capsys.readouterr().out


def test_the_list_has_a_row_for_each_finding(tmp_path: Path, names: list[str]) -> None:
    for i in range(30):
        Image.new("L", (64, 64), i).save(tmp_path / names[i])
    found = checked(tmp_path, names, {"who": [f"p{i}" for i in range(COUNT)]}, group_column="who")
    page = checked(
        tmp_path,
        names,
        {"who": [f"p{i}" for i in range(COUNT)]},
        group_column="who",
        out=tmp_path / "page",
    )
    listed = pd.read_csv(tmp_path / "page" / "check.csv")
    assert list(listed) == ["kind", "row", "image", "group", "what"]
    constant = listed[listed["kind"] == "constant image"]
    assert len(listed) == len(found.findings) == len(page.findings)
    assert constant["row"].tolist() == list(range(2, 32))
    assert constant["group"].tolist() == [f"p{i}" for i in range(30)]
    assert "18 more are in check.csv" in (tmp_path / "page" / "check.html").read_text()


@pytest.mark.skipif(chromium.BINARY is None, reason="there is no Chromium")
def test_the_page_in_a_browser(tmp_path: Path, names: list[str]) -> None:
    """Whatever images are called; with their pictures, and from no network."""
    (tmp_path / names[6]).rename(tmp_path / HOSTILE)
    names[6] = HOSTILE
    Image.new("L", (64, 64), 9).save(tmp_path / HOSTILE)
    Image.fromarray(np.asarray(Image.open(tmp_path / names[0]))).save(tmp_path / "copy.png")
    checked(tmp_path, [*names, "copy.png"], {}, out=tmp_path / "page")
    page = tmp_path / "page" / "check.html"
    pictures = re.findall(r"data:image/webp;base64,([^\"]+)", page.read_text())
    assert len(pictures) == 3
    assert all(base64.b64decode(picture)[:4] == b"RIFF" for picture in pictures)
    assert page.stat().st_size < 100_000
    errors: list[str] = []
    requests: list[str] = []
    with chromium.launched() as browser:
        opened = browser.new_page(offline=True)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(page.as_uri())
        assert opened.evaluate("typeof hacked") == "undefined"
        assert HOSTILE in opened.inner_text("body")
        assert opened.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        background = "getComputedStyle(document.body).backgroundColor"
        before = opened.evaluate(background)
        opened.click("#theme")
        assert opened.evaluate(background) != before
        assert opened.locator("svg rect").count() > 5
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
