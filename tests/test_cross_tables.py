"""A model on several tables: one row for each, and nothing where one of them is at fault."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from finecorr.cli import main


@pytest.fixture
def tables(phantoms: Path, tmp_path: Path) -> list[str]:
    """Halves of the phantoms, as two hospitals have them, under one name."""
    whole = pd.read_csv(phantoms)
    paths = []
    for name, rows in (("north", whole[:40]), ("south", whole[40:])):
        folder = tmp_path / name
        folder.mkdir()
        rows.to_csv(folder / "table.csv", index=False)
        paths.append(str(folder / "table.csv"))
    return paths


def test_each_table_is_a_row(run: Path, phantoms: Path, tables: list[str], tmp_path: Path) -> None:
    out = tmp_path / "cross"
    root = ["--image-root", str(phantoms.parent / "images")]
    flags = ["evaluate", str(run), *tables, *root, "--all-rows", "--mapped", "--out", str(out)]
    assert main(flags) == 0
    found = pd.read_csv(out / "tables.csv").set_index(["table", "metric"])
    assert list(found["images"].groupby("table").first()) == [40, 58]
    for name, path in zip(("north", "south"), tables, strict=True):
        alone = tmp_path / f"alone-{name}"
        given = [path, *root, "--all-rows", "--mapped", "--out", str(alone)]
        assert main(["evaluate", str(run), *given]) == 0
        metrics = pd.read_csv(alone / "metrics.csv").set_index("metric")["value"]
        values = found.xs(f"{name}-table")["value"]
        assert values.to_dict() == pytest.approx(metrics.to_dict())
        assert (out / f"{name}-table" / "report.html").exists()
    summary = (out / "tables.md").read_text()
    assert summary.count("\n") == 4
    assert "PLCC mapped" in summary
    assert main(flags) == 2
    notes = out / "north-table" / "notes.txt"
    notes.write_text("somebody's own")
    assert main([*flags, "--overwrite"]) == 0
    assert notes.exists()


def test_a_fault_in_one_leaves_nothing(
    run: Path, phantoms: Path, tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cross"
    root = ["--image-root", str(phantoms.parent / "images"), "--all-rows"]
    assert main(["evaluate", str(run), tables[0], "absent.csv", *root, "--out", str(out)]) == 2
    assert "no table" in capsys.readouterr().err
    assert not out.exists()
    assert main(["evaluate", str(run), tables[0], tables[0], *root, "--out", str(out)]) == 2
    assert "north/table.csv is given twice" in capsys.readouterr().err


def test_several_presets(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    presets = ["--preset", "hc18", "one", "--preset", "hc18", "two"]
    assert main(["train", *presets, "--out", str(tmp_path / "run")]) == 2
    assert "evaluate alone takes several" in capsys.readouterr().err
    assert main(["evaluate", str(run), *presets, "--out", str(tmp_path / "cross")]) == 2
    assert "one/training_set_pixel_size_and_HC.csv" in capsys.readouterr().err
