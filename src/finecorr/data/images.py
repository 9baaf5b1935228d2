"""The images of a table as the network sees them, decoded once and kept in memory up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from finecorr.data import pictures
from finecorr.data.frames import raise_faults, spelled
from finecorr.data.pictures import Header
from finecorr.data.table import ImageTable
from finecorr.data.view import fit_image, stretched
from finecorr.errors import InputError

_T = TypeVar("_T")
_R = TypeVar("_R")
_LARGEST_SIDE = 8192
_ABSENT = float("nan")


@dataclass(frozen=True)
class ImageOptions:
    """What the network sees of an image. Each field is a flag of the command line."""

    image_size: tuple[int, int] = field(
        default=(136, 192),
        metadata={
            "help": "height and width that images are brought to, in pixels; they keep their "
            "aspect and are padded with black"
        },
    )
    rgb: bool = field(
        default=False, metadata={"help": "three colour channels instead of one of grey"}
    )
    max_megapixels: float = field(
        default=pictures.MAX_MEGAPIXELS,
        metadata={
            "help": "million pixels of the largest image that is read; all that are decoded at a "
            "time have together no more"
        },
    )
    cache_mb: int = field(default=4096, metadata={"help": "megabytes of memory for decoded images"})

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        height, width = self.image_size
        if min(height, width) < 32 or max(height, width) > _LARGEST_SIDE:
            raise InputError(
                f"--image-size must be from 32 32 to {_LARGEST_SIDE} {_LARGEST_SIDE}, not "
                f"{height} {width}"
            )
        pictures.check_limit(self.max_megapixels)
        if self.cache_mb < 0:
            raise InputError(f"--cache-mb must not be negative, not {self.cache_mb}")


class _Frame(NamedTuple):
    """What is decoded."""

    path: Path
    number: int


class _Decoded(NamedTuple):
    image: Tensor | None
    """`(channels, height, width)` float16; None where there is no room to keep it."""
    factor: float
    """How many pixels of the network's image are as long as one of the file's is wide."""
    pixel_size: tuple[float, float]
    """Height and width in mm of the file's pixels, by the file; NaN where it does not say it."""


