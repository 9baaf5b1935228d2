from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from finecorr.models.novelty import novelty_of


def test_with_all_axes_it_is_the_mahalanobis_distance() -> None:
    torch.manual_seed(0)
    features = torch.randn(500, 6, dtype=torch.double) @ torch.randn(6, 6, dtype=torch.double)
    features += 100
    found = novelty_of(features)
    assert found is not None
    inverse = np.linalg.inv(np.cov(features.T.numpy()))
    mean = features.mean(0).numpy()
    expected = [mahalanobis(row, mean, inverse) for row in features[:20].numpy()]
    np.testing.assert_allclose(found(features[:20]), expected, rtol=1e-4)


def test_by_the_covariance_of_its_model() -> None:
    torch.manual_seed(1)
    features = torch.randn(80, 30, dtype=torch.double) * torch.linspace(0.1, 3, 30)
    found = novelty_of(features)
    assert found is not None
    axes, rest = found.axes.double(), found.rest.double()
    assert len(axes) == 20
    off = torch.eye(30) - axes.T @ axes
    model = axes.T @ torch.diag(found.variances.double()) @ axes + rest * off
    # It has all of the variance.
    assert model.trace() == pytest.approx(float(features.var(0).sum()), rel=1e-5)
    new = torch.randn(5, 30, dtype=torch.double)
    centred = new - found.mean
    expected = (centred * torch.linalg.solve(model, centred.T).T).sum(1).sqrt()
    torch.testing.assert_close(found(new), expected, rtol=1e-5, atol=0)


def test_what_is_off_the_training_images_is_far() -> None:
    torch.manual_seed(2)
    plane = torch.randn(2, 50)
    found = novelty_of(torch.randn(200, 2) @ plane + 0.01 * torch.randn(200, 50))
    assert found is not None
    like = found(torch.randn(50, 2) @ plane + 0.01 * torch.randn(50, 50))
    unlike = found(torch.randn(50, 2) @ plane + 0.1 * torch.randn(50, 50))
    assert like.max() < unlike.min()


def test_few_or_equal_images() -> None:
    assert novelty_of(torch.ones(9, 4)) is None
    assert novelty_of(torch.ones(1, 4)) is None
    found = novelty_of(torch.tensor([[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]]))
    assert found is not None
    distances = found(torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
    assert torch.isfinite(distances).all()
    assert distances[0] < distances[1]
