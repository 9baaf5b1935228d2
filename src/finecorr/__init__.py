"""Regression losses that optimise the correlation of predictions with the truth."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finecorr import functional, losses
    from finecorr.api import Run, check, compare, evaluate, train
    from finecorr.checking.check import Check
    from finecorr.losses import (
        FineGrainedCorrelationLoss,
        HuberLoss,
        MAELoss,
        MSELoss,
        PearsonLoss,
        RobustPearsonLoss,
        SimilarityRankLoss,
    )
    from finecorr.pieces import InPieces, in_pieces
    from finecorr.trained.model import Model, load

__version__ = "0.2.0"

__all__ = [
    "Check",
    "FineGrainedCorrelationLoss",
    "HuberLoss",
    "InPieces",
    "MAELoss",
    "MSELoss",
    "Model",
    "PearsonLoss",
    "RobustPearsonLoss",
    "Run",
    "SimilarityRankLoss",
    "check",
    "compare",
    "evaluate",
    "functional",
    "in_pieces",
    "load",
    "losses",
    "train",
]

if not TYPE_CHECKING:
    # The other names are of the losses.
    _ROOMS = {
        **dict.fromkeys(("InPieces", "in_pieces"), "pieces"),
        **dict.fromkeys(("Model", "load"), "trained.model"),
        "Check": "checking.check",
        **dict.fromkeys(("Run", "check", "compare", "evaluate", "train"), "api"),
    }

    def __getattr__(name):
        """Loads what a name is of when it is first asked for: the command has to start, and to hear
        Ctrl-C, before; and the losses need little of what models do."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in ("functional", "losses"):
            return import_module(f"{__name__}.{name}")
        return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'losses')}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})
