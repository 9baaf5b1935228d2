"""The subjects: how many images each has, and whether the names of files tell of others."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from finecorr.checking.findings import Finding, Section, some
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable

_PATTERNS = (
    r"^(\d+)[_-]",
    r"^([A-Za-z]+\d+)[_-]",
    r"^([A-Za-z]+[_-]?\d+)[_-]",
    r"^([^_]+)_",
    r"^([^-]+)-",
)
"""What a subject is called at the beginning of a name."""
_LARGEST = 0.1
"""Share of the images that a subject has at most, where names tell of subjects."""
_LEAST = 5
_SHOWN = 5
_DIFFERENT = 2.0
"""Standard deviations of all labels that those of a subject differ by at most."""


def look_at_subjects(table: ImageTable, options: TableOptions) -> Section:
    counts = Counter(table.groups.tolist())
    sizes = np.array(list(counts.values()))
    lines = [
        f"{some(len(counts), 'subject')} with {some(len(table), 'row')}; rows of a subject: "
        f"{sizes.min()} to {sizes.max()}, median {np.median(sizes):g}"
    ]
    if sizes.max() > 1:
        largest = [f"{name} ({n})" for name, n in counts.most_common(_SHOWN) if n > 1]
        lines.append(f"largest: {', '.join(largest)}")
    found = []
    if options.group_column is None and options.group_pattern is None:
        named = [paths[0] for paths in table.images if paths and paths[0].is_file()]
        pattern = suggested_pattern([path.name for path in named])
        each = table.kind[:-1]
        lines.append(f"each {each} is its own subject, as no flag names another")
        if pattern is not None:
            found.append(Finding("subjects in names", _suggestion(named, pattern)))
    else:
        found = _different_labels(table)
    if sizes.max() > len(table) / 2 and len(table) > 2:
        name, count = counts.most_common(1)[0]
        found.append(Finding("large subject", f"{name} has {count} of {len(table)} rows"))
    return Section("Subjects", lines, found)


def suggested_pattern(names: list[str]) -> str | None:
    """A pattern for --group-pattern that takes many small groups from names."""
    for pattern in _PATTERNS:
        matches = [re.match(pattern, name) for name in names]
        groups = Counter(match[1] for match in matches if match)
        if (
            all(matches)
            and _LEAST <= len(groups) < len(names)
            and max(groups.values()) <= max(_LARGEST * len(names), 2)
        ):
            return pattern
    return None


def _suggestion(files: list[Path], pattern: str) -> str:
    groups: dict[str, list[str]] = {}
    for file in files:
        match = re.match(pattern, file.name)
        assert match is not None
        groups.setdefault(match[1], []).append(file.name)
    names = ", ".join(next(names for names in groups.values() if len(names) > 1)[:3])
    return (
        f"are {names} of one subject? Then --group-pattern '{pattern}' keeps the images of each in "
        f"one split: it would find {len(groups)}"
    )


def _different_labels(table: ImageTable) -> list[Finding]:
    """Subjects whose labels differ as if they were of several."""
    found = []
    order = np.argsort(table.groups, kind="stable")
    starts = np.unique(table.groups[order], return_index=True)[1]
    for i, name in enumerate(table.target_columns):
        labels = table.targets[:, i]
        known = labels[np.isfinite(labels)]
        spread = known.std() if len(known) else 0.0
        for cases in np.split(order, starts[1:]):
            cases = cases[np.isfinite(labels[cases])]
            if len(cases) < 2 or len(starts) < _LEAST or not spread > 0:
                continue
            low, high = cases[labels[cases].argmin()], cases[labels[cases].argmax()]
            if labels[high] - labels[low] > _DIFFERENT * spread:
                what = (
                    f"{name} is {labels[low]:.4g} here and {labels[high]:.4g} in row "
                    f"{table.rows[high]}: is it the same subject?"
                )
                found.append(Finding("subject with different labels", what, int(low), int(high)))
    return found
