from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

import chromium
from chromium import settle, wait
from finecorr.evaluation.agreement import agreement
from finecorr.report import page
from finecorr.report.contents import Model, Report, Target
from finecorr.report.ends import ends
from finecorr.report.page import write_report
from finecorr.report.thumbnails import SIDE, data_uri, thumbnail
from finecorr.report.verdict import Kind, best_first, number_text, p_text, verdict

HOSTILE = """a"b'<c>&d</script><img src=x onerror="hacked = 1"><!--{{ 7 * 7 }}.png"""
LOSSES = ("fine_grained", "<b>huber</b>", "mse")
NAN = float("nan")


def metrics(metric: str, **losses: tuple[float, float]) -> pd.DataFrame:
    """Value and p of each loss; the intervals are 0.01 to each side."""
    rows = [
        (loss, metric, value, value - 0.01, value + 0.01, p) for loss, (value, p) in losses.items()
    ]
    return pd.DataFrame(rows, columns=["loss", "metric", "value", "low", "high", "p"])


@pytest.mark.parametrize(
    ("table", "headline", "explanation"),
    [
        pytest.param(
            metrics("SRCC", mse=(0.958, 0.0004), ours=(0.981, NAN), huber=(0.96, 0.0123)),
            "ours predicts best.",
            "Its SRCC of 0.981 is 0.021 above that of the next best, huber (0.960). It is better "
            "than each of the 2 other losses by more than chance explains (p ≤ 0.012, corrected "
            "for 2 comparisons).",
            id="clear winner of three",
        ),
        pytest.param(
            metrics("MAE", mse=(5.25, 0.0001), ours=(4.0, NAN)),
            "ours predicts best.",
            "Its MAE of 4.00 mm is 1.25 mm below that of mse (5.25 mm). It is better by "
            "more than chance explains (p < 0.001).",
            id="clear winner of two, by an error",
        ),
        pytest.param(
            metrics("SRCC", a=(0.98, NAN), b=(0.979, 0.31), c=(0.97, 0.05), d=(0.5, 0.04)),
            "a, b and c predict best.",
            "The data cannot tell them apart: a has the highest SRCC, 0.980, but the difference "
            "from b (0.979, p = 0.31) and c (0.970, p = 0.05) may be chance, corrected for 3 "
            "comparisons. The other loss is worse (p = 0.04).",
            id="some are worse",
        ),
        pytest.param(
            metrics("SRCC", a=(0.98, NAN), b=(0.979, 0.31), c=(0.97, 0.05)),
            "The data cannot tell which loss is best.",
            "a has the highest SRCC, 0.980, but the difference from b (0.979, p = 0.31) and c "
            "(0.970, p = 0.05) may be chance, corrected for 2 comparisons.",
            id="cannot tell",
        ),
        pytest.param(
            metrics("MAE", a=(4.0, 1.0), b=(3.0, NAN)),
            "The data cannot tell which loss is best.",
            "b has the lowest MAE, 3.00 mm, but the difference from a (4.00 mm, p = 1) may be "
            "chance.",
            id="cannot tell of two, by an error",
        ),
        pytest.param(
            metrics("SRCC", a=(0.9, NAN), b=(0.8, NAN)),
            "The data cannot tell which loss is best.",
            "a has the highest SRCC, 0.900, but the difference from b (0.800, not tested) may be "
            "chance.",
            id="without a test",
        ),
        pytest.param(
            metrics("SRCC", ours=(0.981, NAN)),
            "ours has SRCC 0.981.",
            "The 95 % interval is 0.971 to 0.991. There is no other loss to compare it with.",
            id="one loss",
        ),
        pytest.param(
            metrics("SRCC", a=(NAN, NAN), b=(0.8, NAN), c=(0.7996, 0.01)),
            "b predicts best.",
            "Its SRCC of 0.800 is less than 0.001 above that of c (0.800). It is better by "
            "more than chance explains (p = 0.01). For a, SRCC is undefined.",
            id="one is undefined",
        ),
        pytest.param(
            metrics("SRCC", a=(NAN, NAN)),
            "SRCC is undefined.",
            "The predictions of at least one training are constant.",
            id="all are undefined",
        ),
        pytest.param(
            metrics("PLCC", a=(0.9, NAN)),
            "There is nothing to compare.",
            "No loss has SRCC.",
            id="no rows",
        ),
    ],
)
def test_verdict(table: pd.DataFrame, headline: str, explanation: str) -> None:
    metric = "MAE" if (table["metric"] == "MAE").all() else "SRCC"
    assert verdict(table, metric, "mm") == (headline, explanation)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": (0.9, NAN)},
        {"a": (0.9, NAN), "b": (0.8, 0.2)},
        {"a": (0.9, NAN), "b": (0.8, 0.01)},
        {"a": (0.9, NAN), "b": (0.8, 0.01), "c": (0.7, 0.01)},
        {"a": (0.9, NAN), "b": (0.8, 0.2), "c": (0.7, 0.01)},
        {"a": (0.9, NAN), "b": (0.8, 0.2), "c": (0.7, 0.01), "d": (0.7, 0.01)},
    ],
)
def test_a_verdict_on_what_are_no_losses(values: dict[str, tuple[float, float]]) -> None:
    table = metrics("SRCC", **values)
    said = " ".join(verdict(table, "SRCC", kind=Kind("view", "views")))
    assert "loss" not in said
    of_losses = " ".join(verdict(table, "SRCC"))
    assert said == of_losses.replace("losses", "views").replace("loss", "view")


