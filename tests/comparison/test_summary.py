from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from finecorr.comparison.summary import (
    measure_each,
    rank_losses,
    shared_trainings,
    summarise,
)
from finecorr.comparison.tables import ranking_text, table_text
from finecorr.evaluation.agreement import agreement
from finecorr.evaluation.within import correlation_within_groups

COMPARED = ("PLCC", "SRCC", "KRCC", "CCC", "MAE", "RMSE", "R2")
SCIPY: dict[str, Any] = {"PLCC": stats.pearsonr, "SRCC": stats.spearmanr}
NOISE = {"exact": 0.1, "good": 0.5, "alike": 0.5, "bad": 3.0}


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Of 40 subjects with 3 rows each in 2 folds, by 2 seeds; "good" and "alike" are the same."""
    rng = np.random.default_rng(0)
    subject = np.arange(120) // 3
    truth = rng.normal(size=120)
    truth[7] = np.nan
    noise = {seed: rng.normal(size=120) for seed in (0, 1)}
    parts = [
        pd.DataFrame(
            {
                "row": np.arange(2, 122),
                "group": [f"s{name}" for name in subject],
                "truth": truth,
                "prediction": np.nan_to_num(truth) + scale * noise[seed],
                "loss": loss,
                "fold": 1 + subject % 2,
                "seed": seed,
            }
        )
        for loss, scale in NOISE.items()
        for seed in (0, 1)
    ]
    return pd.concat(parts, ignore_index=True)


def test_values_are_means_over_folds_and_seeds(predictions: pd.DataFrame) -> None:
    found = summarise(predictions, resamples=50).set_index(["loss", "metric"])["value"]
    known = predictions.dropna(subset="truth")
    for loss in NOISE:
        trainings = [
            agreement(part["prediction"].to_numpy(), part["truth"].to_numpy())
            for _, part in known[known["loss"] == loss].groupby(["fold", "seed"])
        ]
        assert len(trainings) == 4
        for metric in COMPARED:
            expected = np.mean([training[metric] for training in trainings])
            assert found[loss, metric] == pytest.approx(expected, rel=1e-9)


def test_the_median_over_splits_is_of_means_over_seeds(predictions: pd.DataFrame) -> None:
    split = 1 + predictions["row"] // 3 % 5
    predictions = predictions.assign(fold=split, truth=predictions["truth"].fillna(0.3))
    values = summarise(predictions, average="median", resamples=400)
    values = values.set_index(["loss", "metric"])
    each = measure_each(predictions)
    for loss in NOISE:
        for metric in SCIPY:
            of = each[(each["loss"] == loss) & (each["metric"] == metric)]
            expected = of.pivot(index="fold", columns="seed", values="value").mean(axis=1).median()
            assert values["value"][loss, metric] == pytest.approx(expected)
            assert values["low"][loss, metric] < expected < values["high"][loss, metric]
    assert (values["p"]["bad"] < 0.05).all()
    ranks = rank_losses(each, "median")
    assert ranks is not None
    medians = ranks.set_index("loss")["median"]
    assert medians.to_dict() == pytest.approx(values["value"].unstack()["SRCC"].to_dict())
    assert ranking_text(ranks, "latex").count("median SRCC") == 1


def test_p_is_of_the_difference_from_the_best(predictions: pd.DataFrame) -> None:
    metrics = summarise(predictions, resamples=400)
    for metric, rows in metrics.groupby("metric"):
        p = rows.set_index("loss")["p"]
        assert np.isnan(p["exact"]), metric
        assert (p[["good", "alike", "bad"]] < 0.05).all(), metric
        assert p["good"] == p["alike"]
    without = predictions[predictions["loss"] != "exact"]
    rows = summarise(without, resamples=400).query("metric == 'SRCC'")
    p = rows.set_index("loss")["p"]
    assert np.isnan(p["good"])  # the first of the two that are the same
    assert p["alike"] == 1
    assert p["bad"] < 0.05


def test_p_of_the_difference_from_a_reference(predictions: pd.DataFrame) -> None:
    metrics = summarise(predictions, reference="good", resamples=400)
    plain = summarise(predictions, resamples=400)
    columns = ["loss", "metric", "value", "low", "high"]
    pd.testing.assert_frame_equal(metrics[columns], plain[columns])
    for metric, rows in metrics.groupby("metric"):
        p = rows.set_index("loss")["p"]
        assert np.isnan(p["good"]), metric
        assert p["alike"] == 1, metric
        assert (p[["exact", "bad"]] < 0.05).all(), metric


def test_intervals_are_those_of_a_bootstrap_over_subjects(predictions: pd.DataFrame) -> None:
    """Slowly: subjects drawn with all their rows, each fold and seed measured by SciPy, and the
    bias of the drawing taken off."""
    rng = np.random.default_rng(1)
    chosen = predictions[predictions["loss"] == "good"].dropna(subset="truth")
    subjects = chosen["group"].unique()
    rows_of = chosen.groupby(["group"])
    samples = []
    for _ in range(300):
        drawn = pd.concat(
            [rows_of.get_group((name,)) for name in rng.choice(subjects, len(subjects))]
        )
        samples.append([mean_over_trainings(drawn, metric) for metric in SCIPY])
    metrics = summarise(predictions, resamples=2000)
    rows = metrics[metrics["loss"] == "good"].set_index("metric")
    for metric, values in zip(SCIPY, np.transpose(samples), strict=True):
        bias = values.mean() - mean_over_trainings(chosen, metric)
        expected = np.quantile(values, [0.025, 0.975]) - bias
        limits = rows.loc[metric, ["low", "high"]].to_numpy(dtype=float)
        np.testing.assert_allclose(limits, expected, atol=0.15 * np.diff(expected)[0])


def mean_over_trainings(rows: pd.DataFrame, metric: str) -> float:
    trainings = rows.groupby(["fold", "seed"])
    return float(
        np.mean([SCIPY[metric](part["prediction"], part["truth"])[0] for _, part in trainings])
    )


def test_intervals_hold_what_folds_of_other_subjects_have() -> None:
    """Where drawing with replacement lowers SRCC by more than its deviation; within its bounds."""
    rng = np.random.default_rng(0)

    def drawn(subjects: int) -> pd.DataFrame:
        truth = rng.normal(size=subjects)
        return pd.DataFrame(
            {
                "row": np.arange(subjects),
                "group": np.arange(subjects).astype(str),
                "truth": truth,
                "prediction": truth + 0.1 * rng.normal(size=subjects),
                "loss": "mse",
                "fold": np.arange(subjects) % 5,
                "seed": 0,
            }
        )

    expected = np.mean([mean_over_trainings(drawn(645), "SRCC") for _ in range(300)])
    held = 0
    for _ in range(40):
        found = summarise(drawn(645), resamples=200).set_index("metric")
        low, high = found.loc["SRCC", ["low", "high"]].to_numpy(dtype=float)
        held += low <= expected <= high
    assert held >= 37
    tiny = summarise(drawn(25), resamples=500).set_index("metric")
    assert (tiny.loc[["PLCC", "SRCC", "KRCC", "CCC", "R2"], "high"] <= 1).all()
    assert tiny.loc["SRCC", "high"] == 1


def test_only_trainings_that_all_losses_have_count(predictions: pd.DataFrame) -> None:
    failed = (
        (predictions["loss"] == "bad") & (predictions["fold"] == 2) & (predictions["seed"] == 1)
    )
    left = predictions[~failed]
    assert set(shared_trainings(left).itertuples(index=False, name=None)) == {
        (1, 0),
        (1, 1),
        (2, 0),
    }
    whole = predictions[(predictions["fold"] == 1) | (predictions["seed"] == 0)]
    pd.testing.assert_frame_equal(summarise(left, resamples=50), summarise(whole, resamples=50))


def test_tables(predictions: pd.DataFrame) -> None:
    metrics = summarise(predictions.replace({"loss": {"exact": "very_exact"}}), resamples=200)
    markdown = table_text(metrics, "markdown").splitlines()
    assert markdown[0] == "| loss | " + " | ".join(COMPARED) + " |"
    best, _, _, worst = markdown[2:]
    assert best.count("**") == 2 * len(COMPARED)
    assert worst.count("†") == len(COMPARED)
    latex = table_text(metrics, "latex")
    assert r"very\_exact" in latex
    assert latex.count(r"\textbf{") == len(COMPARED)
    unknown = table_text(metrics.assign(value=np.nan), "markdown")
    assert "**" not in unknown
    ranks = rank_losses(measure_each(predictions))
    assert ranks is not None
    lines = ranking_text(ranks, "markdown").splitlines()
    assert lines[0] == "| loss | mean rank | mean SRCC | first |"
    assert lines[2].startswith("| exact | 1.00 (1.00 to 1.00) | 0.99")
    assert lines[2].endswith("| 4 |")


def test_each_training_is_measured(predictions: pd.DataFrame) -> None:
    content = (predictions["row"] % 5).astype(str)
    results = measure_each(predictions.assign(within=content), mapped=True)
    assert len(results) == len(NOISE) * 4 * (10 + 2 + 3)
    part = predictions.query("loss == 'bad' and fold == 2 and seed == 1").dropna(subset="truth")
    prediction, truth = part["prediction"].to_numpy(), part["truth"].to_numpy()
    found = results.query("loss == 'bad' and fold == 2 and seed == 1")
    values = found.set_index("metric")["value"].to_dict()
    for metric, value in agreement(prediction, truth, mapped=True).items():
        assert values[metric] == pytest.approx(value)
    within = correlation_within_groups(prediction, truth, content[part.index].to_numpy(dtype=str))
    for metric in ("PLCC", "SRCC", "KRCC"):
        assert values[f"{metric} within"] == pytest.approx(within[metric].mean())


def test_further_measures_are_compared_as_well(predictions: pd.DataFrame) -> None:
    within = predictions.assign(within=predictions["group"])
    metrics = summarise(within, mapped=True, resamples=100)
    further = ["PLCC mapped", "RMSE mapped", "PLCC within", "SRCC within", "KRCC within"]
    assert list(metrics["metric"].unique()) == [*COMPARED, *further]
    best = metrics[metrics["p"].isna()].set_index("metric")["loss"]
    assert (best == "exact").all()


def test_losses_are_ranked_in_each_fold_and_seed(predictions: pd.DataFrame) -> None:
    results = measure_each(predictions)
    ranks = rank_losses(results)
    assert ranks is not None
    found = ranks.set_index("loss")
    assert found["mean_rank"].to_dict() == {"exact": 1, "good": 2.5, "alike": 2.5, "bad": 4}
    undefined = (results["loss"] == "bad") & (results["fold"] == 1) & (results["seed"] == 1)
    results.loc[undefined & (results["metric"] == "SRCC"), "value"] = np.nan
    without = rank_losses(results)
    assert without is not None
    assert without.set_index("loss")["best"]["exact"] == 3
    assert rank_losses(results[results["loss"] == "bad"]) is None
