"""`finecorr.load`: a trained model in a program says what the commands say."""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import finecorr
from dicom_files import write_dicom
from finecorr.cli import main
from finecorr.errors import InputError, InputWarning
from finecorr.trained import bundle
from finecorr.trained.model import Model

TARGET = "head circumference (mm)"
SIZE = "pixel size(mm)"


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of the file alone, away from its folder."""
    file = tmp_path_factory.mktemp("elsewhere") / "heads.safetensors"
    shutil.copy(run / "model.safetensors", file)
    return finecorr.load(str(file))


@pytest.fixture(scope="module")
def frame(phantoms: Path) -> pd.DataFrame:
    return pd.read_csv(phantoms)


@pytest.fixture(scope="module")
def images(phantoms: Path) -> Path:
    return phantoms.parent / "images"


@pytest.fixture(scope="module")
def predicted(run: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What the command says of the phantoms, with an interval."""
    out = tmp_path_factory.mktemp("command") / "out.csv"
    flags = ["--image-root", str(phantoms.parent / "images"), "--interval", "0.5"]
    assert main(["predict", str(run), str(phantoms), *flags, "--out", str(out)]) == 0
    return pd.read_csv(out, keep_default_na=False)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """In which nothing is written."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


def _framed(found: object) -> pd.DataFrame:
    assert isinstance(found, pd.DataFrame)
    return found


def _near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# What it says of itself


def test_it_says_what_it_is(model: Model, run: Path) -> None:
    assert repr(model) == (
        f"Model of {TARGET!r}, in mm: resnet10-narrow on 48 x 68 pixels, in grey, intensity image"
    )
    (target,) = model.targets
    assert (target.name, target.unit, target.length) == (TARGET, "mm", True)
    pd.testing.assert_frame_equal(model.test_results, pd.read_csv(run / "metrics.csv"))
    assert model.provenance.training["epochs"] == 4


def test_of_a_folder_and_of_its_file_alone(model: Model, run: Path, images: Path) -> None:
    of_folder = finecorr.load(run)
    found = [_framed(one.predict(images, pixel_size=0.3)) for one in (model, of_folder)]
    pd.testing.assert_frame_equal(found[0], found[1])


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no trained model"):
        finecorr.load(tmp_path)


# Files and tables


def test_of_a_table(model: Model, phantoms: Path, images: Path, predicted: pd.DataFrame) -> None:
    for table in (phantoms, str(phantoms)):
        found = _framed(model.predict(table, image_root=images, interval=0.5))
        assert list(found) == list(predicted)
        assert found["image"].tolist() == predicted["image"].tolist()
        for name in (TARGET, f"low {TARGET}", f"high {TARGET}"):
            _near(found[name], predicted[name])
        assert found["novel"].tolist() == predicted["novel"].tolist()
        assert (found["fault"] == "").all()


def test_of_files(model: Model, images: Path, frame: pd.DataFrame, predicted: pd.DataFrame) -> None:
    paths = [images / name for name in frame["filename"]]
    sizes = frame[SIZE].to_numpy()
    each: list[Any] = [sizes, sizes.tolist(), frame[SIZE]]
    for given in (paths, tuple(map(str, paths))):
        for by_image in each:
            found = _framed(model.predict(given, pixel_size=by_image))
            _near(found[TARGET], predicted[TARGET])
    assert found["image"].tolist() == list(map(str, paths))
    one = _framed(model.predict(paths[3], pixel_size=sizes[3]))
    assert one["image"].tolist() == [str(paths[3])]
    _near(one[TARGET], predicted[TARGET][3:4])
    folder = _framed(model.predict(str(images), pixel_size=1))
    order = folder.set_index("image")[TARGET][predicted["image"]]
    _near(order * sizes, predicted[TARGET])


def test_a_file_that_cannot_be_read(model: Model, images: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    whole = next(images.iterdir())
    paths = [tmp_path / "torn.png", whole, tmp_path / "absent.png", tmp_path, Path()]
    found = _framed(model.predict(paths, pixel_size=0.3))
    assert found[TARGET].isna().tolist() == [True, False, True, True, True]
    assert found["novel"].isna().tolist() == [True, False, True, True, True]
    assert found["fault"][1] == ""
    assert found["fault"][2] == f"{tmp_path / 'absent.png'} is not there"
    assert all("cannot be read as an image" in found["fault"][i] for i in (0, 3, 4))
    alone = _framed(model.predict(tmp_path / "torn.png", pixel_size=0.3))
    assert alone["fault"][0] == found["fault"][0]
    with pytest.raises(InputError, match=r"image 0: .*torn\.png cannot be read"):
        model.features(paths)


def test_of_a_frame(
    model: Model, images: Path, frame: pd.DataFrame, predicted: pd.DataFrame
) -> None:
    given = frame.drop(columns=TARGET).sample(frac=1, random_state=0)
    given.index = pd.Index([f"row {i}" for i in given.index])
    given["filename"] = given["filename"].astype("category")
    given[SIZE] = given[SIZE].astype("Float64")
    before = given.copy(deep=True)
    found = model.predict(given, image_root=images)
    pd.testing.assert_frame_equal(given, before)
    assert isinstance(found, pd.DataFrame)
    assert found.index.equals(given.index)
    expected = predicted.set_index("image")[TARGET][given["filename"].astype(str)]
    _near(found[TARGET], expected)
    # What is not of a file has no image.
    given["filename"] = given["filename"].astype(object)
    given.loc[given.index[0], "filename"] = np.nan
    given.loc[given.index[1], "filename"] = None
    given.loc[given.index[2], "filename"] = "absent.png"
    again = _framed(model.predict(given, image_root=images))
    assert again[TARGET][:3].isna().all()
    assert (again["fault"][:3] != "").all()
    assert again["fault"].iloc[2] == f"{images / 'absent.png'} is not there"
    _near(again[TARGET][3:], expected[3:])


def test_frames_that_do_not_do(model: Model, images: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no column 'filename' for --image-columns"):
        model.predict(frame.rename(columns={"filename": "file"}), image_root=images)
    with pytest.raises(InputError, match="no column 'pixel size"):
        model.predict(frame[["filename"]], image_root=images)
    with pytest.raises(InputError, match="the table has no rows"):
        model.predict(frame[:0], image_root=images)
    with pytest.raises(InputError, match=r"row 0: column 'pixel size.*not a number above 0"):
        model.predict(frame.assign(**{SIZE: -1.0}), image_root=images)
    with pytest.raises(InputError, match="more than one column is called 'filename'"):
        model.predict(pd.concat([frame, frame[["filename"]]], axis=1), image_root=images)
    # A pixel size that is given needs no column of them.
    found = model.predict(frame[["filename"]][:2], image_root=images, pixel_size=0.3)
    assert len(found) == 2


def test_names_of_a_frame_start_here(
    model: Model, images: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    found = _framed(model.predict(frame[:3]))
    assert (found["fault"] == "").all()
    monkeypatch.undo()


# Sizes of pixels


def test_lengths_need_pixel_sizes(model: Model, images: Path) -> None:
    path = next(images.iterdir())
    with pytest.raises(InputError, match="images alone have no pixel sizes: give --pixel-size"):
        model.predict(path)
    found = _framed(model.predict([path], pixel_size="file"))
    assert found["fault"][0].endswith("has no pixel size")


def test_pixel_sizes_of_files_and_tables_differ(
    model: Model, images: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    pixels = np.asarray(Image.open(images / frame["filename"][0]))
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelSpacing=["0.25", "0.25"])
    by_file, same = (_framed(model.predict(path, pixel_size=size)) for size in ("file", 0.25))
    pd.testing.assert_frame_equal(by_file, same)
    with pytest.warns(InputWarning, match="is not the file's in 1 rows, as row 0"):
        twice = _framed(model.predict(path, pixel_size=0.5))
    _near(twice[TARGET], 2 * same[TARGET])


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "must be positive"),
        (-1.5, "must be positive"),
        (float("nan"), "must be positive"),
        ([0.3, 0.3, 0.3], "one for all 2 images, or one for each"),
        ([[0.3], [0.3]], "one for all 2 images, or one for each"),
        ([], "one for all 2 images"),
        ([0.3, None], "must be positive"),
        (["a", "b"], "a pixel size is a number"),
        ("0.3", "a pixel size is a number, or 'file', not '0.3'"),
        ({}, "a pixel size is a number"),
    ],
)
def test_pixel_sizes_that_are_none(model: Model, images: Path, size: Any, words: str) -> None:
    paths = sorted(images.iterdir())[:2]
    with pytest.raises(InputError, match=words):
        model.predict(paths, pixel_size=size)


# Arrays


@pytest.fixture(scope="module")
def arrays(images: Path, frame: pd.DataFrame) -> np.ndarray:
    """`(5, height, width)`, uint8."""
    found = [np.asarray(Image.open(images / name)) for name in frame["filename"][:5]]
    return np.stack(found)


SHAPES: dict[str, Any] = {
    "(n, height, width)": lambda a: a,
    "(n, height, width, 1)": lambda a: a[..., None],
    "(n, height, width, 3)": lambda a: np.repeat(a[..., None], 3, -1),
    "a list of (height, width)": list,
    "a list of (height, width, 3)": lambda a: [np.stack([one] * 3, -1) for one in a],
    "a tuple": tuple,
    "a tensor (n, 1, height, width)": lambda a: torch.from_numpy(a)[:, None],
    "a tensor (n, 3, height, width)": lambda a: torch.from_numpy(a)[:, None].repeat(1, 3, 1, 1),
    "a list of tensors (1, height, width)": lambda a: list(torch.from_numpy(a)[:, None]),
    "arrays and tensors": lambda a: [a[0], torch.from_numpy(a[1])[None], *a[2:]],
    "float32": lambda a: a.astype(np.float32) / 255,
    "float64": lambda a: a.astype(np.float64),
    "int64": lambda a: a.astype(np.int64),
    "big endian": lambda a: a.astype(">u2"),
    "columns first": np.asfortranarray,
    "turned": lambda a: np.ascontiguousarray(a[:, ::-1, ::-1])[:, ::-1, ::-1],
    "a tensor that is a view": lambda a: (
        torch.from_numpy(a.transpose(0, 2, 1).copy()).transpose(1, 2).unsqueeze(1)
    ),
    "a tensor that learns": lambda a: torch.from_numpy(a)[:, None].float().requires_grad_(),
    "a tensor of float64": lambda a: torch.from_numpy(a)[:, None].double(),
}


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_in_memory(
    name: str, model: Model, arrays: np.ndarray, frame: pd.DataFrame, predicted: pd.DataFrame
) -> None:
    given = arrays.copy()
    given.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, that it is not writable
        pictures = SHAPES[name](given)
    found = model.predict(pictures, pixel_size=frame[SIZE][:5].to_numpy())
    assert isinstance(found, np.ndarray)
    assert found.shape == (5, 1)
    assert found.dtype == np.float64
    _near(found[:, 0], predicted[TARGET][:5])
    assert (given == arrays).all()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_pictures_of_half_precision(
    kind: str, model: Model, arrays: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame
) -> None:
    pictures = torch.from_numpy(arrays)[:, None].to(getattr(torch, kind))
    found = model.predict(pictures, pixel_size=frame[SIZE][:5].to_numpy())
    np.testing.assert_allclose(np.ravel(found), predicted[TARGET][:5], rtol=2e-3)


def test_one_picture_in_memory(
    model: Model, arrays: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame
) -> None:
    one = arrays[0]
    for given in (one, one[..., None], np.stack([one] * 3, -1), torch.from_numpy(one.copy())[None]):
        found = model.predict(given, pixel_size=frame[SIZE][0])
        assert isinstance(found, np.ndarray)
        assert found.shape == (1, 1)
        _near(found[0, 0], predicted[TARGET][0])


def test_pictures_of_several_sizes(model: Model, arrays: np.ndarray) -> None:
    given = [arrays[0], arrays[1][10:, 5:], np.kron(arrays[2], np.ones((2, 2), np.uint8))]
    together = model.predict(given, pixel_size=0.3)
    alone = [model.predict(one, pixel_size=0.3) for one in given]
    assert isinstance(together, np.ndarray)
    _near(together, np.concatenate(alone))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((3, 4), dtype=bool), "an image of bool has no brightness"),
        (np.zeros((8, 8), dtype=complex), "an image of complex128 has no brightness"),
        (np.zeros((8, 8), dtype=object), "an image of object has no brightness"),
        (np.array(["a.png", "b.png"]), r"an array of the shape \(2,\) is no image"),
        (np.zeros((2, 8, 8, 4)), r"an array of the shape \(2, 8, 8, 4\) is no image"),
        (np.zeros((0, 8, 8)), r"an array of the shape \(0, 8, 8\) is no image"),
        (np.zeros((2, 0, 8)), r"an array of the shape \(2, 0, 8\) is no image"),
        (np.zeros(()), r"an array of the shape \(\) is no image"),
        (np.zeros((1, 2, 3, 4, 3)), "is no image"),
        (torch.zeros(8, 8), r"a tensor of the shape \(8, 8\) is no image"),
        (torch.zeros(4, 8, 8), r"a tensor of the shape \(4, 8, 8\) is no image"),
        (torch.zeros(2, 8, 8, 3), r"a tensor of the shape \(2, 8, 8, 3\) is no image"),
        (torch.zeros(0, 3, 8, 8), "is no image"),
        (torch.zeros(1, 8, 8, dtype=torch.bool), "an image of bool has no brightness"),
        (torch.zeros(1, 8, 8).to_sparse(), "does not hold each value"),
        (torch.zeros(1, 8, 8, device="meta"), "does not hold each value"),
        ([], "no image to predict for"),
        ([np.zeros((8, 8)), np.zeros((2, 8, 8, 4))], "is no image"),
        (np.full((8, 8), np.nan), "image 0: .*values that are not finite numbers"),
        (np.array([[0, np.inf], [1, 2]]), "image 0: .*values that are not finite numbers"),
        (None, "images are a path, a list of paths, a DataFrame, or arrays or tensors, not None"),
        (3, "images are a path, .*not int"),
        (Image.new("L", (8, 8)), "images are a path, .*not Image"),
        (pd.Series(["a.png"]), "images are a path, .*not Series"),
        ([np.zeros((8, 8)), "a.png"], "images are a path, .*not ndarray in a list"),
        ([3, 4], "images are a path, .*not int in a list"),
        ({"image": "a.png"}, "images are a path, .*not dict"),
    ],
    ids=itertools.count(),
)
def test_pictures_that_are_none(model: Model, given: Any, words: str) -> None:
    calls: list[Callable[[Any], Any]] = [partial(model.predict, pixel_size=0.3), model.features]
    for call in calls:
        with pytest.raises(InputError, match=words) as error:
            call(given)
        assert len(str(error.value)) < 600


def test_intervals_and_versions_of_pictures(
    model: Model, arrays: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame
) -> None:
    sizes = frame[SIZE][:5].to_numpy()
    found = _framed(model.predict(arrays, pixel_size=sizes, interval=0.5))
    assert list(found) == [TARGET, f"low {TARGET}", f"high {TARGET}", "novel"]
    _near(found[f"low {TARGET}"], predicted[f"low {TARGET}"][:5])
    varied = [_framed(model.predict(arrays, pixel_size=sizes, tta=3)) for _ in range(2)]
    pd.testing.assert_frame_equal(varied[0], varied[1])
    assert list(varied[0]) == [TARGET, f"sd {TARGET}", "novel"]
    assert (varied[0][f"sd {TARGET}"] > 0).all()
    for options, words in (
        ({"interval": 0.9, "tta": 2}, "--interval knows the errors of one model without --tta"),
        ({"interval": 0.9999}, "--interval 0.9999 needs 9999 validation subjects"),
        ({"interval": 0}, "--interval must be between 0 and 1"),
        ({"tta": 0}, "--tta must be from 1 to 1000, not 0"),
    ):
        with pytest.raises(InputError, match=words):
            model.predict(arrays, pixel_size=sizes, **options)


def test_features_are_those_of_the_network(
    model: Model, arrays: np.ndarray, images: Path, frame: pd.DataFrame, phantoms: Path
) -> None:
    of_arrays = model.features(arrays)
    assert of_arrays.shape == (5, model.bundle.regressor.feature_count)
    paths = [images / name for name in frame["filename"][:5]]
    _near(model.features(paths), of_arrays)
    _near(model.features(frame[["filename"]][:5], image_root=images), of_arrays)
    _near(model.features(phantoms, image_root=images)[:5], of_arrays)
    regressor = model.bundle.regressor
    with torch.no_grad():
        predicted = regressor.in_unit(regressor.scores(torch.from_numpy(of_arrays).float())[0])
    alone = model.predict(arrays, pixel_size=1.0)
    assert np.corrcoef(np.ravel(alone), predicted.numpy().ravel())[0, 1] > 0.999


def test_a_model_of_no_lengths(arrays: np.ndarray) -> None:
    from finecorr.data.image_options import ImageOptions
    from finecorr.data.options import TableOptions
    from finecorr.models.regressor import Architecture, Regressor
    from finecorr.trained.bundle import Bundle

    architecture = Architecture("own_networks:without_batch_statistics", 3, (48, 68), 2)
    table = TableOptions(Path(), target_columns=("a", "b"))
    images = ImageOptions(image_size=(48, 68), rgb=True)
    model = Model(Bundle(Regressor(architecture).eval(), table, images))
    assert np.shape(model.predict(arrays)) == (5, 2)
    assert len(model.test_results) == 0
    with pytest.raises(InputError, match="--pixel-size is for lengths"):
        model.predict(arrays, pixel_size=0.3)
    with pytest.raises(InputError, match="no validation subjects for 'a'"):
        model.predict(arrays, interval=0.5)
    found = _framed(model.predict(arrays, tta=2))
    assert list(found) == ["a", "b", "sd a", "sd b"]


def test_several_models_are_averaged(run: Path, phantoms: Path, tmp_path: Path) -> None:
    model = finecorr.load(run)
    other = replace(model.bundle, regressor=deepcopy(model.bundle.regressor))
    other.regressor.intercept += 1
    bundle.save(other, tmp_path)
    both = finecorr.load(run, tmp_path)
    assert "and 1 more" in repr(both)
    images = phantoms.parent / "images"
    parts = [m.predict(images, pixel_size=1.0)[TARGET] for m in (model, finecorr.load(tmp_path))]
    found = both.predict(images, pixel_size=1.0)
    np.testing.assert_allclose(found[TARGET], np.mean(parts, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[f"sd {TARGET}"], np.std(parts, axis=0, ddof=1), rtol=1e-4)