class Images:
    """The images of a table as the network sees them: `(channels, height, width)` float16, 0 to 1.

    A row has one image, or several: other files, or frames of a file. All are decoded once at the
    start, which finds the unreadable ones and every scale; those that fit into the memory limit are
    kept, the others are decoded again at each use. A frame that is in several rows is decoded and
    kept once.

    Raises:
        InputError: files cannot be read; all of them are named, with their rows.
    """

    def __init__(self, table: ImageTable, options: ImageOptions) -> None:
        self._options = options
        self._source = table.source
        self._turn = _Turn(options.max_megapixels * 1e6)
        self._headers: dict[Path, Header | str] = _side_by_side(
            self._header, list(dict.fromkeys(path for row in table.images for path in row)), None
        )
        rows, frames, faults = self._frames(table)
        raise_faults(table.source, faults)
        self.rows: NDArray[np.intp] = np.array(rows, dtype=np.intp)
        """`(images,)`: the position in the table of each image's row, ascending."""
        self._numbers = table.rows
        channels = 3 if options.rgb else 1
        height, width = options.image_size
        self._room = options.cache_mb * 2**20 // (2 * channels * height * width)
        distinct = list(dict.fromkeys(frames))
        self._place = {frame: place for place, frame in enumerate(distinct)}
        self._of = frames
        decoded = _side_by_side(self._decode_or_fault, distinct, "reading images")
        raise_faults(
            table.source,
            [
                f"row {table.rows[row]}: {spelled(frame.path)} {fault}"
                for row, frame in zip(rows, frames, strict=True)
                if isinstance(fault := decoded[frame], str)
            ],
        )
        self._decoded = {f: found for f, found in decoded.items() if isinstance(found, _Decoded)}
        self.factors = np.array([self._decoded[frame].factor for frame in frames])
        """`(images,)`: how many pixels of the network's image are as long as one of the file's is
        wide."""
        sizes = [self._decoded[frame].pixel_size for frame in frames]
        self.pixel_sizes = np.array(sizes).reshape(-1, 2)
        """`(images, 2)`: height and width in mm of the file's pixels, by the file; or NaN."""

    @property
    def in_memory(self) -> bool:
        """Whether no image needs decoding again."""
        return len(self._decoded) <= self._room

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Tensor:
        frame = self._of[index]
        kept = self._decoded[frame].image
        if kept is not None:
            return kept
        try:
            return self._decode(frame)[0]
        except Exception as error:  # whatever its reader raises: it could be read at the start
            row = self._numbers[self.rows[index]]
            raise InputError(
                f"{self._source}: row {row}: {spelled(frame.path)} has changed since the start: it "
                f"{pictures.fault_of(error)}"
            ) from error

    def of_row(self, row: int) -> int:
        """The first image of a row."""
        return int(np.searchsorted(self.rows, row))

    def _frames(self, table: ImageTable) -> tuple[list[int], list[_Frame], list[str]]:
        """The images of each row: the position of the row, and what is decoded; and faults."""
        rows: list[int] = []
        frames: list[_Frame] = []
        faults = []
        for row, paths in enumerate(table.images):
            for path in paths:
                header = self._headers[path]
                named = -1 if table.frames is None else int(table.frames[row])
                fault = header if isinstance(header, str) else _fault(header, named, table)
                if fault is not None:
                    faults.append(f"row {table.rows[row]}: {spelled(path)} {fault}")
                    continue
                assert isinstance(header, Header)
                chosen = range(header.frames) if named < 0 else [named]
                frames += [_Frame(path, number) for number in chosen]
                rows += [row] * len(chosen)
        return rows, frames, faults

    def _header(self, path: Path) -> Header | str:
        # Readers raise what they like on a broken file, and none of it should end the others.
        try:
            header = pictures.header(path)
            pictures.check_size(header, self._options.max_megapixels)
            return header
        except Exception as error:
            return pictures.fault_of(error)

    def _decode(self, frame: _Frame) -> tuple[Tensor, float, tuple[float, float]]:
        header = self._headers[frame.path]
        assert isinstance(header, Header)
        with self._turn(header.height * header.width):
            picture = pictures.read(*frame)
            image = stretched(picture, rgb=self._options.rgb)
            fitted, factor = fit_image(image, self._options.image_size, picture.aspect)
        return fitted.half(), factor, picture.pixel_size or (_ABSENT, _ABSENT)

    def _decode_or_fault(self, frame: _Frame) -> _Decoded | str:
        try:
            image, factor, pixel_size = self._decode(frame)
        except Exception as error:
            return pictures.fault_of(error)
        kept = image if self._place[frame] < self._room else None
        return _Decoded(kept, factor, pixel_size)


def _fault(header: Header, named: int, table: ImageTable) -> str | None:
    if named >= header.frames:
        return f"has {header.frames} frames, and not number {named + 1}"
    if named < 0 and header.frames > 1 and not table.all_frames:
        return (
            f"has {header.frames} frames: say which with --frame-column, or use all of them with "
            "--all-frames"
        )
    return None


class _Turn:
    """Lets threads decode side by side as long as their images together are not too large."""

    def __init__(self, pixels: float) -> None:
        self._most, self._now = pixels, 0
        self._free = threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: self._now == 0 or self._now + pixels <= self._most)
            self._now += pixels
        try:
            yield
        finally:
            with self._free:
                self._now -= pixels
                self._free.notify_all()

    def __reduce__(self) -> tuple[type[_Turn], tuple[float]]:
        # A process that loads images has turns of its own.
        return _Turn, (self._most,)


def _side_by_side(
    work: Callable[[_T], _R], items: Sequence[_T], progress: str | None
) -> dict[_T, _R]:
    """The result for each item, by as many threads as the process may use."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        done = pool.map(work, items)
        bar = tqdm(done, progress, len(items), leave=False, unit="image", disable=progress is None)
        return dict(zip(items, bar, strict=True))
