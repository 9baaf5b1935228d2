"""How images are made worse: flags, known before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finecorr.data.image_options import MAX_MEGAPIXELS, check_limit
from finecorr.errors import InputError

KINDS = ("blur", "speckle", "attenuation", "shadow", "gain", "compression")
"""In the order in which they happen to an image."""
MEANING = "Severity says what was done to an image. It is not a human opinion of its quality."
_MOST = 1000


@dataclass(frozen=True)
class DegradationOptions:
    """What is made of the images. Each field is a flag of the command line."""

    out: Path = field(metadata={"help": "folder for the images and their table"})
    group_pattern: str | None = field(
        default=None,
        metadata={
            "help": "regular expression that takes the subject from the image's file name: its "
            "first group, or else its whole match (default: each image is its own subject)"
        },
    )
    kinds: tuple[str, ...] = field(
        default=KINDS, metadata={"help": f"degradations, of {', '.join(KINDS)}"}
    )
    versions: int = field(
        default=4, metadata={"help": "degraded versions of each image, beside the image itself"}
    )
    at_once: int = field(default=3, metadata={"help": "most degradations of one version"})
    steps: int = field(default=5, metadata={"help": "steps of severity of each degradation"})
    rgb: bool = field(
        default=False, metadata={"help": "three colour channels instead of one of grey"}
    )
    max_megapixels: float = field(
        default=MAX_MEGAPIXELS,
        metadata={"help": "million pixels of the largest image that is read"},
    )
    seed: int = field(default=0, metadata={"help": "seed of what is drawn for each version"})
    overwrite: bool = field(
        default=False, metadata={"help": "replace the degraded images that are in the folder"}
    )

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise InputError(
                f"--kinds must be different ones of {', '.join(KINDS)}, not {' '.join(self.kinds)}"
            )
        for name in ("versions", "at_once", "steps"):
            if not 1 <= getattr(self, name) <= _MOST:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be from 1 to {_MOST}, not {getattr(self, name)}")
        if self.at_once > len(self.kinds):
            raise InputError(
                f"--at-once {self.at_once} is more than the {len(self.kinds)} --kinds there are"
            )
        check_limit(self.max_megapixels)
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, not {self.seed}")
