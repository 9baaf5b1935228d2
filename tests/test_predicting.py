"""Predictions are a stream: what cannot be read is said, and what stopped goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dicom_files import write_dicom
from finecorr.cli import main
from finecorr.data import decoding
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.partial import Partial
from finecorr.data.pictures import Picture
from finecorr.models import streaming
from finecorr.models.regressor import Architecture, Regressor
from finecorr.models.streaming import ROWS, Member, Row, outcomes
from finecorr.trained import bundle

TARGET = "head circumference (mm)"
SIZE = "pixel size(mm)"
FAULTS = {
    "torn.png": "cannot be read as an image",
    "absent.png": "is not there",
    "large.png": "more than --max-megapixels 100 allows",
    "pages.tiff": "has 3 frames: say which with --frame-column",
}


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("error: ") == 1
    return error.partition("error: ")[2].strip()


def _text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    """A table and its images, in one folder."""
    folder = tmp_path / "data"
    shutil.copytree(phantoms.parent / "images", folder)
    shutil.copy(phantoms, folder / "table.csv")
    return folder / "table.csv"


@pytest.fixture
def whole(run: Path, data: Path, tmp_path: Path) -> Path:
    """What a call that nothing stops writes."""
    out = tmp_path / "whole.csv"
    assert main(["predict", str(run), str(data), "--out", str(out)]) == 0
    return out


# What is predicted


def test_the_same_as_in_an_evaluation(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    assert main(["evaluate", str(run), str(data), "--all-rows", "--out", str(out)]) == 0
    evaluated = pd.read_csv(out / "predictions.csv")
    predicted = pd.read_csv(whole)
    assert list(predicted.columns) == ["image", TARGET, "novel", "fault"]
    assert predicted["image"].tolist() == evaluated["image"].tolist()
    expected = evaluated[f"predicted {TARGET}"]
    np.testing.assert_allclose(predicted[TARGET], expected, rtol=1e-6)


def _with_faults(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that cannot be read, among the others; the last of them has no size of its pixels."""
    (folder / "torn.png").write_bytes((folder / str(frame["filename"][0])).read_bytes()[:300])
    Image.new("1", (20_000, 6000)).save(folder / "large.png")
    pages = [Image.new("L", (64, 64), level) for level in (1, 2, 3)]
    pages[0].save(folder / "pages.tiff", save_all=True, append_images=pages[1:])
    parts = []
    for place, name in enumerate(FAULTS):
        parts += [frame[place * 20 : place * 20 + 20], frame[:1].assign(filename=name)]
    return pd.concat([*parts, frame[80:], frame[:1]], ignore_index=True)


def test_what_cannot_be_read_is_said_of_its_row(
    run: Path, data: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = _with_faults(data.parent, pd.read_csv(data))
    frame.to_csv(data.parent / "faults.csv", index=False)
    out = tmp_path / "faults.out.csv"
    flags = ["predict", str(run), str(data.parent / "faults.csv"), "--out", str(out)]
    assert main(flags) == 0
    shown = capsys.readouterr().out
    assert f"{len(frame) - 4} predictions written to {out}" in shown
    assert "rows without one: 4; the column fault says why" in shown
    found = _text(out).set_index("image")
    for name, words in FAULTS.items():
        assert words in found["fault"][name], name
        assert str(data.parent / name) in found["fault"][name]
        assert found[TARGET][name] == found["novel"][name] == ""
    # The others are as if these were not there, but for the rounding of other batches.
    others = pd.read_csv(out)[~found.index.isin(FAULTS)][:-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, pd.read_csv(whole), rtol=1e-6, check_dtype=False)


def test_a_row_without_a_pixel_size(
    run: Path, data: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(data)
    # The files of two of them say their own, which the table has of one.
    for row in (3, 4):
        path = data.parent / str(frame["filename"][row])
        size = [f"{frame[SIZE][row]:.12g}"] * 2
        dicom = write_dicom(
            path.with_suffix(".dcm"), np.asarray(Image.open(path)), PixelSpacing=size
        )
        frame.loc[row, "filename"] = dicom.name
    frame.loc[[4, 5], SIZE] = np.nan
    frame.to_csv(data, index=False)
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(data), "--out", str(out)]) == 0
    found, expected = _text(out), pd.read_csv(whole)[TARGET]
    assert found["fault"][5].endswith("has no pixel size")
    assert (found["fault"].drop(index=5) == "").all()
    np.testing.assert_allclose(
        found[TARGET].drop(index=5).astype(float), expected.drop(index=5), rtol=1e-6
    )


