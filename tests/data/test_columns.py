"""Feature columns as they are read, and as vectors by what the training rows have in them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finecorr.data.columns import Columns
from finecorr.data.encoding import Category, Encoding, Number, encoding_of
from finecorr.data.options import TableOptions
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError, InputWarning

TABLE = Path("table.csv")


def _written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _read(path: Path, *columns: str, categories: tuple[str, ...] | None = None) -> ImageTable:
    options = TableOptions(
        path, feature_columns=columns, category_columns=categories, target_columns=("y",)
    )
    return read_table(options)


def test_cells_are_numbers_categories_or_missing(tmp_path: Path) -> None:
    path = _written(tmp_path, "a,b,c,y\n1,x,1,0\nNA,,2,1\n-2.5e1,NA,,2\n")
    table = _read(path, "a", "b", "c", categories=("c",))
    assert table.features is not None
    assert table.features.categories == ("b", "c")
    np.testing.assert_array_equal(table.features.cells["a"], [1, np.nan, -25])
    # Of a name, an empty cell alone is missing.
    assert table.features.cells["b"].tolist() == ["x", "", "NA"]
    assert table.features.cells["c"].tolist() == ["1", "2", ""]
    assert table.names == ["row 2", "row 3", "row 4"]
    assert table.groups.tolist() == table.names
    assert table.features.texts()[1] == "a missing, b missing, c 2"


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    path = _written(tmp_path, "a;y\n1,5;0\n2;1\n")
    table = _read(path, "a")
    assert table.features is not None
    assert table.features.cells["a"].tolist() == [1.5, 2]


def test_numbers_of_a_file_that_knows_them_have_points_whatever_is_told() -> None:
    frame = pd.DataFrame({"a": ["1,125", "2,5"], "b": [0.5, 1.25], "y": [0.25, 1.5]})
    options = TableOptions(TABLE, feature_columns=("a", "b"), target_columns=("y",), decimal=",")
    table = read_table(options, frame=frame)
    assert table.features is not None
    assert table.features.cells.to_numpy().tolist() == [[1.125, 0.5], [2.5, 1.25]]
    assert table.targets[:, 0].tolist() == [0.25, 1.5]
    # These may be thousands.
    with pytest.raises(InputError, match=r"row 0: column 'b' is '1\.125', not a number"):
        read_table(options, frame=frame.assign(b=["1.125", "2.500"]))


def test_a_mistake_in_a_column_of_numbers_is_named(tmp_path: Path) -> None:
    path = _written(tmp_path, "a,b,y\n1,1,0\n2,inf,1\noops,3,2\n4,4,3\n")
    with pytest.raises(InputError) as error:
        _read(path, "a", "b")
    assert "row 4: column 'a' is 'oops', not a number" in str(error.value)
    assert "row 3: column 'b' is 'inf', not a number" in str(error.value)


def test_every_column_that_no_other_flag_names(tmp_path: Path) -> None:
    path = _written(tmp_path, "a,who,b,y\n1,p,x,0\n2,q,z,1\n3,r,x,2\n")
    options = TableOptions(path, feature_columns=("*",), target_columns=("y",), group_column="who")
    with pytest.warns(InputWarning, match=r"takes 1 of numbers \(a\) and 1 of categories \(b\)"):
        table = read_table(options)
    assert table.features is not None
    assert table.features.names == ("a", "b")
    assert table.groups.tolist() == ["p", "q", "r"]


def test_spaces_around_names_do_not_count_where_every_column_is_asked_for(tmp_path: Path) -> None:
    path = _written(tmp_path, "a, b, y\n1, x, 0\n2, z, 1\n3, x, 2\n")
    options = TableOptions(path, feature_columns=("*",), target_columns=("y",))
    with pytest.warns(InputWarning, match="--feature-columns"):
        table = read_table(replace(options, category_columns=("b",)))
    assert table.features is not None
    assert table.features.names == ("a", "b")
    _written(tmp_path, "a,b, a,y\n1,1,1,0\n2,2,2,1\n")
    with pytest.raises(InputError, match="more than one column is called 'a'"):
        read_table(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"feature_columns": ("a", "y")}, "both name 'y'"),
        ({"feature_columns": ("a", "b"), "group_column": "b"}, "--group-column and --feature"),
        ({"feature_columns": ("a", "a")}, "--feature-columns names a column twice"),
        ({"feature_columns": ()}, "--feature-columns names no column"),
        ({"feature_columns": ("a", "*")}, "give it alone"),
        ({"feature_columns": ("a",), "category_columns": ("b",)}, "'b' is none of"),
        ({"category_columns": ("b",)}, "--category-columns are some of"),
        ({"feature_columns": ("a",), "image_columns": ("b",)}, "--image-columns is for images"),
        ({"feature_columns": ("a",), "image_root": Path()}, "--image-root is for images"),
        ({"feature_columns": ("a",), "group_pattern": "x"}, "--group-pattern is for images"),
        ({"feature_columns": ("a",), "frame_column": "b"}, "--frame-column is for images"),
        ({"feature_columns": ("a",), "pixel_size_column": "b"}, "--pixel-size-column is for"),
        ({"feature_columns": ("a",), "length_columns": ("y",)}, "--length-columns is for images"),
        ({"feature_columns": ("a",), "volume_columns": ("y",)}, "--volume-columns is for images"),
        ({"feature_columns": ("a",), "layout": "tid2013"}, "--layout is for images"),
    ],
)
def test_flags_that_contradict_each_other(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    path = _written(tmp_path, "a,b,y\n1,1,0\n2,2,1\n")
    with pytest.raises(InputError, match=said.replace("*", r"\*")):
        read_table(TableOptions(path, target_columns=("y",), **options))  # type: ignore[arg-type]


# Encoding


def _reference(train: list[float], x: float) -> list[float]:
    """The inputs of a number, the slow way."""
    known = [value for value in train if value == value]
    mean = sum(known) / len(known)
    std = (sum((value - mean) ** 2 for value in known) / len(known)) ** 0.5
    edges = sorted({float(np.quantile(known, k / 16)) for k in range(17)})
    edges = edges if len(edges) > 2 else []
    value = x if x == x else mean
    found = [(value - mean) / std]
    for low, high in pairwise(edges):
        found.append(min(max((value - low) / (high - low), 0), 1))
    return found + ([float(x != x)] if len(known) < len(train) else [])


_NUMBERS = st.integers(-50, 50).map(float) | st.just(float("nan"))


@given(st.lists(_NUMBERS, min_size=3, max_size=40), st.lists(_NUMBERS, min_size=1, max_size=5))
def test_numbers_are_encoded_as_the_formula_says(train: list[float], new: list[float]) -> None:
    known = {value for value in train if value == value}
    if len(known) < 2:
        return
    encoding = encoding_of(TABLE, Columns(pd.DataFrame({"a": train}, dtype=np.float64)))
    encoding.check()
    found = encoding(Columns(pd.DataFrame({"a": new}, dtype=np.float64)))
    expected = np.array([_reference(train, x) for x in new])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_categories_are_one_hot_and_unknown_ones_none() -> None:
    encoding = encoding_of(TABLE, Columns(pd.DataFrame({"c": ["b", "a", "", "b"]}, dtype=object)))
    assert encoding.columns == (Category("c", ("", "a", "b")),)
    new = Columns(pd.DataFrame({"c": ["a", "", "z"]}, dtype=object))
    assert encoding(new).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    with pytest.warns(InputWarning, match=r"'c', 1 of 3 rows have a category .*: row 4 \(z\)"):
        encoding.note_strange(TABLE, new, np.array([2, 3, 4]))


def test_a_number_that_was_never_missing_is_the_mean_and_said() -> None:
    encoding = encoding_of(TABLE, Columns(pd.DataFrame({"a": [1.0, 3.0]})))
    new = Columns(pd.DataFrame({"a": [np.nan, 3.0]}))
    mean = encoding(Columns(pd.DataFrame({"a": [2.0, 3.0]})))
    assert encoding(new).equal(mean)
    with pytest.warns(InputWarning, match="1 of 2 rows have no number, .* their mean: row 7"):
        encoding.note_strange(TABLE, new, np.array([7, 8]))


def test_a_constant_is_always_0() -> None:
    encoding = encoding_of(TABLE, Columns(pd.DataFrame({"a": [1e9, 1e9, 1e9]})))
    assert encoding(Columns(pd.DataFrame({"a": [1e9, 5.0]}))).tolist() == [[0], [0]]


def test_a_column_that_names_rows_is_refused() -> None:
    names = Columns(pd.DataFrame({"id": [f"p{i}" for i in range(40)]}, dtype=object))
    with pytest.raises(InputError, match="'id' has 40 different texts in 40 training rows"):
        encoding_of(TABLE, names)


def test_numbers_that_are_too_large_are_refused() -> None:
    with pytest.raises(InputError, match="'a' is from -1e\\+300 to 1e\\+300, which is too large"):
        encoding_of(TABLE, Columns(pd.DataFrame({"a": [1e300, -1e300, 0.0]})))


def test_equal_rows_have_equal_fingerprints() -> None:
    # A column may have any name, as that of Python's first argument.
    cells = pd.DataFrame({"self": [0.0, -0.0, np.nan, 1], "c": pd.Series(["x"] * 4, dtype=object)})
    prints = Columns(cells).fingerprints()
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    # They do not depend on where the row is.
    assert Columns(cells).take(np.array([3])).fingerprints() == prints[3:]


@pytest.mark.parametrize(
    "columns",
    [
        (),
        (Number("a", 0.0, 1.0, (), missing=False),) * 2,
        (Number("a", float("nan"), 1.0, (), missing=False),),
        (Number("a", 0.0, -1.0, (), missing=False),),
        (Number("a", 0.0, 1.0, (1.0, 1.0, 2.0), missing=False),),
        (Number("a", 0.0, 1.0, (1.0, float("inf"), float("inf")), missing=False),),
        (Number("a", 0.0, 1.0, (1.0,), missing=False),),
        (Category("a", ()),),
        (Category("a", ("b", "a")),),
        (Category("a", ("b", "b")),),
    ],
)
def test_an_encoding_that_cannot_be(columns: tuple[Number | Category, ...]) -> None:
    with pytest.raises(ValueError, match=r"its column|feature columns"):
        Encoding(columns).check()
