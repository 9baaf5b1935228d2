"""Tables without pictures, from the command to what it leaves: small real trainings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.ensemble import HistGradientBoostingRegressor

import finecorr
from conftest import SMALL_FLAGS
from finecorr.cli import main
from finecorr.comparison.options import REFERENCE, ComparisonOptions
from finecorr.comparison.plan import Data, plan
from finecorr.comparison.reference import train_reference
from finecorr.data.image_options import AugmentationOptions, ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError, InputWarning
from finecorr.models.options import TrainingOptions
from finecorr.trained import bundle

COLUMNS = ["age", "sex", "bmi"]
FLAGS = ["--feature-columns", *COLUMNS, "--target-columns", "y"]
SMALL = ["--hidden", "16", "--epochs", "3", "--batch-size", "16"]


def _rows(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age, sex = rng.integers(20, 80, count).astype(float), rng.choice(["f", "m"], count)
    bmi = rng.normal(25, 4, count).round(1)
    y = 0.3 * age + 5 * (sex == "f") + 0.2 * bmi + rng.normal(0, 1, count)
    age[rng.random(count) < 0.1] = np.nan
    split = np.array(["train", "train", "train", "validation", "test"])[np.arange(count) % 5]
    return pd.DataFrame({"age": age, "sex": sex, "bmi": bmi, "y": y, "split": split})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    _rows(150).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    flags = [*FLAGS, *SMALL, "--split-column", "split", "--out", str(out)]
    assert main(["train", str(table), *flags]) == 0
    return out


def test_the_network_is_that_of_tables_unasked(trained: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["network"], config["hidden"], config["dropout"]) == ("mlp", [16], 0.1)
    model = bundle.load(trained)
    assert model.table.feature_columns == tuple(COLUMNS)
    assert model.table.category_columns == ("sex",)
    card = (trained / "README.md").read_text()
    assert "Predicts y from columns of a table" in card
    assert "sex (f, m)" in card
    assert "image" not in card


def test_a_step_of_one_row_more_than_a_batch(table: Path, tmp_path: Path) -> None:
    flags = [*FLAGS, *SMALL, "--epochs", "1", "--population", "17", "--out", str(tmp_path / "run")]
    assert main(["train", str(table), *flags]) == 0


def test_nothing_of_other_rows_is_in_the_encoding(table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table)
    others = rows["split"] != "train"
    rows.loc[others, ["age", "bmi"]] = 1000.0
    rows.loc[others, "sex"] = "unknown"
    rows.to_csv(tmp_path / "other.csv", index=False)
    flags = [*FLAGS, *SMALL, "--split-column", "split", "--out"]
    for path in (table, tmp_path / "other.csv"):
        assert main(["train", str(path), *flags, str(tmp_path / path.stem)]) == 0
    one, other = (bundle.load(tmp_path / name) for name in ("table", "other"))
    assert one.encoding == other.encoding
    for name, value in one.regressor.state_dict().items():
        assert np.array_equal(value, other.regressor.state_dict()[name]), name


def test_files_name_rows_and_no_images(trained: Path, table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table)
    for name in ("predictions.csv", "splits.csv", "outliers.csv"):
        written = pd.read_csv(trained / name)
        assert "image" not in written
        assert written["group"].tolist() == [f"row {row}" for row in written["row"]]
    predicted = pd.read_csv(trained / "predictions.csv")
    assert predicted["row"].tolist() == (np.flatnonzero(rows["split"] == "test") + 2).tolist()
    out = tmp_path / "all.csv"
    assert main(["predict", str(trained), "--out", str(out)]) == 0
    all_rows = pd.read_csv(out).set_index("row")
    assert len(all_rows) == len(rows)
    np.testing.assert_allclose(
        all_rows.loc[predicted["row"], "y"], predicted["predicted y"], rtol=1e-5
    )
    in_memory = finecorr.load(trained).predict(rows[COLUMNS])
    np.testing.assert_allclose(in_memory["y"], all_rows["y"], rtol=1e-5)
    assert in_memory["row"].tolist() == list(range(len(rows)))


def test_an_evaluation_is_of_the_rows_that_were_not_seen(
    trained: Path, table: Path, tmp_path: Path
) -> None:
    assert main(["evaluate", str(trained), "--out", str(tmp_path / "same")]) == 0
    before, after = (pd.read_csv(f / "metrics.csv") for f in (trained, tmp_path / "same"))
    pd.testing.assert_frame_equal(before, after, rtol=1e-4)
    # In another table, rows are known by what is in them.
    more = pd.concat([_rows(30, seed=1), pd.read_csv(table)]).sample(frac=1, random_state=0)
    more.to_csv(tmp_path / "more.csv", index=False)
    out = tmp_path / "other"
    assert main(["evaluate", str(trained), str(tmp_path / "more.csv"), "--out", str(out)]) == 0
    evaluated = pd.read_csv(out / "predictions.csv")
    assert len(evaluated) == 30 + 30
    assert f"row {evaluated['row'][0]}: age " in (out / "report.html").read_text()


@pytest.mark.parametrize("change", ["in another order", "with subjects"])
def test_an_evaluation_of_a_table_that_has_changed(
    change: str, trained: Path, table: Path, tmp_path: Path
) -> None:
    """Whatever their numbers and subjects are now, the training has seen the same rows."""
    run, moved = tmp_path / "run", tmp_path / "table.csv"
    shutil.copytree(trained, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(table), str(moved)))
    rows = pd.read_csv(table)
    flags = []
    if change == "with subjects":
        rows, flags = rows.assign(who=[f"p{row}" for row in rows.index]), ["--group-column", "who"]
    else:
        rows = rows.sort_values("y")
    rows.to_csv(moved, index=False)
    assert main(["evaluate", str(run), *flags, "--out", str(tmp_path / "out")]) == 0
    evaluated = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert sorted(evaluated["y"]) == sorted(rows["y"][rows["split"] == "test"])


def test_what_is_unlike_the_training_is_said(trained: Path) -> None:
    model = finecorr.load(trained)
    rows = pd.DataFrame({"age": [30.0, np.nan], "sex": ["x", "f"], "bmi": [25.0, 25.0]})
    with pytest.warns(InputWarning, match=r"'sex', 1 of 2 rows have a category .*row 0 \(x\)"):
        found = model.predict(rows)
    # Age is missing in training rows, too.
    assert found["novel"].tolist() == [1, 0]
    with pytest.raises(InputError, match="column 'bmi' is of numbers in the training"):
        model.predict(rows.assign(bmi="much"))
    with pytest.raises(InputError, match="no column 'bmi' for --feature-columns"):
        model.predict(rows.drop(columns="bmi"))
    for images in (["a.png"], np.zeros((2, 32, 32))):
        with pytest.raises(InputError, match="predicts from columns of a table"):
            model.predict(images)
    huge = model.predict(rows.assign(sex="f", bmi=[1e200, 25.0]))
    assert "too large" in huge["fault"][0]
    assert huge["fault"][1] == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--network", "resnet18"], "--network resnet18 sees images"),
        (["--task", "length"], "--network resnet18 sees images"),
        (["--view", "crops"], "--view is for images"),
        (["--flip", "0.1"], "--flip is for images"),
        (["--weights", "pretrained"], "--weights is for images"),
        (["--tolerate", "1"], "--tolerate is for images"),
        (["--image-root", "."], "--image-root is for images"),
    ],
)
def test_flags_that_cannot_take_effect(
    table: Path, tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(table), *FLAGS, *flags, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_network_of_tables_sees_no_images(
    phantom_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--network", "mlp", "--out", str(tmp_path / "run")]
    assert main(["train", *phantom_flags, *flags]) == 2
    assert "--network mlp is for --feature-columns, and sees no images" in capsys.readouterr().err


def test_what_is_for_images_alone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--format", "onnx", "--out", str(tmp_path / "model.onnx")]
    assert main(["export", str(trained), *flags]) == 2
    assert "a model of feature columns cannot be exported" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "p.csv")]
    assert main(["predict", str(trained), *out, "--tta", "3"]) == 2
    assert "--tta: nothing varied" in capsys.readouterr().err
    assert main(["predict", str(trained), str(tmp_path), *out]) == 2
    assert "is no table, and the model predicts from the columns" in capsys.readouterr().err


def test_suspects_of_a_run(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on two nodes, whose steps a comparison takes on one."""
    run = shutil.copytree(trained, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "num_nodes": 2}))
    assert main(["suspects", str(run), "--folds", "2", "--seeds", "1"]) == 0
    assert "from what their features suggest" in capsys.readouterr().out
    assert len(pd.read_csv(run / "suspects" / "suspects.csv")) == 150
    (again,) = run.glob("suspects/runs/*/fold-1/seed-0/config.yaml")
    found = yaml.safe_load(again.read_text())
    same = {"population": 32, "num_nodes": 1, "batch_size": 16, "cache_mb": config["cache_mb"]}
    assert {name: found[name] for name in same} == same


