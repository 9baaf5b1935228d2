"""How long the page of a comparison takes to open in Chromium, and what it weighs.

    PYTHONPATH=tests python benchmarks/page.py [--cases 2000] [--losses 8] [--runs 9]
    PYTHONPATH=tests python benchmarks/page.py --page report.html

Its pictures are phantoms that fill a thumbnail, as speckle weighs most. Each run opens the page in
a new browser with a new profile. Times are from the start of the navigation:

- words: the first text is painted, the verdict among it
- shown: all is loaded, and the plots in the window are drawn
- CPU: how long all processes of the browser have worked until then
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser

from chromium import launched, wait
from finecorr.data.phantom import phantom
from finecorr.evaluation.agreement import agreement
from finecorr.report.contents import Model, Report, Target
from finecorr.report.page import write_report
from finecorr.report.thumbnails import SIDE, thumbnail

WIDTH = 1400
HEIGHTS = (1000, 2000)
"""A common window, and one that has the scatter plots of all eight losses in view."""

# Looks at each frame, so that no question from outside slows the page down.
WATCH = """
const look = () => {
  const awaited = [...document.querySelectorAll(".plot:not(.js-plotly-plot)")]
    .some((node) => node.getBoundingClientRect().top < innerHeight);
  if (document.readyState === "complete" && !awaited) window.shownAfter = performance.now() / 1000;
  else requestAnimationFrame(look);
};
window.shownAfter = null;
addEventListener("DOMContentLoaded", look);
"""
WORDS = 'performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000'


def report(cases: int, losses: int) -> Report:
    rng = np.random.default_rng(0)
    frames = [phantom(rng, height=SIDE, width=SIDE) for _ in range(cases)]
    truth = np.array([frame.circumference for frame in frames])
    models, tables = [], []
    for i in range(losses):
        prediction = truth + rng.normal(0, 5 + i, cases)
        epoch = np.arange(1, 101)
        curve = pd.DataFrame({"epoch": epoch, "loss": 1 / epoch, "validation": 1 - 1 / epoch})
        models.append(Model(f"loss_{i}", prediction, curve))
        values = agreement(prediction, truth)
        table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
        low, high, p = table["value"] - 0.01, table["value"] + 0.01, 0.01 if i else np.nan
        tables.append(table.assign(loss=models[i].name, low=low, high=high, p=p))
    metrics = pd.concat(tables, ignore_index=True)
    rows = np.arange(cases)
    return Report(
        "Losses compared on phantoms",
        pd.DataFrame({"row": rows + 2, "image": [f"{i:05}.png" for i in rows], "group": rows // 2}),
        [Target("head_circumference", "mm", truth, models, metrics)],
        [thumbnail(frame.image[None] / np.float32(255)) for frame in frames],
    )


def cpu(browser: Browser) -> float:
    """Seconds that all processes of the browser have worked so far."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return float(sum(process["cpuTime"] for process in processes))


def opened(path: Path, height: int) -> dict[str, float]:
    """What one opening of the page takes, in seconds."""
    with launched() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": height})
        page.add_init_script(WATCH)
        before = cpu(browser)
        page.goto(path.as_uri())
        wait(page, "shownAfter !== null")
        after = cpu(browser)
        words, shown = page.evaluate(WORDS), page.evaluate("shownAfter")
        return {"words": words, "shown": shown, "CPU": after - before}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--losses", type=int, default=8)
    parser.add_argument("--page", type=Path, help="open this one instead")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.page
        if path is None:
            path = Path(folder, "report.html")
            write_report(report(options.cases, options.losses), path)
        print(f"The page weighs {path.stat().st_size / 1e6:.1f} MB.\n")
        print("| window | time | least | median | most |\n| --- | --- | --- | --- | --- |")
        for height in HEIGHTS:
            runs = [opened(path.resolve(), height) for _ in range(options.runs)]
            for name in runs[0]:
                values = [run[name] for run in runs]
                found = (min(values), statistics.median(values), max(values))
                cells = " | ".join(f"{value:.2f} s" for value in found)
                print(f"| {WIDTH} x {height} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
