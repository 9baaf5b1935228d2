from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from finecorr.errors import InputError
from finecorr.models import networks
from finecorr.models.regressor import Architecture, Regressor


@pytest.mark.parametrize("name", networks.available())
def test_every_network_gives_features_for_grey_and_colour(name: str) -> None:
    for channels in (1, 3):
        network = networks.build(name, channels).module.eval()
        with torch.no_grad():
            features = network(torch.rand(2, channels, 64, 96))
        assert features.ndim == 2
        assert len(features) == 2


def test_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean resnet18\?.*densenet121"):
        networks.build("resnet81", 1)


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


def test_gain_and_offset_of_the_image_change_little(regressor: Regressor) -> None:
    image = torch.rand(4, 1, 32, 48)
    torch.testing.assert_close(regressor(image), regressor(image * 0.5 + 0.2), atol=0.01, rtol=0.01)


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
