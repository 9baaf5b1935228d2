"""What the test splits say about the losses: values, intervals, corrected p-values, ranks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.evaluation.bootstrap import distributions
from finecorr.evaluation.contradiction import contradiction
from finecorr.evaluation.measures import Measures
from finecorr.evaluation.paired import holm
from finecorr.evaluation.ranking import Average, averaged, ranking
from finecorr.evaluation.ranks import Array
from finecorr.evaluation.within import Groups, groups_within
from finecorr.report.verdict import LOWER_IS_BETTER, WITHOUT_BEST

CRITERION = "SRCC"
RESAMPLES = 2000


def summarise(
    predictions: pd.DataFrame,
    *,
    mapped: bool = False,
    average: Average = "mean",
    reference: str | None = None,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Each measure averaged over folds and seeds, with intervals, and p against the best loss.

    Subjects are drawn with replacement, the same for all losses, and each fold's measures are taken
    of what was drawn of it. So the intervals (95 %) are about other subjects, given the trainings
    that there are. As drawing with replacement itself lowers the rank correlation of few samples,
    the resamples are moved to have their mean at the value. p is two-sided, of the difference from
    the loss with the best value, after Holm's correction for the number of other losses.

    Only folds and seeds that every loss has finished count.

    Args:
        predictions: of one target: `loss`, `fold`, `seed`, `row`, `group`, `truth`, `prediction`,
            and for `WITHIN_MEASURES` a column `within` of the groups within which they are.
        mapped: add `MAPPED_MEASURES`.
        average: as `finecorr.evaluation.ranking.averaged` takes it.
        reference: the loss that the others are compared with, in the place of the best one.
        resamples: number of bootstrap samples.

    Returns:
        `loss`, `metric`, `value`, `low`, `high`, `p`; p is NaN for the best, or the reference.
    """
    shared = predictions.merge(shared_trainings(predictions), on=["fold", "seed"])
    known = shared.dropna(subset="truth")
    columns = ["loss", "metric", "value", "low", "high", "p"]
    averages = _Averages(known, average, reference, mapped=mapped)
    found = distributions(averages, averages.member, resamples, "centred", seed=0)
    of_value, of_difference = np.array(found, dtype=object).reshape(2, -1, len(averages.metrics))
    rows = []
    for m, metric in enumerate(averages.metrics):
        best, bounds = averages.reference[m], (0, None) if metric in LOWER_IS_BETTER else (None, 1)
        raw = np.array([distribution.p_value() for distribution in of_difference[:, m]])
        p = np.insert(holm(np.delete(raw, best)), best, np.nan)
        for i, loss in enumerate(averages.losses):
            low, high = np.clip(of_value[i, m].interval(0.95), *bounds)
            rows.append((loss, metric, averages.values[i, m], low, high, p[i]))
    return pd.DataFrame(rows, columns=columns)


