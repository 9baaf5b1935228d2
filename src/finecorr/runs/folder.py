"""The folder of a run: its files, what may be there already, and how a run takes its place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finecorr.config import CONFIG, differences
from finecorr.data.left_out import FILE as LEFT_OUT
from finecorr.errors import InputError, Interrupted, Stopped
from finecorr.files import check_folder, is_temporary
from finecorr.models import outliers, training
from finecorr.models.checkpoints import CHECKPOINTS
from finecorr.models.frozen import FEATURES
from finecorr.run_options import RunOptions
from finecorr.trained import bundle
from finecorr.trained.card import CARD

SPLITS = "splits.csv"
METRICS = "metrics.csv"
PREDICTIONS = "predictions.csv"
SCATTER = "scatter.png"
BLAND_ALTMAN = "bland_altman.png"
_WRITTEN = (
    *(CONFIG, SPLITS, LEFT_OUT, outliers.FILE, METRICS, PREDICTIONS, SCATTER, BLAND_ALTMAN),
    *(CARD, bundle.FILE),
    *(training.LOGS, CHECKPOINTS),
)
REPLACED = ".replaced"
_MOVING = ".replaced.moving"
"""What a run that is replaced is in, while its files move there, or back."""


def check_out(options: RunOptions, config: dict[str, Any]) -> None:
    """Raises InputError if the run cannot go into its folder, or cannot be resumed there."""
    out = options.out
    check_folder(out)
    _settle(out)
    if options.resume:
        if options.overwrite:
            raise InputError("--resume goes on with a run and --overwrite replaces it: use one")
        if (out / bundle.FILE).exists():
            raise InputError(f"{out} holds a finished run: there is nothing to resume")
        if not (out / CONFIG).exists():
            raise InputError(f"{out} holds no run to resume")
        flags = ", ".join(differences(out, config))
        if flags:
            raise InputError(f"{out} was started with another {flags}: resume it with the same")
    elif (out / CONFIG).exists() or (out / REPLACED).exists():
        if not options.overwrite:
            raise InputError(
                f"{out} already holds a run: choose another folder, or use --overwrite, or "
                "--resume if it was interrupted"
            )
    elif out.exists() and any(not _is_of_a_start(path) for path in out.iterdir()):
        raise InputError(f"{out} is not empty, and holds no run: choose another folder")


def _is_of_a_start(path: Path) -> bool:
    """Whether a run that was killed before it could be resumed leaves such a file."""
    return path.name in (FEATURES, SPLITS) or is_temporary(path)


@contextmanager
def in_place_of_another(out: Path) -> Iterator[None]:
    """Lays the run that is in the folder aside until another has taken its place.

    It comes back if that fails, and stays in `.replaced` while the other is interrupted, or stopped
    from outside. What else is in the folder is not touched.
    """
    aside, moving = out / REPLACED, out / _MOVING
    if aside.exists():  # by a call that was interrupted, of which this is the next
        _remove_run(out)
    else:
        moving.mkdir()
        for name in _WRITTEN:
            if (out / name).exists():
                (out / name).rename(moving / name)
        moving.rename(aside)
    try:
        yield
    except (Interrupted, Stopped, OSError):
        raise
    except Exception:
        _remove_run(out)
        _put_back(aside.rename(moving), out)
        raise


def _put_back(moving: Path, out: Path) -> None:
    for path in moving.iterdir():
        path.rename(out / path.name)
    moving.rmdir()


def _settle(out: Path) -> None:
    """Ends what a call that was killed had begun with the run that it replaced."""
    if (out / _MOVING).exists():
        _put_back(out / _MOVING, out)
    elif (out / REPLACED).exists() and (out / bundle.FILE).exists():
        shutil.rmtree(out / REPLACED)
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _remove_run(out: Path) -> None:
    """Removes what a run writes, and nothing else that may be in its folder."""
    for name in _WRITTEN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
