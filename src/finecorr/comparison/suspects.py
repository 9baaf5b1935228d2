"""The labels of a run's table that cross-validated predictions contradict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml

from finecorr import bundle
from finecorr.comparison.compare import SUSPECTS, compare
from finecorr.comparison.plan import ComparisonOptions, Data
from finecorr.data.augmentation import AugmentationOptions
from finecorr.errors import InputError
from finecorr.models.training import TrainingOptions
from finecorr.runs import CONFIG

_ROBUST = "robust_pearson"


def find_suspects(run: Path, options: ComparisonOptions) -> pd.DataFrame:
    """Cross-validates the training of a run, and lists the labels that are contradicted most.

    Each subject is predicted by models that have not seen it, trained as the run was: with its loss
    if it sets outliers aside, or else with `robust_pearson`. Any other would learn wrong labels,
    too. `options.out` becomes a comparison with that loss alone.

    Args:
        run: a trained run's folder.
        options: folds, seeds, and where they go; `losses` and `loss_options` are set here.

    Returns:
        All labels, the worst first, as `finecorr.comparison.summary.suspect_labels` gives them.

    Raises:
        InputError, finecorr.models.training.Interrupted: as `compare` does.
    """
    model = bundle.load(run)
    if not (run / CONFIG).is_file():
        raise InputError(f"{run} does not say how it was trained ({CONFIG} is missing)")
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    training = _options(TrainingOptions, config)
    ...
