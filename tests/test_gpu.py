"""The losses on a GPU: as on the CPU, and without waiting for it. A model that predicts there."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finecorr.data.decoding import seen, unpacked
from finecorr.data.image_options import ImageOptions
from finecorr.data.options import TableOptions
from finecorr.data.pictures.arrays import pictures_of
from finecorr.models.regressor import Architecture, Regressor
from finecorr.trained.bundle import Bundle
from finecorr.trained.model import Model
from loss_cases import CASES, Case, assert_same
from strategies import Batch, assert_near, random_batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

every_loss = pytest.mark.parametrize("case", CASES, ids=str)


def on_gpu(batch: Batch) -> Batch:
    return Batch(
        batch.prediction.cuda(),
        batch.target.cuda(),
        None if batch.weight is None else batch.weight.cuda(),
        None if batch.group is None else batch.group.cuda(),
        batch.features.cuda(),
    )


@every_loss
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_as_on_the_cpu(case: Case, targets: int | None, weighted: bool, grouped: bool) -> None:
    batch = random_batch(1, 40, targets)
    batch.target[::7] = torch.nan
    if weighted:
        batch = replace(batch, weight=torch.rand(40).double())
    if grouped:
        batch = replace(batch, group=torch.arange(40) % 3)
    expected = case.evaluate(batch)
    value, gradients = case.evaluate(on_gpu(batch))
    assert_same(type(expected)(value.cpu(), [g.cpu() for g in gradients]), expected)


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_waits_for_the_device_once_at_most(case: Case, weighted: bool) -> None:
    batch = random_batch(2, 40)
    if weighted:
        batch = replace(batch, weight=torch.rand(40).double())
    batch = on_gpu(batch)
    case.evaluate(batch)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            case.evaluate(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in found if "synchroniz" in str(warning.message)]
    assert len(waits) <= 1, waits


@every_loss
def test_devices_that_do_not_agree(case: Case) -> None:
    batch = random_batch(3)
    with pytest.raises(ValueError, match="target is on cpu"):
        case(replace(on_gpu(batch), target=batch.target))


def test_half_precision() -> None:
    batch = on_gpu(random_batch(4, 40)).to(torch.float32)
    for case in CASES:
        expected = case.evaluate(batch)
        with torch.autocast("cuda", torch.float16):
            actual = case.evaluate(batch)
        assert_near(actual.value, expected.value, 1e-6)


def test_a_model_predicts_as_on_the_cpu() -> None:
    torch.manual_seed(0)
    images = ImageOptions(image_size=(48, 64))
    regressor = Regressor(Architecture("resnet10-narrow", 1, images.image_size, 1)).eval()
    pictures = list(np.random.default_rng(0).integers(0, 256, (70, 60, 80), dtype=np.uint8))
    views = [unpacked(seen(picture, images).image) for picture in pictures_of(pictures)]
    with torch.inference_mode():
        expected = regressor(torch.stack(views)).numpy()
    model = Model(Bundle(regressor, TableOptions(Path("table.csv")), images))
    found = model.predict(pictures)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.std())
