"""Losses on the error of each sample."""

from __future__ import annotations

from typing import Any

from finecorr import functional
from finecorr.functional import baselines
from finecorr.functional.baselines.focal import Activation, focal_mae_part, focal_mse_part
from finecorr.functional.pointwise import huber_part, mae_part, mse_part
from finecorr.losses.base import PredictionLoss, RobustLoss


class PointwiseLoss(RobustLoss, PredictionLoss):
    """A loss of predictions, which can weigh labels.

    Args:
        log: as in `finecorr.functional.mse_loss`.
        robust, warmup: see `finecorr.losses.base.RobustLoss`.
    """

    def __init__(self, *, log: bool = False, robust: bool = False, warmup: float = 0.05) -> None:
        super().__init__(robust=robust, warmup=warmup, log=log)


class MSELoss(PointwiseLoss):
    """Mean squared error.

    See `finecorr.functional.mse_loss`, and `PointwiseLoss` for the options.
    """

    function = staticmethod(functional.mse_loss)
    in_parts = staticmethod(mse_part)


class MAELoss(PointwiseLoss):
    """Mean absolute error.

    See `finecorr.functional.mae_loss`, and `PointwiseLoss` for the options.
    """

    function = staticmethod(functional.mae_loss)
    in_parts = staticmethod(mae_part)


class HuberLoss(PointwiseLoss):
    """Squared error up to `delta`, linear beyond.

    See `finecorr.functional.huber_loss`, and `PointwiseLoss` for the other options.
    """

    function = staticmethod(functional.huber_loss)
    in_parts = staticmethod(huber_part)

    def __init__(self, *, delta: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.options["delta"] = delta


class FocalLoss(PredictionLoss):
    """A loss that weighs large errors more; see `finecorr.functional.baselines.focal_mae_loss`."""

    def __init__(
        self, *, activation: Activation = "sigmoid", beta: float = 0.2, gamma: float = 1.0
    ) -> None:
        super().__init__(activation=activation, beta=beta, gamma=gamma)


class FocalMSELoss(FocalLoss):
    """Squared error, weighing large errors more (Yang et al., ICML 2021).

    See `finecorr.functional.baselines.focal_mse_loss`.
    """

    function = staticmethod(baselines.focal_mse_loss)
    in_parts = staticmethod(focal_mse_part)


class FocalMAELoss(FocalLoss):
    """Absolute error, weighing large errors more (Yang et al., ICML 2021).

    See `finecorr.functional.baselines.focal_mae_loss`.
    """

    function = staticmethod(baselines.focal_mae_loss)
    in_parts = staticmethod(focal_mae_part)
