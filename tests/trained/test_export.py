"""A run as one file, against what `finecorr predict` makes of the same files of images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import finecorr
from finecorr.data.decoding import packed, unpacked
from finecorr.data.image_options import ImageOptions, Intensity
from finecorr.data.options import TableOptions
from finecorr.data.pictures import Picture
from finecorr.data.view import scaled
from finecorr.errors import InputError
from finecorr.models.end_to_end import EndToEnd
from finecorr.models.regressor import Architecture, Regressor
from finecorr.predicting import predict
from finecorr.trained import bundle
from finecorr.trained.export import DESCRIPTION, OPSET, Exported, description, export
from finecorr.trained.options import Format, PredictionOptions

pytestmark = pytest.mark.filterwarnings("ignore:.*smaller than --crop-size")
NEAR = 1e-4
"""In standard deviations of the targets."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A run, and both files of it."""

    run: Path
    model: bundle.Bundle
    written: dict[Format, Exported]

    def spread(
        self, path: Path, prediction: NDArray[np.float64], pixel_size: float | None
    ) -> NDArray[np.float64]:
        """`(targets,)`: standard deviations of the targets in their unit, for this image; or how
        far from their mean a prediction is that is further away."""
        regressor, sides = self.model.regressor, Image.open(path).size[::-1]
        mean, deviation = regressor.target_mean.numpy(), regressor.target_std.numpy()
        unit = np.ones(len(mean))
        if pixel_size is not None:
            unit[[*map(bool, self.model.table.lengths)]] = pixel_size * max(
                side / size for side, size in zip(sides, self.model.images.size, strict=True)
            )
        return np.asarray(unit * np.maximum(deviation, np.abs(prediction / unit - mean)))


def _run(
    folder: Path,
    network: str,
    images: ImageOptions,
    targets: tuple[str, ...] = ("score",),
    lengths: tuple[str, ...] | None = None,
) -> Path:
    """An untrained model whose predictions differ as much as its targets are said to."""
    torch.manual_seed(1)
    regressor = Regressor(Architecture(network, images.channels, images.size, len(targets)))
    noise = torch.rand(8, images.channels, 8, 8)
    seen = torch.nn.functional.interpolate(noise, size=images.size)
    seen = seen * torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)
    regressor.normalise_images([0.4] * images.channels, [0.25] * images.channels)
    with torch.no_grad():
        regressor.train()
        for module in regressor.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean of all batches
        for _ in range(5):
            regressor(seen)
        features = regressor.eval().features(seen)
        # What differs between images, as a head has learnt it.
        regressor.head.weight.copy_((features - features.mean(0))[: len(targets)])
        scores = regressor.head(features)
    regressor.slope.copy_(1 / scores.std(0))
    regressor.intercept.copy_(-scores.mean(0) / scores.std(0) + 0.3)
    regressor.target_mean.copy_(torch.linspace(50, 300, len(targets)))
    regressor.target_std.copy_(torch.linspace(2, 40, len(targets)))
    table = TableOptions(
        folder / "table.csv",
        target_columns=targets,
        pixel_size_column=None if lengths is None else "mm",
        length_columns=lengths,
    )
    bundle.save(bundle.Bundle(regressor.eval(), table, images), folder)
    return folder


