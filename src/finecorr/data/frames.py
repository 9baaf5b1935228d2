"""A table of any format as text: what is in the cells, and on which row of the file."""

from __future__ import annotations

import codecs
import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finecorr.data.presence import check_table
from finecorr.errors import InputError, spelled

if TYPE_CHECKING:
    import openpyxl

_TEXT = (".csv", ".tsv", ".tab", ".txt")
_JSON = (".json", ".jsonl", ".ndjson")
_KINDS = f"{', '.join((*_TEXT, '.xlsx', '.parquet', *_JSON[:-1]))} or {_JSON[-1]}"
_SEPARATORS = (",", ";", "\t", "|")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FAULTS_SHOWN = 20
csv.field_size_limit(2**31 - 1)  # outlines of organs, in a column that nobody asked for


@dataclass(frozen=True)
class Format:
    """What cannot always be known of a table's file; None is to be found in the file."""

    encoding: str | None = None
    separator: str | None = None
    """Of the cells of a text: one character, or "tab"."""
    decimal: Literal[".", ","] | None = None
    sheet: str | None = None
    """Of an Excel file."""


@dataclass(frozen=True)
class Frame:
    """The columns that were asked for, as text."""

    columns: list[str]
    """All that the file has, without spaces around their names."""
    cells: pd.DataFrame
    """Texts; "" for an empty cell."""
    rows: NDArray[np.int64]
    """`(n,)`: of each row, its number in the file, as a spreadsheet shows it (the header is 1; in a
    file without one, rows count from 1)."""
    typed: bool
    """Whether the file itself knows numbers from texts."""


def read_frame(path: Path, wanted: Sequence[str], layout: Format | None = None) -> Frame:
    """Reads columns of a CSV, Excel, Parquet or JSON table as text.

    Cells are taken as they are, an empty one as "": what a name or a missing value is, the reader
    of the column knows. Names of columns are compared without spaces around them. Empty rows are
    left out, and counted.

    Args:
        path: of the file; its first bytes count for more than its suffix.
        wanted: the columns to read, as far as they are there.
        layout: what is known of the file.

    Raises:
        InputError: it cannot be read, or a row has another number of cells than the header, or two
            columns have the same name.
    """
    layout = layout or Format()
    check_table(path)
    try:
        frame = _reader(path)(path, wanted, layout)
    except InputError:
        raise
    # Readers raise what they like on a broken file.
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a table: {_line(error)}") from error
    _check_unicode(path, frame)
    return frame


def frame_of(table: pd.DataFrame, wanted: Sequence[str]) -> Frame:
    """Columns of a table in memory as `read_frame` gives them; its rows count from 0.

    Raises:
        InputError: two columns have the same name.
    """
    source = Path("the table")
    columns = _column_names(source, list(map(str, table.columns)), wanted)
    frame = _typed(
        columns, wanted, np.arange(len(table)), lambda place: table.iloc[:, place].tolist()
    )
    _check_unicode(source, frame)
    return frame


def raise_faults(source: Path, faults: Sequence[str], remedy: str = "these rows") -> None:
    """Raises one InputError for all the faults, if there are any."""
    if not faults:
        return
    shown = [f"  {fault}" for fault in faults[:_FAULTS_SHOWN]]
    if len(faults) > _FAULTS_SHOWN:
        shown.append(f"  and {len(faults) - _FAULTS_SHOWN} more")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise InputError("\n".join([f"{source}: {count}; correct or remove {remedy}:", *shown]))


def _reader(path: Path) -> Callable[[Path, Sequence[str], Format], Frame]:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PAR1"):
        return _read_parquet
    if head.startswith(b"PK\x03\x04"):
        return _read_excel
    kind = path.suffix.lower()
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise InputError(f"{path}: an Excel file of before 2007; save it as .xlsx")
    if kind in _TEXT:
        return _read_text
    if kind in _JSON:
        return _read_json
    if kind in (".xlsx", ".parquet"):
        raise InputError(f"{path}: cannot be read as a table: it is no {kind} file inside")
    raise InputError(f"{path}: a table is a {_KINDS} file")


def _read_text(path: Path, wanted: Sequence[str], layout: Format) -> Frame:
    with _opened(path, layout) as file:
        try:
            separator, offset = _separator(file, path, wanted, layout.separator)
            file.seek(0)
            for _ in range(offset):
                file.readline()
            records = csv.reader(file, delimiter=separator, strict=True)
            return _tabular(path, _numbered(records, offset + 1), wanted)
        except UnicodeError as error:
            raise InputError(f"{path}: {_not_decoded(error)}") from error
        except csv.Error as error:
            place = f"line {offset + records.line_num}"
            raise InputError(f"{path}: cannot be read as a table: {place}: {error}") from error


