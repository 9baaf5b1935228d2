from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from finecorr.models.regressor import Architecture, Regressor


@pytest.fixture
def regressor() -> Regressor:
    torch.manual_seed(0)
    return Regressor(Architecture("resnet10-narrow", 1, (32, 48), 2)).eval()


def test_predictions_are_in_the_unit_of_the_targets(regressor: Regressor) -> None:
    regressor.standardise_targets(np.array([[100.0, 1.0], [300.0, np.nan], [200.0, 3.0]]))
    image = torch.rand(4, 1, 32, 48)
    scores, features = regressor.scores(image)
    assert features.shape == (4, 256)
    std = torch.tensor([float(np.std([100, 200, 300])), 1.0])
    torch.testing.assert_close(regressor(image), torch.tensor([200.0, 2.0]) + std * scores)
    target = torch.tensor([[200.0, 3.0]])
    torch.testing.assert_close(regressor.standardised(target), torch.tensor([[0.0, 1.0]]))


def test_images_are_normalised_together(regressor: Regressor) -> None:
    image = torch.rand(4, 1, 32, 48)
    before = regressor(image)
    regressor.normalise_images([0.25], [0.5])
    torch.testing.assert_close(regressor(image * 0.5 + 0.25), before)


def test_calibration_is_the_weighted_least_squares_line(regressor: Regressor) -> None:
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(30, 2)) * 7 + 3, rng.normal(size=(30, 2))
    target -= 2 * scores
    target[3, 1] = np.nan
    weight = rng.integers(0, 3, 30).astype(float)
    regressor.calibrate(*(torch.from_numpy(array) for array in (scores, target, weight)))
    for column in range(2):
        known = np.isfinite(target[:, column])
        slope, intercept = np.polyfit(
            scores[known, column], target[known, column], 1, w=np.sqrt(weight[known])
        )
        assert float(regressor.slope[column]) == pytest.approx(slope, rel=1e-5)
        assert float(regressor.intercept[column]) == pytest.approx(intercept, rel=1e-5)


def test_calibration_of_a_constant_is_the_mean(regressor: Regressor) -> None:
    target = torch.rand(5, 2)
    regressor.calibrate(torch.ones(5, 2), target, torch.ones(5))
    torch.testing.assert_close(regressor.intercept, target.mean(0))
    assert regressor.slope.tolist() == [0, 0]


def test_head_is_exact_under_autocast(regressor: Regressor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        scores, features = regressor.scores(torch.rand(4, 1, 32, 48))
    assert scores.dtype == torch.float32
    expected = nn.functional.linear(features, regressor.head.weight, regressor.head.bias)
    torch.testing.assert_close(scores, expected)
