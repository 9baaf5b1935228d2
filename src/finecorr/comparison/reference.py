"""What a user would take in the place of a network: scikit-learn's gradient boosting."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from finecorr.comparison.plan import Run
from finecorr.config import CONFIG, config_of, write_config
from finecorr.data.columns import Columns
from finecorr.data.records import write_record
from finecorr.runs.folder import SPLITS
from finecorr.runs.rows import prepared_rows
from finecorr.runs.tested import evaluate_predictions

_MOST_CATEGORIES = 255
"""That it takes."""


def train_reference(run: Run, threads: int) -> None:
    """Fits `HistGradientBoostingRegressor`, with its defaults, to the training rows of a run, and
    evaluates it on its test rows: its folder gets what that of a training has, but for the model.

    Columns of categories are categories, of which the 255 with most training rows are known; what
    is missing, or unknown, is missing. A column without a value in the training rows is left out,
    as scikit-learn cannot read it. Each target has a regressor of its own.
    """
    rows = prepared_rows(run.data.table.absolute(), run.options, run.training)
    table, out = rows.table, run.folder
    assert table.features is not None
    out.mkdir(parents=True, exist_ok=True)
    write_record(out / SPLITS, rows.record)
    parts = (run.data.images, run.data.augmentation, run.training, run.options)
    write_config(out / CONFIG, config_of(run.data.table, *parts))
    train = np.flatnonzero((rows.splits == "train") & table.labelled)
    test = np.flatnonzero((rows.splits == "test") & table.labelled)
    cells = _cells(table.features, train)
    predictions = np.empty((len(test), rows.targets.shape[1]))
    for i, labels in enumerate(rows.targets.T):
        chosen = train[np.isfinite(labels[train])]
        model = HistGradientBoostingRegressor(random_state=run.training.seed)
        weight = None if table.weights is None else table.weights[chosen]
        known = cells.loc[:, cells.iloc[chosen].notna().any()]
        with threadpool_limits(threads):
            model.fit(known.iloc[chosen], labels[chosen], weight)
            predictions[:, i] = model.predict(known.iloc[test])
    evaluate_predictions(table.take(test), predictions, out)


def _cells(features: Columns, train: NDArray[np.intp]) -> pd.DataFrame:
    """With the categories of the training rows as a type, by which it knows them."""
    cells = features.cells.copy()
    for name in features.categories:
        known = cells[name].iloc[train]
        counts = known[known != ""].value_counts()
        cells[name] = pd.Categorical(cells[name], sorted(counts.index[:_MOST_CATEGORIES]))
    return cells