def test_intervals_and_ensembles(trained: Path, table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    flags = [*FLAGS, *SMALL, "--split-column", "split", "--seed", "1", "--out", str(other)]
    assert main(["train", str(table), *flags]) == 0
    found = finecorr.load(trained, other).predict(table)
    single = [finecorr.load(run).predict(table)["y"] for run in (trained, other)]
    np.testing.assert_allclose(found["y"], np.mean(single, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["sd y"], np.std(single, axis=0, ddof=1), rtol=1e-4)
    limits = finecorr.load(trained).predict(table, interval=0.9)
    assert (limits["low y"] < limits["high y"]).all()


def test_the_reference_is_what_scikit_learn_makes_of_the_same_rows(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    flags = [*FLAGS, *SMALL, "--losses", "mse", "robust_pearson", "--folds", "2", "--seeds", "1"]
    flags += ["--reference", "--corrupt-labels", "0.2", "--out", str(out)]
    assert main(["compare", str(table), *flags]) == 0
    printed, page = capsys.readouterr().out, (out / "report.html").read_text()
    assert f"| {REFERENCE} |" in printed
    # It is no loss.
    assert "| model " in printed
    assert "<h1>Models compared on table.csv</h1>" in page
    assert "<h3>Models</h3>" in page
    rows = pd.read_csv(table)
    rows["sex"] = pd.Categorical(rows["sex"])
    for fold in ("fold-1", "fold-2"):
        run = out / "runs" / REFERENCE / fold / "seed-0"
        assert not (run / "model.safetensors").exists()
        splits = pd.read_csv(run / "splits.csv")
        of_loss = pd.read_csv(out / "runs" / "mse" / fold / "seed-0" / "splits.csv")
        pd.testing.assert_frame_equal(splits, of_loss)
        # The labels that the robust loss was trained with, replaced ones among them.
        believed = pd.read_csv(out / "runs" / "robust_pearson" / fold / "seed-0" / "outliers.csv")
        labels = believed.set_index("row")["label"].sort_index()
        assert (labels != rows["y"].to_numpy()[labels.index - 2]).sum() > 5
        train, test = (splits["row"][splits["split"] == s] - 2 for s in ("train", "test"))
        assert (labels.index - 2).tolist() == train.tolist()
        model = HistGradientBoostingRegressor(random_state=0)
        model.fit(rows[COLUMNS].iloc[train], labels)
        predicted = pd.read_csv(run / "predictions.csv")
        np.testing.assert_allclose(
            predicted["predicted y"], model.predict(rows[COLUMNS].iloc[test])
        )
    suspects = pd.read_csv(out / "suspects.csv")
    assert len(suspects) == len(rows)
    assert main(["suspects", str(out)]) == 0
    assert "from what their features suggest" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert REFERENCE in page
    # The same command repeats nothing.
    before = (out / "runs" / REFERENCE / "fold-1" / "seed-0" / "metrics.csv").stat().st_mtime_ns
    assert main(["compare", str(table), *flags]) == 0
    after = (out / "runs" / REFERENCE / "fold-1" / "seed-0" / "metrics.csv").stat().st_mtime_ns
    assert before == after


def test_the_reference_leaves_out_a_column_without_a_value_to_learn_from(tmp_path: Path) -> None:
    rows = _rows(100)
    rows["later"] = rows["bmi"].where(rows["split"] == "test")
    rows.to_csv(tmp_path / "table.csv", index=False)
    table = TableOptions(
        tmp_path / "table.csv",
        feature_columns=("age", "later", "sex"),
        target_columns=("y",),
        split_column="split",
    )
    options = ComparisonOptions(tmp_path / "out", losses=("mse",), reference=True, seeds=1)
    data = Data(table, ImageOptions(), AugmentationOptions())
    training = TrainingOptions(network="mlp", batch_size=16)
    run = next(run for run in plan(options, data, training) if run.is_reference)
    train_reference(run, 1)
    splits = pd.read_csv(run.folder / "splits.csv")
    train, test = (splits["row"][splits["split"] == s] - 2 for s in ("train", "test"))
    cells = rows[["age", "sex"]].assign(sex=pd.Categorical(rows["sex"]))
    model = HistGradientBoostingRegressor(random_state=0)
    model.fit(cells.iloc[train], rows["y"].iloc[train])
    predicted = pd.read_csv(run.folder / "predictions.csv")
    np.testing.assert_allclose(predicted["predicted y"], model.predict(cells.iloc[test]))


def test_images_have_no_reference(
    phantom_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*SMALL_FLAGS, "--reference", "--out", str(tmp_path / "comparison")]
    assert main(["compare", *phantom_flags, *flags]) == 2
    assert "it is for --feature-columns" in capsys.readouterr().err


def test_what_a_check_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _rows(100)
    rows["same"], rows["leak"], rows["number"] = 1, 2 * rows["y"] + 1, range(100)
    rows["seldom"] = rows["same"].where(rows.index % 3 > 0)  # which is missing in the others
    rows["nothing"] = ""
    rows.loc[4, COLUMNS] = rows.loc[0, COLUMNS]  # a test row, and a training row
    rows.to_csv(tmp_path / "table.csv", index=False)
    flags = ["--feature-columns", *COLUMNS, "same", "leak", "number", "seldom", "nothing"]
    flags += ["--category-columns", "nothing", "--target-columns", "y"]
    flags += ["--split-column", "split", "--out", str(tmp_path / "check")]
    assert main(["check", str(tmp_path / "table.csv"), *flags]) == 0
    found = pd.read_csv(tmp_path / "check" / "check.csv")
    assert "image" not in found
    kinds = ["constant column", "column that tells the target", "column that counts rows"]
    assert set(kinds) <= set(found["kind"])
    assert found["what"][found["kind"] == kinds[0]].str.split(" in ").str[0].tolist() == [
        "same is 1.0",
        "nothing is missing",
    ]
    assert "age: " in capsys.readouterr().out
    flags[1 : flags.index("--target-columns")] = COLUMNS
    assert main(["check", str(tmp_path / "table.csv"), *flags]) == 0
    found = pd.read_csv(tmp_path / "check" / "check.csv")
    same = found[found["kind"] == "the same features in two splits"].set_index("row")["what"]
    assert "the features of row 2 in train" in same[6]
    rows.assign(name=[f"p{i}" for i in range(100)]).to_csv(tmp_path / "named.csv", index=False)
    flags = ["--feature-columns", "age", "name", "--target-columns", "y"]
    assert main(["check", str(tmp_path / "named.csv"), *flags]) == 2
    assert "it names rows, and does not describe them" in capsys.readouterr().err


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("FINECORR_DATA")
    if folder is None:
        pytest.skip("the real data is not here: FINECORR_DATA names no folder (see CONTRIBUTING)")
    return Path(folder)


@pytest.mark.parametrize(
    ("table", "flags", "srcc"),
    [
        (
            "tabular/concrete_strength.csv",
            ["--feature-columns", "*", "--target-columns", "strength_mpa", "--epochs", "20"],
            0.9,
        ),
        (
            "gb1/fitness.csv",
            [
                *("--feature-columns", "site39", "site40", "site41", "site54"),
                *("--target-columns", "fitness", "--epochs", "4"),
            ],
            0.85,
        ),
    ],
)
def test_real_tables(data: Path, tmp_path: Path, table: str, flags: list[str], srcc: float) -> None:
    split = "sampled" if "gb1" in table else "split"
    flags = [*flags, "--split-column", split, "--out", str(tmp_path / "run")]
    assert main(["train", str(data / table), *flags]) == 0
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv").set_index("metric")["value"]
    assert metrics["SRCC"] > srcc
