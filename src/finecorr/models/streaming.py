"""What models make of any number of images, as they come: in constant memory, and what cannot be
read is said of its row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finecorr.data import pictures
from finecorr.data.augmentation import Augmentation
from finecorr.data.crops import PIXELS_ON_CPU, PIXELS_ON_GPU
from finecorr.data.decoding import Seen, checked_header, frames_of, seen, unpacked
from finecorr.data.encoding import Encoding
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.lengths import SAME
from finecorr.data.pictures import Picture
from finecorr.data.view import grid
from finecorr.errors import InputError, spelled
from finecorr.models import networks
from finecorr.models.novelty import Novelty
from finecorr.models.regressor import Regressor

ROWS = 32
"""Rows that a thread takes at a time."""
_IMAGES = 64
_NO_PIXEL_SIZE = "has no pixel size"


@dataclass(frozen=True)
class Row:
    """What there is one prediction for."""

    pictures: tuple[Path | Picture, ...]
    """Files, or pictures that are known already."""
    frame: int | None = None
    """Of the files, from 0."""
    all_frames: bool = False
    pixel_size: float | None = None
    """In the unit of the targets; None for what the files say, in mm."""
    cells: tuple[float | str, ...] = ()
    """Of its feature columns, in the place of pictures."""


@dataclass(frozen=True)
class Member:
    """A model, of one or of several whose predictions are averaged."""

    regressor: Regressor
    images: ImageOptions
    lengths: tuple[int, ...]
    """As `finecorr.data.options.TableOptions.lengths`."""
    augmentation: AugmentationOptions
    novelty: Novelty | None = None
    encoding: Encoding | None = None
    """Of the cells of rows; all members have one, or none has."""


class Outcome(NamedTuple):
    """What the models make of a row."""

    values: NDArray[np.float64]
    """`(members * versions, targets)`, in the table's unit; of several images, the means."""
    features: NDArray[np.float64]
    """`(features,)`: those of the first member's network; of several images, the means."""
    distance: float
    """The largest of an image to those of the first member's training; NaN where nobody knows."""
    unfit: bool = False
    """Whether an image was smaller than a crop, and was mirrored at its edges; or a volume larger
    than what is seen, and was cut."""
    differs: bool = False
    """Whether a file says another size of its pixels than the row."""
    fault: str = ""
    """Why there is no prediction; the others are NaN then."""


def outcomes(
    members: Sequence[Member], rows: Iterable[Row], *, versions: int = 1
) -> Iterator[Outcome]:
    """One for each row, in their order.

    Threads decode and compute side by side. On a CPU each has a batch of its own in the network,
    which is faster than all at one; on a GPU one computes while the others decode.

    Args:
        members: the models.
        rows: any number of them; they are taken as they are needed, `ROWS` at a time.
        versions: of each image: itself, and others that vary as in the training.
    """
    threads = torch.get_num_threads()
    work = _Work(members, versions)
    count, each = (threads, 1) if work.side_by_side else (max(threads, 2), threads)
    pool = ThreadPoolExecutor(count, "predict", torch.set_num_threads, (each,))
    waiting: deque[Future[list[Outcome]]] = deque()
    rest = iter(rows)
    try:
        while chunk := list(islice(rest, ROWS)):
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > 2 * count:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # torch takes the latest number for all threads to come, not only those of this pool.
        torch.set_num_threads(threads)


class _Decoded(NamedTuple):
    """The images of a row, each as every member sees it."""

    row: Row
    images: list[dict[ImageOptions, Seen]]
    fault: str = ""

    @property
    def pixels(self) -> int:
        return sum(image.image.numel() for views in self.images for image in views.values())


