"""What was found, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from finecorr.checking.findings import Finding, Histogram, Section, some
from finecorr.data.table import ImageTable
from finecorr.errors import spelled

_SHOWN = 5
"""Findings of a kind."""
_REFUSED = 20
_BARS = "▁▂▃▄▅▆▇█"


def text_of(table: ImageTable, sections: Sequence[Section]) -> str:
    lines = [summary(table, sections)]
    for section in sections:
        lines += ["", f"{section.title}: {section.verdict}"]
        lines += [f"  {line}" for line in section.lines]
        lines += [f"  {bars(histogram)}" for histogram in section.histograms]
        for _, of_kind in groupby(section.findings, key=lambda finding: finding.kind):
            lines += _findings(table, list(of_kind))
    return "\n".join(lines)


def summary(table: ImageTable, sections: Sequence[Section]) -> str:
    """In a line."""
    count = sum(len(section.findings) for section in sections)
    subjects = len(set(table.groups))
    return (
        f"{table.source}: {some(len(table), 'row')} of {some(subjects, 'subject')}, "
        f"{some(count, 'finding') if count else 'nothing found'}"
    )


def place_of(table: ImageTable, finding: Finding) -> str:
    """Where it is."""
    if finding.case is None:
        return ""
    row = f"row {table.rows[finding.case]}"
    return row if table.features else f"{row}, {spelled(table.names[finding.case])}"


def bars(histogram: Histogram) -> str:
    """A histogram in a line."""
    most = max(histogram.counts.max(), 1)
    heights = [
        " " if count == 0 else _BARS[max(round(count / most * (len(_BARS) - 1)), 0)]
        for count in histogram.counts
    ]
    return f"{histogram.edges[0]:.4g} {''.join(heights)} {histogram.edges[-1]:.4g}"


def refusal_text(table: ImageTable, sections: Sequence[Section]) -> str | None:
    """Why a training would be refused."""
    refused = [f for section in sections for f in section.findings if f.refused]
    if not refused:
        return None
    lines = [f"{table.source}: train would refuse it for {some(len(refused), 'fault')}:"]
    for kind, members in groupby(refused, key=lambda finding: finding.kind):
        findings = list(members)
        lines += [f"  {_line(table, finding)}" for finding in findings[:_REFUSED]]
        if len(findings) > _REFUSED:
            lines.append(f"  and {len(findings) - _REFUSED} more of the kind {kind!r}")
    return "\n".join(lines)


def _findings(table: ImageTable, findings: Sequence[Finding]) -> list[str]:
    lines = [f"  ! {_line(table, finding)}" for finding in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        lines.append(f"    and {len(findings) - _SHOWN} more")
    return lines


def _line(table: ImageTable, finding: Finding) -> str:
    place = place_of(table, finding)
    return f"{finding.kind}: {f'{place}: ' if place else ''}{finding.what}"
