"""The images of a table with the labels of their rows, as the network is given them."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from finecorr.data.images import Inputs
from finecorr.data.lengths import pixel_sizes
from finecorr.data.table import ImageTable


class Batch(TypedDict):
    """What the network is given of a few images."""

    row: Tensor
    """`(n,)`: the positions of their rows in the table."""
    index: Tensor
    """`(n,)`: their own positions in the data set."""
    image: Tensor
    """`(n, channels, height, width)` float32, from 0 to 1; or `(n, features)` of a frozen
    network."""
    target: Tensor
    """`(n, targets)` float32, NaN for a missing label; lengths in pixels of `image`."""
    unit: Tensor
    """`(n, targets)`: what one unit of `target` is in the table's unit."""
    weight: NotRequired[Tensor]
    """`(n,)`: left out where the table has no weights."""


class ImageDataset(Dataset[Batch]):
    """The images of a table with the labels of their rows.

    Args:
        table: the rows.
        images: their images, as the network sees them, or features of them.
        lengths: for each target, whether it is a length that is learnt in pixels.
        targets: `(rows, targets)` in the place of the table's, where labels were replaced.

    Raises:
        InputError: nothing says how large the pixels of an image are.
    """

    def __init__(
        self,
        table: ImageTable,
        images: Inputs,
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
        self.weights = None if table.weights is None else table.weights[self.rows]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.batch_of(index, self.images[index])

    def batch_of(self, index: int, image: Tensor) -> Batch:
        """One image in the place of that of the data set, or of a part of it."""
        batch: Batch = {
            "row": torch.tensor(self.rows[index]),
            "index": torch.tensor(index),
            "image": image,
            "target": torch.from_numpy(self.targets[index]).float(),
            "unit": torch.from_numpy(self.units[index]).float(),
        }
        if self.weights is not None:
            batch["weight"] = torch.tensor(self.weights[index], dtype=torch.float32)
        return batch