class _Work:
    """Decodes and computes a few rows."""

    def __init__(self, members: Sequence[Member], versions: int) -> None:
        self._members, self._versions = members, versions
        self._views = list(dict.fromkeys(member.images for member in members))
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        self._device = accelerator or torch.device("cpu")
        on_cpu = self._device.type == "cpu"
        self.side_by_side = on_cpu and all(
            networks.is_reentrant(member.regressor.architecture.network) for member in members
        )
        """Whether several threads may be in a network at a time."""
        self._turn: AbstractContextManager[Any] = nullcontext() if self.side_by_side else Lock()
        self._pixels = PIXELS_ON_CPU if on_cpu else PIXELS_ON_GPU
        for member in members:
            member.regressor.to(self._device).arrange().eval()

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        found: list[Outcome] = []
        pending: list[_Decoded] = []
        with torch.inference_mode():
            if self._members[0].encoding is not None:
                return self._of_cells([row.cells for row in rows])
            for row in rows:
                pending.append(self._decoded(row))
                if sum(decoded.pixels for decoded in pending) >= self._pixels:
                    found += self._computed(pending)
                    pending = []
            return found + self._computed(pending)

    def _of_cells(self, rows: list[tuple[float | str, ...]]) -> list[Outcome]:
        """Of rows of feature columns. One that has what the training has not seen the like of is as
        far from it as can be."""
        values, fits = [], np.ones(len(rows), dtype=np.bool_)
        for number, member in enumerate(self._members):
            assert member.encoding is not None
            cells = member.encoding.arrays(rows)
            vectors = member.encoding.vectors(cells)
            fits &= np.isfinite(vectors.numpy()).all(1)
            with self._turn:
                predictions = member.regressor(vectors.to(self._device)).cpu().double()
            values.append(predictions.numpy())
            if number == 0:
                features, distances = vectors.double().numpy(), np.full(len(rows), np.nan)
                if member.novelty is not None:
                    distances = member.novelty(vectors).numpy()
                    distances[member.encoding.strange(cells).any(axis=1)] = np.inf
        found = np.stack(values, axis=1)
        return [
            Outcome(found[row], features[row], distances[row])
            if fits[row] and np.isfinite(found[row]).all()
            else self._none("has a number that is too large for the model")
            for row in range(len(rows))
        ]

    def _decoded(self, row: Row) -> _Decoded:
        images: list[dict[ImageOptions, Seen]] = []
        for source in row.pictures:
            name = "" if isinstance(source, Picture) else f"{spelled(source)} "
            # Readers raise what they like on a broken file, and none of it should end the others.
            try:
                for picture in self._pictures(source, row):
                    images.append({view: seen(picture, view) for view in self._views})
            except InputError as error:
                return _Decoded(row, [], f"{name}{error}")
            except FileNotFoundError:
                return _Decoded(row, [], f"{name}is not there")
            except Exception as error:
                return _Decoded(row, [], f"{name}{pictures.fault_of(error)}")
            # Whoever measures lengths has to know them, whichever member it is.
            if any(any(member.lengths) for member in self._members) and row.pixel_size is None:
                for image in images:
                    if np.isnan(image[self._views[0]].pixel_size[-1]):
                        return _Decoded(row, [], f"{name}{_NO_PIXEL_SIZE}")
        return _Decoded(row, images)

    def _pictures(self, source: Path | Picture, row: Row) -> Iterator[Picture]:
        if isinstance(source, Picture):
            yield source
            return
        most = max(view.max_megapixels for view in self._views)
        volumes = self._views[0].volumes
        header = checked_header(source, most, volumes=volumes)
        for frame in frames_of(header, row.frame, all_frames=row.all_frames):
            yield pictures.read(source, frame, volumes=volumes)

    def _computed(self, rows: list[_Decoded]) -> list[Outcome]:
        whole = [row for row in rows if row.images]
        parts = [self._of_member(member, whole) for member in self._members] if whole else []
        found = []
        place = 0
        for row in rows:
            if not row.images:
                found.append(self._none(row.fault))
                continue
            values = np.concatenate([values[place] for values, _, _ in parts])
            _, features, distances = parts[0]
            views = [view for image in row.images for view in image.values()]
            found.append(
                Outcome(
                    values,
                    features[place],
                    distances[place],
                    any(view.unfit for view in views),
                    any(_differs(view, row.row.pixel_size) for view in views),
                )
                if np.isfinite(values).all()
                else self._none("its prediction is no finite number: the model is damaged")
            )
            place += 1
        return found

    def _none(self, fault: str) -> Outcome:
        first = self._members[0].regressor
        values = np.full((len(self._members) * self._versions, first.architecture.targets), np.nan)
        return Outcome(values, np.full(first.feature_count, np.nan), np.nan, fault=fault)

    def _of_member(
        self, member: Member, rows: list[_Decoded]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Of each row its values `(rows, versions, targets)`, features and distance."""
        options, voxel = member.augmentation, member.images.voxel
        vary = Augmentation(options, lengths=all(member.lengths), voxel=voxel)
        # Each image has as many parts as the others, so that all of them weigh the same.
        parts = max(member.images.test_crops, 1)
        of_image = np.array([number for number, row in enumerate(rows) for _ in row.images])
        owners = of_image.repeat(parts)
        values, features = [], []
        for version in range(self._versions):
            tensors, units = [], []
            for row in rows:
                for views in row.images:
                    view = views[member.images]
                    image = unpacked(view.image)
                    side = row.row.pixel_size or view.pixel_size[-1]
                    unit = [(side / view.factor) ** power for power in member.lengths]
                    if version > 0:
                        # The same for the same image, whatever comes before it.
                        made, zoom = vary(image[None], torch.Generator().manual_seed(version))
                        image, grown = made[0], float(zoom)
                        powers = zip(unit, member.lengths, strict=True)
                        unit = [own / grown**power for own, power in powers]
                    tensors += _parts(image, member.images)
                    units += [unit] * parts
            predictions, own = self._forward(member.regressor, tensors)
            values.append(_means(predictions * np.array(units), owners))
            features.append(own)
        of_images = features[0].reshape(-1, parts, features[0].shape[1]).mean(1)
        distances = np.full(len(rows), np.nan)
        if member.novelty is not None:
            distances = np.full(len(rows), -np.inf)
            np.maximum.at(distances, of_image, member.novelty(torch.from_numpy(of_images)).numpy())
        return np.stack(values, axis=1), _means(of_images, of_image), distances

    def _forward(
        self, regressor: Regressor, images: list[Tensor]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predictions `(images, targets)` in the unit of the network, and features."""
        predictions = np.empty((len(images), regressor.architecture.targets))
        features = np.empty((len(images), regressor.feature_count))
        alike: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(images):
            alike.setdefault(image.shape, []).append(place)
        for shape, places in alike.items():
            most = min(max(self._pixels // shape.numel(), 1), _IMAGES)
            for at in range(0, len(places), most):
                chosen = places[at : at + most]
                batch = torch.stack([images[place] for place in chosen])
                with self._turn:
                    given = batch.to(self._device, memory_format=regressor.layout)
                    own = regressor.features(given)
                    scores, _ = regressor.scores(own)
                    predictions[chosen] = regressor.in_unit(scores).cpu().double().numpy()
                    features[chosen] = own.cpu().double().numpy()
        return predictions, features


def _parts(image: Tensor, options: ImageOptions) -> list[Tensor]:
    """The image, or its crops on a grid."""
    if options.view == "fit" or not options.test_crops:
        return [image]
    (height, width), shape = options.crop_size, (image.shape[1], image.shape[2])
    return [
        image[:, top : top + height, left : left + width]
        for top, left in grid(shape, options.crop_size, options.test_crops)
    ]


def _means(values: NDArray[np.float64], owners: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of the values `(n, d)` of each owner, who are in their order."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    return np.asarray(
        np.add.reduceat(values, starts) / np.diff(starts, append=len(owners))[:, None]
    )


def _differs(view: Seen, pixel_size: float | None) -> bool:
    if pixel_size is None:
        return False
    ratios = np.array(view.pixel_size) / pixel_size
    return bool((np.abs(ratios - 1) > SAME).any())  # NaN is no difference