def _case(run: Path, formats: tuple[Format, ...] = ("onnx", "torch")) -> Case:
    endings: dict[Format, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
    written = {name: export(run, run / endings[name], name) for name in formats}
    return Case(run, bundle.load(run), written)


def _inputs(image: Array, pixel_size: float | None) -> dict[str, Array]:
    inputs = {"image": image if image.ndim == 4 else image[None]}
    if pixel_size is not None:
        inputs["pixel_size"] = np.full(len(inputs["image"]), pixel_size, np.float32)
    return inputs


def _runner(case: Case, format: Format) -> Callable[[dict[str, Array]], Array]:
    path = case.written[format].path
    if format == "onnx":
        session = onnxruntime.InferenceSession(path)
        return lambda inputs: cast(Array, session.run(["prediction"], inputs)[0])
    module = torch.export.load(path).module()

    def of(inputs: dict[str, Array]) -> Array:
        with torch.no_grad():
            found = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return cast(Array, found.numpy())

    return of


def _decoded(path: Path) -> Array:
    values = np.asarray(Image.open(path)).astype(np.float32)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _compare(
    case: Case,
    paths: list[Path],
    tmp_path: Path,
    sizes: list[float] | None = None,
    prepare: Callable[[Array], Array] = lambda image: image,
) -> NDArray[np.float64]:
    """`(images, targets)`: what `predict` says, after every file of the case has said the same."""
    table = pd.DataFrame({"image": [str(path) for path in paths]})
    if sizes is not None:
        table["mm"] = sizes
    table.to_csv(tmp_path / "table.csv", index=False)
    overrides = {"table": tmp_path / "table.csv"}
    out = tmp_path / "predictions.csv"
    predict(case.run, overrides, out, PredictionOptions(), overwrite=True)
    expected = pd.read_csv(out)[list(case.model.table.target_columns)].to_numpy()
    for format in case.written:
        of = _runner(case, format)
        for i, path in enumerate(paths):
            size = None if sizes is None else sizes[i]
            found = of(_inputs(prepare(_decoded(path)), size))
            assert found.dtype == np.float32
            assert found.shape == (1, expected.shape[1])
            error = np.abs(found[0] - expected[i]) / case.spread(path, expected[i], size)
            np.testing.assert_array_less(error, NEAR, str(path))
    assert len(paths) == 1 or (expected.std(0) > 0.1).all()
    return np.asarray(expected)


def _write(folder: Path, name: str, values: NDArray[Any]) -> Path:
    Image.fromarray(values).save(folder / name)
    return folder / name


def _noise(*shape: int, high: int = 256) -> NDArray[np.int64]:
    """With structure at every scale."""
    rng = np.random.default_rng(sum(shape))
    height, width, *more = shape
    coarse = rng.random((height // 9 + 1, width // 9 + 1, *more)).repeat(9, 0).repeat(9, 1)
    values = 0.6 * coarse[:height, :width] + 0.4 * rng.random(shape)
    return np.asarray(values * high * 0.9, dtype=np.int64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of many shapes and kinds."""
    folder = tmp_path_factory.mktemp("files")
    eight: dict[str, tuple[int, ...]] = {
        "wide.png": (70, 231),
        "tall.png": (301, 90),
        "same.png": (48, 68),
        "smaller.png": (9, 7),
        "colour.png": (120, 133, 3),
        "small_colour.png": (20, 31, 3),
        "row.png": (1, 300),
        "column.png": (20, 1),
        "pixel.png": (1, 1),
    }
    paths = [_write(folder, name, _noise(*at).astype(np.uint8)) for name, at in eight.items()]
    paths.append(_write(folder, "deep.png", _noise(80, 60, high=60000).astype(np.uint16)))
    paths.append(_write(folder, "constant.png", np.full((50, 60), 77, np.uint8)))
    paths.append(_write(folder, "whole.png", np.resize(np.arange(256), (64, 70)).astype(np.uint8)))
    return paths


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two lengths, and a third target that is none, of grey images."""
    images = ImageOptions(image_size=(48, 68))
    names = ("HC (mm)", "angle", "BPD (mm)")
    folder = tmp_path_factory.mktemp("lengths")
    return _case(_run(folder, "resnet10-narrow", images, names, ("HC (mm)", "BPD (mm)")))


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Crops on a grid, by a network of one's own."""
    images = ImageOptions(view="crops", crop_size=(64, 48), test_crops=6)
    network = "own_networks:without_batch_statistics"
    return _case(_run(tmp_path_factory.mktemp("crops"), network, images))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Whole images in colour at their own resolution."""
    images = ImageOptions(view="crops", crop_size=(64, 64), rgb=True)
    folder = _run(tmp_path_factory.mktemp("whole"), "resnet10-narrow", images, ("a", "b"))
    return _case(folder)


def test_lengths_of_any_image(lengths: Case, files: list[Path], tmp_path: Path) -> None:
    sizes = np.linspace(0.05, 2, len(files)).tolist()
    expected = _compare(lengths, files, tmp_path, sizes)
    assert len({*expected[:, 1].round(3)}) > len(files) // 2


def test_head_circumference_of_real_images(lengths: Case, hc18: Path, tmp_path: Path) -> None:
    table = pd.read_csv(hc18 / "training_set_pixel_size_and_HC.csv")[::50]
    paths = [hc18 / "training_set" / name for name in table["filename"]]
    sizes = table["pixel size(mm)"].tolist()
    expected = _compare(lengths, paths, tmp_path, sizes)
    assert expected[:, 0].std() > 1
    # Several at once, each with its own pixel size.
    shapes = [Image.open(path).size for path in paths]
    alike = [i for i, shape in enumerate(shapes) if shape == max(shapes, key=shapes.count)][:5]
    inputs = {
        "image": np.stack([_decoded(paths[i]) for i in alike]),
        "pixel_size": np.array([sizes[i] for i in alike], np.float32),
    }
    assert len(alike) > 1
    for format in lengths.written:
        found = _runner(lengths, format)(inputs)
        np.testing.assert_allclose(found, expected[alike], rtol=NEAR)


def test_crops_on_a_grid(crops: Case, files: list[Path], tmp_path: Path) -> None:
    square = _write(tmp_path, "square.png", _noise(150, 150).astype(np.uint8))
    _compare(crops, [*files, square], tmp_path)


def test_whole_images(whole: Case, files: list[Path], tmp_path: Path) -> None:
    _compare(whole, files, tmp_path)


def test_quality_of_real_photographs(crops: Case, whole: Case, hc18: Path, tmp_path: Path) -> None:
    photographs = hc18.parent / "biq2021"
    names = pd.read_csv(photographs / "scores.csv")["image"][::400]
    paths = [photographs / "images" / name for name in names]
    for case in (crops, whole):
        expected = _compare(case, paths, tmp_path)
        assert expected.std(0).min() > 0
        images = np.stack([_decoded(path)[:, :200, :300] for path in paths[:3]])
        for format in case.written:
            of = _runner(case, format)
            single = np.concatenate([of(_inputs(image, None)) for image in images])
            np.testing.assert_allclose(of({"image": images}), single, rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "formats"),
    [("efficientnet-b0", ("onnx",)), ("densenet121", ("torch",)), ("timm", ("onnx",))],
)
def test_every_source_of_networks(
    network: str,
    formats: tuple[Format, ...],
    files: list[Path],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """And of every intensity, with values on both sides of it."""
    if network == "timm":
        request.getfixturevalue("timm")
        run = _run(
            tmp_path, "timm/test_vit", ImageOptions(image_size=(160, 160), intensity=(30.0, 190.0))
        )
        _compare(_case(run, formats), files, tmp_path)
        return
    images = ImageOptions(image_size=(64, 96), rgb=True, intensity=("type",))
    case = _case(_run(tmp_path, network, images, ("a", "b")), formats)
    deep = [path for path in files if path.name == "deep.png"]
    others = [path for path in files if path.name != "deep.png"]
    _compare(case, others, tmp_path, prepare=lambda image: image / np.float32(255))
    _compare(case, deep, tmp_path, prepare=lambda image: image / np.float32(65535))


@pytest.mark.parametrize("intensity", [("image",), ("type",), (100.0, 900.0)])
def test_what_has_to_be_done_before(intensity: Intensity) -> None:
    """Of a file that shows low values bright, and says where there is no picture."""
    options = ImageOptions(view="crops", crop_size=(40, 40), intensity=intensity)
    regressor = Regressor(
        Architecture("own_networks:without_batch_statistics", 1, options.size, 1)
    ).eval()
    values = _noise(50, 60, high=1000)[None].astype(np.uint16)
    valid = _noise(50, 60) > 60
    picture = Picture(values, 0.0, 1023.0, inverted=True, valid=valid)
    seen = unpacked(packed(scaled(picture, intensity)))
    given: Array = values.astype(np.float32)
    words = ["give 1000 - value.", "give 100."]
    if intensity == ("type",):
        given, dark = 1 - given / np.float32(1023), 0.0
        words = ["give 1 - value.", "give 0."]
    elif intensity == ("image",):
        given, words = -given, ["give -value.", "give the darkest value of the others."]
        dark = float(given[:, valid].min())
    else:
        given, dark = 1000 - given, 100.0
    given = np.asarray(np.where(valid, given, dark), dtype=np.float32)
    with torch.no_grad():
        found = EndToEnd(regressor, options, (False,))(torch.from_numpy(given)[None])
        torch.testing.assert_close(found, regressor(seen[None]), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(found, regressor(1 - seen[None]), rtol=1e-3)
    before = " ".join(
        description(bundle.Bundle(regressor, TableOptions(Path("table.csv")), options))["before"]
    )
    assert all(phrase in before for phrase in words)


def test_a_file_says_what_it_is(lengths: Case) -> None:
    path = lengths.written["onnx"].path
    assert path.stat().st_size == lengths.written["onnx"].size
    model = onnx.load(path)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    extra = {f"{DESCRIPTION}.json": ""}
    torch.export.load(lengths.written["torch"].path, extra_files=extra)
    assert json.loads(metadata[DESCRIPTION]) == json.loads(extra[f"{DESCRIPTION}.json"])
    said = json.loads(metadata[DESCRIPTION])
    assert said["targets"] == [
        {"name": "HC (mm)", "unit": "mm", "length": True},
        {"name": "angle", "unit": None, "length": False},
        {"name": "BPD (mm)", "unit": "mm", "length": True},
    ]
    assert set(said["inputs"]) == {"image", "pixel_size"}
    assert (said["finecorr"], said["torch"]) == (finecorr.__version__, torch.__version__)
    assert (said["view"], said["size"], said["intensity"]) == ("fit", [48, 68], "image")
    session = onnxruntime.InferenceSession(path)
    assert {value.name: value.shape for value in session.get_inputs()} == {
        "image": ["batch", "channels", "height", "width"],
        "pixel_size": ["batch"],
    }
    assert [value.shape for value in session.get_outputs()] == [["batch", 3]]
    # Nothing of the machine that wrote it.
    for written in lengths.written.values():
        assert str(Path(finecorr.__file__).parent).encode() not in written.path.read_bytes()
        assert written.difference is not None
        assert written.difference < NEAR


def test_it_is_quiet_and_replaces_only_when_told_to(
    crops: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "model.onnx"
    export(crops.run, out, "onnx")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    before = out.read_bytes()
    with pytest.raises(InputError, match="is there already: choose another name"):
        export(crops.run, out, "onnx")
    with pytest.raises(InputError, match="is a folder: name a file"):
        export(crops.run, tmp_path, "torch", overwrite=True)
    with pytest.raises(InputError, match=r"by their ending: name it \.pt2"):
        export(crops.run, out, "torch", overwrite=True)
    assert out.read_bytes() == before
    out.write_bytes(b"another")
    assert export(crops.run, out, "onnx", overwrite=True).size == out.stat().st_size > 7


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            "with_a_branch",
            r"with_a_branch cannot be exported with --format \w+: its code decides by the values",
        ),
        ("other_when_exported", r"its predictions differ from the run's by .* standard deviations"),
    ],
)
@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_what_cannot_be_exported(network: str, words: str, format: Format, tmp_path: Path) -> None:
    run = _run(tmp_path, f"own_networks:{network}", ImageOptions(image_size=(32, 32)))
    before = {*tmp_path.iterdir()}
    with pytest.raises(InputError, match=words) as error:
        export(run, tmp_path / "model.pt2", format)
    assert "\n" not in str(error.value)
    assert {*tmp_path.iterdir()} == before


def test_more_than_a_file_of_onnx_holds(
    crops: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("finecorr.trained.export._MOST_BYTES", 1000)
    with pytest.raises(InputError, match="more than one file of ONNX holds: use --format torch"):
        export(crops.run, tmp_path / "model.onnx", "onnx")
    assert export(crops.run, tmp_path / "model.pt2", "torch").difference is not None


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_what_is_missing(
    crops: Case, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf'{package} is missing: pip install "finecorr\[onnx\]"'):
        export(crops.run, tmp_path / "model.onnx", "onnx")
    assert not [*tmp_path.iterdir()]


def test_without_onnx_runtime_it_is_not_compared(
    crops: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export(crops.run, tmp_path / "model.onnx", "onnx").difference is None


def test_the_example_of_the_documentation(
    lengths: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = Path(finecorr.__file__).parents[2] / "docs" / "export.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "model.onnx").write_bytes(lengths.written["onnx"].path.read_bytes())
    image = _write(tmp_path, "head.png", _noise(100, 140).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    shown = capsys.readouterr().out
    expected = _compare(lengths, [image], tmp_path, [0.12])
    for name, value in zip(lengths.model.table.target_columns, expected[0], strict=True):
        assert f"{name}: {value:.2f}" in shown
