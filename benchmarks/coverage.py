"""How often the 95 % intervals of `finecorr.evaluation` hold the true value.

    python benchmarks/coverage.py [--trials 4000] [--resamples 2000] [--samples 50 500]

Predictions and targets are bivariate normal, so that all true values are known. A coverage of
`c` % from `t` trials has a standard error of `sqrt(c (100 - c) / t)` %: 0.34 for 95 and 4000.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import stats

from finecorr.evaluation.agreement import MEASURES, agreement
from finecorr.evaluation.bootstrap import agreement_with_intervals
from finecorr.evaluation.correlations import pearson_interval, spearman_interval
from finecorr.evaluation.ranks import Array

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
        noise = self.noise * rng.normal(size=samples)
        return self.offset + self.slope * target + noise, target

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


def coverage(samples: int, method: str, resamples: int, trials: int) -> dict[str, float]:
    """The share of the intervals of each measure, in percent, that hold the true value."""
    population = Population()
    truth = population.truth()
    held: Counter[str] = Counter()
    rng = np.random.default_rng(0)
    for trial in range(trials):
        prediction, target = population.draw(samples, rng)
        found = intervals(prediction, target, method, resamples, trial)
        held.update({name: low <= truth[name] <= high for name, (low, high) in found.items()})
    return {name: 100 * count / trials for name, count in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--samples", type=int, nargs="+", default=[50, 500])
    options = parser.parse_args()
    print("| n | interval |", " | ".join(MEASURES), "|")
    print("| --- " * (2 + len(MEASURES)) + "|")
    for samples in options.samples:
        for method in METHODS:
            found = coverage(samples, method, options.resamples, options.trials)
            cells = [f"{found[name]:.1f}" if name in found else "" for name in MEASURES]
            print(f"| {samples} | {method} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
