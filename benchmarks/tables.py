"""Losses on two tables of numbers, by the protocol of the authors of gradient aligned regression.

The tables are the concrete strength and the wine quality of the UCI repository, as these authors
split and standardised them: feature columns, the target, and `split` (train or test). The protocol
(arXiv 2402.06104): a network with ELU and hidden layers of 16, 32, 16 and 8; SGD with momentum 0.9,
batches of 256, 100 epochs, the learning rate times 0.1 after 50 and 75; five folds of the train
rows, the test rows predicted by the model of each fold; learning rate (0.1, 0.01, 0.001), weight
decay (1e-3, 1e-4, 1e-5), and for the loss of these authors its alpha, chosen on the fold's
validation rows, by the sum of Pearson and Spearman. Our losses have their defaults.

What is in the file of the results is not repeated: the same command goes on after Ctrl-C.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.model_selection import KFold
from torch import Tensor, nn
from tqdm import tqdm

from finecorr import losses
from finecorr.files import replacing

TABLES = ("concrete_strength", "wine_quality")
LOSSES = ("mse", "mae", "huber", "gradient_aligned", "pearson", "robust_pearson", "fine_grained")
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "gradient_aligned": [{"alpha": alpha} for alpha in (0.1, 0.5, 1.0)]
}
"""From which the validation rows choose, as in the protocol."""
LEARNING_RATES = (1e-1, 1e-2, 1e-3)
WEIGHT_DECAYS = (1e-3, 1e-4, 1e-5)
FOLDS, EPOCHS, BATCH = 5, 100, 256
KEY = ["table", "loss", "fold", "seed"]
"""The columns that tell the results apart."""


class Table(NamedTuple):
    train: Tensor
    train_target: Tensor
    test: Tensor
    test_target: NDArray[np.float64]


class Job(NamedTuple):
    folder: Path
    table: str
    loss: str
    fold: int
    seed: int


@cache
def read(folder: Path, name: str) -> Table:
    frame = pd.read_csv(folder / f"{name}.csv")
    numbers = frame.drop(columns="split").to_numpy(dtype=np.float64)
    train = (frame["split"] == "train").to_numpy(copy=True)
    features = torch.from_numpy(numbers[:, :-1]).float()
    target = numbers[:, -1]
    standardised = (target[train] - target[train].mean()) / target[train].std()
    return Table(
        features[train], torch.from_numpy(standardised).float(), features[~train], target[~train]
    )


class Network(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        widths = [inputs, 16, 32, 16, 8]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ELU()) for a, b in itertools.pairwise(widths)]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(8, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.backbone(features)
        return self.head(hidden).squeeze(-1), hidden


def fit(
    loss: losses.Loss, x: Tensor, y: Tensor, learning_rate: float, weight_decay: float, seed: int
) -> Network | None:
    """The trained network; None where the training diverged."""
    torch.manual_seed(seed)
    network = Network(x.shape[1])
    optimizer = torch.optim.SGD(
        network.parameters(), learning_rate, momentum=0.9, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50, 75])
    for epoch in range(EPOCHS):
        batches = torch.split(torch.randperm(len(x)), BATCH)
        for step, rows in enumerate(batches):
            loss.progress = (epoch + step / len(batches)) / EPOCHS
            prediction, features = network(x[rows])
            value = loss(prediction, y[rows], features)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        schedule.step()
        if not torch.isfinite(value):
            return None
    return network


def correlations(prediction: Tensor, target: NDArray[np.float64]) -> tuple[float, float]:
    values = prediction.double().numpy()
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return -1.0, -1.0
    return stats.pearsonr(values, target).statistic, stats.spearmanr(values, target).statistic


@torch.no_grad()
def predict(network: Network, x: Tensor) -> Tensor:
    prediction: Tensor = network(x)[0]
    return prediction


def run(job: Job) -> dict[str, Any]:
    """The test correlations of the setting that was best on the fold's validation rows."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    table = read(job.folder, job.table)
    folds = KFold(FOLDS, shuffle=True, random_state=job.seed).split(table.train)
    train, validation = next(itertools.islice(folds, job.fold, None))
    best: tuple[float, dict[str, Any], Network] | None = None
    for options, rate, decay in settings(job.loss):
        loss = losses.build(job.loss, **options)
        seed = FOLDS * job.seed + job.fold
        network = fit(loss, table.train[train], table.train_target[train], rate, decay, seed)
        if network is None:
            continue
        truth = table.train_target[validation].double().numpy()
        score = sum(correlations(predict(network, table.train[validation]), truth))
        if best is None or score > best[0]:
            best = score, {"learning_rate": rate, "weight_decay": decay, **options}, network
    assert best is not None, f"every training of {job} diverged"
    score, chosen, network = best
    pearson, spearman = correlations(predict(network, table.test), table.test_target)
    return {
        **{name: getattr(job, name) for name in KEY},
        "pearson": pearson,
        "spearman": spearman,
        "validation": score / 2,
        "chosen": str(chosen),
        "seconds": time.perf_counter() - start,
    }


def settings(loss: str) -> Iterator[tuple[dict[str, Any], float, float]]:
    return itertools.product(OPTIONS.get(loss, [{}]), LEARNING_RATES, WEIGHT_DECAYS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the two tables")
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the five folds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="CSV file for the results")
    options = parser.parse_args()
    results = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame()
    finished = set(results[KEY].itertuples(index=False, name=None)) if len(results) else set()
    jobs = [
        Job(options.folder, table, loss, fold, seed)
        for seed, table, loss, fold in itertools.product(
            range(options.seeds),
            options.tables.split(","),
            options.losses.split(","),
            range(FOLDS),
        )
        if (table, loss, fold, seed) not in finished
    ]
    with ProcessPoolExecutor(options.workers) as pool:
        for result in tqdm(pool.map(run, jobs), total=len(jobs)):
            results = pd.concat([results, pd.DataFrame([result])])
            with replacing(options.out) as temporary:
                results.to_csv(temporary, index=False)
    wanted = {"pearson": ["mean", "sem"], "spearman": ["mean", "sem"], "seconds": ["sum"]}
    summary = results.groupby(["table", "loss"], sort=False).agg(wanted)
    print(summary.round(4).to_string())


if __name__ == "__main__":
    main()
