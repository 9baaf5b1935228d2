"""The regressor: images to predictions in the unit of the targets, and to features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finecorr.functional.moments import populations
from finecorr.models import networks

_SIDE = 64
"""Pixels of the image on which features are counted."""


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a regressor, besides its weights."""

    network: str
    channels: int
    image_size: tuple[int, int]
    targets: int


class Regressor(nn.Module):
    """A network with one linear head.

    The head works on standardised targets, whose mean and standard deviation are kept beside it,
    with a linear calibration.
    """

    target_mean: Tensor
    target_std: Tensor
    slope: Tensor
    intercept: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = networks.build(architecture.network, architecture.channels)
        self.head = nn.Linear(self._feature_count(), architecture.targets)
        self.register_buffer("target_mean", torch.zeros(architecture.targets))
        self.register_buffer("target_std", torch.ones(architecture.targets))
        self.register_buffer("slope", torch.ones(architecture.targets))
        self.register_buffer("intercept", torch.zeros(architecture.targets))

    def standardise_targets(self, targets: NDArray[np.float64]) -> None:
        """Takes mean and standard deviation from training targets `(n, targets)` with NaN."""
        self.target_mean.copy_(torch.from_numpy(np.nanmean(targets, axis=0)))
        self.target_std.copy_(torch.from_numpy(np.nanstd(targets, axis=0)))

    def calibrate(self, scores: Tensor, target: Tensor, weight: Tensor) -> None:
        """Fits the line from scores to standardised targets, by weighted least squares."""
        batch = populations(scores.double(), target.double(), weight.double())
        guess, truth = batch.scores(batch.prediction), batch.scores(batch.target)
        spread = torch.where(guess.constant, 1, guess.std)
        slope = batch.mean(guess.values * truth.values) * truth.std / spread
        self.slope.copy_(slope[0])
        self.intercept.copy_((batch.mean(batch.target) - slope * batch.mean(batch.prediction))[0])

    def standardised(self, target: Tensor) -> Tensor:
        """A target as the head is trained on it."""
        return (target - self.target_mean) / self.target_std

    def scores(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised, uncalibrated predictions `(n, targets)`, and features `(n, d)`."""
        # Gain and offset of the image say nothing about lengths and little about quality.
        std, mean = torch.std_mean(image, dim=(1, 2, 3), keepdim=True)
        features = self.backbone((image - mean) / (std + 1e-3)).float()
        # With 8 bits, half precision would round different predictions to equal ones.
        with torch.autocast(image.device.type, enabled=False):
            return self.head(features), features

    def calibrated(self, scores: Tensor) -> Tensor:
        """Scores in standard deviations of the targets from their mean, on the fitted line."""
        return self.intercept + self.slope * scores

    def in_unit(self, scores: Tensor) -> Tensor:
        """Scores, calibrated and in the unit of the targets as the network learns them."""
        return self.target_mean + self.target_std * self.calibrated(scores)

    def forward(self, image: Tensor) -> Tensor:
        """`(n, channels, height, width)` from 0 to 1 to predictions `(n, targets)`."""
        return self.in_unit(self.scores(image)[0])

    def _feature_count(self) -> int:
        training = self.backbone.training
        self.backbone.eval()
        with torch.no_grad():
            # Their number is that of any image, and an image may be large.
            image = torch.zeros(1, self.architecture.channels, _SIDE, _SIDE)
            features = self.backbone(image)
        self.backbone.train(training)
        return int(features.shape[1])
