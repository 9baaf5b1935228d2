"""The images of a table as the network sees them, decoded once and kept in memory up to a limit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from finecorr.data import pictures
from finecorr.data.frames import raise_faults, spelled
from finecorr.data.pictures import Header
from finecorr.data.table import ImageTable
from finecorr.data.view import Intensity, fit_image, padded, scaled
from finecorr.errors import InputError, InputWarning, Stopped

_T = TypeVar("_T")
_R = TypeVar("_R")
_LARGEST_SIDE = 8192
_MOST_CROPS = 1000
_WHITE = 255
_ABSENT = float("nan")


@dataclass(frozen=True)
class ImageOptions:
    """What the network sees of an image. Each field is a flag of the command line."""

    view: Literal["fit", "crops"] = field(
        default="fit",
        metadata={
            "help": "fit: the whole image, brought to --image-size; crops: at the resolution of "
            "its file, where blur, noise and compression are: crops of it for training, and the "
            "whole for prediction"
        },
    )
    image_size: tuple[int, int] = field(
        default=(136, 192),
        metadata={
            "help": "height and width that images are brought to, in pixels; they keep their "
            "aspect and are padded with black (--view fit)"
        },
    )
    crop_size: tuple[int, int] = field(
        default=(224, 224),
        metadata={
            "help": "height and width of the random crops for training; smaller images are "
            "mirrored at their edges (--view crops)"
        },
    )
    test_crops: int = field(
        default=0,
        metadata={
            "help": "predict from so many crops on a grid, whose predictions are averaged; 0 for "
            "the whole image, which not every network takes (--view crops)"
        },
    )
    intensity: Intensity = field(
        default=("image",),
        metadata={
            "help": "what becomes black and white: 'image' for the darkest and the brightest value "
            "of each image; 'type' for what its type, or a DICOM's bits stored, can hold; or two "
            "numbers, in the unit of its values (HU, say)"
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
        for flag, (height, width) in (
            ("--image-size", self.image_size),
            ("--crop-size", self.crop_size),
        ):
            if min(height, width) < 32 or max(height, width) > _LARGEST_SIDE:
                raise InputError(
                    f"{flag} must be from 32 32 to {_LARGEST_SIDE} {_LARGEST_SIDE}, not "
                    f"{height} {width}"
                )
        if not 0 <= self.test_crops <= _MOST_CROPS:
            raise InputError(f"--test-crops must be from 0 to {_MOST_CROPS}, not {self.test_crops}")
        if self.test_crops and self.view == "fit":
            raise InputError("--test-crops is for --view crops: with fit, the whole image is seen")
        check_intensity(self.intensity)
        pictures.check_limit(self.max_megapixels)
        if self.cache_mb < 0:
            raise InputError(f"--cache-mb must not be negative, not {self.cache_mb}")

    @property
    def channels(self) -> int:
        """Of what the network sees."""
        return 3 if self.rgb else 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network is trained on."""
        return self.image_size if self.view == "fit" else self.crop_size

    @property
    def description(self) -> str:
        """For a page."""
        height, width = self.size
        if self.view == "fit":
            return f"{height} x {width} pixels"
        seen = f"{self.test_crops} crops" if self.test_crops else "the whole image"
        return f"crops of {height} x {width} pixels, tested on {seen}"


def check_intensity(intensity: Intensity) -> None:
    """Raises InputError if it is none."""
    if intensity in (("image",), ("type",)):
        return
    numbers = [limit for limit in intensity if isinstance(limit, float)]
    if len(numbers) == len(intensity) == 2 and -np.inf < numbers[0] < numbers[1] < np.inf:
        return
    given = " ".join(f"{limit:g}" if isinstance(limit, float) else limit for limit in intensity)
    raise InputError(
        f"--intensity must be image, type, or two numbers, the lower first, not {given}"
    )


class _Frame(NamedTuple):
    """What is decoded."""

    path: Path
    number: int


class _Decoded(NamedTuple):
    image: Tensor | None
    """As `packed` gives it; None where there is no room to keep it."""
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
            pictures.check_size(header, self.options.max_megapixels)
            return header
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
            picture = pictures.read(*frame)
            image = scaled(picture, self.options.intensity, rgb=self.options.rgb)
            if self.options.view == "fit":
                seen, factor = fit_image(image, self.options.image_size, picture.aspect)
            else:
                seen, factor = padded(image, self.options.crop_size), 1.0
        small = seen.shape != image.shape and self.options.view == "crops"
        shape = (seen.shape[1], seen.shape[2])
        pixel_size = picture.pixel_size or (_ABSENT, _ABSENT)
        return packed(seen), _Decoded(None, shape, small, factor, pixel_size)

    def _decode_or_fault(self, frame: _Frame) -> _Decoded | str:
        try:
            image, found = self._decode(frame)
        except Exception as error:
            return pictures.fault_of(error)
        return found._replace(image=image) if frame in self._kept else found


def packed(image: Tensor) -> Tensor:
    """An image from 0 to 1 as it is kept: in 8 bits where they hold all of it, as those of a
    photograph at its own resolution, or else in float16."""
    eight = (image * _WHITE).round_().byte()
    return eight if torch.equal(eight.float() / _WHITE, image) else image.half()


def unpacked(image: Tensor) -> Tensor:
    """What the network is given of it: float32, from 0 to 1."""
    return image.float() / _WHITE if image.dtype == torch.uint8 else image.float()


def _fault(header: Header, named: int, table: ImageTable) -> str | None:
    if named >= header.frames:
        return f"has {header.frames} frames, and not number {named + 1}"
    if named < 0 and header.frames > 1 and not table.all_frames:
        return (
            f"has {header.frames} frames: say which with --frame-column, or use all of them with "
            "--all-frames"
        )
    return None


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
