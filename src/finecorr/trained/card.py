"""A model's card: what a person has to know who was not there when it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from finecorr.data.encoding import Category, Number
from finecorr.trained.bundle import FILE, Bundle, Target
from finecorr.trained.provenance import without_folder

CARD = "README.md"
_CATEGORIES = 20
_SHOWN = ("PLCC", "SRCC", "MAE", "RMSE")
_LEVEL = 0.9
_FEW = 100
"""Subjects below which an interval of a correlation is wide."""


def card(bundle: Bundle, name: str) -> str:
    """In Markdown, with the header that model hubs read.

    Args:
        bundle: the model.
        name: its title.
    """
    parts = [_header(bundle), f"# {name}", _what(bundle), _use(bundle)]
    parts += [_trained(bundle), _well(bundle), _not_known(bundle)]
    if bundle.provenance.note:
        parts.append(f"## Note\n\n{bundle.provenance.note.strip()}")
    return "\n\n".join(parts) + "\n"


def _header(bundle: Bundle) -> str:
    said: dict[str, Any] = {"library_name": "finecorr", "tags": ["regression"]}
    if bundle.provenance.license:
        said = {"license": bundle.provenance.license, **said}
    return f"---\n{yaml.safe_dump(said, sort_keys=False, allow_unicode=True)}---"


def _what(bundle: Bundle) -> str:
    what = ", ".join(_with_unit(target) for target in bundle.targets)
    license = bundle.provenance.license or "not said"
    network = without_folder(bundle.regressor.architecture.network)
    if bundle.encoding is None:
        source = "a volume" if bundle.images.volumes else "an image"
        more = f"Intensity: {' to '.join(map(str, bundle.images.intensity))} (`--intensity`)"
    else:
        source = "columns of a table"
        columns = (f"{column.name} ({_values(column)})" for column in bundle.encoding.columns)
        more = f"Columns: {'; '.join(columns)}"
    return (
        f"Predicts {what} from {source}.\n\n"
        f"- Network: {network}, which sees {bundle.sees}\n"
        f"- {more}\n"
        f"- Licence: {license}"
    )


def _values(column: Number | Category) -> str:
    """What is in it."""
    if isinstance(column, Number):
        return f"a number, {column.mean:.4g} on average"
    shown = [value or "missing" for value in column.values[:_CATEGORIES]]
    more = len(column.values) - len(shown)
    return f"{', '.join(shown)}{f' and {more} more' if more else ''}"


def _use(bundle: Bundle) -> str:
    volumes = bundle.images.volumes
    name = "volume.nii.gz" if volumes else "image.png"
    size = ", pixel_size=0.2" if any(bundle.table.lengths) and not volumes else ""
    flag = " --pixel-size 0.2" if size else ""
    more = (
        "\n\nA pixel size is the side of a pixel of the file, in the unit of the target."
        if size
        else ""
    )
    given, inputs = (
        (f'["{name}"]', "IMAGES") if bundle.encoding is None else ('"table.csv"', "TABLE")
    )
    return (
        "## Use\n\n```python\nimport finecorr\n\n"
        f'model = finecorr.load("{FILE}")\n'
        f"predictions = model.predict({given}{size})\n```\n\n"
        f"or `finecorr predict {FILE} {inputs} --out predictions.csv{flag}`.{more}"
    )


def _trained(bundle: Bundle) -> str:
    provenance = bundle.provenance
    training, data = provenance.training, provenance.data
    rows = [
        f"| {split} | {counts.get('images', '')} | {counts.get('subjects', '')} |"
        for split, counts in _dicts(data.get("splits"))
    ]
    labels = [
        f"- {name}: {said.get('count')} labels from {_number(said.get('lowest'))} to "
        f"{_number(said.get('highest'))}, median {_number(said.get('median'))}"
        for name, said in _dicts(data.get("labels"))
    ]
    how = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return "\n".join(
        [
            "## How it was trained",
            "",
            f"With the loss `{training.get('loss', '?')}`, for {training.get('epochs', '?')} "
            f"epochs, starting from {_start(training)}. Versions: {how or 'not said'}.",
            "",
            f"| split | {_kind(bundle)} | subjects |",
            "| --- | --- | --- |",
            *rows,
            "",
            "Training labels:",
            "",
            *labels,
            "",
            f"Fingerprint of the data (of `splits.csv`): `{data.get('fingerprint', 'not said')}`",
        ]
    )


def _start(training: dict[str, Any]) -> str:
    weights = training.get("weights", "none")
    return {"none": "random weights", "pretrained": "pretrained weights"}.get(
        str(weights), f"the weights of {weights}"
    )


def _well(bundle: Bundle) -> str:
    lines = [
        "## How well it does",
        "",
        "On the test split, whose subjects neither training nor validation has seen, with 95 % "
        "intervals from a bootstrap over subjects:",
        "",
        "| target | measure | value | interval |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {m.target} | {m.metric} | {_number(m.value)} | {_number(m.low)} to {_number(m.high)} |"
        for m in bundle.provenance.test
        if m.metric in _SHOWN
    ]
    lines += ["", *_intervals(bundle)]
    return "\n".join(lines).rstrip()


def _intervals(bundle: Bundle) -> Iterator[str]:
    for target, found in zip(bundle.targets, bundle.validation.rows, strict=False):
        if found is None:
            continue
        half = found.quantile(_LEVEL)
        if half < float("inf"):
            yield (
                f"The truth of a new subject's {_kind(bundle)[:-1]} lies within {_number(half)}"
                f"{f' {target.unit}' if target.unit else ''} of the prediction of {target.name} "
                f"in at least {100 * _LEVEL:g} % of cases, if subjects come from where the "
                f"{found.subjects} validation subjects did."
            )


def _not_known(bundle: Bundle) -> str:
    splits = dict(_dicts(bundle.provenance.data.get("splits")))
    tested = splits.get("test", {}).get("subjects")
    labels = dict(_dicts(bundle.provenance.data.get("labels")))
    kind = _kind(bundle)
    lines = [
        "## What it does not know",
        "",
        f"- {kind.capitalize()} from elsewhere: other devices, sites, populations or preparations "
        "than those it was trained on. Measure it there first (`finecorr evaluate`).",
    ]
    for name, said in labels.items():
        lines.append(
            f"- {name} below {_number(said.get('lowest'))} or above {_number(said.get('highest'))}:"
            " it has seen none."
        )
    if isinstance(tested, int) and tested < _FEW:
        lines.append(f"- It was tested on {tested} subjects only: mind the intervals.")
    if bundle.validation.distances is None:
        lines.append(f"- Which {kind} are unlike its own: nothing was kept to tell.")
    else:
        lines.append(
            f"- Every {kind[:-1]} that is unlike its own: `predict` marks some (`novel`), by "
            "the features of its network, and may miss others."
        )
    return "\n".join(lines)


def _kind(bundle: Bundle) -> str:
    """What it predicts for."""
    return "images" if bundle.encoding is None else "rows"


def _with_unit(target: Target) -> str:
    said = not target.unit or f"({target.unit})" in target.name
    return target.name if said else f"{target.name} (in {target.unit})"


def _dicts(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """Of what a file says, which may be anything."""
    if not isinstance(value, dict):
        return []
    return [(name, said) for name, said in value.items() if isinstance(said, dict)]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "unknown"
