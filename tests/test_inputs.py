"""What other people's files and calls are like: each works, or is refused in words.

Refused is: exit code 2, one message without a traceback or a page of usage, and every file as it
was before.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import SMALL_FLAGS
from finecorr.cli import main
from finecorr.data.options import TableOptions
from finecorr.data.table import read_table
from finecorr.errors import InputWarning

COUNT = 24
NAMES = [f"{i:02d}.png" for i in range(COUNT)]
TARGETS = [round(0.5 * i - 3.25, 2) for i in range(COUNT)]
SUBJECTS = [f"p{i // 2}" for i in range(COUNT)]


def _frame() -> pd.DataFrame:
    return pd.DataFrame({"image": NAMES, "target": TARGETS, "who": SUBJECTS})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(NAMES):
        Image.fromarray(np.arange(i, i + 48, dtype=np.uint8).reshape(6, 8)).save(folder / name)
    return folder


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    """With the pictures and `table.csv`: image, target, who."""
    folder = tmp_path / "data"
    shutil.copytree(pictures, folder)
    _frame().to_csv(folder / "table.csv", index=False)
    return folder


def _lines(folder: Path) -> list[str]:
    return (folder / "table.csv").read_text().splitlines()


def _write(folder: Path, lines: list[str], encoding: str = "utf-8") -> None:
    (folder / "table.csv").write_bytes("\n".join([*lines, ""]).encode(encoding))


# Works, with these values


@dataclass
class Read:
    """What a table is made of, how it is called, and what must come out."""

    make: Callable[[Path], str | None]
    options: dict[str, Any] = field(default_factory=dict)
    targets: list[float] | None = None
    groups: list[str] | None = None
    rows: list[int] | None = None
    remark: str | None = None


def _csv(
    change: Callable[[list[str]], list[str]], encoding: str = "utf-8"
) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _write(folder, change(_lines(folder)), encoding)

    return make


def _replaced(old: str, new: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line.replace(old, new) for line in lines]


def _other(name: str, write: Callable[[Path, pd.DataFrame], Any]) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        write(folder / name, _frame())
        return name

    return make


def _semicolons(lines: list[str]) -> list[str]:
    return [line.replace(",", ";").replace(".", ",").replace(",png", ".png") for line in lines]


def _excel(path: Path, frame: pd.DataFrame) -> None:
    """As people's are: a title's worth of empty rows, and another sheet with nothing in it."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([])
    sheet.append([*frame.columns, None])
    for row in frame.itertuples(index=False):
        sheet.append([*row, None])
    book.create_sheet("notes")
    book.save(path)


def _excel_called_csv(path: Path, frame: pd.DataFrame) -> None:
    _excel(path.with_suffix(".xlsx"), frame)
    path.with_suffix(".xlsx").rename(path)


def _moved(spelled: str, name: str) -> Callable[[Path], None]:
    """The first picture under another path, and the table with its own spelling of it."""

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / NAMES[0]).rename(folder / name)
        _write(folder, _replaced(NAMES[0], spelled)(_lines(folder)))

    return make


def _hidden_by_na(lines: list[str]) -> list[str]:
    return [line.replace("p0", "NA").replace("p1", "None").replace("p2", "null") for line in lines]