def measure_each(predictions: pd.DataFrame, *, mapped: bool = False) -> pd.DataFrame:
    """`loss`, `fold`, `seed`, `metric` and `value` of each training, of all measures.

    Args:
        predictions, mapped: as for `summarise`.
    """
    rows = []
    known = predictions.dropna(subset="truth")
    for key, part, measures in _measured(known, mapped=mapped):
        values = measures(np.ones((len(part), 1)))[:, 0]
        rows += [(*key, *row) for row in zip(measures.names, values.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["loss", "fold", "seed", "metric", "value"])


def rank_losses(results: pd.DataFrame, average: Average = "mean") -> pd.DataFrame | None:
    """The mean rank of each loss by `CRITERION` over the folds and seeds where all have a value,
    as `finecorr.evaluation.ranking.ranking` gives it; None where there is nothing to rank.

    Args:
        results: of `measure_each`.
        average: as for `summarise`.
    """
    values = results[results["metric"] == CRITERION].dropna(subset="value")
    shared = values.merge(shared_trainings(values), on=["fold", "seed"])
    return ranking(shared, average=average) if shared["loss"].nunique() > 1 else None


def suspect_labels(predictions: pd.DataFrame) -> pd.DataFrame:
    """All labels, those first that the predictions contradict most.

    Args:
        predictions: by losses that weigh labels: `loss`, `fold`, `seed`, `row`, `image`,
            `group`, `target`, `truth` and `prediction`. Of several for a label the mean counts.

    Returns:
        `row`, `image`, `group`, `target`, `label`, `prediction` and `score` (see
        `finecorr.evaluation.contradiction.contradiction`).
    """
    cell = ["row", "image", "group", "target"]
    known = predictions.dropna(subset="truth")
    means = known.groupby(cell, sort=False)[["truth", "prediction"]].mean().reset_index()
    means["score"] = 0.0
    for _, part in means.groupby("target"):
        scores = contradiction(part["prediction"].to_numpy(), part["truth"].to_numpy())
        means.loc[part.index, "score"] = scores
    ordered = means.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    return ordered.rename(columns={"truth": "label"})


def shared_trainings(predictions: pd.DataFrame) -> pd.DataFrame:
    """`fold` and `seed` of the trainings that all losses have."""
    trainings = predictions[["loss", "fold", "seed"]].drop_duplicates()
    count = trainings.value_counts(["fold", "seed"])
    shared = count[count == trainings["loss"].nunique()]
    return shared.index.to_frame(index=False)


class _Averages:
    """For any number of each row: `(2, losses, measures, sets)`, the average of each measure over
    folds and seeds, and its difference from that of the reference, or of the loss which is best on
    all rows."""

    def __init__(
        self, predictions: pd.DataFrame, average: Average, reference: str | None, *, mapped: bool
    ) -> None:
        self._average = average
        rows = predictions.drop_duplicates("row").reset_index()
        self.member = np.unique(rows["group"].to_numpy(dtype=str), return_inverse=True)[1]
        place = pd.Series(rows.index, index=rows["row"])
        self._parts: dict[str, list[tuple[NDArray[np.intp], Measures]]] = {}
        self._folds: dict[str, list[int]] = {}
        for (loss, _, _), part, measures in _measured(predictions, mapped=mapped):
            self._parts.setdefault(str(loss), []).append((place[part["row"]].to_numpy(), measures))
            self._folds.setdefault(str(loss), []).append(part["fold"].iloc[0])
        self.losses = list(self._parts)
        self._compared = [i for i, name in enumerate(measures.names) if name not in WITHOUT_BEST]
        self.metrics = [measures.names[i] for i in self._compared]
        self.values = self._averages(np.ones((len(rows), 1)))[..., 0]
        sign = np.where([metric in LOWER_IS_BETTER for metric in self.metrics], -1, 1)
        self.reference = np.nan_to_num(sign * self.values, nan=-np.inf).argmax(0)
        if reference is not None:
            self.reference = np.full(len(self.metrics), self.losses.index(reference))

    def __call__(self, weight: Array) -> Array:
        averages = self._averages(weight)
        reference = averages[self.reference, np.arange(len(self.metrics))]
        return np.stack([averages, averages - reference])

    def _averages(self, weight: Array) -> Array:
        found = []
        for loss, parts in self._parts.items():
            values = [measures(weight[rows])[self._compared] for rows, measures in parts]
            folds = np.array(self._folds[loss])
            found.append(averaged(np.stack(values), folds, self._average))
        return np.stack(found)


def _measured(
    predictions: pd.DataFrame, *, mapped: bool
) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame, Measures]]:
    """For each loss, fold and seed its predictions and their measures."""
    # By all of them: a fold that happens to have one subject of each group is no other case.
    grouped = "within" in predictions
    drawn = grouped and groups_within(*(_texts(predictions, c) for c in ("within", "group"))).drawn
    for key, part in predictions.groupby(["loss", "fold", "seed"], sort=False):
        within = None
        if grouped:
            within = Groups(np.unique(_texts(part, "within"), return_inverse=True)[1], drawn)
        prediction, truth = part["prediction"].to_numpy(), part["truth"].to_numpy()
        yield key, part, Measures(prediction, truth, mapped=mapped, within=within)


def _texts(frame: pd.DataFrame, column: str) -> NDArray[np.str_]:
    return frame[column].to_numpy(dtype=str)
