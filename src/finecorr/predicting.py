"""A trained run on tables and folders of images: predictions, from options to a file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from finecorr.config import with_table
from finecorr.data.partial import Partial
from finecorr.data.records import write_record, write_rows
from finecorr.data.table import ImageTable
from finecorr.errors import InputError
from finecorr.files import check_writable, state
from finecorr.models.streaming import ROWS
from finecorr.trained import bundle
from finecorr.trained.inputs import check_features, note_views, overridden, sized, unlabelled
from finecorr.trained.options import PredictionOptions
from finecorr.trained.predictor import Predictor, rows_of

_SHOWN = 20


@dataclass
class Predicted:
    """What came of it."""

    out: Path
    rows: int = 0
    without: int = 0
    """Rows that have no prediction."""
    novel: int = 0
    """Rows that are unlike those of the training."""
    faults: list[str] = field(default_factory=list)
    """The first of them."""

    def add(self, frame: pd.DataFrame) -> None:
        """Counts further rows, of numbers or of text."""
        faulty = frame["fault"].to_numpy() != ""
        self.faults += frame["fault"][faulty].tolist()[: _SHOWN - len(self.faults)]
        self.rows += len(frame)
        self.without += int(faulty.sum())
        if "novel" in frame:
            self.novel += int((frame["novel"].astype(str) == "1").sum())

    def text(self) -> str:
        """For a person."""
        made = self.rows - self.without
        lines = [f"{made} prediction{'' if made == 1 else 's'} written to {self.out}"]
        if self.without:
            lines.append(f"rows without one: {self.without}; the column fault says why")
        if self.novel:
            lines.append(
                f"rows unlike those of the training: {self.novel}, 1 in the column novel; do not "
                "trust their predictions"
            )
        return "\n".join(lines)


def predict(
    run: Path,
    overrides: dict[str, Any],
    out: Path,
    options: PredictionOptions,
    *,
    ensemble: Sequence[Path] = (),
    overwrite: bool = False,
) -> Predicted:
    """Predicts for every row of a table or every image of a folder, and writes a CSV file.

    Rows are written as they come, into `OUT.partial`, which becomes `out` at the end; until then
    the same call goes on with it. A row whose image cannot be read has the reason in the place of
    a prediction. Where `out` is a pipe or a device, rows go there at once.

    Args:
        run: the run's folder, or its model's file.
        overrides: fields of `TableOptions` that differ from the run's; `table` may be a folder.
        out: the CSV file. It has `image` (and `frame`, where a column names it), or for feature
            columns `row`, or `group` and the number of its `rows`; and the columns of
            `finecorr.trained.predictor.Predictor.frames`.
        options: what is predicted.
        ensemble: further models, whose predictions are averaged with the first's.
        overwrite: replace the file if it is there.

    Raises:
        InputError: the run or the table is at fault, or none of its images can be read; nothing
            was written.
    """
    options.check()
    streamed = _is_stream(out)
    if not streamed:
        out = Path(os.path.realpath(out))  # A link stays one.
        check_writable(out)
        if out.is_dir():
            raise InputError(f"--out {out} is a folder: name a file")
        if out.exists() and not overwrite:
            raise InputError(f"{out} is there already: choose another name, or use --overwrite")
    paths = [run, *ensemble]
    models = [bundle.load(path) for path in paths]
    predictor = Predictor(models, options)
    columns = overridden(with_table(run, models[0].table), overrides)
    volumes = models[0].images.volumes
    table = unlabelled(
        columns,
        by_subject=options.predict_per == "subject",
        sizes=options.pixel_size is None,
        volumes=volumes,
    )
    table = sized(table, columns, options.pixel_size, volumes=volumes)
    check_features(table, models[0].encoding)
    found = Predicted(out)
    if streamed:
        _write_at_once(predictor, table, options, found)
        _raise_if_none(found, table)
        return found
    partial = Partial(out, _key(paths, table, options), ROWS, overwrite=overwrite)
    for frame in partial.frames():
        found.add(frame)
    for frame in _frames(predictor, table, partial.rows):
        partial.add(frame)
        found.add(frame)
    if found.without == found.rows:
        partial.remove()
        _raise_if_none(found, table)
    if options.predict_per == "subject":
        numbers = pd.concat(partial.frames())
        write_record(out, _by_subject(numbers, table, predictor))
        partial.remove()
    else:
        partial.finish()
    return found


def _write_at_once(
    predictor: Predictor, table: ImageTable, options: PredictionOptions, found: Predicted
) -> None:
    """Into a pipe or a device."""
    parts = []
    try:
        with found.out.open("w", encoding="utf-8", newline="") as file:
            for frame in _frames(predictor, table, 0):
                found.add(frame)
                if options.predict_per == "row":
                    write_rows(file, frame, header=found.rows == len(frame))
                    file.flush()
                else:
                    parts.append(frame)
            if parts:
                write_rows(file, _by_subject(pd.concat(parts), table, predictor))
    except OSError as error:
        error.filename = str(found.out)  # What fails to write does not say where.
        raise


def _frames(predictor: Predictor, table: ImageTable, first: int) -> Iterator[pd.DataFrame]:
    """The rows of the file, from one of them on."""
    unfit, differing = 0, list[int]()
    known_by, names = table.known_by
    place = first
    bar = tqdm(
        total=len(table), initial=first, desc="predicting", unit=table.kind[:-1], disable=None
    )
    with bar:
        for columns, found in predictor.frames(islice(rows_of(table), first, None)):
            rows = np.arange(place, place + len(columns))
            frame = pd.DataFrame({known_by: [names[row] for row in rows]})
            if table.frames is not None:
                frame["frame"] = np.maximum(table.frames[rows], 0) + 1
            yield pd.concat([frame, columns], axis=1)
            unfit += sum(outcome.unfit for outcome in found)
            differing += [place + i for i, outcome in enumerate(found) if outcome.differs]
            place += len(columns)
            bar.update(len(columns))
    note_views(table, unfit, differing, volumes=predictor.volumes)


def _by_subject(rows: pd.DataFrame, table: ImageTable, predictor: Predictor) -> pd.DataFrame:
    """For each subject, in the order of the table, the mean of its rows' predictions."""
    names, first, member = np.unique(table.groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    faulty = np.bincount(member, rows["fault"].to_numpy() != "")[order].astype(int)
    count = np.bincount(member)[order]
    frame = pd.DataFrame({"group": names[order], "rows": count})
    for i, name in enumerate(predictor.targets):
        values = pd.to_numeric(rows[name]).groupby(member).mean().to_numpy()[order]
        frame[name] = values
        if predictor.widths:
            frame[f"low {name}"] = values - predictor.widths[i]
            frame[f"high {name}"] = values + predictor.widths[i]
    if "novel" in rows:
        frame["novel"] = pd.to_numeric(rows["novel"]).groupby(member).max().to_numpy()[order]
        frame["novel"] = frame["novel"].astype("Int64")
    frame["fault"] = [
        f"{faults} of {of} rows have no prediction" if faults else ""
        for faults, of in zip(faulty, count, strict=True)
    ]
    return frame


def _raise_if_none(found: Predicted, table: ImageTable) -> None:
    if found.without < found.rows:
        return
    lines = [f"{table.source}: none of its {found.rows} rows can be predicted for:"]
    lines += [f"  {fault}" for fault in found.faults]
    if found.rows > len(lines) - 1:
        lines.append(f"  and {found.rows - len(found.faults)} more")
    raise InputError("\n".join(lines))


def _is_stream(out: Path) -> bool:
    """Whether it is a pipe or a device, which is written to and not replaced."""
    try:
        mode = out.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _key(paths: Sequence[Path], table: ImageTable, options: PredictionOptions) -> str:
    """Of all that decides what a row of the file is."""
    found = hashlib.sha256(repr(options).encode())
    for path in paths:
        with (path / bundle.FILE if path.is_dir() else path).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    for row in zip(table.names, table.groups, rows_of(table), strict=True):
        found.update(repr(row).encode(errors="surrogatepass"))
    for path in dict.fromkeys(chain.from_iterable(table.images)):
        try:
            found.update(repr(state(path)).encode())
        except (OSError, ValueError):
            found.update(b"nothing there")
    return found.hexdigest()
