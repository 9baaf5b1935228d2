"""`finecorr predict`: a model and images to predictions."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import Namespace

from finecorr.errors import Interrupted
from finecorr.flags import build, overrides
from finecorr.predicting import predict
from finecorr.trained.options import PredictionOptions


def run(options: Namespace) -> None:
    out = Path(options.out)
    try:
        found = predict(
            Path(options.run),
            overrides(options),
            out,
            build(PredictionOptions, options),
            ensemble=[Path(other) for other in options.ensemble],
            overwrite=options.overwrite,
        )
    except KeyboardInterrupt as stop:
        raise Interrupted("; the same command goes on from here") from stop
    # What is written to may be this very output.
    print(found.text(), file=sys.stdout if out.is_file() else sys.stderr)
