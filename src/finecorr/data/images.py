"""The images of a table as the network sees them, kept in memory up to a limit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from finecorr.data import pictures
from finecorr.data.decoding import (
    NO_SIZE,
    Frame,
    Geometry,
    checked_header,
    frames_of,
    geometry,
    seen,
    unpacked,
)
from finecorr.data.frames import raise_faults
from finecorr.data.image_options import ImageOptions
from finecorr.data.left_out import LeftOut, Lost, Unreadable
from finecorr.data.pictures import Header, Shape
from finecorr.data.table import ImageTable
from finecorr.data.threads import Turns, side_by_side
from finecorr.errors import InputError, InputWarning, spelled

SAMPLE = 256
"""How many are decoded at the start of those that are not kept."""


class Inputs(Protocol):
    """What the network, or its head, is given for the rows of a table: see `Images`."""

    rows: NDArray[np.intp]
    factors: NDArray[np.float64]
    pixel_sizes: NDArray[np.float64]
    unfit: NDArray[np.bool_]
    lost: NDArray[np.bool_]

    @property
    def vectors(self) -> Tensor | None:
        """`(n, features)`: all of them, where they are vectors of which none is lost."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...

    def shape(self, index: int) -> tuple[int, ...]: ...


class Images:
    """The images of a table as the network sees them: `(channels, height, width)`, or of volumes
    `(channels, depth, height, width)`, float32, 0 to 1; for crops, the images that these are taken
    from.

    A row has one image, or several: other files, or frames of a file. At the start the header of
    each file is read, which says every size and scale. The images that fit into the memory limit
    are decoded then, and kept; of the others a sample is decoded, and all at each use. A frame that
    is in several rows is decoded and kept once.

    Args:
        table: the rows.
        options: what the network sees.
        left_out: the images that cannot be read, if some may be left out.

    Raises:
        InputError: files cannot be read, of those that are decoded at the start, and more than may
            be left out; all of them are named, with their rows.
    """

    vectors: Tensor | None = None

    def __init__(
        self, table: ImageTable, options: ImageOptions, left_out: LeftOut | None = None
    ) -> None:
        self.options = options
        self._source, self._numbers = table.source, table.rows
        self._turn = Turns(options.max_megapixels * 1e6)
        self._paths = list(dict.fromkeys(chain.from_iterable(table.images)))
        headers = _Headers(self._paths, options)
        self.rows, files, numbers = _frames(table, self._paths, headers)
        """`rows`: `(images,)`: the position in the table of each image's row, ascending."""
        self._files, self._frame_numbers, self._of = _distinct(files, numbers)
        """Of each distinct frame its file and number; and of each image its frame."""
        self._pixels, self._geometry = _geometries(
            map(headers.shape, self._files.tolist(), self._frame_numbers.tolist()), options
        )
        """Of each distinct frame its pixels; and its geometry, as `_flattened` has it."""
        axes = len(options.size)
        sizes, (factors, unfit) = self._geometry[:, :axes], self._geometry[:, axes : axes + 2].T
        self.factors = factors[self._of]
        """`(images,)`: how many pixels of the network's image are as long as one of the file's is
        wide."""
        self.pixel_sizes = self._geometry[self._of, axes + 2 :]
        """`(images, 2)`: height and width in mm of the file's pixels, by the file; or NaN. Of
        volumes `(images, 3)`: depth, height and width of voxels."""
        self.shapes = sizes[self._of].astype(np.intp)
        """`(images, 2)`: height and width; `(images, 3)`: depth, height and width."""
        self.unfit = unfit[self._of].astype(np.bool_)
        """`(images,)`: whether it is smaller than a crop, and is mirrored at its edges; or a volume
        larger than the image, and is cut."""
        room = (2 * options.channels * sizes.prod(1)).cumsum() <= options.cache_mb * 2**20
        self.in_memory = bool(room.all())
        """Whether no image needs decoding again."""
        self._faults = {
            frame: headers.faults[file]
            for frame, file in enumerate(self._files.tolist())
            if file in headers.faults
        }
        self._kept: dict[int, Tensor] = {}
        self._checked = self._decode_some(room)
        self.lost = np.isin(self._of, list(self._faults))
        """`(images,)`: whether it cannot be read, as the start has found."""
        self._settle(left_out)

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Tensor:
        """Raises `finecorr.data.left_out.Unreadable` if it cannot be read."""
        return unpacked(self._packed(index))

    def shape(self, index: int) -> tuple[int, ...]:
        """Of the image, whether or not it can be read."""
        return self.options.channels, *self.shapes[index].tolist()

    def crop(self, index: int, place: tuple[int, int]) -> Tensor:
        """A crop of an image, by its top and left."""
        (top, left), (height, width) = place, self.options.crop_size
        return unpacked(self._packed(index)[:, top : top + height, left : left + width])

    def of_row(self, row: int) -> int:
        """The first image of a row."""
        return int(np.searchsorted(self.rows, row))

    def _packed(self, index: int) -> Tensor:
        frame = int(self._of[index])
        if frame in self._kept:
            return self._kept[frame]
        if frame in self._faults:
            raise Unreadable(self._source, self._lost(index, self._faults[frame]))
        try:
            return self._decode(frame)
        except Exception as error:  # whatever its reader raises
            lost = self._lost(index, pictures.fault_of(error))
            raise Unreadable(self._source, lost) from error

    def _lost(self, index: int, reason: str) -> Lost:
        frame = int(self._of[index])
        row = int(self._numbers[self.rows[index]])
        return Lost(self._frame(frame), reason, row, frame in self._checked)

    def _frame(self, frame: int) -> Frame:
        return Frame(self._paths[self._files[frame]], int(self._frame_numbers[frame]))

    def _decode_some(self, room: NDArray[np.bool_]) -> set[int]:
        """Those for which there is room, and of the others a sample; which of them can be read."""
        rest = np.flatnonzero(~room)
        chosen = np.linspace(0, len(rest) - 1, min(len(rest), SAMPLE)).round().astype(np.intp)
        wanted = [*np.flatnonzero(room).tolist(), *rest[chosen].tolist()]
        wanted = [frame for frame in wanted if frame not in self._faults]
        results = side_by_side(self._decode_or_fault, wanted, "reading images")
        for frame, found in zip(wanted, results, strict=True):
            if isinstance(found, str):
                self._faults[frame] = found
            elif room[frame]:
                self._kept[frame] = found
        return set(wanted) - self._faults.keys()

    def _settle(self, left_out: LeftOut | None) -> None:
        """Leaves out what cannot be read, or raises an InputError that names all of it."""
        if not self._faults:
            return
        images = np.flatnonzero(self.lost)
        every = [self._lost(index, self._faults[self._of[index]]) for index in images.tolist()]
        frames = {lost.frame for lost in every} - (left_out.found.keys() if left_out else set())
        if left_out is not None and len(left_out) + len(frames) <= left_out.most:
            left_out.add(every)
            return
        remedy = "these rows"
        if left_out is not None:
            remedy += f", or leave them out (--tolerate {len(left_out) + len(frames)})"
        raise_faults(self._source, [str(lost) for lost in every], remedy)

    def _decode(self, frame: int) -> Tensor:
        with self._turn(int(self._pixels[frame])):
            picture = pictures.read(*self._frame(frame), volumes=self.options.volumes)
            found = seen(picture, self.options)
        own = _flattened(found.geometry, found.pixel_size)
        if not np.array_equal(own, self._geometry[frame], equal_nan=True):
            raise ValueError("its pixels are not of the size that its header said at the start")
        return found.image

    def _decode_or_fault(self, frame: int) -> Tensor | str:
        try:
            return self._decode(frame)
        except Exception as error:
            return pictures.fault_of(error)


class _Headers:
    """What files say before they are decoded, of very many in little memory."""

    def __init__(self, paths: Sequence[Path], options: ImageOptions) -> None:
        self.faults: dict[int, str] = {}
        """Why a file cannot be read."""
        # As large as it should be, what cannot be read has a place.
        stand_in = (Shape.of(options.size, (1.0,) * 3 if options.volumes else None),)
        alike: dict[tuple[Shape, ...], tuple[Shape, ...]] = {}
        self._shapes: list[tuple[Shape, ...]] = []
        self.frames = np.full(len(paths), -1)
        """`(files,)`: how many each has; -1 where nobody knows."""

        def read(path: Path) -> Header | str:
            # Readers raise what they like on a broken file, and none of it should end the others.
            try:
                return checked_header(path, options.max_megapixels, volumes=options.volumes)
            except Exception as error:
                return pictures.fault_of(error)

        for file, header in enumerate(side_by_side(read, paths, "reading headers")):
            shapes: tuple[Shape, ...] = stand_in
            if isinstance(header, str):
                self.faults[file] = header
            else:
                self.frames[file], shapes = header.frames, tuple(header.shapes)
            self._shapes.append(alike.setdefault(shapes, shapes))

    def shape(self, file: int, frame: int) -> Shape:
        shapes = self._shapes[file]
        return shapes[frame if len(shapes) > 1 else 0]


