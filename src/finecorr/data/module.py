"""The table as batches for training, validation and test."""

from __future__ import annotations

from typing import Any, TypedDict

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from finecorr.data.augmentation import Augmentation
from finecorr.data.images import Images
from finecorr.data.lengths import pixel_sizes
from finecorr.data.table import ImageTable


class Batch(TypedDict):
    """What the network is given of a few images."""

    row: Tensor
    """`(n,)`: the positions of their rows in the table."""
    image: Tensor
    """`(n, channels, height, width)` float32, from 0 to 1."""
    target: Tensor
    """`(n, targets)` float32, NaN for a missing label; lengths in pixels of `image`."""
    unit: Tensor
    """`(n, targets)`: what one unit of `target` is in the table's unit."""
    weight: Tensor
    """`(n,)`"""


class ImageDataset(Dataset[Batch]):
    """The images of a table with the labels of their rows.

    Args:
        table: the rows.
        images: their images, as the network sees them.
        lengths: for each target, whether it is a length that is learnt in pixels.
        targets: `(rows, targets)` in the place of the table's, where labels were replaced.

    Raises:
        InputError: nothing says how large the pixels of an image are.
    """

    def __init__(
        self,
        table: ImageTable,
        images: Images,
        lengths: tuple[bool, ...],
        targets: NDArray[np.float64] | None = None,
    ) -> None:
        self.images = images
        self.rows = images.rows
        """`(images,)`: the position in the table of each image's row."""
        self.table_rows = len(table)
        self.units = np.ones((len(images), len(table.target_columns)))
        if any(lengths):
            self.units[:, np.array(lengths)] = pixel_sizes(table, images)[:, None]
        labels = table.targets if targets is None else targets
        self.targets = labels[self.rows] / self.units
        weights = np.ones(len(table)) if table.weights is None else table.weights
        self.weights = weights[self.rows]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return {
            "row": torch.tensor(self.rows[index]),
            "image": self.images[index].float(),
            "target": torch.from_numpy(self.targets[index]).float(),
            "unit": torch.from_numpy(self.units[index]).float(),
            "weight": torch.tensor(self.weights[index], dtype=torch.float32),
        }


class ImageDataModule(L.LightningDataModule):
    """Batches of a data set by split; the order and the augmentation depend on seed and step only,
    so that a training that was interrupted goes on as it would have.

    Args:
        dataset: all the rows.
        splits: `(n,)`: for each row "train", "validation" or "test".
        augmentation: what is done to training images.
        batch_size: images in a batch.
        workers: processes that load images; 0 where they are in memory.
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        splits: NDArray[np.str_],
        augmentation: Augmentation,
        *,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._augmentation = augmentation
        self._batch_size = batch_size
        self._workers = workers
        self._seed = seed
        labelled = np.isfinite(dataset.targets).any(axis=1)
        of_image = splits[dataset.rows]
        self.indices = {
            name: np.flatnonzero((of_image == name) & labelled).tolist()
            for name in np.unique(splits)
        }
        """For each split, its images with a label."""
        # Only the ratios of those that are trained on count, which float32 can hold.
        largest = dataset.weights[self.indices["train"]].max()
        dataset.weights = np.minimum(dataset.weights / largest, 1)

    def training_targets(self) -> NDArray[np.float64]:
        """`(n, targets)`: the training labels as the network learns them."""
        return self.dataset.targets[self.indices["train"]]

    def train_dataloader(self) -> DataLoader[Batch]:
        rows = self.rows("train")
        trainer = self.trainer
        assert trainer is not None
        # Alone among torch's samplers, this one is seeded by the epoch, on one device as on many.
        sampler: DistributedSampler[Batch] = DistributedSampler(
            rows, trainer.world_size, trainer.global_rank, shuffle=True, seed=self._seed
        )
        # A small last batch would have a noisy correlation.
        drop_last = len(sampler) >= self._batch_size
        return self._loader(rows, sampler=sampler, drop_last=drop_last)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass over the training images; a remainder is a batch only where all are."""
        return max(len(self.indices["train"]) // self._batch_size, 1)

    def rows(self, split: str) -> Subset[Batch]:
        """The labelled images of a split, in the order of the table."""
        return Subset(self.dataset, self.indices[split])

    @property
    def validates(self) -> bool:
        """Whether there is a validation split."""
        return bool(self.indices.get("validation"))

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.rows("validation"))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        trainer = self.trainer
        assert trainer is not None
        if not trainer.training:
            return batch
        place = [self._seed, trainer.global_step, trainer.global_rank]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        image, zoom = self._augmentation(batch["image"], torch.Generator().manual_seed(seed))
        # Zoomed images have larger lengths; where not all targets are lengths, zoom is 1.
        target = batch["target"] * zoom[:, None]
        return {**batch, "image": image, "target": target, "unit": batch["unit"] / zoom[:, None]}

    def _loader(self, rows: Dataset[Batch], **options: Any) -> DataLoader[Batch]:
        return DataLoader(
            rows,
            self._batch_size,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )
