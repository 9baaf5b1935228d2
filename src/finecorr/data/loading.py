"""Batches of images: those of a process in each training step, and those of a prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, Subset

from finecorr.data.crops import GridCrops, WholeImages, crops_of
from finecorr.data.dataset import Batch, ImageDataset, joined


class Steps(Sampler[list[Any]]):
    """What a process has of each training step.

    The steps are those of a single process: each takes its share of the images of a step, so that
    all are there once in an epoch. A remainder, whose correlation would be noisy, is left out,
    unless there is no other step.

    Args:
        sampler: of all images, in the same order in all processes.
        size: images of a step.
        processes: that have a share.
        rank: of this one.
    """

    def __init__(self, sampler: DistributedSampler[Batch], size: int, processes: int, rank: int):
        self.sampler = sampler  # which Lightning tells the epoch
        self._size, self._processes, self._rank = size, processes, rank

    def __len__(self) -> int:
        return max(len(self.sampler) // self._size, 1)

    def __iter__(self) -> Iterator[list[Any]]:
        places = iter(self.sampler)
        for _ in range(len(self)):
            yield list(islice(places, self._size))[self._rank :: self._processes]


def prediction_loader(
    dataset: ImageDataset, indices: Sequence[int], batch_size: int, workers: int = 0
) -> DataLoader[Batch]:
    """Batches of images as a prediction sees them: whole, or crops on a grid, of each its own.

    Args:
        dataset: the images.
        indices: which of them.
        batch_size: the largest number of images, or crops, in a batch.
        workers: processes that load images.
    """
    rows: Dataset[Batch] = Subset(dataset, indices)
    images = crops_of(dataset)
    if images is not None and images.options.test_crops:
        rows = GridCrops(dataset, images, indices)
    elif images is not None:
        return loader(WholeImages(dataset, images, indices, batch_size), workers, None)
    return loader(rows, workers, batch_size)


def loader(
    rows: Dataset[Batch], workers: int, batch_size: int | None = 1, **options: Any
) -> DataLoader[Batch]:
    return DataLoader(
        rows,
        batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=None if batch_size is None else joined,
        **options,
    )
