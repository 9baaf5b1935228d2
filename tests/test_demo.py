from __future__ import annotations

from pathlib import Path

import pytest

from finecorr.cli import main
from finecorr.demo import length


def test_the_demo_compares_two_losses_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shorter than the real one, which takes a minute."""
    monkeypatch.setattr(length, "SUBJECTS", 60)
    monkeypatch.setattr(length, "EPOCHS", 2)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    first = capsys.readouterr().out
    assert "mse" in first
    assert "fine_grained" in first
    assert (out / "scatter.png").exists()
    assert (out / "bland_altman.png").exists()
    page = (out / "report.html").read_text()
    assert all(words in page for words in ("mse", "fine_grained", "Learning curves"))
    assert str(out / "report.html") in first

    (out / "notes.txt").write_text("what I saw")
    assert main(["demo", "--out", str(out)]) == 2
    assert main(["demo", "--out", str(out), "--overwrite"]) == 0
    assert capsys.readouterr().out == first
    assert (out / "notes.txt").exists()


def test_the_demo_does_not_touch_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path), "--overwrite"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
