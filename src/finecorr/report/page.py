"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from finecorr.report.contents import Array, Report, ends_of, hardest, shown_of
from finecorr.report.dynamic import dynamic
from finecorr.report.html import write_html
from finecorr.report.static import static
from finecorr.report.thumbnails import data_uri
from finecorr.report.verdict import LOWER_IS_BETTER

_DRAWN = 5000
_THUMBNAIL_BYTES = 7_000_000
"""Of all files: the page stays below 15 MB, of which Plotly takes 4.8 and base64 a third more."""


def write_report(report: Report, path: Path) -> None:
    """Writes the page.

    It needs no network, and stays below 15 MB: where the thumbnails of all cases would not fit,
    those of the cases with the smallest errors are left out. Of more than 5000 cases, so many are
    drawn: those of the galleries, and others at random; all numbers are of all cases. The page says
    so.

    Raises:
        ValueError: lengths do not agree, or a thumbnail is no JPEG, PNG or WebP file.
    """
    _check(report)
    hardness = _hardness(report)
    drawn = _drawn_cases(hardness)
    places = {case: place for place, case in enumerate(drawn.tolist())}
    thumbnails, left_out = _within_limit(report, drawn[np.argsort(-hardness[drawn], kind="stable")])
    write_html(
        path,
        __package__,
        "page.html",
        title=report.title,
        targets=[static(report, target, places) for target in report.targets],
        provenance=report.provenance,
        left_out=left_out,
        cases=len(report.cases),
        drawn=len(drawn),
        data={
            "row": [str(row) for row in report.cases["row"].iloc[drawn]],
            "image": [str(name) for name in report.cases["image"].iloc[drawn]],
            "subject": _subjects(report, drawn),
            "thumbnails": {places[case]: address for case, address in thumbnails.items()},
            "kind": report.kind.one,
            "targets": [dynamic(target, drawn) for target in report.targets],
        },
        pictures=bool(thumbnails),
        kind=report.kind,
        in_units=LOWER_IS_BETTER,
        script=(files(__package__) / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
    )


def _subjects(report: Report, cases: NDArray[np.intp]) -> list[str] | None:
    if not report.subjects_named:
        return None
    return [str(name) for name in report.cases["group"].iloc[cases]]


def _check(report: Report) -> None:
    count = len(report.cases)
    lengths = {"thumbnails": len(report.thumbnails) or count}
    for target in report.targets:
        lengths[f"truth of {target.name}"] = len(target.truth)
        for model in target.models:
            lengths[f"prediction of {target.name} by {model.name}"] = len(model.prediction)
    wrong = [f"{name} ({length})" for name, length in lengths.items() if length != count]
    if wrong:
        raise ValueError(f"there are {count} cases, but another number in: {', '.join(wrong)}")


def _hardness(report: Report) -> Array:
    """`(cases,)`: the larger, the less the page can do without the case; infinite for those of the
    galleries."""
    hardness = np.full(len(report.cases), -np.inf)
    for target in report.targets:
        rank = pd.Series(target.error).rank().to_numpy()
        hardness = np.fmax(hardness, rank)
        hardness[hardest(target)] = np.inf
        for shown in shown_of(target.suspects), shown_of(target.set_aside):
            hardness[[record["case"] for record in shown]] = np.inf
        for end in ends_of(report, target):
            hardness[[*end.by_truth, *end.by_prediction]] = np.inf
    return hardness


def _drawn_cases(hardness: Array) -> NDArray[np.intp]:
    """All, or those of the galleries and others at random, in order."""
    if len(hardness) <= _DRAWN:
        return np.arange(len(hardness))
    # At random, as the hardest would look like the rule.
    chance = np.random.default_rng(0).random(len(hardness))
    order = np.argsort(np.where(np.isinf(hardness) & (hardness > 0), -1, chance), kind="stable")
    return np.sort(order[:_DRAWN])


def _within_limit(report: Report, cases: NDArray[np.intp]) -> tuple[dict[int, str], int]:
    """The addresses of the thumbnails by case, the first ones if not all fit, and how many do
    not."""
    kept: dict[int, str] = {}
    size, known = 0, 0
    for case in cases.tolist() if len(report.thumbnails) else []:
        file = report.thumbnails[case]
        known += file is not None
        if file is not None and size + len(file) <= _THUMBNAIL_BYTES:
            size += len(file)
            kept[case] = data_uri(file)
    return kept, known - len(kept)
