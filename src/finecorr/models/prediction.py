"""What a regressor makes of images, each once, and its calibration by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finecorr import functional
from finecorr.data.dataset import ImageDataset
from finecorr.data.left_out import Lost
from finecorr.data.loading import prediction_loader
from finecorr.errors import InputError
from finecorr.models.place import ALONE, Place
from finecorr.models.regressor import Regressor

_BATCH = 64
_CALIBRATION_STEPS = 20


def predict(
    regressor: Regressor,
    dataset: ImageDataset,
    indices: Sequence[int] | None = None,
    place: Place = ALONE,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """`(rows,)` and `(rows, targets)`: the positions in the table of the images' rows, ascending,
    and predictions for them in the table's unit; of several images of a row, the mean. A row with
    an image that cannot be read is left out.

    Args:
        regressor: the model.
        dataset: the images.
        indices: which of them (default: all).
        place: of this process among those that take a share of the images each.

    Raises:
        InputError: a prediction is no finite number.
    """
    indices = range(len(dataset)) if indices is None else indices
    outputs = _outputs(regressor, dataset, indices, place)
    lost = dataset.rows[[*np.flatnonzero(dataset.images.lost).tolist(), *outputs.lost]]
    whole = ~np.isin(dataset.rows[outputs.indices], lost)
    rows, predictions = _means(dataset.rows[outputs.indices[whole]], outputs.predictions[whole])
    if not np.isfinite(predictions).all():
        raise InputError(
            f"{(~np.isfinite(predictions)).sum()} predictions are not finite numbers: the weights "
            "of the model are damaged, or its training diverged"
        )
    return rows, predictions


def features(
    regressor: Regressor, dataset: ImageDataset, indices: Sequence[int], place: Place = ALONE
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """`(images,)` and `(images, d)`: the positions of the images, ascending, and the features that
    the network has of them; of several crops, the means."""

    def of(batch: dict[str, Tensor]) -> list[Tensor]:
        return [regressor.features(batch["image"])]

    index, found = _each(regressor, dataset, indices, place, of, [regressor.feature_count])[0]
    return _means(index, found)


def calibrate(
    regressor: Regressor, dataset: ImageDataset, indices: Sequence[int], place: Place
) -> None:
    """On the training images, by label weights: whatever the loss, a training may end with a
    bias."""
    outputs = _outputs(regressor, dataset, indices, place)
    scores = torch.from_numpy(outputs.scores)
    target = regressor.standardised(torch.from_numpy(dataset.targets[outputs.indices]))
    weights = dataset.weights
    weight = None if weights is None else torch.from_numpy(weights[outputs.indices])
    believed = torch.ones_like(target)
    for _ in range(_CALIBRATION_STEPS):
        both = believed if weight is None else believed * weight[:, None]
        regressor.calibrate(scores, target, both)
        believed = functional.label_weights(regressor.calibrated(scores), target, weight=weight)


class _Outputs(NamedTuple):
    """What the model makes of each image that can be read."""

    indices: NDArray[np.intp]
    """`(images,)`: their positions in the data set, ascending."""
    predictions: NDArray[np.float64]
    """`(images, targets)`, in the table's unit."""
    scores: NDArray[np.float64]
    """`(images, targets)`"""
    lost: list[int]
    """The positions of those that cannot be read."""


def _outputs(
    regressor: Regressor, dataset: ImageDataset, indices: Sequence[int], place: Place
) -> _Outputs:
    """Of several crops of an image, the means. In float32, whatever the training's precision."""

    def of(batch: dict[str, Tensor]) -> list[Tensor]:
        scores, _ = regressor.scores(batch["image"])
        return [regressor.in_unit(scores) * batch["unit"], scores]

    widths = [regressor.architecture.targets] * 2
    (index, predictions, scores), lost = _each(regressor, dataset, indices, place, of, widths)
    images, mean_predictions = _means(index, predictions)
    return _Outputs(images, mean_predictions, _means(index, scores)[1], lost)


def _each(
    regressor: Regressor,
    dataset: ImageDataset,
    indices: Sequence[int],
    place: Place,
    of: Callable[[dict[str, Tensor]], list[Tensor]],
    widths: Sequence[int],
) -> tuple[list[NDArray[Any]], list[int]]:
    """The positions of the images of all processes, and what `of` makes of their batches,
    `(n, width)` each; and the positions of those that cannot be read."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    training = regressor.training
    regressor.to(device).eval()
    found, own = [], place.share(indices)
    lost: dict[int, Lost] = {}
    with torch.inference_mode():
        for batch in prediction_loader(dataset, own, _BATCH) if own else ():
            new = batch.pop("lost", {})
            dataset.left_out.add(new.values())
            lost |= new
            given = {name: values.to(device) for name, values in batch.items()}
            found.append([part.cpu().numpy() for part in (given["index"], *of(given))])
    regressor.cpu().train(training)
    found.append([np.empty(0, np.intp), *(np.empty((0, width), np.float32) for width in widths)])
    gathered = place.gathered((found, lost))
    parts = [part for process, _ in gathered for part in process]
    of_all = {index: one for _, those in gathered for index, one in those.items()}
    with place.the_same_in_all():
        dataset.left_out.add(of_all.values())
    index, *values = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    there = ~np.isin(index, [*of_all])
    values = [column[there].astype(np.float64) for column in values]
    return [index[there], *values], sorted(of_all)


def _means(
    of: NDArray[np.intp], values: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """What the values `(n, targets)` are of, each once and ascending, and their means for each."""
    own, place, count = np.unique(of, return_inverse=True, return_counts=True)
    sums = np.zeros((len(own), values.shape[1]))
    np.add.at(sums, place, values)
    return own, sums / count[:, None]
