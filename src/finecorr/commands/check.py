"""`finecorr check`: what is odd about a table and its images, before a training."""

from __future__ import annotations

from jsonargparse import Namespace

from finecorr.checking.check import FINDINGS, PAGE, check
from finecorr.checking.options import CheckOptions
from finecorr.data.image_options import ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError
from finecorr.flags import build
from finecorr.models.options import TrainingOptions


def run(options: Namespace) -> None:
    kinds = (TableOptions, ImageOptions, TrainingOptions, CheckOptions)
    table, images, training, looked = (build(kind, options) for kind in kinds)
    found = check(table, images, training, looked)
    print(found.text())
    if looked.out is not None:
        print(f"\nwritten to {looked.out / PAGE} and {looked.out / FINDINGS}")
    if found.refused is not None:
        raise InputError(found.refused)
