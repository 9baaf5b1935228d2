"""Images at the resolution of their files: for training random crops, for prediction crops on a
grid, or the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

from finecorr.data.dataset import Batch, ImageDataset, joined
from finecorr.data.images import Images
from finecorr.data.view import grid

PIXELS_ON_GPU, PIXELS_ON_CPU = 2**22, 2**18
"""Of a batch of whole images: a GPU is busy with many, and a CPU is fastest where the layers of one
fit into its cache."""


def crops_of(dataset: ImageDataset) -> Images | None:
    """The images of a data set, if crops are to be taken from them."""
    images = dataset.images
    return images if isinstance(images, Images) and images.options.view == "crops" else None


class RandomCrops(Dataset[Batch]):
    """A crop of each image, which depends on seed, image and epoch alone."""

    def __init__(
        self, dataset: ImageDataset, images: Images, indices: Sequence[int], seed: int
    ) -> None:
        self._dataset, self._images = dataset, images
        self._indices, self._seed = indices, seed

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place_and_epoch: tuple[int, int]) -> Batch:
        place, epoch = place_and_epoch
        index = self._indices[place]
        room = self._images.shapes[index] - self._images.options.crop_size
        rng = np.random.default_rng([self._seed, epoch, index])
        top, left = rng.integers(0, room, endpoint=True).tolist()
        return _crop(self._dataset, self._images, index, (top, left))


class WithEpoch(DistributedSampler[Batch]):
    """Gives the number of the epoch with each place: a process that loads images has no other way
    to know it."""

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        for place in super().__iter__():
            yield int(place), self.epoch  # type: ignore[call-overload]


class GridCrops(Dataset[Batch]):
    """The crops on a grid over each image, one after the other."""

    def __init__(self, dataset: ImageDataset, images: Images, indices: Sequence[int]) -> None:
        self._dataset, self._images, self._indices = dataset, images, indices

    def __len__(self) -> int:
        return len(self._indices) * self._images.options.test_crops

    def __getitem__(self, place: int) -> Batch:
        options = self._images.options
        image, number = divmod(place, options.test_crops)
        index = self._indices[image]
        height, width = self._images.shapes[index].tolist()
        crop = grid((height, width), options.crop_size, options.test_crops)[number]
        return _crop(self._dataset, self._images, index, crop)


class WholeImages(Dataset[Batch]):
    """Batches of images of one size, however many of each there are.

    Args:
        dataset: of the images.
        images: the same.
        indices: which of them.
        most: the largest number of images in a batch; of large ones there are fewer.
    """

    def __init__(
        self, dataset: ImageDataset, images: Images, indices: Sequence[int], most: int
    ) -> None:
        self._dataset = dataset
        self._batches: list[list[int]] = []
        pixels = PIXELS_ON_GPU if torch.cuda.is_available() else PIXELS_ON_CPU
        own = np.array(indices, dtype=np.intp)
        sizes, of_image = np.unique(images.shapes[own], axis=0, return_inverse=True)
        for number, (height, width) in enumerate(sizes.tolist()):
            alike = own[of_image == number].tolist()
            count = min(max(pixels // (height * width), 1), most)
            self._batches += [alike[at : at + count] for at in range(0, len(alike), count)]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        return joined([self._dataset[index] for index in self._batches[number]])


def _crop(dataset: ImageDataset, images: Images, index: int, place: tuple[int, int]) -> Batch:
    shape = (images.options.channels, *images.options.crop_size)
    return dataset.item(index, lambda: images.crop(index, place), shape)
