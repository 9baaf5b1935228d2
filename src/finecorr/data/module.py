"""The table as batches for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, Subset

from finecorr.data.augmentation import Augmentation
from finecorr.data.crops import GridCrops, RandomCrops, WholeImages, WithEpoch, crops_of
from finecorr.data.dataset import Batch, ImageDataset


class ImageDataModule(L.LightningDataModule):
    """Batches of a data set by split; the order and the augmentation depend on seed and step only,
    so that a training that was interrupted goes on as it would have.

    Args:
        dataset: all the rows.
        splits: `(n,)`: for each row "train", "validation" or "test".
        augmentation: what is done to training images.
        step_size: training images in a step, of all processes together.
        batch_size: images of other splits in a batch.
        workers: processes that load images; 0 where they are in memory.
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        splits: NDArray[np.str_],
        augmentation: Augmentation,
        *,
        step_size: int,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._augmentation = augmentation
        self._step_size = step_size
        self._batch_size = batch_size
        self._workers = workers
        self._seed = seed
        self.first_epoch = 0
        """From which a training goes on."""
        labelled = np.isfinite(dataset.targets).any(axis=1)
        of_image = splits[dataset.rows]
        self.indices = {
            name: np.flatnonzero((of_image == name) & labelled).tolist()
            for name in np.unique(splits)
        }
        """For each split, its images with a label."""
        # Only the ratios of those that are trained on count, which float32 can hold.
        if dataset.weights is not None:
            largest = dataset.weights[self.indices["train"]].max()
            dataset.weights = np.minimum(dataset.weights / largest, 1)

    def training_targets(self) -> NDArray[np.float64]:
        """`(n, targets)`: the training labels as the network learns them."""
        return self.dataset.targets[self.indices["train"]]

    def training_intensity(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, over the pixels of the training images."""
        sums, squares, count = torch.zeros(()), torch.zeros(()), 0
        for index in self.indices["train"]:
            pixels = self.dataset.images[index].double().flatten(1)
            sums, squares = sums + pixels.sum(1), squares + pixels.square().sum(1)
            count += pixels.shape[1]
        mean = sums / count
        # Where all are black, there is nothing to divide by.
        std = (squares / count - mean.square()).clamp_min(1e-6).sqrt()
        return mean.tolist(), std.tolist()

    def train_dataloader(self) -> DataLoader[Batch]:
        indices, images = self.indices["train"], crops_of(self.dataset)
        trainer = self.trainer
        assert trainer is not None
        rows: Dataset[Batch] = Subset(self.dataset, indices)
        kind: type[DistributedSampler[Batch]] = DistributedSampler
        if images is not None:
            rows, kind = RandomCrops(self.dataset, images, indices, self._seed), WithEpoch
        # Alone among torch's samplers, this one is seeded by the epoch.
        sampler = kind(rows, 1, 0, shuffle=True, seed=self._seed)
        # Processes that load images begin before Lightning says which epoch it is.
        sampler.set_epoch(self.first_epoch)
        steps = Steps(sampler, self._step_size, trainer.world_size, trainer.global_rank)
        return _loader(rows, self._workers, batch_sampler=steps)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a pass over the training images; a remainder is a step only where all are."""
        return max(len(self.indices["train"]) // self._step_size, 1)

    @property
    def validates(self) -> bool:
        """Whether there is a validation split."""
        return bool(self.indices.get("validation"))

    def val_dataloader(self) -> DataLoader[Batch]:
        trainer = self.trainer
        assert trainer is not None
        own = self.indices["validation"][trainer.global_rank :: trainer.world_size]
        return prediction_loader(self.dataset, own, self._batch_size, self._workers)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        trainer = self.trainer
        assert trainer is not None
        if not trainer.training or batch["image"].ndim == 2:
            return batch
        place = [self._seed, trainer.global_step, trainer.global_rank]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        image, zoom = self._augmentation(batch["image"], torch.Generator().manual_seed(seed))
        # Zoomed images have larger lengths; where not all targets are lengths, zoom is 1.
        target = batch["target"] * zoom[:, None]
        return {**batch, "image": image, "target": target, "unit": batch["unit"] / zoom[:, None]}


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
        return _loader(WholeImages(dataset, images, indices, batch_size), workers, None)
    return _loader(rows, workers, batch_size)


def _loader(
    rows: Dataset[Batch], workers: int, batch_size: int | None = 1, **options: Any
) -> DataLoader[Batch]:
    return DataLoader(
        rows,
        batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        **options,
    )
