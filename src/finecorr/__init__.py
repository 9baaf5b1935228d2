"""Regression losses that optimise the correlation of predictions with the truth."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finecorr import functional, losses
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

__version__ = "0.1.0"

__all__ = [
    "FineGrainedCorrelationLoss",
    "HuberLoss",
    "InPieces",
    "MAELoss",
    "MSELoss",
    "PearsonLoss",
    "RobustPearsonLoss",
    "SimilarityRankLoss",
    "functional",
    "in_pieces",
    "losses",
]

if not TYPE_CHECKING:

    def __getattr__(name):
        """Loads the losses, and torch with them, when they are first asked for: the command has to
        start, and to hear Ctrl-C, before."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in ("functional", "losses"):
            return import_module(f"{__name__}.{name}")
        room = "pieces" if name in ("InPieces", "in_pieces") else "losses"
        return getattr(import_module(f"{__name__}.{room}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})