def _opened(path: Path, layout: Format) -> io.TextIOWrapper:
    encoding = layout.encoding or _encoding(path)
    try:
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"  # with or without its mark
        return path.open(encoding=encoding, newline="")
    except (LookupError, ValueError) as error:
        raise InputError(f"--encoding {encoding}: {error}") from error


def _encoding(path: Path) -> str:
    """What the first bytes say."""
    with path.open("rb") as file:
        head = file.read(64)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    # Of most characters of a header, UTF-16 has one byte that is 0.
    for name, bytes_ in (("utf-16-be", head[::2]), ("utf-16-le", head[1::2])):
        if 2 * bytes_.count(0) > len(bytes_):
            return name
    return "utf-8"


def _not_decoded(error: UnicodeError) -> str:
    encoding = getattr(error, "encoding", "text")
    return f"it is not {encoding}: say what it is with --encoding, as in --encoding latin-1"


def _separator(
    file: io.TextIOWrapper, path: Path, wanted: Sequence[str], told: str | None
) -> tuple[str, int]:
    """What separates the cells, and how many lines say so before the header."""
    first = file.readline()
    offset = 0
    # Excel reads and writes such a line.
    if first.strip().lower().startswith("sep=") and len(first.strip()) <= 5:
        offset, told = 1, told or first.rstrip("\r\n")[4:] or None
    if told is not None:
        told = "\t" if told.lower() in ("tab", "\\t") else told
        if len(told) != 1 or told in '"\r\n':
            raise InputError(f"--separator must be one character, or 'tab', not {told!r}")
        return told, offset
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t", offset
    best, separator = (-1, -1), ","
    for candidate in _SEPARATORS:
        file.seek(0)
        for _ in range(offset):
            file.readline()
        try:
            header = next(filter(_filled, csv.reader(file, delimiter=candidate, strict=True)), [])
        except csv.Error:
            continue  # a quote where this separator allows none
        names = {_name(cell) for cell in header}
        found = (sum(_name(column) in names for column in wanted), len(header))
        if found > best:
            best, separator = found, candidate
    return separator, offset


def _numbered(records: Iterable[Sequence[Any]], first: int) -> Iterator[tuple[int, list[str]]]:
    for number, record in enumerate(records, first):
        yield number, list(record)


def _filled(record: Sequence[str]) -> bool:
    return any(map(str.strip, record))


def _tabular(path: Path, records: Iterable[tuple[int, list[str]]], wanted: Sequence[str]) -> Frame:
    """The frame of records, of which the first with something in it is the header."""
    filled = (record for record in records if _filled(record[1]))
    _, header = next(filled, (0, []))
    columns = _column_names(path, header, wanted)
    places = {column: columns.index(column) for column in wanted if column in columns}
    width, needed = len(columns), max(places.values(), default=-1)
    rows, cells, faults = [], [], []
    for number, record in filled:
        if len(record) <= needed or (len(record) > width and _filled(record[width:])):
            faults.append(f"row {number} has {len(record)} cells, and the header {width}")
            continue
        rows.append(number)
        cells.append([record[place] for place in places.values()])
    raise_faults(path, faults)
    return Frame(columns, _cells(cells, places), np.array(rows, dtype=np.int64), typed=False)


def _cells(cells: Sequence[Sequence[str]], columns: Iterable[str]) -> pd.DataFrame:
    by_column = list(zip(*cells, strict=True))
    return pd.DataFrame(
        {
            column: np.array(by_column[place], dtype=object) if cells else []
            for place, column in enumerate(columns)
        },
        index=range(len(cells)),
        dtype=object,
    )


