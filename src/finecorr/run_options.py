"""What is trained on, and where the run goes: flags, known before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finecorr.data.options import SplitOptions


@dataclass(frozen=True)
class RunOptions(SplitOptions):
    """What is trained on, and where the run goes. Each field is a flag of the command line."""

    out: Path = field(kw_only=True, metadata={"help": "folder for the run"})
    corrupt_labels: float = field(
        default=0.0,
        metadata={
            "help": "give this share of the training rows another row's label, to see what a loss "
            "makes of wrong labels"
        },
    )
    mapped: bool = field(
        default=False,
        metadata={"help": "also report PLCC and RMSE after the logistic mapping of image quality"},
    )
    license: str | None = field(
        default=None,
        metadata={
            "help": "licence under which the model is handed on, as SPDX names it: Apache-2.0 ..."
        },
    )
    note: str | None = field(
        default=None, metadata={"help": "what else those should know who get the model"}
    )
    overwrite: bool = field(
        default=False, metadata={"help": "replace the run that is in the folder"}
    )
    resume: bool = field(default=False, metadata={"help": "go on with a run that was interrupted"})
