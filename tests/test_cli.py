"""A user's mistakes: one clear message, exit code 2, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from conftest import PHANTOM_FLAGS
from finecorr import losses
from finecorr.cli import main
from finecorr.flags import COMMANDS


def _exit_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    """A folder with `table.csv` and `images` to spoil."""
    folder = tmp_path / "data"
    shutil.copytree(phantoms.parent, folder)
    return folder


def _spoil(data: Path, kind: str) -> list[str]:
    """Makes one mistake in the data, and returns the flags that go with it."""
    frame = pd.read_csv(data / "table.csv").astype({"head circumference (mm)": object})
    target = "head circumference (mm)"
    flags: list[str] = []
    match kind:
        case "missing table":
            (data / "table.csv").unlink()
            return flags
        case "missing column":
            flags = ["--weight-column", "pixel siez(mm)"]
        case "missing image":
            for name in frame["filename"][3:5]:
                (data / "images" / name).unlink()
        case "unreadable image":
            for name in frame["filename"][3:5]:
                (data / "images" / name).write_bytes(b"no image")
        case "non-numeric target":
            frame.loc[[1, 5], target] = "large"
        case "all-NaN target":
            frame[target] = None
        case "constant target":
            frame[target] = 100
        case "subject in two splits":
            frame["part"] = ["train", "test"] * (len(frame) // 2) + ["train"] * (len(frame) % 2)
            flags = ["--split-column", "part"]
        case "too few rows":
            frame = frame.head(3)
        case "unknown loss":
            flags = ["--loss", "fine_graind"]
        case "unknown loss option":
            flags = ["--loss", "mse", "--loss-options.delta", "2"]
        case "loss option out of range":
            flags = ["--loss-options.temperature", "-1"]
        case "unknown network":
            flags = ["--network", "resnet81"]
        case "unknown flag":
            flags = ["--epoch-count", "3"]
        case "wrong number":
            flags = ["--epochs", "0"]
        case "small image":
            flags = ["--image-size", "0", "96"]
        case "large shift":
            flags = ["--shift", "3"]
        case "unknown preset":
            flags = ["--preset", "hc19", "nowhere"]
    frame.to_csv(data / "table.csv", index=False)
    return flags


MISTAKES = {
    "missing table": ["no table"],
    "missing column": ["no column 'pixel siez(mm)' for --weight-column", "'pixel size(mm)'"],
    "missing image": ["2 faults", "row 5: no image", "row 6: no image"],
    "unreadable image": ["2 faults", "row 5: ", "row 6: ", "cannot be read"],
    "non-numeric target": ["2 faults", "row 3: ", "row 7: ", "'large', not a number"],
    "all-NaN target": ["has no value at all"],
    "constant target": ["is 100 in every row"],
    "subject in two splits": ["subjects in more than one split", "(test, train)", "the same split"],
    "too few rows": ["too few rows for a split"],
    "unknown loss": ["unknown loss 'fine_graind' (did you mean fine_grained?)", "robust_pearson"],
    "unknown loss option": ["--loss mse", "delta"],
    "loss option out of range": ["temperature"],
    "unknown network": ["unknown network 'resnet81'", "densenet121"],
    "unknown flag": ["--epoch-count"],
    "wrong number": ["--epochs must be from 1"],
    "small image": ["--image-size must be from 32 32 to 8192 8192, not 0 96"],
    "large shift": ["--shift must be in [0, 1], not 3"],
    "unknown preset": ["known names are hc18"],
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_explained_and_nothing_is_written(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = _spoil(data, kind)
    out = tmp_path / "run"
    table = [str(data / "table.csv"), "--image-root", str(data / "images"), *PHANTOM_FLAGS]
    assert _exit_code(["train", *table, *flags, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    for part in MISTAKES[kind]:
        assert part in message
    assert "Traceback" not in message
    assert not out.exists()


def test_a_run_is_not_overwritten_unasked(
    run: Path, phantom_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["train", *phantom_flags, "--out", str(run)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    flags = ["--overwrite", "--out", str(tmp_path / "mine")]
    assert main(["train", *phantom_flags, *flags]) == 2
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_folder_without_a_model(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path), "t.csv", "--out", str(tmp_path / "out")]) == 2
    assert "holds no trained model" in capsys.readouterr().err


def test_no_table_is_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path / "run")]) == 2
    assert "which table?" in capsys.readouterr().err


def test_flags_override_the_configuration_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they stand: a table that is given must not be another in the end."""
    for config in (["--config", str(run / "config.yaml")], [f"--config={run / 'config.yaml'}"]):
        flags = ["--loss", "nonesuch", *config, "--out", str(tmp_path / "x")]
        assert main(["train", "other.csv", *flags]) == 2
        assert "unknown loss 'nonesuch'" in capsys.readouterr().err
        assert main(["train", "other.csv", *config, "--out", str(tmp_path / "x")]) == 2
        assert "no table" in capsys.readouterr().err


def test_print_config_shows_all_flags(
    phantom_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", *phantom_flags, "--out", "run", "--loss", "mse", "--print_config"]
    assert _exit_code(arguments) == 0
    printed = capsys.readouterr().out
    assert "loss: mse" in printed
    assert "corrupt_labels: 0.0" in printed


@pytest.mark.parametrize("command", ["train", "compare"])
def test_folds_count_for_more_than_the_split_of_a_preset(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = [str(tmp_path / "t.csv"), "--split-column", "part"]
    monkeypatch.setattr(
        "finecorr.cli.expand_presets",
        lambda given: [given[0], *made, *given[3:]] if "--preset" in given else given,
    )
    flags = [command, "--preset", "kind", "--print_config", "--out", str(tmp_path / "out")]
    assert _exit_code(flags) == 0
    assert "split_column: part" in capsys.readouterr().out
    assert _exit_code([*flags, "--folds", "3"]) == 0
    printed = capsys.readouterr()
    assert "split_column: null" in printed.out
    assert "the split that comes with the data set is not used" in printed.err
    assert _exit_code([*flags, "--folds=3", "--split-column", "mine"]) == 0
    assert "split_column: mine" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: finecorr ")
    assert "(type:" not in shown
    assert "null" not in shown


def test_help_has_the_flags_in_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert _exit_code(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{title}:\n") for title in ("the table", "the training")]
    assert (
        places[0] < shown.index("--target-columns [") < places[1] < shown.index("--epochs EPOCHS")
    )
    assert "(default: 136 192)" in shown
    assert "weights of the best epoch; 0 for the weights at the end of --epochs (default: 0)" in (
        " ".join(shown.split())
    )
    assert "\n  hc18: HC18, head circumference in mm" in shown


def test_the_losses_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        [name, explanation] for name, explanation in losses.available().items()
    ]


def test_images_are_degraded(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = phantoms.parent / "images", tmp_path / "worse"
    flags = ["--group-pattern", r"^(\d+)_", "--kinds", "blur", "gain", "--at-once", "2"]
    assert main(["degrade", str(images), "--out", str(out), *flags]) == 0
    assert "not a human opinion" in capsys.readouterr().out
    table = pd.read_csv(out / "scores.csv")
    assert len(table) == 5 * len(list(images.iterdir()))
    assert {"blur", "gain", "severity"} < set(table.columns)
    assert main(["degrade", str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    assert "no folder" in capsys.readouterr().err