NA_SUBJECTS = [
    *("NA", "NA", "None", "None", "null", "null", *SUBJECTS[6:20]),
    *("None0", "None0", "None1", "None1"),
]
WHO = {"group_column": "who"}
READ = {
    "as it is": Read(lambda _: None, WHO),
    "a byte order mark": Read(_csv(lambda lines: lines, "utf-8-sig"), WHO),
    "UTF-16": Read(_csv(lambda lines: lines, "utf-16"), WHO),
    "UTF-16 without a mark": Read(_csv(lambda lines: lines, "utf-16-le"), WHO),
    "UTF-32": Read(_csv(lambda lines: lines, "utf-32"), WHO),
    "Latin-1, told": Read(
        _csv(_replaced("p3", "Müller"), "latin-1"),
        {**WHO, "encoding": "latin-1"},
        groups=[name.replace("p3", "Müller") for name in SUBJECTS],
    ),
    "Windows lines": Read(_csv(lambda lines: [line + "\r" for line in lines]), WHO),
    "semicolons and decimal commas": Read(_csv(_semicolons), WHO),
    "tabs": Read(_csv(_replaced(",", "\t")), WHO),
    "bars": Read(_csv(_replaced(",", "|")), WHO),
    "a separator that is told": Read(_csv(_replaced(",", "^")), {**WHO, "separator": "^"}),
    "a separator in its first line": Read(
        _csv(lambda lines: ["sep=;", *_semicolons(lines)]), WHO, rows=list(range(3, COUNT + 3))
    ),
    "quoted decimal commas": Read(
        _csv(lambda lines: [lines[0], *(_quoted(line) for line in lines[1:])]), WHO
    ),
    "thousands that are told": Read(
        _csv(lambda lines: [lines[0], *(f'{NAMES[i]},"{i + 1},125",p{i}' for i in range(COUNT))]),
        {"decimal": ","},
        targets=[i + 1.125 for i in range(COUNT)],
    ),
    "a comma at the end of every row": Read(
        _csv(lambda lines: [lines[0], *(line + "," for line in lines[1:])]), WHO
    ),
    "a comma at the end of every line": Read(
        _csv(lambda lines: [line + "," for line in lines]), WHO
    ),
    "columns that nobody asked for twice": Read(
        _csv(lambda lines: [f"{line},x,x" for line in lines]), WHO
    ),
    "blank lines": Read(
        _csv(lambda lines: ["", lines[0], "", *lines[1:3], "", ",,", *lines[3:], "", ""]),
        WHO,
        rows=[4, 5, *range(8, COUNT + 6)],
    ),
    "a line break within a cell": Read(
        _csv(lambda lines: ["image,target,note,who", *(_noted(line) for line in lines[1:])]),
        WHO,
    ),
    "spaces around names": Read(
        _csv(lambda lines: [line.replace(",", " , ") + " " for line in lines]),
        WHO,
        groups=SUBJECTS,
    ),
    "a header with spaces": Read(_csv(lambda lines: [" image , target , who ", *lines[1:]]), WHO),
    "subjects called NA, None and null": Read(_csv(_hidden_by_na), WHO, groups=NA_SUBJECTS),
    "Unicode in two forms": Read(
        _csv(
            lambda lines: [
                line.replace("p3", "Mu\u0308ller" if "06" in line else "M\u00fcller")
                for line in lines
            ]
        ),
        WHO,
        groups=[name.replace("p3", "M\u00fcller") for name in SUBJECTS],
    ),
    "missing labels, as programs write them": Read(
        _csv(
            lambda lines: [
                lines[0],
                *(
                    f"{NAMES[i]},{word},p"
                    for i, word in enumerate(["", "NA", "nan", "NULL", "N/A"])
                ),
                *lines[6:],
            ]
        ),
        targets=[np.nan] * 5 + TARGETS[5:],
    ),
    "a minus sign of a typesetter": Read(_csv(_replaced("-", "\u2212")), WHO),
    "exponents": Read(
        _csv(lambda lines: [lines[0], *(f"{NAMES[i]},{i}E-2,p{i}" for i in range(COUNT))]),
        targets=[i / 100 for i in range(COUNT)],
    ),
    "a long cell that nobody asked for": Read(
        _csv(lambda lines: [lines[0] + ",x", *(f"{line},{'7' * 200_000}" for line in lines[1:])]),
        WHO,
    ),
    "thousands of columns": Read(
        _csv(
            lambda lines: [
                ",".join([lines[0], *(f"c{i}" for i in range(5000))]),
                *(",".join([line, *["0"] * 5000]) for line in lines[1:]),
            ]
        ),
        WHO,
    ),
    "Excel": Read(_other("t.xlsx", _excel), WHO, rows=list(range(3, COUNT + 3))),
    "Excel under another name": Read(
        _other("t.csv", _excel_called_csv), WHO, rows=list(range(3, COUNT + 3))
    ),
    "a sheet that is told": Read(
        _other("t.xlsx", lambda path, frame: _sheets(path, frame)), {**WHO, "sheet": "scores"}
    ),
    "Parquet": Read(
        _other("t.parquet", lambda path, frame: frame.to_parquet(path)),
        WHO,
        rows=list(range(1, COUNT + 1)),
    ),
    "Parquet with categories, and numbers as subjects": Read(
        _other(
            "t.parquet",
            lambda path, frame: frame.assign(
                image=frame["image"].astype("category"), who=frame["who"].str[1:].astype(float)
            ).to_parquet(path),
        ),
        WHO,
        groups=[name[1:] for name in SUBJECTS],
    ),
    "JSON records": Read(
        _other("t.json", lambda path, frame: frame.to_json(path, orient="records")), WHO
    ),
    "JSON lines": Read(
        _other("t.jsonl", lambda path, frame: frame.to_json(path, orient="records", lines=True)),
        WHO,
    ),
    "backslashes in paths": Read(_moved("images\\00.png", "images/00.png"), WHO),
    "paths in another Unicode form": Read(_moved("u\u0308.png", "\u00fc.png"), WHO),
    "paths in a third Unicode form": Read(_moved("\u00fc.png", "u\u0308.png"), WHO),
    "a space at the end of a path": Read(_csv(_replaced(".png", ".png ")), WHO),
    "a space at the end of a file's name": Read(_moved("a.png ", "a.png "), WHO),
    "the same image in several rows of a subject": Read(_csv(_replaced("01.png", "00.png")), WHO),
    "the same image in several spellings is one subject": Read(
        _csv(_replaced("01.png", "./00.png")), groups=None
    ),
    "a group that took no part in the match": Read(
        _moved("x_0.png", "x_0.png"),
        {"group_pattern": r"^(?:x_)?(\d+)"},
        groups=["0", *(f"{i:02d}" for i in range(1, COUNT))],
    ),
}


