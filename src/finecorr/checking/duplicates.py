"""The same picture as the image of two subjects, which may get into two splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finecorr.checking.alignment import aligned
from finecorr.checking.decoding import SIDE
from finecorr.checking.files import Read
from finecorr.checking.findings import Finding, Section, some
from finecorr.data.names import real_paths
from finecorr.data.table import ImageTable
from finecorr.data.threads import side_by_side

SAME = 0.9
"""Correlation from which on two pictures are one. In HC18, no two subjects reach 0.85; most copies
that are compressed, cut a little or brighter have more: see docs/check.md."""
_COARSE, _CANDIDATE, _NEAREST = 16, 0.6, 3
"""Those that are compared closely are the nearest by small pictures, if they are near at all."""
_BLUR = SIDE // 4 + 1
_BLOCK = 4096
_PART = 2**16
"""Bytes at both ends of a file."""


class Pair(NamedTuple):
    """Two of the decoded pictures, by position."""

    first: int
    second: int
    alike: float
    mirrored: bool


def look_at_duplicates(table: ImageTable, read: Read, splits: NDArray[np.str_] | None) -> Section:
    """Same files, of all; and pictures that are alike, of those that were decoded.

    Args:
        table: the rows.
        read: their pictures.
        splits: of the rows, where they are known.
    """
    found, seen, copies = [], set(), 0
    for cases in _same_files(table):
        for first, second in _between(cases, table.groups):
            seen.add((first, second))
            found.append(_finding("same file", "the file of", table, splits, first, second))
        copies += len(cases)
    cases_of = np.array([frame.case for frame in read.decoded], dtype=np.intp)
    groups = table.groups[cases_of]
    small = torch.stack([m.small for m in read.measures]) if len(cases_of) else torch.zeros(0)
    for pair in near_duplicates(small, groups):
        first, second = sorted((int(cases_of[pair.first]), int(cases_of[pair.second])))
        if (first, second) not in seen:
            seen.add((first, second))
            mirrored = "mirrored, " if pair.mirrored else ""
            what = f"correlates by {pair.alike:.3f}, {mirrored}with"
            found.append(_finding("same picture", what, table, splits, first, second))
    lines = [
        f"all files were compared by their content, and {some(len(cases_of), 'decoded picture')} "
        "by what they show"
    ]
    if found:
        torn = [f for f in found if splits is not None and splits[f.case] != splits[f.other]]
        lines.append(
            f"{some(len(found), 'pair')} of two subjects each"
            + ("" if splits is None else f", {len(torn)} of them in two splits")
        )
    if copies:
        lines.append(f"{copies} rows have a file that is there twice")
    return Section("Duplicates", lines, found)


def near_duplicates(pictures: Tensor, groups: NDArray[np.str_]) -> list[Pair]:
    """Pictures of two groups that are the same, the most alike first: also where one is cut a
    little, of another size, brighter, or mirrored.

    Each is compared with the few of other groups that are nearest. Their search takes time that
    grows with the square of the number of pictures, and memory that grows with the number.

    Args:
        pictures: `(n, SIDE, SIDE)`.
        groups: `(n,)`.
    """
    if len(pictures) < 2:
        return []
    fine = (
        pictures
        - torch.nn.functional.avg_pool2d(
            pictures[:, None], _BLUR, 1, _BLUR // 2, count_include_pad=False
        )[:, 0]
    )
    coarse = torch.nn.functional.avg_pool2d(pictures[:, None], SIDE // _COARSE)[:, 0]
    number = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
    pairs: dict[tuple[int, int], Pair] = {}
    for mirrored in (False, True):
        turned = fine.flip(2) if mirrored else fine
        candidates = _candidates(coarse, coarse.flip(2) if mirrored else coarse, number)
        alike = aligned(fine[candidates[:, 0]], turned[candidates[:, 1]])
        for (first, second), score in zip(candidates.tolist(), alike.tolist(), strict=True):
            if score >= SAME and score > pairs.get((first, second), Pair(0, 0, 0, False)).alike:
                pairs[first, second] = Pair(first, second, min(score, 1.0), mirrored)
    return sorted(pairs.values(), key=lambda pair: -pair.alike)


def _candidates(pictures: Tensor, others: Tensor, group: Tensor) -> Tensor:
    """`(pairs, 2)`: positions, the lower one first, of those that are nearest to each other."""
    one, other = _normalised(pictures), _normalised(others)
    pairs = set()
    for start in range(0, len(one), _BLOCK):
        block = one[start : start + _BLOCK]
        count = min(_NEAREST, len(one))
        value = block.new_full((len(block), count), -1.0)
        place = torch.zeros_like(value, dtype=torch.long)
        for first in range(0, len(other), _BLOCK):
            alike = block @ other[first : first + _BLOCK].T
            within = group[start : start + len(block), None] == group[first : first + _BLOCK]
            alike = alike.masked_fill(within, -1.0)
            best, at = alike.topk(min(_NEAREST, alike.shape[1]), dim=1)
            values, places = torch.cat([value, best], 1), torch.cat([place, at + first], 1)
            value, kept = values.topk(count, dim=1)
            place = places.gather(1, kept)
        rows, columns = (value >= _CANDIDATE).nonzero(as_tuple=True)
        for i, j in zip((rows + start).tolist(), place[rows, columns].tolist(), strict=True):
            pairs.add((min(i, j), max(i, j)))
    return torch.tensor(sorted(pairs), dtype=torch.long).reshape(-1, 2)


def _normalised(pictures: Tensor) -> Tensor:
    flat = pictures.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    # What is constant is like nothing.
    return torch.where(length > 1e-4, flat / length.clamp_min(1e-4), 0)


def _same_files(table: ImageTable) -> list[list[int]]:
    """Rows whose files have the same content, and are not one file."""
    rows = defaultdict(set)
    real = real_paths(path for row in table.images for path in row)
    for case, paths in enumerate(table.images):
        for path in paths:
            if path.is_file():
                rows[real[path]].add(case)
    same = _equal(list(rows), lambda path: Path(path).stat().st_size)
    for key in (_ends, _whole):
        same = [part for files in same for part in _equal(files, key)]
    return [sorted({case for file in files for case in rows[file]}) for files in same]


def _equal(files: Sequence[str], key: Callable[[str], object]) -> list[list[str]]:
    """The files with the same key, where there are several."""
    by_key: dict[object, list[str]] = defaultdict(list)
    for file, value in zip(files, side_by_side(key, files), strict=True):
        by_key[value].append(file)
    return [part for part in by_key.values() if len(part) > 1]


def _ends(path: str) -> bytes:
    with Path(path).open("rb") as file:
        begin = file.read(_PART)
        size = file.seek(0, 2)
        file.seek(max(size - _PART, 0))
        return hashlib.sha256(begin + file.read()).digest()


def _whole(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _between(cases: Sequence[int], groups: NDArray[np.str_]) -> Iterator[tuple[int, int]]:
    """A pair for each further subject."""
    first = cases[0]
    seen = {groups[first]}
    for case in cases[1:]:
        if groups[case] not in seen:
            seen.add(groups[case])
            yield first, case


def _finding(
    kind: str,
    what: str,
    table: ImageTable,
    splits: NDArray[np.str_] | None,
    first: int,
    second: int,
) -> Finding:
    where = ""
    if splits is not None and splits[first] != splits[second]:
        where = f": {splits[first]} and {splits[second]}"
    text = f"{what} row {table.rows[second]}, {table.names[second]}{where}"
    return Finding(kind, text, first, second)
