"""What is predicted with a model, and what is said of how sure it is: flags, known before anything
is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from finecorr.errors import InputError

Per = Literal["row", "subject"]
"""What there is one prediction for."""
Format = Literal["onnx", "torch"]
"""Of an exported model."""
_MOST_VERSIONS = 1000


@dataclass(frozen=True)
class PredictionOptions:
    """Each field is a flag of the command line."""

    pixel_size: float | Literal["file"] | None = field(
        default=None,
        metadata={
            "help": "side of a pixel of all images, where no column has it; 'file' for what their "
            "files say, in mm"
        },
    )
    predict_per: Per = field(
        default="row",
        metadata={
            "help": "'subject' for the mean prediction of each subject (in an evaluation, against "
            "its mean label); --group-column or --group-pattern names the subjects"
        },
    )
    interval: float | None = field(
        default=None,
        metadata={
            "help": "add limits, low and high, that hold the truth with this probability, such as "
            "0.9; they come from the errors on the validation subjects"
        },
    )
    tta: int = field(
        default=1,
        metadata={
            "help": "versions of each image (itself, and others that vary as in the training), "
            "whose predictions are averaged; sd is how far they differ"
        },
    )

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        if isinstance(self.pixel_size, float) and not 0 < self.pixel_size < float("inf"):
            raise InputError(f"--pixel-size must be positive, or file, not {self.pixel_size}")
        if self.interval is not None and not 0 < self.interval < 1:
            raise InputError(f"--interval must be between 0 and 1, not {self.interval:g}")
        if not 1 <= self.tta <= _MOST_VERSIONS:
            raise InputError(f"--tta must be from 1 to {_MOST_VERSIONS}, not {self.tta}")
