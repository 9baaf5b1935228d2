"""MATLAB's files of scores: numbers and names, and nothing that could be executed.

What is read is vectors of numbers and cell arrays of texts, in files of version 5, which are those
of -v6 and -v7 (MathWorks, "MAT-File Format"). SciPy reads more, but a damaged file can crash it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finecorr.errors import InputError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    **dict(enumerate(("i1", "u1", "i2", "u2", "i4", "u4", "f4"), 1)),
    **dict(zip((9, 12, 13), ("f8", "i8", "u8"), strict=True)),
}
"""How the data of an element are stored, whatever their class."""
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHARACTERS, _NUMERIC = 1, 4, range(6, 16)
_LARGEST = 2**26
"""Bytes of a variable, decompressed."""


@dataclass(frozen=True)
class _Matrix:
    name: str
    kind: int
    """Its class."""
    size: tuple[int, ...]
    data: list[tuple[int, bytes]]


def read_numbers(path: Path, variable: str) -> NDArray[np.float64]:
    """`(n,)`: the numbers of a vector.

    Raises:
        InputError: the file cannot be read, or has no such vector of numbers.
    """
    order, matrix = _read(path, variable)
    try:
        # Complex numbers have a second part.
        if matrix.kind not in _NUMERIC or [kind in _NUMBERS for kind, _ in matrix.data] != [True]:
            raise ValueError("it holds no real numbers")
        kind, content = matrix.data[0]
        values = np.frombuffer(content, order + _NUMBERS[kind]).astype(np.float64)
        if len(values) != math.prod(matrix.size):
            raise ValueError("it is damaged")
    except ValueError as error:
        raise InputError(f"{path}: {variable}: {error}") from error
    return values


def read_names(path: Path, variable: str) -> list[str]:
    """The texts of a cell array.

    Raises:
        InputError: the file cannot be read, or has no such cells of text.
    """
    order, matrix = _read(path, variable)
    try:
        if matrix.kind != _CELL:
            raise ValueError("it holds no names")
        names = [_text(_matrix(content, order), order) for _, content in matrix.data]
        if len(names) != math.prod(matrix.size):
            raise ValueError("it is damaged")
    except (ValueError, struct.error) as error:
        raise InputError(f"{path}: {variable}: {error}") from error
    return names


def _read(path: Path, variable: str) -> tuple[str, _Matrix]:
    """The order of the bytes, as NumPy writes it, and the variable, which is a vector."""
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise InputError(f"{path}: it is no MATLAB file of version 5, which save -v7 writes")
    if struct.unpack(f"{order}H", content[_HEADER - 4 : _HEADER - 2])[0] != 0x100:
        raise InputError(
            f"{path}: a MATLAB file of version 7.3, which is not read: load it in MATLAB, and save "
            "it with -v7"
        )
    try:
        matrices = [_matrix(body, order) for body in _variables(content[_HEADER:], order)]
    except (ValueError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: the MATLAB file is damaged: {error}") from error
    found = [matrix for matrix in matrices if matrix.name == variable]
    if not found:
        raise InputError(f"{path}: no variable {variable!r}")
    if len([length for length in found[0].size if length != 1]) > 1:
        raise InputError(f"{path}: {variable} is no vector: its size is {found[0].size}")
    return order, found[0]


def _variables(content: bytes, order: str) -> Iterator[bytes]:
    for kind, body in _elements(content, order):
        if kind == _COMPRESSED:
            whole = zlib.decompressobj().decompress(body, _LARGEST)
            yield from (inner for kind, inner in _elements(whole, order) if kind == _MATRIX)
        elif kind == _MATRIX:
            yield body


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The type and the data of each element."""
    at = 0
    while at < len(content):
        kind, length = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # up to 4 bytes, which stand in the tag itself
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            at = start + length + (0 if kind == _COMPRESSED else -length % 8)
        data = content[start : start + length]
        if len(data) < length or start + length > at:
            raise ValueError("it ends too early")
        yield kind, data


def _matrix(content: bytes, order: str) -> _Matrix:
    flags, size, name, *data = _elements(content, order)
    kind = struct.unpack_from(f"{order}I", flags[1])[0]
    lengths = np.frombuffer(size[1], f"{order}i4").tolist()
    return _Matrix(name[1].decode("latin-1"), kind & 0xFF, tuple(lengths), data)


def _text(matrix: _Matrix, order: str) -> str:
    several = matrix.size[:1] > (1,)
    if matrix.kind != _CHARACTERS or several or [k in _TEXTS for k, _ in matrix.data] != [True]:
        raise ValueError("it holds no names")
    kind, content = matrix.data[0]
    encoding = _TEXTS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    return content.decode(encoding)
