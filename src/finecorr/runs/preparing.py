"""What a training needs, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finecorr.config import config_of
from finecorr.data.augmentation import Augmentation
from finecorr.data.dataset import ImageDataset
from finecorr.data.encoding import Encoding, Vectors, encoding_of
from finecorr.data.image_options import AugmentationOptions, ImageOptions, check_lengths
from finecorr.data.images import Images, Inputs, note_unfit
from finecorr.data.left_out import LeftOut
from finecorr.data.module import ImageDataModule
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable
from finecorr.data.targets import check_target
from finecorr.errors import InputError
from finecorr.models import training
from finecorr.models.frozen import FEATURES, frozen_features
from finecorr.models.options import TrainingOptions
from finecorr.models.place import Place
from finecorr.models.regressor import Regressor
from finecorr.run_options import RunOptions
from finecorr.runs.folder import check_out
from finecorr.runs.rows import Rows, prepared_rows
from finecorr.runs.same import check_same


class Prepared(NamedTuple):
    """All that a training needs, before anything is written."""

    options: TableOptions
    images: ImageOptions
    augmentation: AugmentationOptions
    config: dict[str, Any]
    rows: Rows
    regressor: Regressor
    data: ImageDataModule
    encoding: Encoding | None


def prepare(
    table_options: TableOptions,
    image_options: ImageOptions,
    augmentation_options: AugmentationOptions,
    training_options: TrainingOptions,
    run_options: RunOptions,
    features: Path | None,
    place: Place,
) -> Prepared:
    """What a training with these options, which are those of `finecorr.runs.run.train`, needs.

    Raises:
        InputError: an option, the table or an image is at fault.
    """
    training_options.check_input(table_options, image_options, augmentation_options)
    check_lengths(table_options, image_options)
    training.precision_of(training_options.precision, len(image_options.size))
    config = config_of(
        table_options, image_options, augmentation_options, training_options, run_options
    )
    if place.leads:  # When others look, it may have begun to write.
        check_out(run_options, config)
    rows = prepared_rows(table_options, run_options, training_options)
    table = rows.table
    if run_options.resume and place.leads:
        check_same([run_options.out], rows.record, training_options.weights)
    encoding = _encoding(table, rows.splits)
    regressor = training.new_regressor(
        image_options,
        len(table.target_columns),
        training_options,
        None if encoding is None else encoding.width,
    )
    if encoding is not None:
        table_options = replace(
            table_options,
            feature_columns=encoding.names,
            category_columns=encoding.categories or None,
        )
        if place.leads and table.features is not None:
            encoding.note_strange(table.source, table.features, table.rows)
    left_out = LeftOut(table, training_options.tolerate, says=place.leads)
    inputs = _inputs(
        table,
        encoding,
        regressor,
        image_options,
        training_options,
        left_out,
        features or run_options.out / FEATURES,
        replace_features=not run_options.resume,
    )
    if place.leads:
        note_unfit(table.source, inputs)
    dataset = ImageDataset(table, inputs, table_options.lengths, rows.targets, left_out)
    data = _module(dataset, rows, image_options, augmentation_options, training_options)
    _check_shares(data, regressor, place)
    return Prepared(
        table_options,
        image_options,
        augmentation_options,
        config,
        rows,
        regressor,
        data,
        encoding,
    )


def _module(
    dataset: ImageDataset,
    rows: Rows,
    images: ImageOptions,
    augmentation: AugmentationOptions,
    training: TrainingOptions,
) -> ImageDataModule:
    """Raises InputError if there is nothing to learn in lengths in pixels."""
    for name, power, values in zip(
        rows.table.target_columns, dataset.lengths, dataset.targets.T, strict=True
    ):
        if power:
            unit = "voxels" if images.volumes else "pixels"
            check_target(rows.table.source, f"{name} in {unit}", values)
    decodes = isinstance(dataset.images, Images) and not dataset.images.in_memory
    return ImageDataModule(
        dataset,
        rows.splits,
        Augmentation(augmentation, lengths=all(dataset.lengths), voxel=images.voxel),
        step_size=training.step_size,
        batch_size=training.batch_size,
        workers=training.loading_workers if decodes else 0,
        seed=training.seed,
    )


def _check_shares(data: ImageDataModule, regressor: Regressor, place: Place) -> None:
    """Raises InputError if a process would have no image, or one where it needs two."""
    for name in ("train", "validation"):
        if 0 < (count := len(data.indices.get(name, ()))) < place.processes:
            raise InputError(
                f"--devices: {place.processes} processes need an image each in every step, and the "
                f"{name} split has {count} with a label: use fewer devices"
            )
    if data.images_per_step // place.processes == 1 and not regressor.learns_from_one():
        raise InputError(
            f"--devices: of the {data.images_per_step} images of a step, a process has one, of "
            "which batch normalisation has no statistics: use fewer devices, or a larger "
            "--population"
        )


def _encoding(table: ImageTable, splits: NDArray[np.str_]) -> Encoding | None:
    """By the training rows alone, so that nothing of the others is known to the model."""
    if table.features is None:
        return None
    trained = table.features.take(np.flatnonzero((splits == "train") & table.labelled))
    return encoding_of(table.source, trained)


def _inputs(
    table: ImageTable,
    encoding: Encoding | None,
    regressor: Regressor,
    images: ImageOptions,
    training: TrainingOptions,
    left_out: LeftOut,
    features: Path,
    *,
    replace_features: bool,
) -> Inputs:
    """What the network is given of each row: vectors of columns, features, or images."""
    if encoding is not None and table.features is not None:
        return Vectors(encoding(table.features))
    if not training.frozen:
        return Images(table, images, left_out)
    return frozen_features(
        regressor, table, images, features, replace=replace_features, left_out=left_out
    )
