"""What is looked at, and where the page goes: flags, known before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from finecorr.data.options import SplitOptions
from finecorr.errors import InputError


@dataclass(frozen=True)
class CheckOptions(SplitOptions):
    """How a table is checked. Each field is a flag of the command line."""

    out: Path | None = field(
        default=None,
        metadata={
            "help": "folder for the page, check.html, and the list, check.csv; not that of the run "
            "(default: none is written)"
        },
    )
    decode: int | Literal["all"] = field(
        default=1000,
        metadata={
            "help": "images to decode, evenly spread over the table; or all. All headers are read"
        },
    )

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        if self.decode != "all" and self.decode < 1:
            raise InputError(f"--decode must be a positive number, or all, not {self.decode}")
