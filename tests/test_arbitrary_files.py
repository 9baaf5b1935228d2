"""Whatever is in a file: it is read, or an InputError says why it is not.

FINECORR_EXAMPLES files of each kind are tried, 500 unless it is given.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save
from scipy.io import savemat

from finecorr.data.image_options import ImageOptions
from finecorr.data.layouts import matlab
from finecorr.data.options import TableOptions
from finecorr.data.records import read_record
from finecorr.data.table import read_table
from finecorr.errors import InputError
from finecorr.models.regressor import Architecture, Regressor
from finecorr.trained import bundle

EXAMPLES = int(os.environ.get("FINECORR_EXAMPLES", "500"))
COLUMNS = ("image", "target", "who", "part", "w", "mm", "page")
CELLS = st.one_of(
    st.sampled_from(["a.png", "0", "1", "-2.5", "1,5", "NA", "", " ", "train", "test", '"', "p1"]),
    st.text(max_size=8),
    st.floats().map(str),
    st.integers().map(str),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(COLUMNS), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def _texts(draw: st.DrawFn) -> bytes:
    """What is nearly a table of text."""
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    header = draw(st.permutations(COLUMNS))
    rows = draw(st.lists(st.lists(CELLS, min_size=6, max_size=8), max_size=5))
    quoted = draw(st.booleans())
    lines = [separator.join(f'"{c}"' if quoted else c for c in row) for row in [header, *rows]]
    text = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-16-be"]))
    return text.encode(encoding, "replace")


@st.composite
def _damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some bytes changed, some left out."""
    content = bytearray(whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole)
    for _ in range(draw(st.integers(0, 6))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def _frame() -> pd.DataFrame:
    values = np.arange(4)
    return pd.DataFrame(dict.fromkeys(COLUMNS, values)).assign(image="a.png", part="train")


def _written(suffix: str, write: Callable[[Path], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"t{suffix}")
        write(path)
        return path.read_bytes()


EXCEL = _written(".xlsx", lambda path: _frame().to_excel(path, index=False))
PARQUET = _written(".parquet", lambda path: _frame().to_parquet(path))
FILES = st.one_of(
    st.tuples(st.sampled_from([".csv", ".tsv", ".txt"]), _texts()),
    st.tuples(st.sampled_from([".csv", ".json", ".jsonl", ".xlsx"]), st.binary(max_size=60)),
    st.tuples(st.sampled_from([".json", ".jsonl"]), JSON.map(lambda v: json.dumps(v).encode())),
    st.tuples(
        st.just(".json"), st.lists(JSON, max_size=3).map(lambda rows: json.dumps(rows).encode())
    ),
    st.tuples(st.just(".xlsx"), _damaged(EXCEL)),
    st.tuples(st.just(".parquet"), _damaged(PARQUET)),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "target_columns": st.sampled_from([("target",), ("target", "w"), ("nothing",)]),
        "group_column": st.sampled_from(["who", "image"]),
        "split_column": st.just("part"),
        "weight_column": st.just("w"),
        "pixel_size_column": st.just("mm"),
        "frame_column": st.just("page"),
        "encoding": st.sampled_from(["latin-1", "utf-8", "utf-16", "utf-7", "cp037", "idna"]),
        "separator": st.sampled_from([",", ";", "tab", "x"]),
        "decimal": st.sampled_from([".", ","]),
        "sheet": st.sampled_from(["Sheet1", "none"]),
    },
)


@settings(max_examples=EXAMPLES)
@given(file=FILES, options=OPTIONS, need_targets=st.booleans())
def test_of_a_table(
    tmp_path_factory: pytest.TempPathFactory,
    file: tuple[str, bytes],
    options: dict[str, Any],
    need_targets: bool,
) -> None:
    suffix, content = file
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.png").touch()
    path = folder / f"table{suffix}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            table = read_table(TableOptions(path, **options), need_targets=need_targets)
        except InputError:
            return
    assert len(table.rows) == len(table.images) == len(table.groups) == len(table.targets) > 0
    assert not np.isinf(table.targets).any()
    assert all(table.groups)


@settings(max_examples=EXAMPLES)
@given(content=st.one_of(_texts(), st.binary(max_size=60)))
def test_of_a_record(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "record.csv"
    path.write_bytes(content)
    try:
        frame = read_record(path, ["image", "who"], ["target"], ["page"])
    except InputError:
        return
    assert list(frame.columns) == ["image", "who", "target", "page"]


def _matlab(*, compressed: bool) -> bytes:
    names = np.array([["a.bmp", "b.bmp"]], dtype=object)
    variables = {"scores": np.array([[1.5, 2]]), "names": names}
    return _written(".mat", lambda path: savemat(path, variables, do_compression=compressed))


MATLAB = [_matlab(compressed=False), _matlab(compressed=True)]


@settings(max_examples=EXAMPLES)
@given(content=st.sampled_from(MATLAB).flatmap(_damaged))
def test_of_matlab(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "scores.mat"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert matlab.read_numbers(path, "scores").ndim == 1
    with contextlib.suppress(InputError):
        assert all(isinstance(name, str) for name in matlab.read_names(path, "names"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    regressor = Regressor(Architecture("resnet10-narrow", 1, (32, 48), 1)).eval()
    table = TableOptions(Path("/data/table.csv"), Path("/data"))
    bundle.save(bundle.Bundle(regressor, table, ImageOptions(image_size=(32, 48))), folder)
    return folder


def _loads(folder: Path) -> None:
    try:
        loaded = bundle.load(folder)
    except InputError:
        return
    with torch.no_grad():
        assert loaded.regressor(
            torch.zeros(1, loaded.regressor.architecture.channels, 32, 48)
        ).shape


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_of_a_model(
    model: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Its description is changed in a place, or its bytes are."""
    path = model / bundle.FILE
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    (key,) = metadata
    description = json.loads(metadata[key])
    part = data.draw(st.sampled_from(sorted(description)))
    fields = description[part][0] if part == "targets" else description[part]
    if fields is not None and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(fields)))
        fields[name] = data.draw(JSON)
    elif data.draw(st.booleans()):
        description[part] = data.draw(JSON)
    weights = load_file(path)
    name = data.draw(st.sampled_from(sorted(weights)))
    match data.draw(st.integers(0, 5)):
        case 0:
            del weights[name]
        case 1:
            weights[name] = torch.zeros(data.draw(st.lists(st.integers(0, 3), max_size=3)))
        case 2:
            weights[name] = weights[name].to(torch.complex64)
        case 3:
            weights[name] = torch.full_like(weights[name].float(), data.draw(st.floats(width=32)))
    content = save(weights, {key: json.dumps(description)})
    if data.draw(st.booleans()):
        content = data.draw(_damaged(content))
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / bundle.FILE).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _loads(folder)
