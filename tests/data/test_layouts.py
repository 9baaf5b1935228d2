"""Published data sets, each in a small folder of its layout."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from finecorr.cli import main
from finecorr.data import options
from finecorr.data.layouts import LAYOUTS, matlab, read_layout
from finecorr.data.options import TableOptions
from finecorr.data.presets import PRESETS, expand_presets
from finecorr.data.table import ImageTable, read_table
from finecorr.errors import InputError, InputWarning

LIVE_IMAGES = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _cells(names: Sequence[str]) -> Any:
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    return cells


def _excel(path: Path, sheets: dict[str, list[list[object]]]) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def koniq10k(folder: Path) -> None:
    (folder / "koniq10k_distributions_sets.csv").write_text(
        "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
        "10.jpg,0.0,0.0,0.238095238095,0.695238095238,0.0666666666667,105,77.383,0.52727,training\n"
        "11.jpg,0.0,0.25,0.5,0.25,0.0,96,58.7,0.7108,validation\n"
        "12.jpg,0.5,0.5,0.0,0.0,0.0,100,15.2,0.5025,test\n"
    )
    _touch(folder, *(f"512x384/{number}.jpg" for number in (10, 11, 12)))


def livec(folder: Path) -> None:
    names = [f"t{number}.bmp" for number in range(1, 8)] + ["3.bmp", "10.bmp", "1024.JPG"]
    scores = np.arange(10.0)[None] * 10
    (folder / "Data").mkdir()
    savemat(folder / "Data" / "AllImages_release.mat", {"AllImages_release": _cells(names)})
    savemat(folder / "Data" / "AllMOS_release.mat", {"AllMOS_release": scores})
    savemat(folder / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": scores / 5})
    _touch(folder, "Images/3.bmp", "Images/10.bmp", "Images/1024.JPG")


def spaq(folder: Path) -> None:
    header = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness"]
    rows = [[f"0000{i}.jpg", score, 1, 2, 3, 4, 5] for i, score in [(1, 48.86), (2, 62.5), (3, 67)]]
    _excel(
        folder / "Annotations" / "MOS and Image attribute scores.xlsx",
        {"Sheet1": [[*header, "Sharpness"], *rows]},
    )
    _touch(folder, *(f"TestImage/0000{i}.jpg" for i in (1, 2, 3)))


def biq2021(folder: Path) -> None:
    for name, rows in (
        ("Train", ["ss03 (3753).jpg,0.8471,,", "ss01 (1726).jpg,0.2874,,"]),
        ("Test", ["ss02 (78).jpg,0.4737,,"]),
    ):
        text = "\n".join(["Image Name,MOS,,", *rows, ""])
        (folder / f"{name} (Images and MOS).csv").write_text(text)
    names = ("ss03 (3753).jpg", "ss01 (1726).jpg", "ss02 (78).jpg")
    _touch(folder, *(f"Images/{name}" for name in names))


def tid2013(folder: Path) -> None:
    (folder / "mos_with_names.txt").write_text(
        "5.51429 I01_01_1.bmp\r\n3.86486 I01_24_5.bmp\r\n0.45946 i25_08_3.bmp\r\n"
    )
    (folder / "mos_std.txt").write_text("0.13013\r\n0.15\r\n0.2\r\n")
    images = ("i01_01_1.bmp", "I01_24_5.BMP", "i25_08_3.bmp")
    _touch(folder, *(f"distorted_images/{name}" for name in images))


def kadid10k(folder: Path) -> None:
    (folder / "dmos.csv").write_text(
        "dist_img,ref_img,dmos,var\n"
        "I01_01_01.png,I01.png,4.57,0.496\n"
        "I01_01_05.png,I01.png,1.1,0.3\n"
        "I81_25_02.png,I81.png,3.87,0.6\n"
    )
    images = ("I01_01_01.png", "I01_01_05.png", "I81_25_02.png")
    _touch(folder, *(f"images/{name}" for name in images))


def csiq(folder: Path) -> None:
    head: list[list[object]] = [[], [], []]
    header = [None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    rows: list[list[object]] = [
        [None, None, None, 1600, 1, "noise", 1, 0.061, 0.061989],
        [None, None, None, 1600, 5, "jpeg 2000", 5, 0.1, 0.9],
        [None, None, None, "aerial_city", 6, "blur", 2, 0.033, 0.25],
    ]
    _excel(
        folder / "csiq.DMOS.xlsx",
        {"all_by_distortion": [["other"]], "all_by_image": [*head, list(header), *rows]},
    )
    _touch(
        folder,
        "dst_imgs/awgn/1600.AWGN.1.png",
        "dst_imgs/jpeg2000/1600.jpeg2000.5.png",
        "dst_imgs/blur/aerial_city.BLUR.2.png",
    )


def live(folder: Path) -> None:
    count = sum(LIVE_IMAGES.values())
    scores = np.linspace(-2.5, 90, count)
    copies = np.zeros(count, dtype=np.uint8)
    copies[[0, 227]] = 1
    names = ["bikes.bmp", "caps.bmp"] * (count // 2)
    both = {"orgs": copies[None]}
    savemat(
        folder / "dmos_realigned.mat",
        {"dmos_new": scores[None], "dmos_std": scores[None] / 9, **both},
    )
    savemat(folder / "dmos.mat", {"dmos": scores[None] + 1, **both})
    savemat(folder / "refnames_all.mat", {"refnames_all": _cells(names).T})
    for kind, images in LIVE_IMAGES.items():
        _touch(folder, *(f"{kind}/img{number}.bmp" for number in range(1, images + 1)))


BUILDERS: dict[str, Callable[[Path], None]] = {
    builder.__name__: builder
    for builder in (koniq10k, livec, spaq, biq2021, tid2013, kadid10k, csiq, live)
}


def _table(name: str, folder: Path) -> ImageTable:
    """What `train --preset` reads."""
    _, table, *flags = expand_presets(["train", "--preset", name, str(folder)])
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    return read_table(
        TableOptions(
            Path(table),
            layout=given["--layout"],
            image_columns=(given["--image-columns"],),
            target_columns=(given["--target-columns"],),
            group_column=given["--group-column"],
            split_column=given.get("--split-column"),
        )
    )


def test_each_layout_is_a_preset() -> None:
    assert tuple(LAYOUTS) == options.LAYOUTS
    assert set(LAYOUTS) == set(BUILDERS) == set(PRESETS) - {"hc18"}
    assert {name: preset.task for name, preset in PRESETS.items()} == {
        **dict.fromkeys(LAYOUTS, "quality"),
        "hc18": "length",
    }


@pytest.mark.parametrize(
    ("name", "rows", "images", "scores", "groups", "splits"),
    [
        (
            "koniq10k",
            [2, 3, 4],
            ["512x384/10.jpg", "512x384/11.jpg", "512x384/12.jpg"],
            [77.383, 58.7, 15.2],
            ["512x384/10.jpg", "512x384/11.jpg", "512x384/12.jpg"],
            ["train", "validation", "test"],
        ),
        (
            "livec",
            [8, 9, 10],
            ["Images/3.bmp", "Images/10.bmp", "Images/1024.JPG"],
            [70, 80, 90],
            ["Images/3.bmp", "Images/10.bmp", "Images/1024.JPG"],
            None,
        ),
        (
            "spaq",
            [2, 3, 4],
            ["TestImage/00001.jpg", "TestImage/00002.jpg", "TestImage/00003.jpg"],
            [48.86, 62.5, 67],
            ["TestImage/00001.jpg", "TestImage/00002.jpg", "TestImage/00003.jpg"],
            None,
        ),
        (
            "biq2021",
            [1, 2, 3],
            ["Images/ss03 (3753).jpg", "Images/ss01 (1726).jpg", "Images/ss02 (78).jpg"],
            [0.8471, 0.2874, 0.4737],
            ["Images/ss03 (3753).jpg", "Images/ss01 (1726).jpg", "Images/ss02 (78).jpg"],
            ["train", "train", "test"],
        ),
        (
            "tid2013",
            [1, 2, 3],
            [f"distorted_images/{n}" for n in ("i01_01_1.bmp", "I01_24_5.BMP", "i25_08_3.bmp")],
            [5.51429, 3.86486, 0.45946],
            ["I01", "I01", "I25"],
            None,
        ),
        (
            "kadid10k",
            [2, 3, 4],
            ["images/I01_01_01.png", "images/I01_01_05.png", "images/I81_25_02.png"],
            [4.57, 1.1, 3.87],
            ["I01", "I01", "I81"],
            None,
        ),
        (
            "csiq",
            [5, 6, 7],
            [
                "dst_imgs/awgn/1600.AWGN.1.png",
                "dst_imgs/jpeg2000/1600.jpeg2000.5.png",
                "dst_imgs/blur/aerial_city.BLUR.2.png",
            ],
            [0.938011, 0.1, 0.75],
            ["1600", "1600", "aerial_city"],
            None,
        ),
    ],
)
def test_what_a_preset_reads(
    name: str,
    rows: list[int],
    images: list[str],
    scores: list[float],
    groups: list[str],
    splits: list[str] | None,
    tmp_path: Path,
) -> None:
    BUILDERS[name](tmp_path)
    table = _table(name, tmp_path)
    assert table.rows.tolist() == rows
    assert table.names == images
    assert table.images == [(tmp_path / image,) for image in images]
    assert table.targets[:, 0] == pytest.approx(scores, rel=1e-9)
    assert table.groups.tolist() == groups
    assert (None if table.splits is None else table.splits.tolist()) == splits


def test_the_scores_of_live_are_in_the_order_of_its_folders(tmp_path: Path) -> None:
    live(tmp_path)
    table, cells = _table("live", tmp_path), read_layout("live", tmp_path).cells
    assert len(table) == 980
    scores = 100 - np.linspace(-2.5, 90, 982)
    for row, image in (
        (2, "jp2k/img2.bmp"),
        (229, "jpeg/img2.bmp"),
        (982, "fastfading/img174.bmp"),
    ):
        i = table.rows.tolist().index(row)
        assert table.names[i] == image
        assert table.targets[i, 0] == pytest.approx(scores[row - 1])
        assert float(cells["100 - DMOS (dmos.mat)"][i]) == pytest.approx(scores[row - 1] - 1)
        assert cells["distortion"][i] == image.split("/")[0]
        assert table.groups[i] == ("caps.bmp" if row % 2 == 0 else "bikes.bmp")
    assert {"jp2k/img1.bmp", "jpeg/img1.bmp"}.isdisjoint(table.names)
    deviation = (100 - scores[1]) / 9
    assert float(cells["DMOS_sd"][0]) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        (
            "koniq10k",
            {
                "MOS": ["3.82857142857", "3", "1.5"],
                "MOS_sd": ["0.52727", "0.7108", "0.5025"],
                "observers": ["105", "96", "100"],
            },
        ),
        ("livec", {"MOS_sd": ["14", "16", "18"]}),
        ("spaq", {"Brightness": ["1"] * 3, "Sharpness": ["5"] * 3}),
        ("biq2021", {"subset": ["ss03", "ss01", "ss02"]}),
        (
            "tid2013",
            {
                "MOS_se": ["0.13013", "0.15", "0.2"],
                "distortion": [
                    "additive Gaussian noise",
                    "sparse sampling and reconstruction",
                    "Gaussian blur",
                ],
                "level": ["1", "5", "3"],
            },
        ),
        (
            "kadid10k",
            {
                "MOS_sd": ["0.496", "0.3", "0.6"],
                "distortion": ["Gaussian blur", "Gaussian blur", "contrast change"],
                "level": ["1", "5", "2"],
            },
        ),
        (
            "csiq",
            {
                "DMOS_sd": ["0.061", "0.1", "0.033"],
                "distortion": ["AWGN", "jpeg2000", "BLUR"],
                "level": ["1", "5", "2"],
            },
        ),
    ],
)
def test_what_else_there_is(name: str, columns: dict[str, list[str]], tmp_path: Path) -> None:
    BUILDERS[name](tmp_path)
    frame = read_layout(name, tmp_path)
    assert frame.columns == list(frame.cells)
    assert frame.cells[list(columns)].to_dict("list") == columns


@pytest.mark.parametrize("name", BUILDERS)
def test_a_wrong_folder_is_explained(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    with pytest.raises(InputError, match="expected is the folder of") as error:
        read_layout(name, tmp_path)
    assert str(tmp_path) in str(error.value)
    for names in layout.files:
        assert f"no {' or '.join(names)}" in str(error.value)
    assert layout.published in str(error.value)
    (tmp_path / "inside").mkdir()
    BUILDERS[name](tmp_path / "inside")
    with pytest.raises(InputError, match="inside has these files: give that folder"):
        read_layout(name, tmp_path)
    with pytest.raises(InputError, match="nowhere is no folder"):
        read_layout(name, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("koniq10k", "koniq10k_distributions_sets.csv", "image_name,MOS\n1.jpg,2\n", "no column"),
        (
            "koniq10k",
            "koniq10k_scores_and_distributions.csv",
            "image_name,MOS_zscore\n10.jpg,77.383\n11.jpg,58\n9.jpg,1\n",
            "(?s)3 faults.*11.jpg: 58.7 in .*, and 58.0 in .*12.jpg: 15.2 .*9.jpg: nothing in",
        ),
        ("livec", "Data/AllMOS_release.mat", "no scores", "no MATLAB file of version 5"),
        ("livec", "Data/AllMOS_release.mat", "HDF5", "version 7.3.*save it with -v7"),
        (
            "livec",
            "Data/AllMOS_release.mat",
            {"AllMOS_release": np.zeros(4)},
            "has 10 entries, AllMOS_release 4",
        ),
        ("livec", "Data/AllMOS_release.mat", {"AllMOS_release": "good"}, "holds no real numbers"),
        ("livec", "Data/AllMOS_release.mat", {"AllMOS_release": np.zeros((2, 5))}, r"\(2, 5\)"),
        ("livec", "Data/AllMOS_release.mat", {"other": 1}, "no variable 'AllMOS_release'"),
        ("livec", "Data/AllImages_release.mat", {"AllImages_release": np.ones(10)}, "no names"),
        ("biq2021", "Test (Images and MOS).csv", "Image Name,score\na.jpg,1\n", "no column 'MOS'"),
        ("tid2013", "mos_std.txt", "0.1\n0.1\n", "3 lines, and mos_std.txt has 2"),
        (
            "tid2013",
            "mos_with_names.txt",
            "1 i01_01_1.bmp\nI01_01_2.bmp\n\n2 i01_01_3.bmp x\n",
            "(?s)2 faults.*line 2.*line 4",
        ),
        (
            "tid2013",
            "mos_with_names.txt",
            "1 i01_25_1.bmp\n2 i01.bmp\n3 i01_01_1.bmp\n",
            "(?s)2 faults.*row 1: 'i01_25_1.bmp' does not name.*row 2",
        ),
        ("tid2013", "mos_with_names.txt", "\n", "no rows"),
        ("kadid10k", "dmos.csv", "dist_img,dmos,var\nI01_00_01.png,1,1\n", "one of 25 distortions"),
        (
            "live",
            "dmos.mat",
            {"dmos": np.zeros(982), "orgs": np.ones(982)},
            "not those of dmos.mat",
        ),
        ("live", "refnames_all.mat", {"refnames_all": _cells(["a.bmp"] * 9)}, "9 entries.*982"),
        (
            "koniq10k",
            "koniq10k_distributions_sets.csv",
            "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
            "a.jpg,0,-1,2,0,0,1,50,1,test\nb.jpg,0,0,0,0,0,0,50,1,test\nc.jpg,0,1,2,0,0,3,50,1,test\n",
            "(?s)2 faults.*row 2: c1, c2, c3, c4, c5 must count people.*row 3",
        ),
    ],
)
def test_faults_are_named(
    name: str, file: str, content: str | dict[str, object], message: str, tmp_path: Path
) -> None:
    BUILDERS[name](tmp_path)
    if isinstance(content, dict):
        savemat(tmp_path / file, content)
    elif content == "HDF5":
        (tmp_path / file).write_bytes(
            b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF"
        )
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_layout(name, tmp_path)
    assert file.split("/")[-1].split("_")[0] in str(error.value)


def test_rows_that_are_there_twice_or_of_other_folders(tmp_path: Path) -> None:
    biq2021(tmp_path)
    rows = "Image Name,MOS\nss02_0.jpg,0.5\nss02_0.jpg,0.6\nss02/../../a.jpg,0.1\n"
    (tmp_path / "Test (Images and MOS).csv").write_text(rows)
    message = "(?s)2 faults.*ss02_0.jpg has a row already.*a.jpg is not in the folder"
    with pytest.raises(InputError, match=message):
        read_layout("biq2021", tmp_path)


def test_empty_scores_are_noted(tmp_path: Path) -> None:
    biq2021(tmp_path)
    (tmp_path / "Test (Images and MOS).csv").write_text("Image Name,MOS\nss02_0.jpg,nan\n")
    with pytest.warns(InputWarning, match=r"there is nothing in row \d+ of 'MOS'"):
        read_layout("biq2021", tmp_path)


def test_faults_of_the_sheet_of_csiq(tmp_path: Path) -> None:
    csiq(tmp_path)
    header = ["image", "dst_type", "dst_lev", "dmos_std", "dmos"]
    rows: list[list[object]] = [["1600", "noise", 1, 0.1, 0.2], ["1600", "fog", 1, 0.1, 0.2]]
    _excel(tmp_path / "csiq.DMOS.xlsx", {"all_by_image": [list(header), *rows]})
    with pytest.raises(InputError, match="row 3: column 'dst_type' is 'fog', not one of noise"):
        read_layout("csiq", tmp_path)
    rows[1][1:] = ["blur", 1, 0.1, "low"]
    _excel(tmp_path / "csiq.DMOS.xlsx", {"all_by_image": [list(header), *rows]})
    with pytest.raises(InputError, match="row 3: column 'dmos' is 'low', not a number"):
        read_layout("csiq", tmp_path)


def test_a_missing_image_is_a_fault(tmp_path: Path) -> None:
    tid2013(tmp_path)
    (tmp_path / "distorted_images" / "I01_24_5.BMP").unlink()
    with pytest.raises(InputError, match=r"row 2: no image .*distorted_images/I01_24_5.bmp"):
        _table("tid2013", tmp_path)


def test_scores_of_koniq_that_agree(tmp_path: Path) -> None:
    koniq10k(tmp_path)
    (tmp_path / "koniq10k_scores_and_distributions.csv").write_text(
        "image_name,MOS,MOS_zscore\n10.jpg,3.83,77.3831\n11.jpg,3,58.7\n12.jpg,1.5,15.2\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_layout("koniq10k", tmp_path).rows) == 3
    _touch(tmp_path, *(f"1024x768/{number}.jpg" for number in (10, 11, 12)))
    with pytest.warns(InputWarning, match="those in 1024x768 are read"):
        assert _table("koniq10k", tmp_path).names[0] == "1024x768/10.jpg"


def test_a_layout_is_one_of_a_list_and_says_its_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown layout 'tid2008'; there are koniq10k"):
        read_table(TableOptions(tmp_path, layout="tid2008"))
    with pytest.raises(InputError, match="leave out --encoding"):
        read_table(TableOptions(tmp_path, layout="tid2013", encoding="latin-1"))


def test_only_training_asks_for_the_official_split() -> None:
    for command, asked in (("train", True), ("compare", True), ("predict", False)):
        expanded = expand_presets([command, "--preset", "koniq10k", "DIR", "--out", "x"])
        assert ("--split-column" in expanded) is asked
        assert expanded[-2:] == ["--out", "x"]
        assert "--split-column" not in expand_presets([command, "--preset", "spaq", "DIR"])


def test_from_the_published_folder_to_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "tid2013", tmp_path / "run"
    rng = np.random.default_rng(0)
    names = [f"I{i:02}_{kind:02}_1.bmp" for i in range(1, 7) for kind in (1, 8, 10)]
    for name in names:
        _touch(folder, f"distorted_images/{name}")
        pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "distorted_images" / name)
    scores = "".join(f"{rng.uniform(0, 9):.5f} {name.lower()}\n" for name in names)
    (folder / "mos_with_names.txt").write_text(scores)
    (folder / "mos_std.txt").write_text("0.1\n" * len(names))
    flags = ["--image-size", "32", "32", "--network", "resnet10-narrow", "--epochs", "1"]
    flags += ["--task", "score"]
    preset = ["--preset", "tid2013", str(folder)]
    assert main(["train", *preset, *flags, "--out", str(run)]) == 0, capsys.readouterr().err
    splits = pd.read_csv(run / "splits.csv")
    assert sorted(splits["image"]) == [f"distorted_images/{name}" for name in names]
    assert (splits.groupby("group")["split"].nunique() == 1).all()
    assert splits["group"].nunique() == 6

    other = tmp_path / "csiq"
    other.mkdir()
    csiq(other)
    for path in other.rglob("*.png"):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    for table, count in (
        ([], len(names)),
        (["--preset", "csiq", str(other)], 3),
        ([str(folder / "distorted_images")], len(names)),
    ):
        out = tmp_path / f"{len(table)}.csv"
        assert main(["predict", str(run), *table, "--out", str(out)]) == 0, capsys.readouterr().err
        assert len(pd.read_csv(out)) == count
    evaluation = ["evaluate", str(run), "--preset", "csiq", str(other)]
    assert main([*evaluation, "--out", str(tmp_path / "evaluation")]) == 0
    assert "1 - DMOS" in capsys.readouterr().out


@pytest.mark.parametrize("compressed", [False, True])
def test_vectors_of_matlab(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "all.mat"
    vectors: dict[str, Any] = {
        "row": np.array([[0.5, -1, np.nan]]),
        "column": np.array([[1], [2]], dtype=np.int16),
        "flags": np.array([[True, False]]),
        "one": 7.0,
        "names": _cells(["a", "bikes.bmp", "Grün", ""]).T,
    }
    others = {"complex": np.array([[1j]]), "mixed": np.array([["a", 1]], dtype=object)}
    savemat(path, {**vectors, **others}, do_compression=compressed)
    for name in ("row", "column", "flags", "one"):
        expected = np.ravel(vectors[name]).astype(float)
        np.testing.assert_array_equal(matlab.read_numbers(path, name), expected)
    assert matlab.read_names(path, "names") == ["a", "bikes.bmp", "Grün", ""]
    for read, name in ((matlab.read_numbers, "complex"), (matlab.read_names, "mixed")):
        with pytest.raises(InputError, match=f"{name}: it holds no"):
            read(path, name)


def test_a_vector_of_matlab_as_other_machines_write_it(tmp_path: Path) -> None:
    """Big end first; numbers and name as small as they can be."""
    matrix = struct.pack(">IIII", 6, 8, 6, 0)  # class double
    matrix += struct.pack(">IIii", 5, 8, 1, 3)  # 1 by 3
    matrix += struct.pack(">HH4s", 1, 1, b"a")  # its name
    matrix += struct.pack(">HH3Bx", 3, 2, 5, 0, 255)  # as unsigned bytes
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(header + struct.pack(">II", 14, len(matrix)) + matrix)
    assert matlab.read_numbers(tmp_path / "a.mat", "a").tolist() == [5, 0, 255]