def test_nothing_can_be_read(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(data)
    frame["filename"] = [f"{i}.png" for i in range(len(frame))]
    frame.to_csv(data, index=False)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(data), "--out", str(out)]) == 2
    message = _said(capsys)
    assert f"{data.parent / '0.png'} is not there" in message
    assert f"none of its {len(frame)} rows can be predicted for" in message
    assert message.endswith(f"  and {len(frame) - 20} more")
    assert len(message.splitlines()) == 22
    assert sorted(tmp_path.rglob("*")) == before


# Where it goes


def test_a_file_is_replaced_only_if_told(
    run: Path, data: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = whole.read_bytes()
    flags = ["predict", str(run), str(data), "--out", str(whole)]
    assert main(flags) == 2
    assert "is there already: choose another name, or use --overwrite" in _said(capsys)
    whole.write_text("mine")
    assert main(flags) == 2
    assert whole.read_text() == "mine"
    assert main([*flags, "--overwrite"]) == 0
    assert whole.read_bytes() == content


def test_a_link_stays_one(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(Path("far") / "real.csv")
    flags = ["predict", str(run), str(data), "--out", str(link)]
    assert main(flags) == 0
    assert main([*flags, "--overwrite"]) == 0
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["real.csv"]
    assert link.read_bytes() == whole.read_bytes()


def test_a_device_stays_one(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("/dev/null").stat()
    assert main(["predict", str(run), str(data), "--out", "/dev/null"]) == 0
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_rdev) == (before.st_mode, before.st_rdev)
    assert not Path("/dev/null.partial").exists()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "predictions written to /dev/null" in shown.err


def test_a_device_that_is_full(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), "--out", "/dev/full"]) == 2
    assert _said(capsys) == "/dev/full: no space left on device: make room on the disk"


def test_names_with_a_nul(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    text = data.read_bytes()
    name = str(pd.read_csv(data)["filename"][1]).encode()
    data.write_bytes(text.replace(name, b"a\0b.png"))
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(data), "--out", str(out)]) == 0
    found = _text(out)
    assert found["fault"][1] != ""
    assert (found["fault"].drop(index=1) == "").all()
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    lines = config.read_text().splitlines()
    lines = [line for line in lines if not line.startswith("image_root")]
    config.write_text("\n".join([*lines, 'image_root: "a\\0b"']))
    assert main(["predict", str(tmp_path / "run"), "--out", str(tmp_path / "b.csv")]) == 2


@pytest.mark.parametrize("flags", [[], ["--predict-per", "subject"]])
def test_a_pipe_gets_the_rows(run: Path, data: Path, tmp_path: Path, flags: list[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(data), "--out", str(pipe), *flags]) == 0
    reader.join(timeout=300)
    assert pipe.is_fifo()
    assert main(["predict", str(run), str(data), "--out", str(out), *flags]) == 0
    assert got[0] == out.read_bytes()


# What stopped


