"""Losses on the error of each sample."""

from __future__ import annotations

from finecorr import functional
from finecorr.functional import baselines
from finecorr.functional.baselines.focal import Activation
from finecorr.losses.base import PredictionLoss


class MSELoss(PredictionLoss):
    """Mean squared error.

    See `finecorr.functional.mse_loss`.
    """

    function = staticmethod(functional.mse_loss)

    def __init__(self) -> None:
        super().__init__()


class MAELoss(PredictionLoss):
    """Mean absolute error.

    See `finecorr.functional.mae_loss`.
    """

    function = staticmethod(functional.mae_loss)

    def __init__(self) -> None:
        super().__init__()


class HuberLoss(PredictionLoss):
    """Squared error up to `delta`, linear beyond.

    See `finecorr.functional.huber_loss`.
    """

    function = staticmethod(functional.huber_loss)

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__(delta=delta)


class FocalMSELoss(PredictionLoss):
    """Squared error, weighing large errors more (Yang et al., ICML 2021).

    See `finecorr.functional.baselines.focal_mse_loss`.
    """

    function = staticmethod(baselines.focal_mse_loss)

    def __init__(
        self, *, activation: Activation = "sigmoid", beta: float = 0.2, gamma: float = 1.0
    ) -> None:
        super().__init__(activation=activation, beta=beta, gamma=gamma)


class FocalMAELoss(PredictionLoss):
    """Absolute error, weighing large errors more (Yang et al., ICML 2021).

    See `finecorr.functional.baselines.focal_mae_loss`.
    """

    function = staticmethod(baselines.focal_mae_loss)

    def __init__(
        self, *, activation: Activation = "sigmoid", beta: float = 0.2, gamma: float = 1.0
    ) -> None:
        super().__init__(activation=activation, beta=beta, gamma=gamma)