def _frames(
    table: ImageTable, paths: Sequence[Path], headers: _Headers
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Of each image the position of its row, its file and its frame.

    Raises:
        InputError: there is no such frame, or nothing says which of several.
    """
    place = {path: file for file, path in enumerate(paths)}
    counts = np.fromiter(map(len, table.images), np.intp, len(table))
    every = chain.from_iterable(table.images)
    files = np.fromiter(map(place.__getitem__, every), np.intp, counts.sum())
    rows = np.arange(len(table)).repeat(counts)
    named = np.full(len(rows), -1) if table.frames is None else table.frames[rows]
    held = headers.frames[files]
    several = (named < 0) & (held > 1)
    wrong = (held >= 0) & (named >= held) | (several & (not table.all_frames))
    faults = []
    for image in np.flatnonzero(wrong).tolist():
        try:
            header = Header((), int(held[image]))
            frames_of(header, table.frame(rows[image]), all_frames=table.all_frames)
        except InputError as fault:
            path = paths[files[image]]
            faults.append(f"row {table.rows[rows[image]]}: {spelled(path)} {fault}")
    raise_faults(table.source, faults)
    count = np.where(several, held, 1)
    within = np.arange(count.sum()) - (count.cumsum() - count).repeat(count)
    return rows.repeat(count), files.repeat(count), named.clip(0).repeat(count) + within


def _distinct(
    files: NDArray[np.intp], numbers: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """File and number of each frame, once, in the order of the first image that it is; and for each
    image its place among these."""
    key = files * (numbers.max(initial=0) + 1) + numbers
    _, first, of = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return files[first[order]], numbers[first[order]], place[of]


def _geometries(
    shapes: Iterable[Shape], options: ImageOptions
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each frame the number of its pixels, and its geometry, as `_flattened` has it."""
    known: dict[Shape, int] = {}
    of = np.array([known.setdefault(shape, len(known)) for shape in shapes], dtype=np.intp)
    pixels = np.array([math.prod(shape.size) for shape in known])
    found = [_flattened(geometry(shape, options), shape.pixel_size or NO_SIZE) for shape in known]
    return pixels[of], np.array(found, dtype=np.float64)[of]


def _flattened(found: Geometry, pixel_size: tuple[float, ...]) -> tuple[float, ...]:
    return (*found.size, found.factor, found.unfit, *pixel_size)


def note_unfit(source: Path, inputs: Inputs) -> None:
    """Says with an `InputWarning` how many images were smaller than a crop, or larger than is
    seen."""
    if inputs.unfit.any():
        what = (
            "images are smaller than --crop-size: they are mirrored at their edges"
            if inputs.pixel_sizes.shape[1] == 2
            else "volumes are larger than --image-size: they are cut at their edges"
        )
        warnings.warn(
            f"{source}: {inputs.unfit.sum()} of {len(inputs)} {what}", InputWarning, stacklevel=2
        )
