"""What the validation subjects say of new ones: how wrong a prediction may be, and which images are
unlike those of the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from finecorr.data.dataset import ImageDataset
from finecorr.data.table import ImageTable
from finecorr.models import prediction
from finecorr.models.conformal import Calibration, Validation, calibration
from finecorr.models.novelty import SAMPLES, Novelty, novelty_of
from finecorr.models.place import Place
from finecorr.models.regressor import Regressor


def validated(
    regressor: Regressor,
    dataset: ImageDataset,
    table: ImageTable,
    train: Sequence[int],
    validation: Sequence[int],
    place: Place,
) -> tuple[Validation, Novelty | None]:
    """By the images of these splits; every process of a training calls it."""
    chosen = np.linspace(0, len(train) - 1, min(len(train), SAMPLES)).round().astype(int)
    _, features = prediction.features(regressor, dataset, [train[i] for i in chosen], place)
    novelty = novelty_of(torch.from_numpy(features))
    if not validation:
        return Validation(), novelty
    rows, predictions = prediction.predict(regressor, dataset, validation, place)
    if not len(rows):
        return Validation(), novelty
    truth, groups = table.targets[rows], table.groups[rows]
    names, member = np.unique(groups, return_inverse=True)

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return pd.DataFrame(values).groupby(member).mean().to_numpy()  # without missing ones

    of_rows = np.abs(predictions - truth)
    of_subjects = np.abs(means(predictions) - means(truth))
    distances = None
    if novelty is not None:
        images, features = prediction.features(regressor, dataset, validation, place)
        whole = np.isin(dataset.rows[images], rows)  # without rows that are left out
        of_image = novelty(torch.from_numpy(features[whole])).numpy()
        distances = _largest(dataset.rows[images[whole]], of_image, groups)
    return (
        Validation(
            tuple(calibration(errors, groups) for errors in of_rows.T),
            tuple(calibration(errors, names) for errors in of_subjects.T),
            distances,
        ),
        novelty,
    )


def _largest(
    rows: NDArray[np.intp], distances: NDArray[np.float64], groups: NDArray[np.str_]
) -> Calibration | None:
    """`groups` are those of the rows, each once and ascending."""
    _, starts = np.unique(rows, return_index=True)
    return calibration(np.maximum.reduceat(distances, starts), groups)
