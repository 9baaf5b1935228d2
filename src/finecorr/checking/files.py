"""The files: those that cannot be read, and what the others are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from finecorr.checking.decoding import Frame, Measures, decode, spread_over
from finecorr.checking.findings import Finding, Section, refusals, some
from finecorr.data import pictures
from finecorr.data.decoding import checked_header, frames_of
from finecorr.data.image_options import ImageOptions
from finecorr.data.names import real_paths
from finecorr.data.pictures import Header
from finecorr.data.table import ImageTable
from finecorr.data.threads import side_by_side
from finecorr.errors import InputError, spelled

_MANY = 20
"""Sizes from which on they are many."""
_SHOWN = 4


class Read(NamedTuple):
    """What could be read."""

    headers: dict[Path, Header]
    frames: list[Frame]
    """All that the table means,"""
    decoded: list[Frame]
    """and those that were decoded,"""
    measures: list[Measures]
    """with what is measured on each."""


def read_files(
    table: ImageTable, faults: Sequence[str], options: ImageOptions, count: int | Literal["all"]
) -> tuple[Read, Section]:
    """Reads all headers, and decodes up to `count` pictures.

    Args:
        table: the rows.
        faults: of the table, as its reader found them.
        options: of the images.
        count: how many.
    """
    paths = list(dict.fromkeys(path for row in table.images for path in row))

    def header_of(path: Path) -> Header | str | None:
        if not path.exists():
            return None  # of which the table's faults say it
        try:
            return checked_header(path, options.max_megapixels, volumes=options.volumes)
        except Exception as error:
            return pictures.fault_of(error)

    headers = dict(zip(paths, side_by_side(header_of, paths), strict=True))
    found = refusals("fault in the table", faults, table)
    frames = []
    for case, row in enumerate(table.images):
        for path in row:
            header = headers[path]
            try:
                if header is None:
                    continue
                if isinstance(header, str):
                    raise InputError(header)
                numbers = frames_of(header, table.frame(case), all_frames=table.all_frames)
                frames += [Frame(path, number, case) for number in numbers]
            except InputError as fault:
                what = f"{spelled(path)} {fault}"
                found.append(Finding("unreadable file", what, case, refused=True))
    distinct: dict[tuple[Path, int], list[Frame]] = defaultdict(list)
    for frame in frames:
        distinct[frame.path, frame.number].append(frame)
    chosen = spread_over([same[0] for same in distinct.values()], count)
    decoded, measures = [], []
    for frame, result in zip(chosen, decode(chosen, options), strict=True):
        if isinstance(result, str):
            rows = dict.fromkeys(same.case for same in distinct[frame.path, frame.number])
            what = f"{spelled(frame.path)} {result}"
            found += [Finding("unreadable file", what, case, refused=True) for case in rows]
        else:
            decoded.append(frame)
            measures.append(result)
    known = {path: header for path, header in headers.items() if isinstance(header, Header)}
    lines = [*_described(known), _decoded(len(chosen), len(distinct)), *_used_twice(table)]
    return Read(known, frames, decoded, measures), Section("Files", lines, found)


def _described(headers: dict[Path, Header]) -> list[str]:
    if not headers:
        return ["no file could be read"]
    kinds = Counter(f"{h.format}, {h.bits} bits" for h in headers.values())
    lines = ["; ".join(f"{some(count, 'file')} of {kind}" for kind, count in kinds.most_common())]
    largest = [header.largest for header in headers.values()]
    # A picture is named by its width and height, and a volume as its array is.
    deep = any(shape.depth is not None for shape in largest)
    what = "voxels" if deep else "pixels"
    sizes = Counter(shape.size if deep else shape.size[::-1] for shape in largest)
    spacings = [shape.pixel_size for shape in largest if deep and shape.pixel_size is not None]
    if spacings:
        least, most = np.min(spacings, axis=0), np.max(spacings, axis=0)
        lines.append(f"voxels from {_by(least)} to {_by(most)} mm (depth, height and width)")
    if len(sizes) == 1:
        return [*lines, f"all are of {_by(next(iter(sizes)))} {what}"]
    least, most = (pick(sizes, key=np.prod) for pick in (min, max))
    size, count = sizes.most_common(1)[0]
    often = f"; {count} are of {_by(size)}" if count > 1 else ""
    many = "" if len(sizes) < _MANY else ", which are many"
    return [
        *lines,
        f"from {_by(least)} to {_by(most)} {what}, in {len(sizes)} sizes{many}{often}",
    ]


def _by(sides: Iterable[float]) -> str:
    return " x ".join(f"{side:.4g}" if isinstance(side, float) else f"{side}" for side in sides)


def _decoded(count: int, of: int) -> str:
    if count == of:
        return f"all {of} images were decoded" if of != 1 else "the image was decoded"
    return (
        f"{count} of {of} images were decoded, evenly spread over the table; --decode all decodes "
        "all of them"
    )


def _used_twice(table: ImageTable) -> list[str]:
    """Of several rows with the same picture of a file."""
    files = real_paths(path for row in table.images for path in row)
    rows = defaultdict(set)
    for case, row in enumerate(table.images):
        for path in row:
            rows[files[path], table.frame(case)].add(case)
    shared = {path: cases for (path, _), cases in rows.items() if len(cases) > 1}
    if not shared:
        return []
    examples = [
        f"{spelled(Path(path).name)} (rows "
        f"{', '.join(str(row) for row in table.rows[sorted(cases)[:_SHOWN]])})"
        for path, cases in list(shared.items())[:_SHOWN]
    ]
    more = ", ..." if len(shared) > _SHOWN else ""
    return [f"{some(len(shared), 'file')} in several rows: {', '.join(examples)}{more}"]
