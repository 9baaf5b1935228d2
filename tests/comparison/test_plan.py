from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finecorr.comparison.options import ComparisonOptions
from finecorr.comparison.plan import Data, plan
from finecorr.comparison.splitting import Splitting
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError
from finecorr.models.options import TrainingOptions

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
    with pytest.raises(InputError, match="--folds and --split-column each say"):
        plan(options(folds=5), data, TrainingOptions())
    with pytest.raises(InputError, match="--repeats and --split-column each say"):
        plan(options(repeats=5), data, TrainingOptions())


def test_random_splits_are_ordinary_runs() -> None:
    runs = plan(options(repeats=3, seeds=2), DATA, TrainingOptions(seed=7))
    assert len(runs) == 2 * 3 * 2
    for run in runs:
        assert str(run.folder) == f"out/runs/{run.loss}/repeat-{run.fold}/seed-{run.seed}"
        assert (run.options.folds, run.options.split_seed) == (None, 6 + run.fold)
        assert run.options.split_fractions == (0.8, 0.0, 0.2)


def test_all_rows_of_a_published_split_are_trained_on_but_where_some_say_when_to_stop() -> None:
    data = replace(DATA, table=replace(DATA.table, split_column="part"))
    shares = [
        plan(options(), data, TrainingOptions(patience=patience))[0].options.split_fractions[1]
        for patience in (0, 3)
    ]
    assert shares == [0, 0.15]


def test_what_a_value_is_in_words() -> None:
    column, repeats = Splitting("column", 1, "part"), Splitting("repeats", 10)
    median = "the median of 9 random 80/20 splits by subject"
    assert Splitting("folds", 5).value(5, 1) == "the mean over 5 folds and 1 seed"
    assert repeats.value(9, 1) == median
    assert repeats.value(9, 2) == f"{median}, and in each of these the mean over 2 seeds"
    assert column.value(1, 3) == "the mean over 3 seeds, on the split of column 'part'"
    assert column.value(1, 1) == "that of one training, on the split of column 'part'"


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
        ({"repeats": 0}, "--repeats must be from 1"),
        ({"repeats": 10, "folds": 5}, "--folds and --repeats each say"),
        ({"workers": 0}, "--workers must be from 1"),
    ],
)
def test_options_at_fault(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(options(**changes), DATA, TrainingOptions())


def test_random_splits_have_no_validation_rows_to_stop_by() -> None:
    with pytest.raises(InputError, match="--patience needs validation rows"):
        plan(options(repeats=2), DATA, TrainingOptions(patience=1))
    with pytest.raises(InputError, match="--repeats 2 end above"):
        plan(options(repeats=2, seeds=1), DATA, TrainingOptions(seed=2**32 - 1))


def test_where_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install \"finecorr\[ray\]\""):
        plan(options(executor="ray"), DATA, TrainingOptions())
    plan(options(), DATA, TrainingOptions())