def _stop_after(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Ctrl-C when so many parts are written."""
    add, left = Partial.add, [parts]

    def stopping(self: Partial, frame: pd.DataFrame) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        add(self, frame)

    monkeypatch.setattr(Partial, "add", stopping)


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_an_interrupted_call_goes_on(
    parts: int,
    run: Path,
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.csv"
    flags = ["predict", str(run), str(data), "--out", str(out)]
    _stop_after(monkeypatch, parts)
    assert main(flags) == 130
    assert "interrupted; the same command goes on from here" in capsys.readouterr().err
    monkeypatch.undo()
    left = tmp_path / "out.csv.partial"
    assert left.exists() == (parts > 0)
    assert not out.exists()
    computed: list[int] = []
    add = Partial.add

    def counted(self: Partial, frame: pd.DataFrame) -> None:
        computed.append(len(frame))
        add(self, frame)

    monkeypatch.setattr(Partial, "add", counted)
    assert main(flags) == 0
    assert sum(computed) == len(pd.read_csv(data)) - parts * ROWS
    assert out.read_bytes() == whole.read_bytes()
    assert not left.exists()
    assert f"{len(pd.read_csv(data))} predictions written" in capsys.readouterr().out


@pytest.fixture
def odd(data: Path) -> Path:
    """A table whose names have all that ends a row or a cell, and some of it ends a part."""
    frame = pd.read_csv(data)
    names = ['a\n"b".png', "c,d.png", "e\rf.png", "\n.png", '".png', "g\r\nh.png", '""\n""\n,.png']
    for i in range(0, len(frame), 3):
        name = f"{i}{names[i // 3 % len(names)]}"
        (data.parent / str(frame["filename"][i])).rename(data.parent / name)
        frame.loc[i, "filename"] = name
    frame["filename"] = frame["filename"].map(
        lambda name: f'"{str(name).replace(chr(34), chr(34) * 2)}"'
    )
    with data.open("w", newline="") as file:
        file.write(",".join(frame.columns) + "\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in frame.itertuples(index=False))
    return data


def test_a_call_that_was_killed_anywhere_goes_on(
    run: Path, odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    flags = ["predict", str(run), str(odd), "--out", str(out)]
    assert main(flags) == 0
    expected = out.read_bytes()
    out.unlink()
    _stop_after(monkeypatch, 3)
    assert main(flags) == 130
    monkeypatch.undo()
    left = tmp_path / "out.csv.partial"
    content = left.read_bytes()
    first = content.index(b"\n") + 1
    assert expected.startswith(content[first:])
    ends = [first - 3, first, first + 1, first + 20, len(content) - 1, len(content)]
    # Within cells, and between what looks like the end of a row and is none.
    ends += [content.index(mark, len(content) // 2) + 1 for mark in (b"\n", b"\r", b'""', b",")]
    for end in ends:
        out.unlink(missing_ok=True)
        left.write_bytes(content[:end])
        assert main([*flags, *(["--overwrite"] if end < first else [])]) == 0, end
        assert out.read_bytes() == expected, end


def test_a_process_that_is_interrupted_goes_on(
    run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    flags = ["predict", str(run), str(data), "--out", str(out)]
    # It waits for the signal where it would write the second part.
    code = (
        "import sys, time; from finecorr.data.partial import Partial; add = Partial.add\n"
        "def waiting(self, frame):\n"
        "    if self.rows: time.sleep(600)\n"
        "    add(self, frame)\n"
        "Partial.add = waiting\n"
        "from finecorr.__main__ import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *flags],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    left = tmp_path / "out.csv.partial"
    deadline = time.monotonic() + 300
    while not left.exists() or left.stat().st_size < 200:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "the same command goes on from here" in error
    assert "Traceback" not in error
    assert main(flags) == 0
    assert out.read_bytes() == whole.read_bytes()


def _renamed(run: Path, data: Path) -> list[str]:
    frame = pd.read_csv(data)
    frame.loc[0, "filename"] = f"./{frame['filename'][0]}"
    frame.to_csv(data, index=False)
    return []


def _other_sizes(run: Path, data: Path) -> list[str]:
    frame = pd.read_csv(data)
    frame[SIZE] *= 1.5
    frame.to_csv(data, index=False)
    return []


def _other_model(run: Path, data: Path) -> list[str]:
    model = bundle.load(run)
    model.regressor.intercept.add_(0.25)
    bundle.save(model, run)
    return []


def _other_image(run: Path, data: Path) -> list[str]:
    first, second = (data.parent / name for name in pd.read_csv(data)["filename"][:2])
    shutil.copyfile(second, first)
    return []


OTHER: dict[str, Callable[[Path, Path], list[str]]] = {
    "an interval": lambda run, data: ["--interval", "0.5"],
    "several versions": lambda run, data: ["--tta", "2"],
    "one pixel size": lambda run, data: ["--pixel-size", "0.3"],
    "a frame of all": lambda run, data: ["--all-frames"],
    "an ensemble": lambda run, data: ["--ensemble", str(run)],
    "fewer rows": lambda run, data: _fewer(data),
    "a name in another spelling": _renamed,
    "other sizes": _other_sizes,
    "another model": _other_model,
    "an image that is mended": _other_image,
}


def _fewer(data: Path) -> list[str]:
    pd.read_csv(data)[:-1].to_csv(data, index=False)
    return []


@pytest.mark.parametrize("name", OTHER)
def test_another_call_does_not_go_on_with_it(
    name: str,
    run: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    pd.read_csv(data)[: ROWS + 8].to_csv(data, index=False)
    out, left = tmp_path / "out.csv", tmp_path / "out.csv.partial"
    flags = ["predict", str(run), str(data), "--out", str(out)]
    _stop_after(monkeypatch, 1)
    assert main(flags) == 130
    monkeypatch.undo()
    capsys.readouterr()
    content = left.read_bytes()
    more = OTHER[name](run, data)
    assert main([*flags, *more]) == 2
    assert "is what another command, or one with other images, has begun" in _said(capsys)
    assert left.read_bytes() == content
    assert main([*flags, *more, "--overwrite"]) == 0
    assert main([*flags[:-1], str(tmp_path / "afresh.csv"), *more]) == 0
    assert out.read_bytes() == (tmp_path / "afresh.csv").read_bytes()


# How sure it is


def _small_run(folder: Path, phantom_flags: list[str], *flags: str) -> Path:
    given = ["train", *phantom_flags, "--network", "own_networks:without_batch_statistics"]
    given += ["--image-size", "40", "56", "--epochs", "1", *flags, "--out", str(folder / "small")]
    assert main(given) == 0
    return folder / "small"


def test_an_interval_is_around_its_prediction(
    run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    widths = {}
    for level in ("0.5", "0.9"):
        out = tmp_path / f"{level}.csv"
        flags = ["predict", str(run), str(data), "--interval", level, "--out", str(out)]
        assert main(flags) == 0
        found = pd.read_csv(out)
        assert list(found)[1:4] == [TARGET, f"low {TARGET}", f"high {TARGET}"]
        pd.testing.assert_series_equal(found[TARGET], pd.read_csv(whole)[TARGET])
        above, below = (
            found[f"high {TARGET}"] - found[TARGET],
            found[TARGET] - found[f"low {TARGET}"],
        )
        np.testing.assert_allclose(above, below, rtol=1e-9)
        widths[level] = above.mean()
        np.testing.assert_allclose(above, widths[level], rtol=1e-9)
    assert 0 < widths["0.5"] < widths["0.9"]


def test_an_interval_holds_as_many_errors_of_validation_as_it_says(
    run: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(data), "--interval", "0.75", "--out", str(out)]) == 0
    found = pd.read_csv(out)
    splits = pd.read_csv(run / "splits.csv")
    inside = pd.read_csv(data)[TARGET].between(found[f"low {TARGET}"], found[f"high {TARGET}"])
    chosen = splits["split"] == "validation"
    share = inside[chosen].groupby(splits["group"][chosen]).mean().mean()
    assert 0.75 <= share < 1


def test_an_interval_needs_validation_subjects(
    run: Path,
    phantom_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ["--out", str(tmp_path / "out.csv")]
    subjects = bundle.load(run).validation.rows[0]
    assert subjects is not None
    assert main(["predict", str(run), "--interval", "0.999", *out]) == 2
    words = f"--interval 0.999 needs 999 validation subjects, and the model has {subjects.subjects}"
    assert _said(capsys) == words
    small = _small_run(tmp_path, phantom_flags, "--split-fractions", "0.8", "0", "0.2")
    capsys.readouterr()
    assert main(["predict", str(small), "--interval", "0.9", *out]) == 2
    assert "the model has no validation subjects for 'head circumference (mm)'" in _said(capsys)
    assert not (tmp_path / "out.csv").exists()


def test_versions_of_an_image(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    pd.read_csv(data)[:20].to_csv(data, index=False)
    for name in ("a.csv", "b.csv"):
        flags = ["predict", str(run), str(data), "--tta", "4", "--out", str(tmp_path / name)]
        assert main(flags) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    found = pd.read_csv(tmp_path / "a.csv")
    assert list(found) == ["image", TARGET, f"sd {TARGET}", "novel", "fault"]
    assert (found[f"sd {TARGET}"] > 0).all()
    alone = pd.read_csv(whole)[TARGET][:20]
    assert (found[TARGET] != alone).all()
    assert np.corrcoef(found[TARGET], alone)[0, 1] > 0.9


def test_versions_of_an_image_that_nothing_varies(
    phantom_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = [f"--{name}=0" for name in ("flip", "rotation", "shift", "zoom", "gain", "gamma")]
    small = _small_run(tmp_path, phantom_flags, *still)
    capsys.readouterr()
    assert main(["predict", str(small), "--tta", "4", "--out", str(tmp_path / "out.csv")]) == 2
    assert "all versions of an image would be the same" in _said(capsys)


def test_an_ensemble_is_the_mean_of_its_models(
    run: Path, data: Path, whole: Path, phantom_flags: list[str], tmp_path: Path
) -> None:
    """They may see images in other sizes."""
    small = _small_run(tmp_path, phantom_flags)
    alone, both = tmp_path / "alone.csv", tmp_path / "both.csv"
    assert main(["predict", str(small), str(data), "--out", str(alone)]) == 0
    flags = ["predict", str(run), str(data), "--ensemble", str(small), "--out", str(both)]
    assert main(flags) == 0
    members = pd.concat([pd.read_csv(path)[TARGET] for path in (whole, alone)], axis=1)
    found = pd.read_csv(both)
    np.testing.assert_allclose(found[TARGET], members.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[f"sd {TARGET}"], members.std(axis=1, ddof=1), rtol=1e-5)


def test_an_ensemble_is_of_the_same_targets(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = TableOptions(Path("t.csv"), target_columns=("age",))
    architecture = Architecture("own_networks:without_batch_statistics", 1, (48, 68), 1)
    other = bundle.Bundle(Regressor(architecture), table, ImageOptions(image_size=(48, 68)))
    bundle.save(other, tmp_path)
    flags = ["--ensemble", str(tmp_path), "--out", str(tmp_path / "out.csv")]
    assert main(["predict", str(run), *flags]) == 2
    assert "a model of ['age'] does not predict the same as one of ['head circ" in _said(capsys)
    table = replace(bundle.load(run).table, units=("cm",))
    bundle.save(replace(bundle.load(run), table=table), tmp_path)
    assert main(["predict", str(run), *flags]) == 2
    assert "in cm does not predict the same as one in mm" in _said(capsys)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--interval", "0.9", "--tta", "2"], "--interval knows the errors of one model without"),
        (["--interval", "0.9", "--ensemble", "@"], "--interval knows the errors of one model"),
        (["--predict-per", "subject", "--tta", "2"], "leave out --predict-per subject"),
        (["--predict-per", "subject", "--ensemble", "@"], "leave out --predict-per subject"),
        (["--interval", "1"], "--interval must be between 0 and 1, not 1"),
        (["--interval", "90"], "--interval must be between 0 and 1, not 90"),
        (["--tta", "0"], "--tta must be from 1 to 1000, not 0"),
        (["--pixel-size", "0"], "--pixel-size must be positive"),
        (["--pixel-size", "wide"], "--pixel-size"),
        (["--ensemble", "nowhere"], "holds no trained model"),
    ],
)
def test_what_does_not_go_together(
    flags: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(run) if flag == "@" else flag for flag in flags]
    assert main(["predict", str(run), "--out", str(tmp_path / "out.csv"), *given]) == 2
    assert words in _said(capsys)
    assert not list(tmp_path.iterdir())


def test_one_prediction_for_each_subject(
    run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "subjects.csv"
    flags = ["predict", str(run), str(data), "--predict-per", "subject", "--interval", "0.5"]
    assert main([*flags, "--out", str(out)]) == 0
    rows = pd.read_csv(whole)
    rows["group"] = rows["image"].str[:3]
    expected = rows.groupby("group", sort=False)[TARGET].agg(["size", "mean"])
    found = pd.read_csv(out, dtype={"group": str}, keep_default_na=False).set_index("group")
    assert list(found) == ["rows", TARGET, f"low {TARGET}", f"high {TARGET}", "novel", "fault"]
    assert list(found.index) == list(expected.index)
    assert (found["rows"] == expected["size"]).all()
    np.testing.assert_allclose(found[TARGET], expected["mean"], rtol=1e-12)
    middle = (found[f"low {TARGET}"] + found[f"high {TARGET}"]) / 2
    np.testing.assert_allclose(middle, found[TARGET], rtol=1e-9)
    novel = rows.groupby("group", sort=False)["novel"].max()
    assert (found["novel"] == novel).all()
    assert (found["fault"] == "").all()


def test_a_subject_of_which_some_rows_cannot_be_read(
    run: Path,
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = pd.read_csv(whole)
    count = rows["image"].str[:3].value_counts()
    several, alone = count.index[count > 1][0], count.index[count == 1][0]
    torn = [rows["image"][rows["image"].str.startswith(name)].iloc[0] for name in (several, alone)]
    for name in torn:
        (data.parent / name).write_bytes(b"")
    out = tmp_path / "subjects.csv"
    flags = ["predict", str(run), str(data), "--predict-per", "subject", "--out", str(out)]
    _stop_after(monkeypatch, 2)
    assert main(flags) == 130
    monkeypatch.undo()
    assert main(flags) == 0
    assert not (tmp_path / "subjects.csv.partial").exists()
    found = pd.read_csv(out, dtype={"group": str}, keep_default_na=False).set_index("group")
    assert found["fault"][several] == f"1 of {count[several]} rows have no prediction"
    rest = rows[rows["image"].str.startswith(several) & ~rows["image"].isin(torn)]
    assert float(found[TARGET][several]) == pytest.approx(rest[TARGET].mean())
    assert found["fault"][alone] == "1 of 1 rows have no prediction"
    assert found[TARGET][alone] == found["novel"][alone] == ""
    assert (found["fault"] != "").sum() == 2


# Images of another kind


def test_images_of_another_kind_are_marked(
    run: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # One in a hundred, by its definition; and these may be a little unlike for once.
    assert pd.read_csv(whole)["novel"].mean() < 0.06
    folder = tmp_path / "others"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        noise = rng.integers(0, 256, (68, 96), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"noise{i}.png")
        stripes = (np.indices((68, 96)).sum(0) // (2 + i) % 2 * 255).astype(np.uint8)
        Image.fromarray(stripes).save(folder / f"stripes{i}.png")
    photographs = Path(os.environ.get("FINECORR_DATA", "none")) / "biq2021" / "images"
    if photographs.is_dir():
        for path in sorted(photographs.iterdir())[:8]:
            shutil.copy(path, folder / f"photographs_{path.name}")
    out = tmp_path / "out.csv"
    capsys.readouterr()
    flags = ["--pixel-size", "0.5", "--out", str(out)]
    assert main(["predict", str(run), str(folder), *flags]) == 0
    found = pd.read_csv(out)
    for kind, rows in found.groupby(found["image"].str.extract(r"^([a-z]+)")[0]):
        # Of photographs, in grey and so small, a network of a short training marks some.
        assert rows["novel"].mean() >= (0.3 if kind == "photographs" else 0.8), kind
    marked = f"rows unlike those of the training: {found['novel'].sum()}"
    assert marked in capsys.readouterr().out


# The stream itself


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _pictures(count: int) -> list[Picture]:
    rng = np.random.default_rng(0)
    shapes = [(40, 50), (33, 47), (64, 32)]
    return [
        Picture(rng.integers(0, 256, (1, *shapes[i % 3]), dtype=np.uint8), 0, 255)
        for i in range(count)
    ]


def _member(network: str = "resnet10-narrow") -> Member:
    torch.manual_seed(0)
    regressor = Regressor(Architecture(network, 1, (32, 48), 1))
    return Member(regressor, ImageOptions(image_size=(32, 48)), (False,), AugmentationOptions())


@pytest.mark.parametrize("count", [1, 4])
def test_numbers_do_not_depend_on_threads_or_on_what_comes_before(
    count: int, threads: Callable[[int], None]
) -> None:
    member = _member()
    rows = [Row((picture,)) for picture in _pictures(100)]
    threads(1)
    expected = np.stack([found.values for found in outcomes([member], rows, versions=2)])
    threads(count)
    found = list(outcomes([member], iter(rows), versions=2))
    assert torch.get_num_threads() == count
    np.testing.assert_allclose(np.stack([one.values for one in found]), expected, rtol=1e-5)
    later = list(outcomes([member], rows[70:], versions=2))
    np.testing.assert_allclose(np.stack([one.values for one in later]), expected[70:], rtol=1e-5)


def test_a_network_of_ones_own_is_in_one_thread_at_a_time(
    tmp_path: Path, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counted_networks.py").write_text(
        "import time, torch\n"
        "inside, most, calls = 0, 0, 0\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
        "    def forward(self, image):\n"
        "        global inside, most, calls\n"
        "        inside += 1\n"
        "        calls += 1\n"
        "        most = max(most, inside)\n"
        "        time.sleep(0.01)\n"
        "        inside -= 1\n"
        "        return image.mean((2, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    threads(4)
    member = _member("counted_networks:Net")
    assert len(list(outcomes([member], (Row((one,)) for one in _pictures(300))))) == 300
    counted: Any = sys.modules["counted_networks"]
    assert counted.calls >= 10
    assert counted.most == 1


@pytest.mark.parametrize("versions", [1, 8])
def test_memory_does_not_grow_with_the_rows(
    versions: int, monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    """Nor is what is decoded more than a few images, however many there are."""
    alive, most = 0, 0
    look, unpack = decoding.seen, decoding.unpacked

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def counted(image: Any, of: torch.Tensor) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        weakref.finalize(of, gone)
        return image

    def looking(*arguments: Any) -> Any:
        found = look(*arguments)
        return counted(found, found.image)

    def unpacking(image: torch.Tensor) -> torch.Tensor:
        # One that nothing else holds.
        found = unpack(image).clone()
        return counted(found, found)  # type: ignore[no-any-return]

    monkeypatch.setattr(streaming, "seen", looking)
    monkeypatch.setattr(streaming, "unpacked", unpacking)
    monkeypatch.setattr(streaming, "PIXELS_ON_CPU", 8 * 32 * 48)
    threads(2)
    member = _member("own_networks:without_batch_statistics")
    picture = _pictures(1)[0]
    peaks = {}
    for count in (200, 800):
        taken, given = 0, 0

        def rows(count: int = count) -> Iterator[Row]:
            nonlocal taken
            for _ in range(count):
                taken += 1
                yield Row((picture,))

        most = ahead = 0
        for _ in outcomes([member], rows(), versions=versions):
            given += 1
            ahead = max(ahead, taken - given)
        assert given == count
        assert alive == 0
        assert ahead <= 7 * ROWS
        peaks[count] = most
    assert peaks[800] <= 2 * 2 * (8 + 1)


def test_a_stream_that_nobody_reads_to_its_end_stops(threads: Callable[[int], None]) -> None:
    threads(2)
    before = threading.active_count()
    stream: Any = outcomes([_member()], (Row((picture,)) for picture in _pictures(1) * 10_000))
    next(stream)
    stream.close()
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2


def test_one_image_is_enough(run: Path, phantoms: Path, tmp_path: Path) -> None:
    image, out = phantoms.parent / "images" / "000_HC.png", tmp_path / "predictions.csv"
    flags = ["--pixel-size", "1.5", "--out", str(out)]
    assert main(["predict", str(run), str(image), *flags]) == 0
    found = pd.read_csv(out)
    assert found["image"].tolist() == ["000_HC.png"]
    whole = tmp_path / "whole.csv"
    images = str(image.parent)
    assert main(["predict", str(run), images, "--pixel-size", "1.5", "--out", str(whole)]) == 0
    first = pd.read_csv(whole)[TARGET].to_numpy()[:1]
    np.testing.assert_allclose(found[TARGET], first, rtol=1e-6)
