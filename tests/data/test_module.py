from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from finecorr.data.augmentation import Augmentation
from finecorr.data.corruption import replace_labels
from finecorr.data.dataset import Batch, ImageDataset
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.images import Images
from finecorr.data.module import ImageDataModule
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable, read_table

TARGET = "head circumference (mm)"


@pytest.fixture(scope="module")
def table(phantoms: Path) -> ImageTable:
    options = TableOptions(
        phantoms,
        phantoms.parent / "images",
        image_columns=("filename",),
        target_columns=(TARGET,),
        pixel_size_column="pixel size(mm)",
    )
    return read_table(options)


def _dataset(table: ImageTable) -> ImageDataset:
    return ImageDataset(table, Images(table, ImageOptions(image_size=(34, 48))), (True,))


def test_lengths_are_in_pixels_of_the_networks_image(table: ImageTable) -> None:
    batch = _dataset(table)[0]
    assert table.pixel_sizes is not None
    # The images are 68 x 96: half the pixels, each twice as long.
    assert float(batch["unit"]) == pytest.approx(table.pixel_sizes[0] * 2, rel=1e-6)
    length = table.targets[0, 0] / (table.pixel_sizes[0] * 2)
    assert float(batch["target"]) == pytest.approx(length, rel=1e-6)


class _Batches(L.LightningModule):
    """Collects the training batches, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Batch] = []
        self.parameter = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch)
        return self.parameter * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def _batches(table: ImageTable, seed: int = 0, epochs: int = 2) -> list[Batch]:
    splits = np.array(["train"] * (len(table) - 5) + ["validation"] * 5)
    augmentation = Augmentation(AugmentationOptions(), lengths=True)
    data = ImageDataModule(
        _dataset(table), splits, augmentation, step_size=16, batch_size=16, workers=0, seed=seed
    )
    module = _Batches()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    assert len(module.seen) == epochs * data.steps_per_epoch
    return module.seen


def test_zoomed_lengths_are_still_the_same_millimetres(table: ImageTable) -> None:
    batches = _batches(table, epochs=1)
    for batch in batches:
        for target, unit in zip(batch["target"], batch["unit"], strict=True):
            millimetres = float(target * unit)
            assert np.abs(table.targets / millimetres - 1).min() < 1e-5
    units = torch.cat([batch["unit"] for batch in batches]).numpy()
    assert table.pixel_sizes is not None
    assert not np.isclose(units, 2 * table.pixel_sizes[: len(units), None], rtol=1e-3).all()


def test_order_and_augmentation_follow_the_seed_and_differ_between_epochs(
    table: ImageTable,
) -> None:
    first, again, other = (_batches(table, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0]["image"], other[0]["image"])
    half = len(first) // 2
    assert not torch.equal(first[0]["target"], first[half]["target"])


def test_rows_without_a_label_are_not_trained_on(table: ImageTable) -> None:
    targets = table.targets.copy()
    targets[:10] = np.nan
    data = ImageDataModule(
        _dataset(replace(table, targets=targets)),
        np.full(len(table), "train"),
        Augmentation(AugmentationOptions(), lengths=True),
        step_size=16,
        batch_size=16,
        workers=0,
        seed=0,
    )
    assert data.indices["train"] == list(range(10, len(table)))


def test_replaced_labels_are_those_of_others() -> None:
    labels = np.arange(40.0)
    replaced, which = replace_labels(labels, 0.25, np.random.default_rng(0))
    assert which.sum() == 10
    assert (replaced[which] != labels[which]).all()
    assert (replaced[~which] == labels[~which]).all()
    assert set(replaced) <= set(labels)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        replace_labels(labels, 1.0, np.random.default_rng(0))