def _quoted(line: str) -> str:
    image, target, who = line.split(",")
    return f'{image},"{target.replace(".", ",")}",{who}'


def _noted(line: str) -> str:
    image, target, who = line.split(",")
    return f'{image},{target},"taken\nin spring, ""late""",{who}'


def _sheets(path: Path, frame: pd.DataFrame) -> None:
    with pd.ExcelWriter(path) as writer:
        frame.assign(target=0).to_excel(writer, sheet_name="old", index=False)
        frame.to_excel(writer, sheet_name="scores", index=False)


@pytest.mark.parametrize("name", READ)
def test_it_is_read_right(folder: Path, name: str) -> None:
    case = READ[name]
    table = folder / (case.make(folder) or "table.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        read = read_table(TableOptions(table, **case.options))
    assert len(read) == COUNT
    np.testing.assert_array_equal(read.targets[:, 0], case.targets or TARGETS)
    if "group_column" in case.options or case.groups is not None:
        assert read.groups.tolist() == (case.groups or SUBJECTS)
    else:
        assert len(set(read.groups.tolist())) == COUNT - ("spellings" in name)
    if case.rows is not None:
        assert read.rows.tolist() == case.rows


# Refused, in these words

Refused = tuple[Callable[[Path], list[str]], list[str]]
"""What is made in a folder with `table.csv` and `run`, and the command; and what is said."""


def _train(
    *flags: str, table: str = "table.csv", make: Callable[[Path], Any] = lambda _: None
) -> Any:
    def call(folder: Path) -> list[str]:
        name = make(folder) or table
        here = [str(folder / flag[1:]) if flag.startswith("@") else flag for flag in flags]
        out = [] if "--out" in flags else ["--out", str(folder / "out")]
        return ["train", str(folder / name), *SMALL_FLAGS, "--epochs", "1", *here, *out]

    return call


def _compare(*flags: str) -> Any:
    return lambda folder: [
        "compare",
        str(folder / "table.csv"),
        "--out",
        str(folder / "out"),
        *flags,
    ]


def _predict(make: Callable[[Path], Any], *flags: str) -> Any:
    def call(folder: Path) -> list[str]:
        make(folder)
        here = [str(folder / flag[1:]) if flag.startswith("@") else flag for flag in flags]
        out = [] if "--out" in flags else ["--out", str(folder / "out.csv")]
        return ["predict", str(folder / "run"), str(folder / "table.csv"), *here, *out]

    return call


def _evaluate(make: Callable[[Path], Any], *flags: str) -> Any:
    def call(folder: Path) -> list[str]:
        make(folder)
        return ["evaluate", str(folder / "run"), "--out", str(folder / "out"), *flags]

    return call


def _text(name: str, content: str | bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return make


def _column(name: str, value: Any, rows: list[int] | None = None) -> Callable[[Path], None]:
    """Sets cells of a column of the table."""

    def make(folder: Path) -> None:
        frame = pd.read_csv(folder / "table.csv", dtype=str)
        frame.loc[frame.index if rows is None else rows, name] = value
        frame.to_csv(folder / "table.csv", index=False)

    return make


def _parquet(**columns: Any) -> Callable[[Path], str]:
    return _other("t.parquet", lambda path, frame: frame.assign(**columns).to_parquet(path))


def _formula(path: Path, frame: pd.DataFrame) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(frame.columns))
    for i, row in enumerate(frame.itertuples(index=False)):
        sheet.append([row[0], "=1+1" if i == 4 else row[1], row[2]])
    book.save(path)


def _picture(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return replace


def _pages(path: Path) -> None:
    pages = [Image.new("L", (8, 8), level) for level in (1, 2, 3, 4, 5)]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])


