"""Losses on tasks whose trainings take seconds: tables of numbers, and sequences of proteins.

    python benchmarks/tasks.py --tables TABLES --gb1 FILE --out results

TABLES is the folder of the concrete strength and the wine quality of the UCI repository, as the
authors of gradient aligned regression split and standardised them: feature columns, the target, and
`split` (train or test). Their protocol (arXiv 2402.06104): a network with ELU and hidden layers of
16, 32, 16 and 8; SGD with momentum 0.9, batches of 256, 100 epochs, the learning rate times 0.1
after 50 and 75; five folds of the train rows, the test rows predicted by the model of each fold.

FILE has the fitness of variants of protein GB1 at four sites (N. C. Wu et al., eLife 2016) with the
splits of FLIP (C. Dallago et al., 2021): the columns site39, site40, site41 and site54, `fitness`,
and one for each split (train, validation, test). The network has GELU, hidden layers of 128 and 64
and dropout of 0.2; AdamW in one cycle, batches of 64, 40 epochs.

Learning rate, weight decay and, for gradient aligned regression, its alpha are chosen on validation
rows, by the sum of Pearson and Spearman. Our losses have their defaults. With `-wrong-10`, one
training label in ten is that of another training row; validation and test rows are as they are.

`OUT/tasks.csv` has a row for each training. What is in it is not repeated: the same command goes on
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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

LOSSES = (
    *("mse", "mae", "huber", "mae@log", "pearson", "gradient_aligned", "rank_n_contrast"),
    *("robust_pearson@plain", "robust_pearson", "fine_grained"),
)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "mae@log": [{"log": True}],
    "robust_pearson@plain": [{"robust": False}],
    "gradient_aligned": [{"alpha": alpha} for alpha in (0.1, 0.5, 1.0)],
}
"""What a name stands for; of several, the validation rows choose."""
FOLDS, WRONG = 5, 0.1
KEY = ["task", "loss", "fold", "seed"]
"""The columns that tell the results apart."""


class Rows(NamedTuple):
    x: Tensor
    y: NDArray[np.float64]


class Split(NamedTuple):
    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Recipe:
    hidden: tuple[int, ...]
    activation: type[nn.Module]
    dropout: float
    sgd: bool
    """With steps; else AdamW in one cycle."""
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    epochs: int
    batch: int


@dataclass(frozen=True)
class Task:
    name: str
    """Of the table, or of the split."""
    recipe: Recipe
    folds: int
    seeds: int
    wrong: float = 0.0


TABLE = Recipe((16, 32, 16, 8), nn.ELU, 0.0, True, (1e-1, 1e-2, 1e-3), (1e-3, 1e-4, 1e-5), 100, 256)
PROTEIN = Recipe((128, 64), nn.GELU, 0.2, False, (1e-3, 3e-3, 1e-2), (1e-2,), 40, 64)
PROTEIN_16 = Recipe((128, 64), nn.GELU, 0.2, False, (1e-3, 3e-3, 1e-2), (1e-2,), 10, 16)
SPLITS = ("two_vs_rest", "three_vs_rest", "low_vs_high", "sampled")
AS_THEY_ARE = {
    "concrete": Task("concrete_strength", TABLE, FOLDS, 2),
    "wine": Task("wine_quality", TABLE, FOLDS, 1),
    **{f"gb1-{name}": Task(name, PROTEIN, 1, 5) for name in SPLITS},
    "gb1-three_vs_rest-batch-16": Task("three_vs_rest", PROTEIN_16, 1, 5),
}
TASKS = AS_THEY_ARE | {
    f"{name}-wrong-10": Task(task.name, task.recipe, task.folds, task.seeds, WRONG)
    for name, task in AS_THEY_ARE.items()
}


class Job(NamedTuple):
    tables: Path
    gb1: Path
    task: str
    loss: str
    fold: int
    seed: int


def split(job: Job) -> Split:
    task = TASKS[job.task]
    if task.recipe is TABLE:
        rows = read_table(job.tables / f"{task.name}.csv")
        folds = KFold(task.folds, shuffle=True, random_state=job.seed).split(rows.train.x)
        train, validation = next(itertools.islice(folds, job.fold, None))
        known = rows.train
        parts = Split(
            Rows(known.x[train], known.y[train]),
            Rows(known.x[validation], known.y[validation]),
            rows.test,
        )
    else:
        parts = read_gb1(job.gb1, task.name)
    labels = parts.train.y.copy()
    random = np.random.default_rng([job.fold, job.seed])
    replaced = random.choice(len(labels), round(task.wrong * len(labels)), replace=False)
    labels[replaced] = random.choice(labels, len(replaced))
    return parts._replace(train=Rows(parts.train.x, labels))


@cache
def read_table(path: Path) -> Split:
    frame = pd.read_csv(path)
    numbers = frame.drop(columns="split").to_numpy(dtype=np.float64)
    train = (frame["split"] == "train").to_numpy(copy=True)
    x, y = torch.from_numpy(numbers[:, :-1]).float(), numbers[:, -1]
    known = Rows(x[train], y[train])
    return Split(known, known, Rows(x[~train], y[~train]))


@cache
def read_gb1(path: Path, name: str) -> Split:
    frame = pd.read_csv(path)
    x = torch.from_numpy(
        pd.get_dummies(frame.filter(like="site"), columns=None).to_numpy(dtype=np.float32)
    )
    parts = (frame[name] == part for part in ("train", "validation", "test"))
    y = frame["fitness"].to_numpy()
    return Split(*(Rows(x[part.to_numpy(copy=True)], y[part]) for part in parts))


class Network(nn.Module):
    def __init__(self, inputs: int, recipe: Recipe) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise([inputs, *recipe.hidden]):
            layers += [nn.Linear(before, width), recipe.activation(), nn.Dropout(recipe.dropout)]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(recipe.hidden[-1], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(x)
        return self.head(features).squeeze(-1), features


def fit(
    loss: losses.Loss, rows: Rows, recipe: Recipe, rate: float, decay: float, seed: int
) -> Network | None:
    """The trained network; None where the training diverged."""
    torch.manual_seed(seed)
    x = rows.x
    y = torch.from_numpy((rows.y - rows.y.mean()) / rows.y.std()).float()
    network = Network(x.shape[1], recipe)
    steps = recipe.epochs * len(torch.split(x, recipe.batch))
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    if recipe.sgd:
        optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4])
    else:
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    step = 0
    for _ in range(recipe.epochs):
        for batch in torch.split(torch.randperm(len(x)), recipe.batch):
            loss.progress = step / steps
            prediction, features = network(x[batch])
            value = loss(prediction, y[batch], features)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            step += 1
        if not torch.isfinite(value):
            return None
    return network.eval()


@torch.no_grad()
def correlations(network: Network, rows: Rows) -> tuple[float, float]:
    values = network(rows.x)[0].double().numpy()
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return -1.0, -1.0
    return stats.pearsonr(values, rows.y).statistic, stats.spearmanr(values, rows.y).statistic


def run(job: Job) -> dict[str, Any]:
    """The test correlations of the setting that was best on validation rows."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    parts, recipe = split(job), TASKS[job.task].recipe
    best: tuple[float, dict[str, Any], Network] | None = None
    for options, rate, decay in settings(job.loss, recipe):
        loss = losses.build(job.loss.partition("@")[0], **options)
        seed = FOLDS * job.seed + job.fold
        network = fit(loss, parts.train, recipe, rate, decay, seed)
        if network is None:
            continue
        score = sum(correlations(network, parts.validation))
        if best is None or score > best[0]:
            best = score, {"learning_rate": rate, "weight_decay": decay, **options}, network
    assert best is not None, f"every training of {job} diverged"
    score, chosen, network = best
    pearson, spearman = correlations(network, parts.test)
    return {
        **{name: getattr(job, name) for name in KEY},
        "PLCC": pearson,
        "SRCC": spearman,
        "validation": score / 2,
        "chosen": str(chosen),
        "seconds": time.perf_counter() - start,
    }


