"""How often the 95 % intervals of `finecorr.evaluation` hold the true value.

    python benchmarks/coverage.py [--trials 4000] [--resamples 2000] [--samples 50 500]
    python benchmarks/coverage.py --folds 5 [--trials 500] [--samples 50 500] [--noise 0.1]

Predictions and targets are bivariate normal, so that all true values are known. A coverage of
`c` % from `t` trials has a standard error of `sqrt(c (100 - c) / t)` %: 0.34 for 95 and 4000.

With `--folds`, the intervals are those of `finecorr compare` for means over folds, of `samples` in
all. There, the true value is what such means are on the average of many draws, and "p < 0.05" is
how often a difference is claimed between two losses that are equally good.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from finecorr.comparison.summary import measure_each, summarise
from finecorr.evaluation.agreement import MEASURES, agreement
from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.evaluation.correlations import pearson_interval, spearman_interval
from finecorr.evaluation.ranks import Array

COMPARED = ("PLCC", "SRCC", "KRCC", "CCC", "MAE", "RMSE", "R2")
LOSSES = ("one", "another")
METHODS = ("percentile", "bca", "closed form")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Population:
    """Targets are standard normal, `prediction = offset + slope * target + noise * normal`."""

    offset: float = 0.2
    slope: float = 0.8
    noise: float = 0.5

    def draw(self, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
        target = rng.normal(size=samples)
        return self.predict(target, rng), target

    def predict(self, target: Array, rng: np.random.Generator) -> Array:
        return self.offset + self.slope * target + self.noise * rng.normal(size=len(target))

    def truth(self) -> dict[str, float]:
        """Each measure of infinitely many samples."""
        variance = self.slope**2 + self.noise**2
        rho = self.slope / math.sqrt(variance)
        spread = math.hypot(self.slope - 1, self.noise)
        square = spread**2 + self.offset**2
        return {
            "PLCC": rho,
            "SRCC": 6 / math.pi * math.asin(rho / 2),
            "KRCC": 2 / math.pi * math.asin(rho),
            "CCC": 2 * self.slope / (variance + 1 + self.offset**2),
            "MAE": float(stats.foldnorm.mean(self.offset / spread, scale=spread)),
            "RMSE": math.sqrt(square),
            "R2": 1 - square,
            "bias": self.offset,
            "LLoA": self.offset - 1.96 * spread,
            "ULoA": self.offset + 1.96 * spread,
        }


def intervals(
    prediction: Array, target: Array, method: str, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    if method == "closed form":
        value, samples = agreement(prediction, target), len(target)
        return {
            "PLCC": pearson_interval(value["PLCC"], samples, CONFIDENCE),
            "SRCC": spearman_interval(value["SRCC"], samples, CONFIDENCE),
        }
    frame = agreement_with_intervals(
        prediction,
        target,
        np.arange(len(target)).astype(str),
        method="bca" if method == "bca" else "percentile",
        resamples=resamples,
        confidence=CONFIDENCE,
        seed=seed,
    )
    return dict(zip(frame["metric"], zip(frame["low"], frame["high"], strict=True), strict=True))


def coverage(
    population: Population, samples: int, method: str, resamples: int, trials: int
) -> dict[str, float]:
    """The share of the intervals of each measure, in percent, that hold the true value."""
    truth = population.truth()
    held: Counter[str] = Counter()
    rng = np.random.default_rng(0)
    for trial in range(trials):
        prediction, target = population.draw(samples, rng)
        found = intervals(prediction, target, method, resamples, trial)
        held.update({name: low <= truth[name] <= high for name, (low, high) in found.items()})
    return {name: 100 * count / trials for name, count in held.items()}


def predictions_of_folds(
    population: Population, samples: int, folds: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Of two losses that are equally good."""
    target = rng.normal(size=samples)
    rows = pd.DataFrame({"row": np.arange(samples), "truth": target, "seed": 0})
    rows["group"], rows["fold"] = rows["row"].astype(str), rows["row"] % folds
    parts = [rows.assign(loss=loss, prediction=population.predict(target, rng)) for loss in LOSSES]
    return pd.concat(parts, ignore_index=True)


def coverage_of_folds(
    population: Population, samples: int, folds: int, resamples: int, trials: int
) -> dict[str, dict[str, float]]:
    """The shares of the intervals that hold the true value, and of p below 0.05, in percent."""
    rng = np.random.default_rng(0)
    draws = [predictions_of_folds(population, samples, folds, rng) for _ in range(1000)]
    truth = pd.concat(map(measure_each, draws)).groupby("metric")["value"].mean()
    parts = []
    for _ in range(trials):
        drawn = predictions_of_folds(population, samples, folds, rng)
        found = summarise(drawn, reference=LOSSES[1], resamples=resamples)
        parts.append(found[found["loss"] == LOSSES[0]])
    found = pd.concat(parts)
    true = found["metric"].map(truth)
    found["interval"] = found["low"].le(true) & found["high"].ge(true)
    found["p < 0.05"] = found["p"] < 0.05
    by_metric = found.groupby("metric")
    return {label: dict(100 * by_metric[label].mean()) for label in ("interval", "p < 0.05")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--samples", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--noise", type=float, default=Population.noise)
    parser.add_argument("--folds", type=int, default=1)
    options = parser.parse_args()
    population = Population(noise=options.noise)
    names = MEASURES if options.folds == 1 else COMPARED
    print("| n | of |", " | ".join(names), "|")
    print("| --- " * (2 + len(names)) + "|")
    sizes = {"resamples": options.resamples, "trials": options.trials}
    for samples in options.samples:
        if options.folds == 1:
            found = {m: coverage(population, samples, m, **sizes) for m in METHODS}
        else:
            found = coverage_of_folds(population, samples, options.folds, **sizes)
        for label, shares in found.items():
            cells = [f"{shares[name]:.1f}" if name in shares else "" for name in names]
            print(f"| {samples} | {label} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
