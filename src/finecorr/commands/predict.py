"""`finecorr predict`: a model and images to predictions."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from finecorr.flags import overrides
from finecorr.predicting import predict


def run(options: Namespace) -> None:
    predictions = predict(
        Path(options.run),
        overrides(options),
        Path(options.out),
        pixel_size=options.pixel_size,
        predict_per=options.predict_per,
        overwrite=options.overwrite,
    )
    print(f"{len(predictions)} predictions written to {options.out}")
