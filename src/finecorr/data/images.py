"""The images of a table as the network sees them, decoded once and kept in memory up to a limit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from finecorr.data import pictures
from finecorr.data.decoding import checked_header, frames_of, seen, unpacked
from finecorr.data.frames import raise_faults
from finecorr.data.options import ImageOptions
from finecorr.data.pictures import Header
from finecorr.data.table import ImageTable
from finecorr.errors import InputError, InputWarning, Stopped, spelled

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Frame(NamedTuple):
    """What is decoded."""

    path: Path
    number: int


class _Decoded(NamedTuple):
    image: Tensor | None
    """Packed; None where there is no room to keep it."""
    shape: tuple[int, int]
    padded: bool
    """Whether it was smaller than a crop."""
    factor: float
    """How many pixels of the network's image are as long as one of the file's is wide."""
    pixel_size: tuple[float, float]
    """Height and width in mm of the file's pixels, by the file; NaN where it does not say it."""


class Inputs(Protocol):
    """What the network, or its head, is given for the rows of a table: see `Images`."""

    rows: NDArray[np.intp]
    factors: NDArray[np.float64]
    pixel_sizes: NDArray[np.float64]
    smaller: NDArray[np.bool_]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


class Images:
    """The images of a table as the network sees them: `(channels, height, width)` float32, 0 to 1;
    for crops, the images that these are taken from.

    A row has one image, or several: other files, or frames of a file. All are decoded once at the
    start, which finds the unreadable ones and every scale; those that fit into the memory limit are
    kept, the others are decoded again at each use. A frame that is in several rows is decoded and
    kept once.

    Raises:
        InputError: files cannot be read; all of them are named, with their rows.
    """

    def __init__(self, table: ImageTable, options: ImageOptions) -> None:
        self.options = options
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
        distinct = list(dict.fromkeys(frames))
        sizes = np.array([self._bytes(frame) for frame in distinct])
        room = sizes.cumsum() <= options.cache_mb * 2**20
        self._kept = {frame for frame, kept in zip(distinct, room, strict=True) if kept}
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
        self.pixel_sizes = np.array([self._decoded[frame].pixel_size for frame in frames]).reshape(
            -1, 2
        )
        """`(images, 2)`: height and width in mm of the file's pixels, by the file; or NaN."""
        self.shapes = np.array([self._decoded[frame].shape for frame in frames]).reshape(-1, 2)
        """`(images, 2)`: height and width."""
        self.smaller = np.array([self._decoded[frame].padded for frame in frames], dtype=np.bool_)
        """`(images,)`: whether it was smaller than a crop, and is mirrored at its edges."""

    @property
    def in_memory(self) -> bool:
        """Whether no image needs decoding again."""
        return len(self._decoded) == len(self._kept)

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Tensor:
        return unpacked(self._packed(index))

    def crop(self, index: int, place: tuple[int, int]) -> Tensor:
        """A crop of an image, by its top and left."""
        (top, left), (height, width) = place, self.options.crop_size
        return unpacked(self._packed(index)[:, top : top + height, left : left + width])

    def _packed(self, index: int) -> Tensor:
        frame = self._of[index]
        kept = self._decoded[frame].image
        if kept is not None:
            return kept
        try:
            return self._decode(frame)[0]
        except Exception as error:  # whatever its reader raises: it could be read at the start
            row = self._numbers[self.rows[index]]
            raise Stopped(
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
                try:
                    if isinstance(header, str):
                        raise InputError(header)
                    chosen = frames_of(header, table.frame(row), all_frames=table.all_frames)
                except InputError as fault:
                    faults.append(f"row {table.rows[row]}: {spelled(path)} {fault}")
                    continue
                frames += [_Frame(path, number) for number in chosen]
                rows += [row] * len(chosen)
        return rows, frames, faults

    def _header(self, path: Path) -> Header | str:
        # Readers raise what they like on a broken file, and none of it should end the others.
        try:
            return checked_header(path, self.options.max_megapixels)
        except Exception as error:
            return pictures.fault_of(error)

    def _bytes(self, frame: _Frame) -> int:
        """What a frame takes in memory, at most."""
        header, (height, width) = self._headers[frame.path], self.options.size
        if self.options.view == "crops":
            assert isinstance(header, Header)
            # An image may lie on its side.
            height, width = max(header.height, height), max(header.width, width)
        return 2 * self.options.channels * height * width

    def _decode(self, frame: _Frame) -> tuple[Tensor, _Decoded]:
        header = self._headers[frame.path]
        assert isinstance(header, Header)
        with self._turn(header.height * header.width):
            image = seen(pictures.read(*frame), self.options)
        found = _Decoded(None, image.shape, image.padded, image.factor, image.pixel_size)
        return image.image, found

    def _decode_or_fault(self, frame: _Frame) -> _Decoded | str:
        try:
            image, found = self._decode(frame)
        except Exception as error:
            return pictures.fault_of(error)
        return found._replace(image=image) if frame in self._kept else found


def note_smaller(source: Path, inputs: Inputs) -> None:
    """Says with an `InputWarning` how many images were smaller than a crop."""
    if inputs.smaller.any():
        warnings.warn(
            f"{source}: {inputs.smaller.sum()} of {len(inputs)} images are smaller than "
            "--crop-size: they are mirrored at their edges",
            InputWarning,
            stacklevel=2,
        )


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
        hidden = True if progress is None else None  # None: no terminal
        bar = tqdm(done, progress, len(items), leave=False, unit="image", disable=hidden)
        try:
            return dict(zip(items, bar, strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for all of them
            raise
