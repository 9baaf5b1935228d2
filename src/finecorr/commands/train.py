"""`finecorr train`: a table of images and scores to a model."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from finecorr.config import CONFIG
from finecorr.errors import InputError, Interrupted, Stopped
from finecorr.files import refusal
from finecorr.flags import TRAIN_OPTIONS, build
from finecorr.runs.folder import REPLACED
from finecorr.runs.run import train


def run(options: Namespace) -> None:
    parts = [build(cls, options) for cls in TRAIN_OPTIONS]
    instead = " in the place of --overwrite" if options.overwrite else ""
    goes_on = f"the same command with --resume{instead} goes on from here"
    try:
        evaluation = train(*parts)
    except (Interrupted, KeyboardInterrupt) as stop:
        if not _has_begun(options):
            raise
        raise Interrupted(f"; {goes_on}") from stop
    except (Stopped, OSError) as error:
        if not _has_begun(options):
            raise
        what = refusal(error) if isinstance(error, OSError) else error
        raise InputError(f"{what}; then {goes_on}") from error
    print(f"test split: {evaluation.summary()}\nwritten to {options.out}")


def _has_begun(options: Namespace) -> bool:
    """Whether there is something to resume, and not only the run that was to be replaced."""
    out = Path(options.out)
    return (out / CONFIG).exists() and (not options.overwrite or (out / REPLACED).exists())