def settings(loss: str, recipe: Recipe) -> Iterator[tuple[dict[str, Any], float, float]]:
    return itertools.product(OPTIONS.get(loss, [{}]), recipe.rates, recipe.decays)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder of the two tables")
    parser.add_argument("--gb1", type=Path, required=True, help="file of the variants")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    options = parser.parse_args()
    path = options.out / "tasks.csv"
    results = pd.read_csv(path) if path.exists() else pd.DataFrame()
    finished = set(results[KEY].itertuples(index=False, name=None)) if len(results) else set()
    jobs = [
        Job(options.tables, options.gb1, task, loss, fold, seed)
        for task in options.tasks.split(",")
        for seed in range(TASKS[task].seeds)
        for loss in options.losses.split(",")
        for fold in range(TASKS[task].folds)
        if (task, loss, fold, seed) not in finished
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers) as pool:
        for result in tqdm(pool.map(run, jobs), total=len(jobs)):
            results = pd.concat([results, pd.DataFrame([result])])
            with replacing(path) as temporary:
                results.to_csv(temporary, index=False)
    wanted = {"PLCC": ["mean", "sem"], "SRCC": ["mean", "sem"], "seconds": ["sum"]}
    summary = results.groupby(["task", "loss"], sort=False).agg(wanted)
    print(summary.round(4).to_string())


if __name__ == "__main__":
    main()