def _column_names(path: Path, header: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The names without spaces around them; where they are wanted, spelled so."""
    spellings = {_name(column): column for column in wanted}
    columns = [spellings.get(name, name) for name in map(_name, header)]
    double = sorted(c for c, count in Counter(columns).items() if count > 1 and c in wanted)
    if double:
        names = ", ".join(repr(spelled(column)) for column in double)
        raise InputError(f"{path}: more than one column is called {names}: rename the others")
    return columns


def _name(cell: str) -> str:
    return unicodedata.normalize("NFC", cell.strip("\ufeff\u200b \t\r\n\xa0"))


def _read_excel(path: Path, wanted: Sequence[str], layout: Format) -> Frame:
    import openpyxl

    with path.open("rb") as file:
        sheet = _sheet(path, openpyxl.load_workbook(file, read_only=True, data_only=True), layout)
        frame = _tabular(path, _numbered(_excel_rows(sheet), 1), wanted)
        empty = (frame.cells == "").any(axis=1).to_numpy()
        if empty.any():
            # A formula has a value only where a program has calculated it.
            book = openpyxl.load_workbook(file, read_only=True)
            formulas = _tabular(path, _numbered(_excel_rows(book[sheet.title]), 1), wanted)
            of_row = formulas.cells.set_index(formulas.rows).reindex(frame.rows).reset_index()
            faults = [
                f"row {row}: column {column!r} is a formula without a value"
                for row, values, whole in zip(
                    frame.rows[empty],
                    frame.cells[empty].to_dict("records"),
                    of_row[empty].to_dict("records"),
                    strict=True,
                )
                for column, value in values.items()
                if value == "" and str(whole[column]).startswith("=")
            ]
            raise_faults(path, faults, "these rows, or save the file with a spreadsheet program")
    return Frame(frame.columns, frame.cells, frame.rows, typed=True)


def _sheet(path: Path, book: openpyxl.Workbook, layout: Format) -> Any:
    names = [sheet.title for sheet in book.worksheets]
    if layout.sheet is not None:
        if layout.sheet not in names:
            raise InputError(f"{path}: no sheet {layout.sheet!r}; there are {', '.join(names)}")
        return book[layout.sheet]
    filled = [sheet for sheet in book.worksheets if any(map(_filled, _excel_rows(sheet)))]
    if len(filled) > 1:
        titles = ", ".join(sheet.title for sheet in filled)
        raise InputError(f"{path}: which sheet? Say --sheet with one of {titles}")
    if not filled:
        raise InputError(f"{path}: the table has no rows")
    return filled[0]


def _excel_rows(sheet: Any) -> Iterator[list[str]]:
    # Some programs write a size that is too small.
    sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        yield [_text(value) for value in row]


def _read_parquet(path: Path, wanted: Sequence[str], _: Format) -> Frame:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    original = [str(name) for name in file.schema_arrow.names]
    columns = _column_names(path, original, wanted)
    table = file.read(columns=[original[columns.index(c)] for c in wanted if c in columns])
    rows = np.arange(1, file.metadata.num_rows + 1)
    return _typed(columns, wanted, rows, lambda place: table.column(original[place]).to_pylist())


def _typed(
    columns: list[str],
    wanted: Sequence[str],
    rows: NDArray[np.int64],
    values: Callable[[int], list[Any]],
) -> Frame:
    """The frame of a table that has its columns one by one, by their places."""
    cells = {
        column: np.array(list(map(_text, values(columns.index(column)))), dtype=object)
        for column in wanted
        if column in columns
    }
    return Frame(columns, pd.DataFrame(cells, index=range(len(rows)), dtype=object), rows, True)


def _read_json(path: Path, wanted: Sequence[str], layout: Format) -> Frame:
    with _opened(path, layout) as file:
        try:
            if path.suffix.lower() == ".json":
                whole = _json(file.read())
                records = list(enumerate(whole, 1)) if isinstance(whole, list) else [(1, whole)]
            else:
                whole = None
                records = [(i, _json(line)) for i, line in enumerate(file, 1) if line.strip()]
        except UnicodeError as error:
            raise InputError(f"{path}: {_not_decoded(error)}") from error
    if isinstance(whole, dict) or not all(isinstance(record, dict) for _, record in records):
        raise InputError(
            f"{path}: a JSON table is a list of records: [{{COLUMN: VALUE, ...}}, ...]"
        )
    columns = list(dict.fromkeys(key for _, record in records for key in record))
    named = _column_names(path, columns, wanted)
    keys = {column: columns[named.index(column)] for column in wanted if column in named}
    cells = [[_text(record.get(key)) for key in keys.values()] for _, record in records]
    rows = np.array([number for number, _ in records], dtype=np.int64)
    return Frame(named, _cells(cells, keys), rows, typed=True)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a record has the same name twice")
    return record


def _text(value: Any) -> str:
    """A value as a person would write it into a CSV file."""
    missing = value is None or value is pd.NaT or value is pd.NA
    if missing or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _check_unicode(path: Path, frame: Frame) -> None:
    """Half characters can be neither printed nor written."""
    faults = [
        f"row {row}: column {column!r} holds half of a Unicode character"
        for column in frame.cells
        for row, cell in zip(frame.rows, frame.cells[column], strict=True)
        if not cell.isascii() and any("\ud800" <= character <= "\udfff" for character in cell)
    ]
    raise_faults(path, faults)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return spelled(lines[0]) if lines else type(error).__name__
