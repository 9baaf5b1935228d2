from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finecorr.comparison.plan import ComparisonOptions, Data, plan
from finecorr.data.augmentation import AugmentationOptions
from finecorr.data.images import ImageOptions
from finecorr.data.table import TableOptions
from finecorr.errors import InputError
from finecorr.models.training import TrainingOptions

DATA = Data(TableOptions(Path("table.csv")), ImageOptions(), AugmentationOptions())


def options(**changes: Any) -> ComparisonOptions:
    return ComparisonOptions(**{"out": Path("out"), "losses": ("mse", "huber"), **changes})


def test_every_loss_fold_and_seed_once() -> None:
    runs = plan(options(folds=3, seeds=2), DATA, TrainingOptions(seed=7))
    assert len({run.folder for run in runs}) == len(runs) == 2 * 3 * 2
    assert {(run.fold, run.seed) for run in runs} == {(f, s) for f in (1, 2, 3) for s in (7, 8)}
    for run in runs:
        assert run.training.loss == run.loss
        assert run.training.seed == run.seed
        assert (run.options.fold, run.options.folds, run.options.split_seed) == (run.fold, 3, 7)


def test_the_split_of_a_column_is_one_for_each_loss_and_seed() -> None:
    data = replace(DATA, table=replace(DATA.table, split_column="part"))
    runs = plan(options(seeds=2), data, TrainingOptions(seed=7))
    assert [str(run.folder) for run in runs[::2]] == [
        f"out/runs/mse/split/seed-{seed}" for seed in (7, 8)
    ]
    assert {run.loss for run in runs} == {"mse", "huber"}
    assert all(run.options.folds is None and run.fold == 1 for run in runs)
    with pytest.raises(InputError, match="--folds draws the splits"):
        plan(options(folds=5), data, TrainingOptions())


def test_five_folds_where_nothing_else_is_asked_for() -> None:
    runs = plan(options(seeds=1), DATA, TrainingOptions())
    assert [(run.fold, run.options.folds) for run in runs[::2]] == [(i, 5) for i in range(1, 6)]


def test_losses_advance_together() -> None:
    runs = plan(options(folds=2, seeds=1), DATA, TrainingOptions())
    assert [run.loss for run in runs] == ["mse", "huber", "mse", "huber"]


def test_a_variant_is_the_loss_with_other_options() -> None:
    chosen = options(
        losses=("fine_grained", "fine_grained@flat"),
        loss_options={"fine_grained@flat": {"rank_weight": 0.0}},
    )
    plain, flat, *_ = plan(chosen, DATA, TrainingOptions())
    assert plain.training.loss == flat.training.loss == "fine_grained"
    assert (plain.training.loss_options, flat.training.loss_options) == ({}, {"rank_weight": 0.0})
    assert plain.folder != flat.folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ()}, "names no loss"),
        ({"losses": ("mse", "mse")}, "mse more than once"),
        ({"losses": ("msee",)}, "did you mean mse"),
        ({"losses": ("mse@a/b",)}, "mse@a/b"),
        ({"loss_options": {"mae": {}}}, "mae, which --losses does not name"),
        ({"loss_options": {"huber": {"detla": 1}}}, "detla"),
        ({"seeds": 0}, "--seeds must be from 1"),
        ({"folds": 1}, "--folds must be from 2"),
        ({"workers": 0}, "--workers must be from 1"),
    ],
)
def test_options_at_fault(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(options(**changes), DATA, TrainingOptions())


def test_where_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install \"finecorr\[ray\]\""):
        plan(options(executor="ray"), DATA, TrainingOptions())
    plan(options(), DATA, TrainingOptions())
