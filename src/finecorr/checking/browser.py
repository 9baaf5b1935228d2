"""What was found, as one HTML file that needs nothing else."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

import finecorr
from finecorr.checking.decoding import Frame, thumbnail_source
from finecorr.checking.files import Read
from finecorr.checking.findings import Finding, Histogram, Section
from finecorr.checking.text import summary
from finecorr.data.image_options import ImageOptions
from finecorr.data.table import ImageTable
from finecorr.report.html import write_html
from finecorr.report.thumbnails import data_uri, thumbnail

_SHOWN = 12
"""Findings of a kind."""
_WIDTH, _HEIGHT = 720, 160


def write_page(
    path: Path,
    table: ImageTable,
    sections: Sequence[Section],
    read: Read,
    options: ImageOptions,
) -> None:
    """Writes the page, with the pictures of the images concerned."""
    frames: dict[int, Frame] = {}
    for frame in read.frames:
        frames.setdefault(frame.case, frame)
    thumbnails = _Thumbnails(frames, options)
    count = sum(len(section.findings) for section in sections)
    refused = sum(finding.refused for section in sections for finding in section.findings)
    write_html(
        path,
        __package__,
        "check.html",
        title=f"{table.source.name}, before a training",
        summary=summary(table, sections),
        headline=_headline(count, refused),
        sections=[_section(table, section, thumbnails) for section in sections],
        provenance={
            "Versions": f"finecorr {finecorr.__version__}, Python {platform.python_version()}",
            "Date": date.today().isoformat(),
            "Again": f"finecorr {shlex.join(sys.argv[1:])}",
        },
    )


class _Thumbnails:
    """Of the images that are shown, decoded when they are asked for."""

    def __init__(self, frames: dict[int, Frame], options: ImageOptions) -> None:
        self._frames, self._options = frames, options
        self._made: dict[int, str | None] = {}

    def __call__(self, case: int) -> str | None:
        if case not in self._made:
            frame = self._frames.get(case)
            seen = None if frame is None else thumbnail_source(frame, self._options)
            self._made[case] = None if seen is None else data_uri(thumbnail(seen.numpy()))
        return self._made[case]


def _headline(count: int, refused: int) -> str:
    if refused:
        return f"A training would be refused for {refused} fault{'s' if refused > 1 else ''}."
    if count:
        return f"{count} finding{'s' if count > 1 else ''} to look at."
    return "Nothing found."


def _section(table: ImageTable, section: Section, thumbnails: _Thumbnails) -> dict[str, Any]:
    kinds = []
    for kind, members in groupby(section.findings, key=lambda finding: finding.kind):
        findings = list(members)
        kinds.append(
            {
                "name": kind,
                "count": len(findings),
                "refused": any(finding.refused for finding in findings),
                "texts": [finding.what for finding in findings if finding.case is None],
                "cards": [
                    _card(table, finding, thumbnails)
                    for finding in [f for f in findings if f.case is not None][:_SHOWN]
                ],
                "more": max(sum(f.case is not None for f in findings) - _SHOWN, 0),
            }
        )
    return {
        "title": section.title,
        "verdict": section.verdict,
        "lines": section.lines,
        "kinds": kinds,
        "histograms": [_bars(histogram) for histogram in section.histograms],
    }


def _card(table: ImageTable, finding: Finding, thumbnails: _Thumbnails) -> dict[str, Any]:
    cases = [case for case in (finding.case, finding.other) if case is not None]
    return {
        "pictures": [
            {"source": source, "name": table.names[case]}
            for case in cases
            if (source := thumbnails(case)) is not None
        ],
        "row": int(table.rows[cases[0]]),
        "image": table.take(np.array(cases[:1])).shown[0],
        "group": str(table.groups[cases[0]]) if table.subjects_named else None,
        "what": finding.what,
    }


def _bars(histogram: Histogram) -> dict[str, Any]:
    """As a drawing: places and sizes of the bars."""
    most, count = max(int(histogram.counts.max()), 1), len(histogram.counts)
    width = _WIDTH / count
    return {
        "name": histogram.name,
        "width": _WIDTH,
        "height": _HEIGHT,
        "most": most,
        "low": f"{histogram.edges[0]:.4g}",
        "middle": f"{histogram.edges[[0, -1]].mean():.4g}",
        "high": f"{histogram.edges[-1]:.4g}",
        "bars": [
            {
                "x": round(place * width + 1, 2),
                "width": round(width - 2, 2),
                "height": round(_HEIGHT * int(n) / most, 2),
                "what": f"{histogram.edges[place]:.4g} to {histogram.edges[place + 1]:.4g}: {n}",
            }
            for place, n in enumerate(histogram.counts)
        ],
    }
