"""From the folders of runs to the page."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import PHANTOM_FLAGS
from finecorr.data.image_options import ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.table import read_table
from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.report import trainings

TARGET = PHANTOM_FLAGS[3]


@pytest.mark.parametrize(
    ("column", "name", "unit"),
    [
        ("head circumference (mm)", "head circumference", "mm"),
        ("ejection fraction [%]", "ejection fraction", "%"),
        ("quality", "quality", None),
        ("score (higher is better)", "score (higher is better)", None),
    ],
)
def test_the_unit_is_that_of_the_column(
    column: str, name: str, unit: str | None, phantoms: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(phantoms).rename(columns={TARGET: column}).head(12)
    frame.to_csv(tmp_path / "table.csv", index=False)
    page = written(tmp_path / "table.csv", phantoms, column, [], tmp_path)
    target = json.loads(data(page))["targets"][0]
    assert (target["name"], target["unit"]) == (name, unit or "")


def test_labels_that_most_epochs_of_all_runs_set_aside(phantoms: Path, tmp_path: Path) -> None:
    """A label that was replaced is another label."""
    counts = {
        "a": [(2, 100.0, 20), (3, 110.0, 15), (4, 120.0, 20)],
        "b": [(2, 100.0, 0), (3, 110.0, 16), (4, 90.0, 0)],
    }
    for name, rows in counts.items():
        (tmp_path / name).mkdir()
        frame = pd.DataFrame(rows, columns=["row", "label", "set_aside"])
        frame.assign(target=TARGET, epochs=20).to_csv(tmp_path / name / "outliers.csv", index=False)
    (tmp_path / "c").mkdir()  # of a loss that sets none aside
    page = written(phantoms, phantoms, TARGET, [tmp_path / name for name in "abc"], tmp_path)
    gallery = page.split("Set aside in training")[1]
    shown = re.findall(r"label (.*?) mm</span>\s*<span>in (.*?) epochs", gallery)
    assert shown == [("120", "20 of 20"), ("110", "31 of 40")]


def test_thumbnails_of_large_images_in_colour(tmp_path: Path) -> None:
    """As the network sees them: whole, of their own sizes, each channel where it was."""
    colours = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (128, 128, 128)]
    for name, colour in enumerate(colours):
        Image.new("RGB", (2400 - 400 * name, 1200), colour).save(tmp_path / f"{name}.png")
    frame = pd.DataFrame({"image": [f"{name}.png" for name in range(4)], "score": range(4)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    table = read_table(TableOptions(tmp_path / "table.csv", target_columns=("score",)))
    metrics = pd.DataFrame(columns=["loss", "metric", "value", "low", "high", "p"])
    for rgb in (True, False):
        images = ImageOptions(view="crops", intensity=("type",), rgb=rgb)
        predictor = trainings.Candidate("mse", table.targets, [])
        findings = {"score": trainings.Result(metrics)}
        path = tmp_path / "report.html"
        trainings.write_page(path, "Title", table, images, [predictor], findings, {}, quality=True)
        shown = json.loads(data(path.read_text()))["thumbnails"]
        for name, colour in enumerate(colours):
            file = base64.b64decode(shown[str(name)].removeprefix("data:image/webp;base64,"))
            assert len(file) < 1000
            with Image.open(BytesIO(file)) as picture:
                assert picture.size == (112, round(112 * 1200 / (2400 - 400 * name)))
                pixel = np.asarray(picture.convert("RGB"), dtype=float)[20, 20]
            grey = [np.dot(colour, (0.299, 0.587, 0.114))] * 3
            np.testing.assert_allclose(pixel, colour if rgb else grey, atol=20)


def written(table: Path, phantoms: Path, column: str, runs: list[Path], out: Path) -> str:
    options = TableOptions(
        table,
        phantoms.parent / "images",
        image_columns=("filename",),
        target_columns=(column,),
        group_pattern=r"^(\d+)_",
    )
    rows = read_table(options)
    truth = rows.targets[:, 0]
    prediction = truth + np.sin(np.arange(len(truth)))
    prediction[:3] = np.nan
    known = np.isfinite(prediction)
    metrics = agreement_with_intervals(
        prediction[known], truth[known], rows.groups[known], resamples=50
    )
    path = out / "report.html"
    trainings.write_page(
        path,
        "Title",
        rows,
        ImageOptions(image_size=(48, 68)),
        [trainings.Candidate("huber", prediction[:, None], runs)],
        {column: trainings.Result(metrics.assign(loss="huber", p=np.nan))},
        {},
    )
    return path.read_text()


def data(page: str) -> str:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return str(found)