def _nan_weights(folder: Path) -> None:
    path = folder / "run" / "model.safetensors"
    weights = load_file(path)
    weights["head.bias"][0] = float("nan")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(weights, path, metadata)


def _described(**changes: Any) -> Callable[[Path], None]:
    """The model with another description of its images."""

    def make(folder: Path) -> None:
        path = folder / "run" / "model.safetensors"
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        (key,) = metadata
        description = json.loads(metadata[key])
        description["images"].update(changes)
        save_file(load_file(path), path, {key: json.dumps(description)})

    return make


def _config(text: str) -> Any:
    return _train("--config", "@c.yaml", make=_text_beside("c.yaml", text))


def _text_beside(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _text(name, content)(folder)

    return make


def _changed_config(folder: Path, **changes: Any) -> list[str]:
    path = folder / "run" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return []


def _others_images(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "precious.png").write_text("years of work")
    return folder


def _beside(folder: Path, name: str) -> Path:
    (folder / "there").mkdir()
    (folder / "there" / name).write_text("image\n")
    return folder / "there"


def _torn(folder: Path) -> None:
    """The two rows of each subject are in two splits, and its name is spelled with a space."""
    _column("part", ["train", "test"] * (COUNT // 2))(folder)
    _column("who", [f"p{i // 2}" + " " * (i % 2) for i in range(COUNT)])(folder)


REFUSED: dict[str, Refused] = {
    # Tables
    "no table": (_train(table="tabel.csv"), ["no table", "in that folder there are: table.csv"]),
    "a folder": (_train(table="."), ["no table"]),
    "an empty table": (_train(make=_text("t.csv", "")), ["columns are missing"]),
    "a header alone": (_train(make=_text("t.csv", "image,target\n")), ["the table has no rows"]),
    "a picture as a table": (
        _train(table="00.png"),
        ["a table is a .csv, .tsv, .tab, .txt, .xlsx, .parquet, .json"],
    ),
    "an old Excel file": (
        _train(make=_text("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")),
        ["Excel file of before 2007; save it as .xlsx"],
    ),
    "text called Excel": (_train(make=_text("t.xlsx", "image,target\n")), ["no .xlsx file inside"]),
    "a damaged Excel file": (
        _train(make=_text("t.xlsx", b"PK\x03\x04" + bytes(100))),
        ["cannot be read as a table"],
    ),
    "a damaged Parquet file": (
        _train(make=_text("t.parquet", b"PAR1" + bytes(100))),
        ["cannot be read as a table"],
    ),
    "broken JSON": (_train(make=_text("t.json", '[{"image": ')), ["cannot be read as a table"]),
    "deep JSON": (_train(make=_text("t.json", "[" * 100_000)), ["cannot be read as a table"]),
    "JSON by columns": (
        _train(make=_text("t.json", '{"image": {"0": "00.png"}}')),
        ["a JSON table is a list of records"],
    ),
    "JSON with a name twice": (
        _train(make=_text("t.json", '[{"image": "00.png", "target": 1, "target": 2}]')),
        ["the same name twice"],
    ),
    "half a character in JSON": (
        _train(make=_text("t.json", '[{"image": "00.png", "target": "\\ud800"}]')),
        ["row 1: column 'target' holds half of a Unicode character"],
    ),
    "Latin-1, not told": (
        _train(make=_csv(_replaced("p3", "Müller"), "latin-1")),
        ["it is not utf-8", "--encoding latin-1"],
    ),
    "an encoding that there is not": (
        _train("--encoding", "latin-99"),
        ["--encoding latin-99: unknown encoding"],
    ),
    "an encoding that is no text": (_train("--encoding", "base64"), ["--encoding base64"]),
    "a separator that is none": (
        _train("--separator", ";;"),
        ["--separator must be one character"],
    ),
    "a quote that does not end": (
        _train(make=_csv(lambda lines: [*lines[:5], f'"{lines[5]}', *lines[6:]])),
        ["cannot be read as a table", "unexpected end of data"],
    ),
    "a cell too many": (
        _train(make=_csv(lambda lines: [*lines[:5], lines[5] + ",7", *lines[6:]])),
        ["row 6 has 4 cells, and the header 3"],
    ),
    "a column too many in every row": (
        _train(
            make=_csv(
                lambda lines: [lines[0], *(f"{i},{line}" for i, line in enumerate(lines[1:]))]
            )
        ),
        ["24 faults", "row 2 has 4 cells, and the header 3"],
    ),
    "a row that ends early": (
        _train(make=_csv(lambda lines: [*lines[:-1], "23.png"])),
        ["row 25 has 1 cells, and the header 3"],
    ),
    "two columns of the same name": (
        _train(
            make=_csv(lambda lines: [lines[0] + ",target", *(line + ",1" for line in lines[1:])])
        ),
        ["more than one column is called 'target'"],
    ),
    "two columns that differ in a space": (
        _train(
            make=_csv(lambda lines: [lines[0] + ",target ", *(line + ",1" for line in lines[1:])])
        ),
        ["more than one column is called 'target'"],
    ),
    "which sheet?": (
        _train(make=_other("t.xlsx", _sheets)),
        ["which sheet? Say --sheet with one of old, scores"],
    ),
    "no such sheet": (
        _train("--sheet", "new", make=_other("t.xlsx", _sheets)),
        ["no sheet 'new'; there are old, scores"],
    ),
    "a formula that was never calculated": (
        _train(make=_other("t.xlsx", _formula)),
        ["row 6: column 'target' is a formula without a value"],
    ),
    "a missing column among 10,000": (
        _train(
            "--weight-column",
            "zzz",
            make=_csv(
                lambda lines: [lines[0] + "".join(f",{i}" for i in range(10_000)), *lines[1:]]
            ),
        ),
        ["no column 'zzz' for --weight-column; the table has", "and 9991 more"],
    ),
    # Numbers
    "a word for a number": (
        _train(make=_column("target", "large", [1, 4])),
        ["2 faults", "row 3: column 'target' is 'large', not a number", "row 6: "],
    ),
    "infinity": (_train(make=_column("target", "inf", [2])), ["row 4: column 'target' is 'inf'"]),
    "a number beyond all": (_train(make=_column("target", "1e999", [2])), ["row 4: ", "'1e999'"]),
    "both decimal marks": (
        _train(make=_column("target", "1,5", [3])),
        ["is a comma the decimal mark?", "'1,5' in row 5", "--decimal"],
    ),
    "thousands or decimals?": (
        _train(make=_column("target", [f"{i + 1},125" for i in range(COUNT)])),
        ["is a comma the decimal mark?", "'1,125' in row 2"],
    ),
    "dates of a Parquet file": (
        _train(make=_parquet(target=pd.date_range("2020-01-01", periods=COUNT))),
        ["24 faults", "row 1: column 'target' is '2020-01-01 00:00:00', not a number"],
    ),
    "truth values of a Parquet file": (
        _train(make=_parquet(target=[True, False] * (COUNT // 2))),
        ["column 'target' is 'True', not a number"],
    ),
    "labels too small": (
        _train(make=_column("target", [f"{i}e-300" for i in range(COUNT)])),
        ["from 0 to 2.3e-299", "give it in another unit"],
    ),
    "labels too large": (
        _train(make=_column("target", [f"{i}e39" for i in range(COUNT)])),
        ["give it in another unit"],
    ),
    "labels that float32 cannot tell apart": (
        _train(make=_column("target", [f"{1_700_000_000 + i}" for i in range(COUNT)])),
        ["from 1700000000 to 1700000023", "subtract a constant"],
    ),
    "no label at all": (_train(make=_column("target", "")), ["'target' has no value at all"]),
    "one label for all": (_train(make=_column("target", "7")), ["is 7 in every row"]),
    "no weight at all": (
        _train("--weight-column", "w", make=_column("w", "0")),
        ["column 'w' is 0 in every row with a label"],
    ),
    "a weight that is missing": (
        _train("--weight-column", "w", make=_column("w", ["1", ""] * (COUNT // 2))),
        ["row 3: column 'w' is empty, not a number of at least 0"],
    ),
    # Names
    "an empty subject": (
        _train("--group-column", "who", make=_column("who", " ", [5])),
        ["row 7: column 'who' is empty, not a subject"],
    ),
    "a pattern that takes nothing": (
        _train("--group-pattern", "^(x*)"),
        ["24 faults", "takes an empty subject from 00.png"],
    ),
    "a group of a pattern that took no part": (
        _train("--group-pattern", r"^(x)?\d"),
        ["takes an empty subject from 00.png"],
    ),
    "a pattern that is none": (_train("--group-pattern", "("), ["--group-pattern '('"]),
    "an image of two subjects": (
        _train("--group-column", "who", make=_csv(_replaced("05.png", "00.png"))),
        ["row 7: 00.png is an image of 'p2', and in row 2 of 'p0'"],
    ),
    "a target called row": (
        _train("--target-columns", "row"),
        ["the predictions have a column 'row' of their own"],
    ),
    "a target called as another's prediction": (
        _train("--target-columns", "target", "predicted target"),
        ["the predictions have a column 'predicted target' of their own"],
    ),
    "a name of 5,000 characters": (
        _train(make=_column("image", "a" * 5000, [2])),
        ["row 4: no image", "...aaa"],
    ),
    "a name with a NUL": (
        _train(make=_csv(_replaced("02.png", "\0.png"))),
        ["row 4: "],
    ),
    "a name that is a folder": (
        _train(make=_column("image", ".", [2])),
        ["row 4: ", "a folder is a DICOM series, a volume, where a picture is read"],
    ),
    "subjects that are in two splits but for a space": (
        _train(
            *("--group-column", "who", "--split-column", "part"),
            make=_torn,
        ),
        ["subjects in more than one split: p0 (test, train)"],
    ),
    # Pictures
    "a TIFF of five pages": (
        _train(make=_picture("03.png", _pages)),
        ["row 5: ", "03.png has 5 frames: say which with --frame-column"],
    ),
    "an EPS called PNG": (
        _train(make=_picture("03.png", lambda path: Image.new("L", (8, 8)).save(path, "EPS"))),
        ["row 5: ", "a format that is not read here"],
    ),
    "a picture beyond the limit": (
        _train("--max-megapixels", "0.00004"),
        ["24 faults", "8 x 6 pixels, more than --max-megapixels 4e-05 allows"],
    ),
    "no pixel sizes anywhere": (
        _train("--length-columns", "target"),
        ["00.png has no pixel size", "--pixel-size-column"],
    ),
    "a subject of 100,000 characters": (
        _train("--group-column", "who", make=_column("who", "x" * 100_000, [3])),
        ["row 5: column 'who' is", "not a subject of 1 to 1000 characters"],
    ),
    # Flags
    "an unknown flag": (_train("--epoch-count", "3"), ["--epoch-count"]),
    "a word for a number of epochs": (
        _train("--batch-size", "many"),
        ["--batch-size: Expected a whole number. Got value: many"],
    ),
    "a large seed": (_train("--seed", str(2**32)), ["--seed must be from 0 to 4294967295"]),
    "a negative seed": (_train("--seed", "-1"), ["--seed must be from 0"]),
    "a large seed of the splits": (
        _train("--split-seed", str(2**40)),
        ["--split-seed must be from 0 to 4294967295"],
    ),
    "seeds that end above the largest": (
        _compare("--seed", str(2**32 - 2), "--seeds", "3"),
        ["end above 4294967295"],
    ),
    "a billion folds": (_compare("--folds", "1000000000"), ["--folds must be from 2 to 1000"]),
    "a batch of 2^63": (
        _train("--batch-size", str(2**63)),
        ["--batch-size must be from 2 to 2147483647"],
    ),
    "a weight decay that is no number": (
        _train("--weight-decay", "nan"),
        ["--weight-decay: Expected a number. Got value: nan"],
    ),
    "shares that are no numbers": (
        _train("--split-fractions", "nan", "0.5", "0.5"),
        ["--split-fractions element 1: Expected a number. Got value: nan"],
    ),
    "an image of 20,000 pixels": (
        _train("--image-size", "20000", "20000"),
        ["--image-size must be from 32 32 to 8192 8192"],
    ),
    # Configurations
    "no epochs": (
        lambda folder: [
            *(
                "train",
                str(folder / "table.csv"),
                "--config",
                str(_written(folder, "epochs: null")),
            ),
            *("--out", str(folder / "out")),
        ],
        ["--epochs needs a value"],
    ),
    "a configuration that is no YAML": (_config("epochs: [1"), ["Problems parsing config"]),
    "a configuration with code in it": (
        _config("epochs: !!python/object/apply:os.system ['touch /tmp/owned']"),
        ["could not determine a constructor for the tag"],
    ),
    "a configuration with unknown flags": (_config("epoch: 3"), ["epoch"]),
    # Where it goes
    "out is below a file": (
        _train("--out", "@table.csv/run"),
        ["--out", "table.csv is a file, not a folder"],
    ),
    "out is a file": (_train("--out", "@table.csv"), ["is a file, not a folder"]),
    "out has too long a name": (
        _train("--out", "@" + "x" * 300),
        ["cannot be written: File name too long"],
    ),
    "out cannot be written": (
        _train("--out", "/proc/finecorr"),
        ["/proc/finecorr cannot be written"],
    ),
    "predictions cannot be written": (
        _predict(lambda _: None, "--out", "/proc/finecorr/a.csv"),
        ["cannot be written"],
    ),
    "predictions have too long a name": (
        _predict(lambda _: None, "--out", "@" + "x" * 300),
        ["cannot be written: File name too long"],
    ),
    "predictions are a folder": (
        _predict(lambda _: None, "--out", "@run"),
        ["run is a folder: name a file"],
    ),
    # Models and runs
    "a model with weights that are no numbers": (
        _predict(_nan_weights),
        ["is damaged: it holds weights that are no finite numbers"],
    ),
    "a model of images of 20,000 pixels": (
        _predict(_described(image_size=[20_000, 20_000])),
        ["is damaged", "--image-size must be from"],
    ),
    "a model of images of no pixels": (
        _predict(_described(image_size=[0, 0])),
        ["is damaged", "--image-size must be from"],
    ),
    "a model of images of three sides": (
        _predict(_described(image_size=[32, 32, 32])),
        ["is damaged"],
    ),
    "a model with text for a number": (
        _predict(_described(max_megapixels="all")),
        ["its max_megapixels is 'all'"],
    ),
    "a model that ends early": (
        _predict(
            lambda folder: (folder / "run" / "model.safetensors").write_bytes(
                (folder / "run" / "model.safetensors").read_bytes()[:5000]
            )
        ),
        ["is damaged"],
    ),
    "splits that are damaged": (
        _evaluate(_text_beside("run/splits.csv", "row,image\n1,2\n")),
        ["splits.csv is damaged: it has no column 'group'"],
    ),
    "splits that are no text": (
        _evaluate(_text_beside("run/splits.csv", b"\xff\xfe\x00\xd8")),
        ["splits.csv"],
    ),
    "outliers that are damaged": (
        _evaluate(
            _text_beside("run/outliers.csv", "row,target,label,set_aside,epochs\nx,t,1,1,1\n")
        ),
        ["outliers.csv is damaged: row 2: column 'row' is 'x'"],
    ),
    "logs that are damaged": (
        _evaluate(_text_beside("run/logs/version_0/metrics.csv", "epoch,loss\n0,x\n")),
        ["metrics.csv is damaged: row 2: column 'loss' is 'x'"],
    ),
    "a configuration of a run that is damaged": (
        _evaluate(_text_beside("run/config.yaml", "loss: !!python/name:os.system\n")),
        ["config.yaml is damaged"],
    ),
    "a configuration of a run that is a list": (
        _evaluate(_text_beside("run/config.yaml", "- mse\n")),
        ["config.yaml is damaged: it names no options"],
    ),
    "a run that does not say what it has seen": (
        _evaluate(lambda folder: (folder / "run" / "splits.csv").unlink()),
        ["splits.csv is missing", "--all-rows"],
    ),
    "splits with unknown names": (
        _evaluate(_text_beside("run/splits.csv", "row,image,group,split\n2,00.png,p0,zzz\n")),
        ["splits.csv is damaged: it does not say"],
    ),
    "splits without rows": (
        _evaluate(_text_beside("run/splits.csv", "row,image,group,split\n")),
        ["splits.csv is damaged: it does not say"],
    ),
    "a run whose loss is a list": (
        _evaluate(lambda folder: _changed_config(folder, loss=[1])),
        ["config.yaml is damaged: its loss is [1]"],
    ),
    "suspects of a run with words for numbers": (
        lambda folder: [
            *("suspects", str(folder / "run")),
            *_changed_config(folder, epochs="many"),
        ],
        ["config.yaml of the run is damaged: its epochs is 'many'"],
    ),
    "suspects of a run of half an epoch": (
        lambda folder: ["suspects", str(folder / "run"), *_changed_config(folder, epochs=1.5)],
        ["config.yaml of the run is damaged: its epochs is 1.5"],
    ),
    "a folder of somebody else's images to degrade into": (
        lambda folder: [
            *("degrade", str(folder), "--out", str(_others_images(folder.parent / "others"))),
        ],
        ["others is not empty"],
    ),
    "an evaluation where predictions are": (
        lambda folder: [
            *("evaluate", str(folder / "run"), "--out", str(_beside(folder, "predictions.csv"))),
        ],
        ["already holds predictions.csv"],
    ),
    "a comparison where other files are": (
        lambda folder: ["compare", str(folder / "table.csv"), "--out", str(folder)],
        ["is not empty, and holds no comparison"],
    ),
    "two targets of a model of one": (
        _predict(lambda _: None, "--target-columns", "a", "b"),
        ["the model predicts ['head circumference (mm)']"],
    ),
    "lengths that the model has not learnt as such": (
        _predict(lambda _: None, "--length-columns", "target", "--target-columns", "other"),
        ["--length-columns: 'target' is none of --target-columns"],
    ),
    "within subjects of whom there is one prediction": (
        _evaluate(lambda _: None, "--within", "subject", "--predict-per", "subject"),
        ["--within subject needs several predictions in a group"],
    ),
    "groups to predict within": (
        _predict(lambda _: None, "--within", "subject"),
        ["--within"],
    ),
    "per subject, but of whom?": (
        lambda folder: [
            *("predict", str(folder / "run"), str(folder), "--predict-per", "subject"),
            *("--pixel-size", "1", "--out", str(folder / "out.csv"), "--group-column", "who"),
        ],
        ["a folder has no columns: say --group-pattern"],
    ),
}


def _written(folder: Path, text: str) -> Path:
    (folder / "c.yaml").write_text(text)
    return folder / "c.yaml"


def _state(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_words(
    folder: Path,
    name: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call, said = REFUSED[name]
    shutil.copytree(run, folder / "run")
    command = call(folder)
    before = _state(folder)
    assert main(command) == 2
    message = capsys.readouterr().err
    for part in said:
        assert part in message
    assert "Traceback" not in message
    assert "usage:" not in message
    assert len(message) < 5000
    assert _state(folder) == before
