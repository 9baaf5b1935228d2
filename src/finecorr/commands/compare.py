"""`finecorr compare`: which loss serves a table best."""

from __future__ import annotations

from jsonargparse import Namespace

from finecorr.comparison.compare import compare, explain
from finecorr.comparison.plan import Data
from finecorr.errors import InputError
from finecorr.flags import COMPARE_OPTIONS, build


def run(options: Namespace) -> None:
    options.losses = [name for names in options.losses for name in names.split(",")]
    table, images, augmentation, training, comparison = (
        build(cls, options) for cls in COMPARE_OPTIONS
    )
    outcome = compare(Data(table, images, augmentation), training, comparison)
    print(f"{outcome.text()}\nwritten to {options.out}")
    if outcome.failures:
        count = len(outcome.failures)
        failed = f"{count} training{'s' if count > 1 else ''} failed, and may be started again:"
        lines = [failed, *map(explain, outcome.failures)]
        raise InputError("\n  ".join(lines))
