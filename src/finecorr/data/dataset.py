"""The images of a table with the labels of their rows, as the network is given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from finecorr.data.images import Inputs
from finecorr.data.left_out import LeftOut, Lost, Unreadable
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
    network, or of columns."""
    target: Tensor
    """`(n, targets)` float32, NaN for a missing label; lengths in pixels of `image`."""
    unit: Tensor
    """`(n, targets)`: what one unit of `target` is in the table's unit."""
    weight: NotRequired[Tensor]
    """`(n,)`: left out where the table has no weights."""
    lost: NotRequired[dict[int, Lost]]
    """By their `index`, those that cannot be read, if there are some."""


class ImageDataset(Dataset[Batch]):
    """The images of a table with the labels of their rows.

    Args:
        table: the rows.
        images: their images, as the network sees them, or features of them.
        lengths: for each target, whether it is a length that is learnt in pixels.
        targets: `(rows, targets)` in the place of the table's, where labels were replaced.
        left_out: those that cannot be read, and how many may be (default: none).

    Raises:
        InputError: nothing says how large the pixels of an image are.
    """

    def __init__(
        self,
        table: ImageTable,
        images: Inputs,
        lengths: tuple[bool, ...],
        targets: NDArray[np.float64] | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.images = images
        self.left_out = LeftOut(table) if left_out is None else left_out
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
        return self.item(index, lambda: self.images[index], self.images.shape(index))

    def __getitems__(self, indices: Sequence[int]) -> Batch | list[Batch]:
        """Those of a batch, for `joined`; vectors all at once."""
        vectors = self.images.vectors
        if vectors is None:
            return [self[index] for index in indices]
        at = np.asarray(indices)
        batch: Batch = {
            "row": torch.from_numpy(self.rows[at]),
            "index": torch.from_numpy(at),
            "image": vectors[at],
            "target": torch.from_numpy(self.targets[at]).float(),
            "unit": torch.from_numpy(self.units[at]).float(),
        }
        if self.weights is not None:
            batch["weight"] = torch.from_numpy(self.weights[at]).float()
        return batch

    def item(self, index: int, read: Callable[[], Tensor], shape: tuple[int, ...]) -> Batch:
        """One image, or a part of it, for `joined`.

        Args:
            index: of the image.
            read: what gives it, or the part.
            shape: of what it gives.
        """
        lost: Lost | None = None
        try:
            image = read()
        except Unreadable as error:
            lost, image = error.lost, torch.zeros(shape)
        batch: Batch = {
            "row": torch.tensor(self.rows[index]),
            "index": torch.tensor(index),
            "image": image,
            "target": torch.from_numpy(self.targets[index]).float(),
            "unit": torch.from_numpy(self.units[index]).float(),
        }
        if self.weights is not None:
            batch["weight"] = torch.tensor(self.weights[index], dtype=torch.float32)
        if lost is not None:
            batch["target"].fill_(torch.nan)
            batch["lost"] = {index: lost}
        return batch


def joined(items: list[Batch] | Batch) -> Batch:
    """A batch of items, unless it is one already. In the place of what cannot be read stands
    another image of the batch, without a label: so each process has as many as ever, and no loss
    sees it."""
    if isinstance(items, dict):
        return items
    lost: dict[int, Lost] = {}
    there = next((item["image"] for item in items if "lost" not in item), None)
    for item in items:
        if "lost" in item:
            lost |= item.pop("lost")
            item["image"] = item["image"] if there is None else there
    batch: Batch = default_collate(items)
    if lost:
        batch["lost"] = lost
    return batch