def test_of_equal_losses_the_best_is_the_one_that_was_not_tested() -> None:
    table = metrics("SRCC", a=(0.9, 1.0), b=(0.9, NAN), c=(0.95, 0.2), d=(NAN, NAN))
    assert best_first(table, "SRCC")["loss"].tolist() == ["c", "b", "a", "d"]


def test_numbers_as_people_write_them() -> None:
    numbers = [number_text(value) for value in (0.0, 23.04, 999.6, 123456.0, -1.5, 2e7, 0.00001)]
    assert numbers == ["0.00", "23.0", "1000", "123456", "-1.50", "2.00e+07", "1.00e-05"]
    assert [p_text(p) for p in (0.0009, 0.001, 0.046, NAN)] == [
        *("p < 0.001", "p = 0.001", "p = 0.046", "not tested")
    ]


def test_the_ends_of_the_scale() -> None:
    truth = np.array([NAN, 5, 1, 0, 4, 0, 3, 0, 2, 9])
    prediction = np.array([7, 6, 2, 3, 1, 0, 5, 4, 8, NAN])
    highest, lowest = ends(prediction, truth)
    assert highest == ("Highest", [1, 4, 6, 8], [8, 1, 6, 7])
    # Of three that are 0, the two that are predicted lowest are nearest the end.
    assert lowest == ("Lowest", [5, 3, 7, 2], [5, 4, 2, 3])
    assert highest.both == {1, 6, 8}
    assert lowest.both == {5, 2, 3}
    (_, by_truth, by_prediction), _ = ends(np.arange(50.0), -np.arange(50.0))
    assert (by_truth, by_prediction) == ([*range(6)], [*range(49, 43, -1)])
    # Where all are equal, the order of the table would decide which are at an end.
    assert ends(np.zeros(50), np.arange(50.0)) == ends(np.arange(50.0), np.zeros(50)) == []
    assert ends(prediction[8:], truth[8:]) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnail(channels: int) -> None:
    image = np.zeros((channels, 100, 400), dtype=np.float32)
    image[-1, :, 200:] = 1
    with Image.open(BytesIO(thumbnail(image))) as picture:
        assert picture.format == "WEBP"
        assert picture.size == (SIDE, SIDE // 4)
        shown = np.asarray(picture.convert("RGB"), dtype=float)[10]
    assert shown[10].max() < 20
    right = [255, 255, 255] if channels == 1 else [0, 0, 255]
    np.testing.assert_allclose(shown[-10], right, atol=20)


def test_a_thumbnail_is_an_image() -> None:
    assert data_uri(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="JPEG, PNG or WebP"):
        data_uri(b"<svg onload=alert(1)>")


def sample(cases: int = 60, losses: tuple[str, ...] = LOSSES, *, suspects: bool = True) -> Report:
    """Each case has a picture of another grey; case 7 has the largest error of all."""
    rng = np.random.default_rng(0)
    truth = rng.normal(200, 50, cases)
    truth[5] = NAN
    models, tables = [], []
    for i, loss in enumerate(losses):
        prediction = truth + rng.normal(0, 5 + 5 * i, cases)
        prediction[7] += 150
        prediction[11] = NAN
        curve = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.5], "validation": 0.5})
        models.append(Model(loss, prediction, curve))
        known = np.isfinite(prediction)
        values = agreement(prediction[known], truth[known])
        table = pd.DataFrame({"loss": loss, "metric": list(values), "value": list(values.values())})
        p = 0.01 if i else NAN
        tables.append(table.assign(low=table["value"] - 0.1, high=table["value"] + 0.1, p=p))
    found = pd.DataFrame({"case": [9, 3], "prediction": [120.0, 80.0], "score": [5.5, 3.75]})
    aside = pd.DataFrame({"case": 13, "label": [99.5], "set_aside": 12, "epochs": 20})
    target = Target(
        "head <circumference>", "mm", truth, models, pd.concat(tables, ignore_index=True)
    )
    names = [f"{i}.png" for i in range(cases)]
    names[3] = HOSTILE
    return Report(
        f"Title {HOSTILE}",
        pd.DataFrame({"row": np.arange(cases) + 2, "image": names, "group": np.arange(cases) // 2}),
        [dataclasses.replace(target, suspects=found, set_aside=aside) if suspects else target],
        [thumbnail(np.full((1, 20, 30), i / cases)) for i in range(cases)],
        {"Command": f"finecorr compare {HOSTILE}"},
    )


def test_lengths_must_agree_and_nothing_is_written(tmp_path: Path) -> None:
    report = sample()
    with pytest.raises(ValueError, match=r"60 cases, but another number in: thumbnails \(59\)"):
        write_report(dataclasses.replace(report, thumbnails=report.thumbnails[1:]), tmp_path / "r")
    target = dataclasses.replace(report.targets[0], truth=report.targets[0].truth[1:])
    with pytest.raises(ValueError, match="truth of head"):
        write_report(dataclasses.replace(report, targets=[target]), tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_a_case_that_is_its_own_subject_has_no_other_name(tmp_path: Path) -> None:
    report = dataclasses.replace(sample(), subjects_named=False, quality=True)
    write_report(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert '"subject":null' in text
    static, _ = text.split('<script type="application/json"')
    assert re.search(r"\(mm\), \d+ cases</p>", static)
    assert "subject" not in static


def test_the_page_stays_below_15_mb(tmp_path: Path) -> None:
    """With pictures that do not fit, those of the largest errors and of the galleries are kept."""
    noise = np.random.default_rng(0)
    heavy = [b"\xff\xd8\xff" + noise.bytes(400_000) for _ in range(60)]
    write_report(dataclasses.replace(sample(), thumbnails=heavy), tmp_path / "report.html")
    assert 13e6 < (tmp_path / "report.html").stat().st_size < 15e6
    text = (tmp_path / "report.html").read_text()
    assert all(data_uri(heavy[case]) in text for case in (3, 7, 9, 13))
    assert "Pictures of 43 cases with small errors are left out" in text


def test_of_many_cases_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the galleries are among them; the numbers are of all."""
    report = dataclasses.replace(sample(), quality=True)
    write_report(report, tmp_path / "all.html")
    monkeypatch.setattr(page, "_DRAWN", 40)
    write_report(report, tmp_path / "some.html")
    whole, some = ((tmp_path / name).read_text() for name in ("all.html", "some.html"))
    assert "show 40 of 60 cases" in some
    assert "cases show" not in whole
    data, everything = (
        json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)[0])
        for text in (some, whole)
    )
    assert len(data["row"]) == len(data["targets"][0]["truth"]) == 40
    assert data["row"] == sorted(data["row"], key=int)
    for key in ("spread", "name"):
        assert data["targets"][0][key] == everything["targets"][0][key]
    for key in ("limits", "sizes", "agreement"):
        assert data["targets"][0]["models"][1][key] == everything["targets"][0]["models"][1][key]
    places = [int(place) for place in re.findall(r'data-case="(\d+)"', some)]
    before = [int(place) for place in re.findall(r'data-case="(\d+)"', whole)]
    for key in ("row", "image", "subject"):
        assert [data[key][place] for place in places] == [
            everything[key][place] for place in before
        ]
    for place, case in zip(places, before, strict=True):
        assert data["thumbnails"][str(place)] == everything["thumbnails"][str(case)]


def test_galleries_of_labels_that_may_be_wrong(tmp_path: Path) -> None:
    report = sample()
    write_report(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    _, suspects, aside = re.split("Suspected wrong labels|Set aside in training", text)
    assert re.findall(r'data-case="(\d+)"', suspects) == ["9", "3"]
    assert "predicted 120 mm" in suspects
    assert "score 3.75" in suspects
    assert re.findall(r'data-case="(\d+)"', aside) == ["13"]
    assert "label 99.5 mm" in aside
    assert "in 12 of 20 epochs" in aside

    many = pd.DataFrame({"case": range(50), "prediction": 1.0, "score": 9.0})
    target = dataclasses.replace(report.targets[0], suspects=many)
    write_report(dataclasses.replace(report, targets=[target]), tmp_path / "report.html")
    _, suspects, _ = re.split(
        "Suspected wrong labels|Set aside in training", (tmp_path / "report.html").read_text()
    )
    assert len(re.findall("data-case", suspects)) == 40
    assert "10 more are not shown." in suspects


def test_highest_and_lowest_scores_of_each_target(tmp_path: Path) -> None:
    report = sample()
    target = report.targets[0]
    exact = Model("mse", np.nan_to_num(target.truth, nan=200.0))
    single = dataclasses.replace(target, models=[exact], unit=None)
    report = dataclasses.replace(report, targets=[target, single])
    write_report(report, tmp_path / "report.html")
    assert "Highest and lowest" not in (tmp_path / "report.html").read_text()
    write_report(dataclasses.replace(report, quality=True), tmp_path / "report.html")
    text, _, _ = (tmp_path / "report.html").read_text().partition("<script")
    _, first, second = text.split("Highest and lowest scores")
    for text, found, model in ((first, target, target.models[0]), (second, single, exact)):
        both_ends = ends(model.prediction, found.truth)
        counts = re.findall(r"<h4>(\w+): (\d) of 6 in both", text)
        assert counts == [(end.name, str(len(end.both))) for end in both_ends]
        shown = re.findall(
            r'class="card( both)?" data-case="(\d+)".*?true (\S+).*?pred. (\S+?)[ <]', text, re.S
        )
        cases = [case for end in both_ends for case in (*end.by_truth, *end.by_prediction)]
        assert [int(case) for _, case, _, _ in shown] == cases
        assert [bool(both) for both, *_ in shown] == [
            case in end.both for end in both_ends for case in (*end.by_truth, *end.by_prediction)
        ]
        for _, case, truth, predicted in shown:
            assert truth.startswith(number_text(found.truth[int(case)]))
            assert predicted == number_text(model.prediction[int(case)]).replace("-", "\u2212")
    assert "cases that fine_grained (the best loss by SRCC) predicts highest and lowest" in first
    assert "the cases that mse predicts" in second
    assert re.findall(r"(\d) of 6 in both", second) == ["6", "6"]


def test_pictures_of_the_highest_and_lowest_scores_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = dataclasses.replace(sample(losses=("mse",), suspects=False), quality=True)
    truth, model = report.targets[0].truth, report.targets[0].models[0]
    cases = {
        c for end in ends(model.prediction, truth) for c in (*end.by_truth, *end.by_prediction)
    }
    pictures = [b"\xff\xd8\xff" + bytes([case]) * 1000 for case in range(60)]
    monkeypatch.setattr(page, "_THUMBNAIL_BYTES", 45 * 1003)
    write_report(dataclasses.replace(report, thumbnails=pictures), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert all(data_uri(pictures[case]) in text for case in cases)
    assert "Pictures of 15 cases" in text


def test_what_is_compared_has_its_name(tmp_path: Path) -> None:
    report = dataclasses.replace(sample(), kind=Kind("view", "views"), quality=True)
    write_report(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text().split("<script")[0]
    assert "<h3>Views</h3>" in text
    assert "the best view by SRCC" in text
    said = re.sub(r"<style>.*?</style>|<[^>]*>", "", text, flags=re.S)
    # What is a loss is still called so.
    kept = {"Training losses have different scales", "a robust loss gave these labels less"}
    for words in kept:
        assert words in said
        said = said.replace(words, "")
    assert "loss" not in said


def test_without_metrics_labels_or_predictions(tmp_path: Path) -> None:
    report = sample()
    target = report.targets[0]
    nothing = np.full(60, NAN)
    models = [dataclasses.replace(model, prediction=nothing) for model in target.models]
    targets = [
        dataclasses.replace(target, metrics=target.metrics[:0]),
        dataclasses.replace(target, truth=nothing),
        dataclasses.replace(target, models=models, metrics=target.metrics[:0]),
    ]
    empty = dataclasses.replace(report, targets=targets, quality=True)
    write_report(empty, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("Highest and lowest scores") == 1
    assert text.count("<h2>There is nothing to compare.</h2>") == 2
    assert "0 cases of 0 subjects" in text


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_colours_are_told_from_the_background() -> None:
    """Text by 4.5 to 1, what is drawn by 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    folder = files(page.__package__)
    style, script = ((folder / name).read_text() for name in ("page.css", "page.js"))
    blocks = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in style.split(":root")]
    themes = [block for block in blocks if block]
    colours = re.findall(r"#\w{6}", re.search(r"COLOURS = \[.*\]", script)[0])  # type: ignore[index]
    assert len(colours) == 8
    assert len({theme["page"] for theme in themes}) == 2
    for theme in themes:
        for background in (theme["page"], theme["panel"]):
            for name in ("text", "muted", "accent", "mark"):
                assert contrast(theme[name], background) >= 4.5, (name, background)
        for colour in colours:
            assert contrast(colour, theme["page"]) >= 3, (colour, theme["page"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium.BINARY is None:
        pytest.skip("no Chromium is on PATH, and CHROMIUM names none (see CONTRIBUTING)")
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[[Report], Page]]:
    """Opens the page of a report in a window in which all its plots are in view; afterwards, it
    must have had no errors and asked for nothing."""
    file = tmp_path / "report.html"
    complaints: list[str] = []
    requests: list[str] = []
    with browser.new_context(viewport={"width": 1400, "height": 6000}, offline=True) as context:
        opened = context.new_page()
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        opened.on("request", lambda request: requests.append(request.url))

        def shown(report: Report) -> Page:
            write_report(report, file)
            opened.goto(file.as_uri())
            wait(opened, "!document.querySelector('.plot:not(.js-plotly-plot)')")
            return opened

        yield shown
        assert complaints == []
        assert set(requests) == {file.as_uri()}
        assert opened.evaluate("typeof hacked") == "undefined"


@pytest.fixture
def opened(show: Callable[[Report], Page]) -> Page:
    """The sample's page."""
    return show(sample())


def resize(opened: Page, width: int, height: int) -> None:
    opened.set_viewport_size({"width": width, "height": height})
    settle(opened)


def move(opened: Page, x: float, y: float) -> None:
    opened.mouse.move(x, y)
    settle(opened)


def click(opened: Page, x: float, y: float) -> None:
    move(opened, x, y)
    opened.mouse.click(x, y)
    settle(opened)


def centre(opened: Page, selector: str) -> list[list[float]]:
    """Where the middles of the elements are in the window."""
    middles: list[list[float]] = opened.eval_on_selector_all(
        selector,
        "nodes => nodes.map((node) => { const box = node.getBoundingClientRect(); "
        "return [box.x + box.width / 2, box.y + box.height / 2]; })",
    )
    return middles


def rings(opened: Page, kind: str) -> list[list[float]]:
    return centre(opened, f'[data-plots={kind}] .shapelayer path[style*="rgb(1, 2, 3)"]')


def dots(opened: Page, kind: str, case: int) -> list[list[float]]:
    """Where a case is in each plot; Plotly draws no dot for those without a value."""
    place = case + 1 - sum(missing < case for missing in (5, 11))
    return centre(opened, f"[data-plots={kind}] .points path:nth-child({place})")


def test_page_renders(opened: Page) -> None:
    counts = {
        kind: opened.locator(f"[data-plots={kind}] .js-plotly-plot").count()
        for kind in ("scatter", "bland_altman", "sizes", "curves", "distribution")
    }
    assert counts == {"scatter": 3, "bland_altman": 3, "sizes": 2, "curves": 2, "distribution": 1}
    assert "Error by predicted uncertainty" not in opened.locator("h3").all_text_contents()
    assert opened.locator("[data-plots=spreads]").count() == 0
    assert len(centre(opened, "[data-plots=scatter] .points path")) == 3 * 58
    assert opened.text_content("h2") == "fine_grained predicts best."
    assert opened.text_content("h1") == f"Title {HOSTILE}"
    assert (opened.text_content("#provenance pre") or "").endswith(HOSTILE)
    names = opened.locator(".losses tbody th").all_text_contents()
    assert names == list(LOSSES)
    bold = opened.evaluate(
        "[...document.querySelectorAll('.losses b')].map(n => n.closest('tr').rowIndex)"
    )
    assert bold == [1] * 7
    model, truth = sample().targets[0].models[2], sample().targets[0].truth
    drawn = "document.querySelectorAll('[data-plots=bland_altman] .plot')[2].data[0]"
    # The page has nine digits.
    for axis, values in (("x", (model.prediction + truth) / 2), ("y", model.prediction - truth)):
        np.testing.assert_allclose(
            np.array(opened.evaluate(f"{drawn}.{axis}"), dtype=float), values, atol=1e-5
        )
    hardest = opened.evaluate("[...document.querySelectorAll('.card')].map(n => +n.dataset.case)")
    assert len(hardest) == 20 + 2 + 1
    assert hardest[0] == 7
    assert hardest[20:] == [9, 3, 13]
    # Where a plot has to widen its margins, as for a number at its very end, Plotly draws all its
    # dots twice.
    opened.evaluate(
        "document.querySelectorAll('[data-plots=scatter] .plot, [data-plots=bland_altman] .plot')"
        ".forEach(n => Plotly.relayout(n, {'xaxis.range': [0, 300], 'yaxis.range': [-300, 300]}))"
    )
    margins = opened.evaluate(
        "[...document.querySelectorAll('[data-plots=scatter] .plot, [data-plots=bland_altman] "
        ".plot, .whole .plot')].map(n => [n._fullLayout._size, n._fullLayout.margin])"
    )
    assert len(margins) == 3 + 3 + 1
    assert all(size[side] == margin[side] for size, margin in margins for side in "lrtb")
    assert "<b>huber</b>" in (opened.text_content("[data-plots=distribution]") or "")
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth && i.alt)")


@pytest.mark.parametrize("case", [3, 7, 48])
def test_hovering_shows_the_case(opened: Page, case: int) -> None:
    report = sample()
    target = report.targets[0]
    for kind in ("scatter", "bland_altman"):
        for model, (x, y) in zip(target.models, dots(opened, kind, case), strict=True):
            move(opened, 5, 5)
            move(opened, x, y)
            tip: dict[str, Any] = opened.evaluate(
                "(() => { const tip = document.getElementById('tip'); return {hidden: tip.hidden, "
                "text: tip.innerText, image: tip.querySelector('img').src}; })()"
            )
            file = report.thumbnails[case]
            assert file is not None
            assert tip["image"] == data_uri(file)
            assert not tip["hidden"]
            truth, predicted = target.truth[case], model.prediction[case]
            assert tip["text"].split("\n") == [
                report.cases["image"][case],
                f"subject {case // 2}, row {case + 2}",
                f"truth {truth:.4g} mm",
                f"prediction {predicted:.4g} mm ({predicted - truth:+.4g})".replace(
                    "-", "\N{MINUS SIGN}"
                ),
            ]
    move(opened, 5, 5)
    assert opened.evaluate("document.getElementById('tip').hidden")


def test_a_click_marks_the_case_everywhere(opened: Page) -> None:
    for case in (7, 3):
        click(opened, *dots(opened, "scatter", case)[1])
    for kind in ("scatter", "bland_altman"):
        of_both = np.stack([dots(opened, kind, case) for case in (7, 3)], axis=1)
        np.testing.assert_allclose(np.reshape(rings(opened, kind), of_both.shape), of_both, atol=1)
    assert len(rings(opened, "distribution")) == 2 * 4
    first = "[...document.querySelectorAll('.cases tr.marked')].map(row => +row.dataset.case)"
    assert opened.evaluate(first) == [7, 3]
    pressed = "[...document.querySelectorAll('.card[aria-pressed=true]')].map(n => +n.dataset.case)"
    assert opened.evaluate(f"[...new Set({pressed})]") == [7, 3]
    assert opened.locator("#marked img").count() == 2
    # Once more takes the mark away, here in the table, by the keyboard.
    opened.focus('.cases tr[data-case="7"] input')
    opened.keyboard.press("Space")
    settle(opened)
    assert opened.evaluate(first) == [3]
    assert len(rings(opened, "scatter")) == 3
    assert opened.evaluate("document.activeElement.getAttribute('aria-label')") == "Mark 7.png"


def test_the_table_of_cases_aligns_its_numbers(opened: Page) -> None:
    target = sample().targets[0]
    truth, prediction = target.truth[7], target.models[2].prediction[7]
    row = opened.locator(".cases tbody tr").first.locator("td").all_text_contents()
    assert row[5] == f"{truth:.1f}"
    assert row[8] == f"{prediction:.1f} ({prediction - truth:+.1f})"
    decimals = opened.locator(".cases tbody td:nth-child(6)").all_text_contents()
    assert {len(text.partition(".")[2]) for text in decimals} == {1}


def test_the_table_of_cases_sorts_and_finds(opened: Page) -> None:
    shown = "[...document.querySelectorAll('.cases tbody tr')].map(row => +row.dataset.case)"
    assert opened.evaluate(shown)[0] == 7
    assert len(opened.evaluate(shown)) == 20
    opened.click(".cases .more")
    assert len(opened.evaluate(shown)) == 40
    opened.locator(".cases th button").nth(3).click()
    truth = sample().targets[0].truth
    largest = np.argsort(-np.where(np.isnan(truth), -np.inf, truth))[:20]
    assert opened.evaluate(shown) == largest.tolist()
    opened.fill(".cases input[type=search]", "<C>")
    assert opened.evaluate(shown) == [3]


def test_theme_print_and_narrow_window(opened: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert opened.evaluate(background) == "rgb(255, 255, 255)"
    opened.click("#theme")
    assert opened.evaluate(background) == "rgb(20, 23, 27)"
    text = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    assert opened.evaluate(text) == "rgb(232, 234, 237)"
    resize(opened, 420, 900)
    wait(opened, "document.documentElement.scrollWidth <= 420")
    # On paper all plots are drawn, also those that nobody has looked at, and then as before.
    resize(opened, 1400, 300)
    opened.reload()
    settle(opened)
    widths = "[...document.querySelectorAll('.plot')].map(n => n._fullLayout?.width)"
    assert None in opened.evaluate(widths)
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate(widths) == [335] * 6 + [680] * 5
    # What is wider than the paper, A4 less its margins, makes all smaller.
    opened.emulate_media(media="print")
    beyond = opened.evaluate(
        "document.body.style.width = '688px', [...document.querySelectorAll('main *')]"
        ".filter(node => node.getBoundingClientRect().right > 689).map(node => node.outerHTML)"
    )
    assert beyond == []
    opened.evaluate("document.body.style.width = ''")
    opened.emulate_media(media="null")
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    wait(opened, f"{widths}.every(width => width > 400)")
    paper = opened.pdf(print_background=True, prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_painted(opened: Page, scheme: Literal["light", "dark"]) -> None:
    """Mostly in the colour of the page, with something in that of each loss."""
    opened.emulate_media(color_scheme=scheme)
    settle(opened)
    with Image.open(BytesIO(opened.screenshot())) as shot:
        assert shot.size == (1400, 6000)
        painted = shot.convert("RGB").getcolors(maxcolors=1400 * 6000)
    assert painted is not None
    count = {colour: number for number, colour in painted}
    assert len(count) > 1000
    background = {"light": (255, 255, 255), "dark": (20, 23, 27)}[scheme]
    assert 0.5 < count[background] / (1400 * 6000) < 0.95
    for colour in ((31, 120, 193), (213, 94, 0), (11, 143, 108)):
        assert count[colour] > 100


def test_error_by_predicted_uncertainty(show: Callable[[Report], Page]) -> None:
    """Of the losses that tell it."""
    report = sample(62)
    target = report.targets[0]
    errors = [np.abs(model.prediction - target.truth) for model in target.models[:2]]
    spreads = [1 + 2 * error for error in errors]
    told = [
        dataclasses.replace(model, spread=spread)
        for model, spread in zip(target.models, spreads, strict=False)
    ]
    target = dataclasses.replace(target, models=[*told, target.models[2]])
    opened = show(dataclasses.replace(report, targets=[target]))
    assert "Error by predicted uncertainty" in opened.locator("h3").all_text_contents()
    plots = opened.locator("[data-plots=spreads] .plot")
    assert plots.count() == 1
    assert plots.locator(".legendtext").all_text_contents() == list(LOSSES[:2])
    assert plots.locator(".scatterlayer .js-line").count() == 2
    assert plots.locator(".scatterlayer .points path").count() == 2 * 6
    drawn = plots.evaluate("node => node.data.map(({x, y}) => [x, y])")
    for (x, y), error, spread in zip(drawn, errors, spreads, strict=True):
        # Six bins of the 60 cases that have a label and a prediction; NaN is last.
        bins = np.argsort(spread)[:60].reshape(6, 10)
        np.testing.assert_allclose(x, spread[bins].mean(1))
        np.testing.assert_allclose(y, error[bins].mean(1))


def test_highest_and_lowest_scores_in_all_widths(show: Callable[[Report], Page]) -> None:
    report = dataclasses.replace(sample(), quality=True)
    strips = "[...document.querySelectorAll('.strip')]"
    opened = show(report)
    assert opened.evaluate(f"{strips}.map(n => n.querySelectorAll('img').length)") == [6] * 4
    tops = f"{strips}.map(n => n.getBoundingClientRect().top)"
    first, second, third, fourth = opened.evaluate(tops)
    assert first == second < third == fourth
    lines = (
        f"{strips}.map(n => new Set([...n.querySelectorAll('.card')]"
        ".map(card => card.getBoundingClientRect().top)).size)"
    )
    assert opened.evaluate(lines) == [1] * 4
    opened.click(".strip .card")
    assert opened.locator(".strip .card[aria-pressed=true]").count() >= 1
    resize(opened, 420, 900)
    wait(opened, "document.documentElement.scrollWidth <= 420")
    assert opened.evaluate(lines) == [2] * 4


def test_one_loss_without_images(show: Callable[[Report], Page]) -> None:
    report = sample(losses=("mse",), suspects=False)
    target = report.targets[0]
    models = [dataclasses.replace(target.models[0], curve=None)]
    plain = dataclasses.replace(target, models=models, unit=None)
    report = dataclasses.replace(report, targets=[plain, plain], thumbnails=())
    opened = show(report)
    heads = opened.locator("h3").all_text_contents()
    assert heads[0] == "Agreement with the truth"
    absent = {"Learning curves", "Suspected wrong labels", "Set aside in training"}
    assert not absent & set(heads)
    assert opened.evaluate("document.images.length") == 0
    assert opened.locator("nav a").count() == 2
    headlines = opened.locator("nav span").all_text_contents()
    assert headlines == [opened.text_content("h2")] * 2
    assert opened.evaluate("document.querySelector('.bar').checkVisibility()") is False
    click(opened, *dots(opened, "scatter", 7)[0])
    assert len(rings(opened, "scatter")) == 2
