"""Whether what a model says of how sure it is holds, on subjects that no training has seen.

    finecorr compare TABLE ... --losses fine_grained --folds 5 --seeds 3 --out COMPARISON
    python benchmarks/sureness.py COMPARISON --unlike NAME=FOLDER ... --out docs/results

The models are those of the comparison. Written are `sureness.csv`: the coverage of the intervals,
by their level, over all folds of the first seed; how well the spread of versions (--tta) and of the
models of the seeds (--ensemble) goes with the absolute errors; and the share of images that are
marked as novel, of the training and the test images and of each folder of images of another kind.
And, as a figure, `sureness.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from finecorr.config import read_config
from finecorr.data.records import write_record
from finecorr.evaluating import evaluate
from finecorr.evaluation.sureness import coverage, error_by_spread_correlation, errors_in_bins
from finecorr.trained.model import load
from finecorr.trained.options import PredictionOptions

LEVELS = (0.5, 0.8, 0.9, 0.95)
VERSIONS = 16
COLUMNS = ["what", "of", "value", "low", "high", "samples", "subjects"]


def main() -> None:
    """Writes the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--unlike", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    folds = sorted((options.comparison / "runs" / "fine_grained").iterdir())
    rows: list[list[object]] = []
    with TemporaryDirectory() as scratch:
        held = {level: _over(folds, scratch, interval=level) for level in LEVELS}
        rows += [_covered(level, found) for level, found in held.items()]
        spreads = {
            f"{VERSIONS} versions (--tta)": _over(folds, scratch, tta=VERSIONS),
            "3 models (--ensemble)": _over(folds, scratch, others=True),
        }
    for name, found in spreads.items():
        error = found["predicted"] - found["truth"]
        told = error_by_spread_correlation(
            error.to_numpy(), found["sd"].to_numpy(), found["group"].to_numpy(dtype=np.str_)
        )
        rows.append(["error by spread, SRCC", name, *told, *_counts(found)])
        rows.append(["MAE", name, error.abs().mean(), np.nan, np.nan, *_counts(found)])
    first = held[LEVELS[0]]
    alone = (first["predicted"] - first["truth"]).abs().mean()
    rows.append(["MAE", "a single prediction", alone, np.nan, np.nan, *_counts(first)])
    rows += [_novel(name, frame) for name, frame in _marked(folds, options.unlike).items()]
    write_record(options.out / "sureness.csv", pd.DataFrame(rows, columns=COLUMNS))
    _draw(held, spreads, options.out / "sureness.png")
    print(pd.DataFrame(rows, columns=COLUMNS).to_string())


def _over(folds: list[Path], scratch: str, *, others: bool = False, **asked: float) -> pd.DataFrame:
    """The test rows of all folds: `group`, `truth`, `predicted`, and what was asked for."""
    parts = []
    for fold in folds:
        run, *more = _runs(fold)
        evaluation, _ = evaluate(
            run,
            {},
            Path(scratch) / "evaluation",
            PredictionOptions(**asked),  # type: ignore[arg-type]
            ensemble=more if others else (),
            overwrite=True,
        )
        found = evaluation.predictions
        target = found.columns[3]
        names = {f"{kind} {target}": kind for kind in ("predicted", "low", "high", "sd")}
        parts.append(found.rename(columns={target: "truth", **names}))
    return pd.concat(parts, ignore_index=True)


def _runs(fold: Path) -> list[Path]:
    """That of each seed."""
    return sorted(path for path in fold.iterdir() if path.is_dir())


def _counts(found: pd.DataFrame) -> list[int]:
    return [len(found), int(found["group"].nunique())]


def _covered(level: float, found: pd.DataFrame) -> list[object]:
    truth, low, high = (found[name].to_numpy(float) for name in ("truth", "low", "high"))
    share = coverage(truth, low, high, found["group"].to_numpy(dtype=np.str_))
    return ["coverage", f"{level:.0%}", *share, *_counts(found)]


def _marked(folds: list[Path], unlike: list[str]) -> dict[str, pd.DataFrame]:
    """By what they are, the predictions of all folds' models, with `novel`."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for fold in folds:
        run = _runs(fold)[0]
        model, splits = load(run), pd.read_csv(run / "splits.csv")
        root = Path(read_config(run)["image_root"])
        for split in ("train", "test"):
            images = [root / name for name in splits["image"][splits["split"] == split]]
            parts.setdefault(f"{split} images", []).append(model.predict(images, pixel_size=1.0))
        for named in unlike:
            name, _, folder = named.partition("=")
            parts.setdefault(name, []).append(model.predict(folder, pixel_size=1.0))
    return {name: pd.concat(found) for name, found in parts.items()}


def _novel(name: str, frame: pd.DataFrame) -> list[object]:
    marked = frame["novel"].dropna().astype(float)
    return ["marked as novel", name, marked.mean(), np.nan, np.nan, len(marked), len(marked)]


def _draw(held: dict[float, pd.DataFrame], spreads: dict[str, pd.DataFrame], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    shares = [_covered(level, found)[2:5] for level, found in held.items()]
    values, lows, highs = (np.array(column, dtype=float) for column in zip(*shares, strict=True))
    left.plot([0.4, 1], [0.4, 1], color="0.6", lw=1)
    left.errorbar(list(held), values, [values - lows, highs - values], fmt="o", capsize=4)
    left.set_xlabel("level asked for (--interval)")
    left.set_ylabel("share of truths inside, by subject")
    left.set_title("Intervals hold what they say")
    for name, found in spreads.items():
        error = (found["predicted"] - found["truth"]).to_numpy()
        bins = errors_in_bins("spread", found["sd"].to_numpy(), error)
        right.plot(bins["spread"], bins["absolute"], "o-", label=name)
    right.set_ylim(bottom=0)
    right.set_xlabel("sd of the averaged predictions, mean of the bin (mm)")
    right.set_ylabel("mean absolute error (mm)")
    right.set_title("Where predictions differ, errors are larger")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
