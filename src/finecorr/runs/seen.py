"""What the training of a run has seen of a table."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finecorr.data.names import BETWEEN, find_file, real_paths
from finecorr.data.options import TableOptions
from finecorr.data.records import read_record
from finecorr.data.table import SPLITS as KNOWN_SPLITS
from finecorr.data.table import ImageTable
from finecorr.errors import InputError, InputWarning
from finecorr.runs.folder import SPLITS
from finecorr.runs.same import FINGERPRINT


def seen_by(
    run: Path, table: ImageTable, options: TableOptions, trained: TableOptions
) -> NDArray[np.bool_]:
    """`(n,)`: whether training or validation have seen the row's image, or its subject; of a
    table of feature columns, what the row says in these.

    Args:
        run: its folder.
        table: the rows.
        options: where they are from.
        trained: the same of the table that the run was trained on.

    Raises:
        InputError: the run does not say it.
    """
    of_columns = table.features is not None
    if not (run / SPLITS).exists() or (trained.image_root is None and not of_columns):
        raise InputError(
            f"{run} does not say what training has seen ({SPLITS} is missing): use --all-rows"
        )
    what = FINGERPRINT if of_columns else "image"
    record = read_record(run / SPLITS, [what, "group", "split"], whole=["row"])
    if record.empty or not record["split"].isin(KNOWN_SPLITS).all():
        raise InputError(
            f"{run / SPLITS} is damaged: it does not say which rows are in which split"
        )
    tested, record = (record[(record["split"] == "test") == one] for one in (True, False))
    known = np.isin(table.groups, np.array(record["group"].to_list(), dtype=np.str_))
    if table.features is not None:
        # A row is known by what is in it, and a subject where a column names it.
        fingerprints = table.features.fingerprints()
        seen = np.isin(fingerprints, record[FINGERPRINT].to_list())
        if options.group_column is not None:
            seen |= known
        if os.path.realpath(table.source) == os.path.realpath(trained.table):
            # One of the test split that is still where it was may be equal to one of another.
            unseen = set(zip(tested["row"], tested[FINGERPRINT], strict=True))
            rows = zip(table.rows.tolist(), fingerprints, strict=True)
            seen &= [row not in unseen for row in rows]
        return seen
    assert trained.image_root is not None
    found = [
        find_file(trained.image_root, name)
        for names in record["image"]
        for name in (names.split(BETWEEN) if len(trained.image_columns) > 1 else [names])
    ]
    seen_images = set(real_paths(path for path in found if path is not None).values())
    files = real_paths(path for row in table.images for path in row)
    seen = np.array([any(files[path] in seen_images for path in row) for row in table.images])
    named = known | np.isin(table.names, np.array(record["image"].to_list(), dtype=np.str_))
    root = trained.image_root if options.image_root is None else options.image_root
    # Under another root, a subject of the same name is somebody else.
    if os.path.realpath(root) == os.path.realpath(trained.image_root):
        return np.asarray(seen | known)
    if (named & ~seen).any():
        warnings.warn(
            f"{(named & ~seen).sum()} rows have images or subjects of the same name as rows that "
            f"training has seen in {trained.image_root}. They are taken for others, because {root} "
            "is another folder",
            InputWarning,
            stacklevel=2,
        )
    return seen
