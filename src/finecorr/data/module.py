"""The table as batches for training, validation and test."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from finecorr.data.augmentation import Augmentation
from finecorr.data.crops import RandomCrops, WithEpoch, crops_of
from finecorr.data.dataset import Batch, ImageDataset
from finecorr.data.images import Images
from finecorr.data.left_out import Unreadable
from finecorr.data.loading import Steps, loader, prediction_loader
from finecorr.errors import Stopped

_SAMPLE = 512
"""Of training images, for the mean and standard deviation of their pixels."""


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
        """Mean and standard deviation of each channel, over the pixels of the training images, or
        of a sample of them where not all images are in memory."""
        images, chosen = self.dataset.images, self.indices["train"]
        if isinstance(images, Images) and not images.in_memory:
            places = np.linspace(0, len(chosen) - 1, min(len(chosen), _SAMPLE))
            chosen = [chosen[place] for place in places.round().astype(int)]
        sums, squares, count = torch.zeros(()), torch.zeros(()), 0
        for index in chosen:
            try:
                pixels = images[index].double().flatten(1)
            except Unreadable as error:
                self.dataset.left_out.add([error.lost])
                continue
            sums, squares = sums + pixels.sum(1), squares + pixels.square().sum(1)
            count += pixels.shape[1]
        if count == 0:
            raise Stopped(f"no image of a sample of {len(chosen)} can be read")
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
        return loader(rows, self._workers, batch_sampler=steps)

    @property
    def images_per_step(self) -> int:
        """Of all processes together."""
        return min(self._step_size, len(self.indices["train"]))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a pass over the training images; a remainder is a step only where all are."""
        return len(self.indices["train"]) // self.images_per_step

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
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]) >> 1
        image, zoom = self._augmentation(batch["image"], torch.Generator().manual_seed(seed))
        # Zoomed images have larger lengths; where not all targets are lengths, zoom is 1.
        grown = torch.stack([zoom**power for power in self.dataset.lengths], 1)
        target = batch["target"] * grown
        return {**batch, "image": image, "target": target, "unit": batch["unit"] / grown}
