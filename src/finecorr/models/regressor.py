"""The regressor: images to predictions in the unit of the targets, and to features."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import convert_conv3d_weight_memory_format

from finecorr.errors import InputError
from finecorr.functional.moments import populations
from finecorr.models import networks
from finecorr.models.networks import FeatureKind
from finecorr.models.networks.network import Network

NO_IMAGE = (1, 1)
_SIDE, _SIDE_OF_VOLUMES = 64, 32
"""Pixels of the image on which features are counted."""


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a regressor, besides its weights."""

    network: str
    channels: int
    """Of the images; of columns, the numbers that they are encoded in."""
    image_size: tuple[int, ...]
    """Height and width, or depth, height and width, of what it is trained on; of columns,
    `NO_IMAGE`."""
    targets: int
    features: FeatureKind = "last"
    hidden: tuple[int, ...] = ()
    """Widths of the layers between the features and the linear head."""
    dropout: float = 0.0
    network_config: dict[str, Any] | None = None
    """As `Network.config` is."""


class Regressor(nn.Module):
    """A network with a head: layers of `hidden` widths, if any, and a linear one.

    The head works on standardised targets, whose mean and standard deviation are kept beside it,
    with a linear calibration.
    """

    image_mean: Tensor
    image_std: Tensor
    target_mean: Tensor
    target_std: Tensor
    slope: Tensor
    intercept: Tensor

    def __init__(self, architecture: Architecture, network: Network | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.knows_images = False
        """Whether mean and standard deviation of images are set."""
        if network is None:
            network = networks.build(
                architecture.network,
                architecture.channels,
                architecture.features,
                config=architecture.network_config,
                dimensions=len(architecture.image_size),
            )
        self.backbone = network.module
        self.feature_count = self._feature_count()
        widths = [self.feature_count, *architecture.hidden]
        standardised = architecture.network == networks.OF_COLUMNS
        self.hidden = _layers(widths, architecture.dropout, standardised=standardised)
        self.head = nn.Linear(widths[-1], architecture.targets)
        of_channels = (architecture.channels, *(1 for _ in architecture.image_size))
        self.register_buffer("image_mean", torch.zeros(of_channels))
        self.register_buffer("image_std", torch.ones(of_channels))
        self.register_buffer("target_mean", torch.zeros(architecture.targets))
        self.register_buffer("target_std", torch.ones(architecture.targets))
        self.register_buffer("slope", torch.ones(architecture.targets))
        self.register_buffer("intercept", torch.zeros(architecture.targets))

    @property
    def layout(self) -> torch.memory_format:
        """In which its weights and images are fastest."""
        flat = len(self.architecture.image_size) == 2
        return torch.channels_last if flat else torch.channels_last_3d

    def arrange(self) -> Regressor:
        """Has its weights in this layout."""
        if self.layout == torch.channels_last:
            # torch's annotations do not know this form.
            return self.to(memory_format=self.layout)  # type: ignore[call-overload, no-any-return]
        convert_conv3d_weight_memory_format(self.backbone, self.layout)
        return self

    def standardise_targets(self, targets: NDArray[np.float64]) -> None:
        """Takes mean and standard deviation from training targets `(n, targets)` with NaN."""
        self.target_mean.copy_(torch.from_numpy(np.nanmean(targets, axis=0)))
        self.target_std.copy_(torch.from_numpy(np.nanstd(targets, axis=0)))

    def calibrate(self, scores: Tensor, target: Tensor, weight: Tensor) -> None:
        """Fits the line from scores to standardised targets, by weighted least squares; `weight` is
        `(n,)`, or `(n, targets)`."""
        batch = populations(scores.double(), target.double(), weight.double())
        guess, truth = batch.scores(batch.prediction), batch.scores(batch.target)
        spread = torch.where(guess.constant, 1, guess.std)
        slope = batch.mean(guess.values * truth.values) * truth.std / spread
        self.slope.copy_(slope[0])
        self.intercept.copy_((batch.mean(batch.target) - slope * batch.mean(batch.prediction))[0])

    def standardised(self, target: Tensor) -> Tensor:
        """A target as the head is trained on it."""
        return (target - self.target_mean) / self.target_std

    def normalise_images(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Takes mean and standard deviation of each channel: those of the images that the network
        was pretrained on, or else of the training images."""
        self.knows_images = True
        self.image_mean.copy_(torch.tensor(mean).view_as(self.image_mean))
        self.image_std.copy_(torch.tensor(std).view_as(self.image_std))

    def features(self, image: Tensor) -> Tensor:
        """`(n, features)` of the network; what is no image is features already."""
        if image.ndim == 2:
            return image
        features: Tensor = self.backbone((image - self.image_mean) / self.image_std)
        return features.float()

    def scores(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised, uncalibrated predictions `(n, targets)`, and what the linear head makes
        them of, `(n, d)`.

        Args:
            image: `(n, channels, height, width)`, or of volumes `(n, channels, depth, height,
                width)`, or `(n, features)` that are known already.
        """
        features = self.features(image)
        # With 8 bits, half precision would round different predictions to equal ones.
        with torch.autocast(image.device.type, enabled=False):
            hidden = self.hidden(features)
            return self.head(hidden), hidden

    def calibrated(self, scores: Tensor) -> Tensor:
        """Scores in standard deviations of the targets from their mean, on the fitted line."""
        return self.intercept + self.slope * scores

    def in_unit(self, scores: Tensor) -> Tensor:
        """Scores, calibrated and in the unit of the targets as the network learns them."""
        return self.target_mean + self.target_std * self.calibrated(scores)

    def forward(self, image: Tensor) -> Tensor:
        """`(n, channels, height, width)`, or of volumes `(n, channels, depth, height, width)`, from
        0 to 1, or rows `(n, channels)` of columns, to predictions `(n, targets)`."""
        return self.in_unit(self.scores(image)[0])

    def learns_from_one(self) -> bool:
        """Whether a single image is enough for its batch normalisation."""
        architecture = self.architecture
        size = () if architecture.network == networks.OF_COLUMNS else architecture.image_size
        try:
            with torch.no_grad():
                deepcopy(self).train().scores(torch.zeros(1, architecture.channels, *size))
        except ValueError:
            return False
        return True

    def _feature_count(self) -> int:
        architecture, training = self.architecture, self.backbone.training
        if architecture.network == networks.OF_COLUMNS:
            return architecture.channels
        self.backbone.eval()
        # Their number is that of any image, and an image may be large; but not every network takes
        # any image, and of one's own it may depend on the size.
        own = networks.is_own(architecture.network)
        axes = len(architecture.image_size)
        size = (_SIDE if axes == 2 else _SIDE_OF_VOLUMES,) * axes
        size = architecture.image_size if own else size
        found = features_of(self.backbone, architecture.channels, size)
        if isinstance(found, Exception) and not own:
            found = features_of(self.backbone, architecture.channels, architecture.image_size)
        self.backbone.train(training)
        if isinstance(found, Exception):
            sides = " x ".join(map(str, architecture.image_size))
            raise InputError(
                f"--network {architecture.network} takes no images of {sides} "
                f"{'pixels' if axes == 2 else 'voxels'}: {found}"
            )
        return int(found.shape[1])


def features_of(backbone: nn.Module, channels: int, size: tuple[int, ...]) -> Tensor | Exception:
    """Those of two black images, or why the network does not take them."""
    try:
        with torch.no_grad():
            found: Any = backbone(torch.zeros(2, channels, *size))
    except Exception as error:
        return error
    if not isinstance(found, Tensor) or not found.is_floating_point():
        return TypeError(f"it returns {type(found).__name__}, not a tensor of real numbers")
    if found.ndim != 2 or len(found) != 2 or not found.shape[1]:
        return ValueError(f"it returns {tuple(found.shape)} for two images, not features (2, d)")
    return found


def _layers(widths: Sequence[int], dropout: float, *, standardised: bool) -> nn.Sequential:
    """Fully connected ones of these widths, the first being what goes in. It is standardised by the
    batches; or, where it is already, what comes out of each layer."""
    if len(widths) == 1:
        return nn.Sequential()
    layers: list[nn.Module] = [] if standardised else [nn.BatchNorm1d(widths[0], affine=False)]
    for before, width in pairwise(widths):
        layers.append(nn.Linear(before, width))
        if standardised:
            layers.append(nn.BatchNorm1d(width, affine=False))
        layers += [nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
