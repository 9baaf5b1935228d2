"""A model's file: it describes itself, names nothing of the machine, and is never trusted."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from conftest import SMALL_FLAGS
from finecorr.cli import main
from finecorr.data.encoding import Category, Encoding, Number
from finecorr.data.image_options import ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError
from finecorr.models.conformal import Validation, calibration
from finecorr.models.novelty import novelty_of
from finecorr.models.regressor import NO_IMAGE, Architecture, Regressor
from finecorr.trained import bundle
from finecorr.trained.provenance import Measure, Provenance

KEY = "finecorr-5"
TARGET = "head circumference (mm)"


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert list(metadata) == [KEY]
    return json.loads(metadata[KEY]), load_file(path)


@pytest.fixture(scope="module")
def model() -> bundle.Bundle:
    torch.manual_seed(0)
    network = "own_networks:without_batch_statistics"
    architecture = Architecture(network, 3, (32, 48), 2, hidden=(8, 4), dropout=0.1)
    regressor = Regressor(architecture).eval()
    regressor.target_mean.copy_(torch.tensor([3.0, -2.0]))
    table = TableOptions(
        Path("/data/table.csv"),
        Path("/data"),
        target_columns=("a (mm)", "b"),
        pixel_size_column="mm",
        length_columns=("a (mm)",),
        units=("mm", "points"),
    )
    errors, subjects = np.arange(12.0), np.array([f"p{i // 2}" for i in range(12)])
    of = calibration(errors, subjects)
    return bundle.Bundle(
        regressor,
        table,
        ImageOptions(image_size=(32, 48), rgb=True, cache_mb=7),
        validation=Validation((of, None), (of, None), of),
        novelty=novelty_of(torch.randn(20, regressor.feature_count)),
        provenance=Provenance(
            {"loss": "mse", "epochs": 3},
            {"fingerprint": "sha256:0", "splits": {"train": {"images": 3, "subjects": 2}}},
            (Measure("b", "PLCC", 0.5, None, 0.75),),
            {"python": "3.13"},
            "MIT",
            "a note",
        ),
    )


@pytest.fixture(scope="module")
def file(model: bundle.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    bundle.save(model, folder)
    assert [path.name for path in folder.iterdir()] == [bundle.FILE]
    return folder / bundle.FILE


def test_what_is_saved_is_loaded(model: bundle.Bundle, file: Path) -> None:
    loaded = bundle.load(file.parent)
    assert loaded.table.table == Path()
    assert loaded.table.image_root is None
    assert loaded.table.target_columns == model.table.target_columns
    assert loaded.table.lengths == (True, False)
    assert loaded.images.rgb
    assert loaded.images.size == (32, 48)
    for name in ("augmentation", "validation", "provenance", "targets"):
        assert getattr(loaded, name) == getattr(model, name)
    image = torch.rand(2, 3, 32, 48)
    assert torch.equal(loaded.regressor(image), model.regressor(image))
    features = torch.rand(2, loaded.regressor.feature_count)
    assert loaded.novelty is not None
    assert model.novelty is not None
    assert torch.equal(loaded.novelty(features), model.novelty(features))


@pytest.fixture(scope="module")
def of_columns() -> bundle.Bundle:
    """A model of a table without images."""
    torch.manual_seed(0)
    encoding = Encoding(
        (
            Number("age", 50.0, 9.5, (20.0, 51.5, 80.0), missing=True),
            Number("always 1", 1.0, 0.0, (), missing=False),
            Category("sex", ("", "f", "m")),
        )
    )
    regressor = Regressor(Architecture("mlp", encoding.width, NO_IMAGE, 1, hidden=(8, 4)))
    table = TableOptions(
        Path("/data/table.csv"), feature_columns=encoding.names, category_columns=("sex",)
    )
    return bundle.Bundle(regressor.eval(), table, ImageOptions(), encoding=encoding)


@pytest.fixture(scope="module")
def file_of_columns(of_columns: bundle.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    bundle.save(of_columns, folder)
    return folder / bundle.FILE


def test_an_encoding_is_saved_as_json(of_columns: bundle.Bundle, file_of_columns: Path) -> None:
    said, _ = _parts(file_of_columns)
    assert said["encoding"]["columns"][2] == {"name": "sex", "values": ["", "f", "m"]}
    loaded = bundle.load(file_of_columns)
    assert loaded.encoding == of_columns.encoding
    assert loaded.sees == of_columns.sees == "3 columns, as 8 numbers"
    rows = torch.rand(5, 8)
    assert torch.equal(loaded.regressor(rows), of_columns.regressor(rows))


ENCODINGS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "none": (("encoding",), None, "its encoding, columns and network do not fit together"),
    "a network of images": (("architecture", "network"), "resnet18", "do not fit together"),
    "images in the place of columns": (("columns", "feature_columns"), None, "--category-columns"),
    "other columns": (("encoding", "columns", 0, "name"), "b", "do not fit together"),
    "another order": (("columns", "feature_columns"), ["sex", "age", "always 1"], "do not fit"),
    "a wider one": (("encoding", "columns", 2, "values"), ["", "f", "m", "x"], "do not fit"),
    "categories that are numbers": (("columns", "category_columns"), ["age"], "in the place of"),
    "a negative deviation": (("encoding", "columns", 0, "std"), -1.0, "no mean and deviation"),
    "edges that fall": (("encoding", "columns", 0, "edges"), [3.0, 2.0, 1.0], "do not ascend"),
    "a category twice": (("encoding", "columns", 2, "values"), ["", "f", "f"], "or one twice"),
    "a category of a number": (
        ("encoding", "columns", 2, "values"),
        ["", "f", 3],
        "its values is 3",
    ),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_that_is_none(name: str, file_of_columns: Path, tmp_path: Path) -> None:
    where, value, words = ENCODINGS[name]
    said, weights = _parts(file_of_columns)
    _at(said, *where)(value)
    path = tmp_path / bundle.FILE
    path.write_bytes(to_bytes(weights, {KEY: json.dumps(said)}))
    message = _refused(path)
    assert " is damaged: " in message
    assert words in message


# A real run


@pytest.fixture(scope="module")
def described(phantom_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with all that a file can say, which starts from weights of a file."""
    folder = tmp_path_factory.mktemp("described")
    torch.manual_seed(1)
    weights = Regressor(Architecture("resnet10-narrow", 1, (48, 68), 1)).backbone.state_dict()
    (folder / "start.safetensors").write_bytes(to_bytes(weights))
    flags = [*SMALL_FLAGS, "--epochs", "1", "--units", "mm", "--hidden", "8", "--rotation", "3"]
    flags += ["--weights", str(folder / "start.safetensors"), "--license", "CC-BY-4.0"]
    flags += ["--note", "Of phantoms.", "--split-fractions", "0.6", "0.2", "0.2"]
    assert main(["train", *phantom_flags, *flags, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_file_describes_itself(described: Path) -> None:
    said, weights = _parts(described / bundle.FILE)
    (target,) = said["targets"]
    assert (target["name"], target["unit"], target["length"]) == (TARGET, "mm", True)
    for name, tensor in (("mean", "target_mean"), ("std", "target_std")):
        assert target[name] == weights[tensor].item()
    assert (target["slope"], target["intercept"]) == (
        weights["slope"].item(),
        weights["intercept"].item(),
    )
    architecture = said["architecture"]
    assert (architecture["network"], architecture["hidden"]) == ("resnet10-narrow", [8])
    assert (said["images"]["view"], said["images"]["image_size"]) == ("fit", [48, 68])
    assert said["columns"]["image_columns"] == ["filename"]
    assert said["columns"]["pixel_size_column"] == "pixel size(mm)"
    assert said["augmentation"]["rotation"] == 3
    found = said["provenance"]
    assert found["training"]["epochs"] == 1
    assert found["training"]["weights"] == "start.safetensors"
    assert (found["license"], found["note"]) == ("CC-BY-4.0", "Of phantoms.")
    assert {*found["versions"]} == {"python", "finecorr", "torch", "monai"}
    assert found["versions"]["torch"] == torch.__version__


def test_a_file_says_what_it_was_trained_and_tested_on(described: Path, phantoms: Path) -> None:
    said, _ = _parts(described / bundle.FILE)
    data = said["provenance"]["data"]
    content = (described / "splits.csv").read_bytes()
    assert data["fingerprint"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    splits = pd.read_csv(described / "splits.csv", dtype={"group": str})
    for name, rows in splits.groupby("split"):
        assert data["splits"][name] == {"images": len(rows), "subjects": rows["group"].nunique()}
    labels = pd.read_csv(phantoms)[TARGET][splits["split"] == "train"]
    assert data["labels"][TARGET] == {
        "count": len(labels),
        "lowest": labels.min(),
        "median": pytest.approx(labels.median()),
        "highest": labels.max(),
    }
    metrics = pd.read_csv(described / "metrics.csv")
    pd.testing.assert_frame_equal(pd.DataFrame(said["provenance"]["test"]), metrics)
    subjects = splits.loc[splits["split"] == "validation", "group"].nunique()
    for of in (said["validation"]["rows"][0], said["validation"]["distances"]):
        assert of["subjects"] == subjects


def test_the_card_says_the_same_to_a_person(described: Path) -> None:
    text = (described / "README.md").read_text()
    assert text.startswith("---\nlicense: CC-BY-4.0\n")
    for words in (
        f"Predicts {TARGET} from an image",
        'finecorr.load("model.safetensors")',
        "starting from the weights of start.safetensors",
        "## Note\n\nOf phantoms.",
        "validation subjects",
    ):
        assert words in text, words
    metrics = pd.read_csv(described / "metrics.csv").set_index("metric")
    assert f"| {TARGET} | SRCC | {metrics['value']['SRCC']:.4g} |" in text


@pytest.fixture(scope="module")
def from_a_folder(phantom_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose network is a folder in the format of the hub."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("hub")
    settings = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_channels=1
    )
    transformers.ResNetModel(settings).save_pretrained(folder / "tiny-resnet")
    flags = ["--network", f"hf/{folder / 'tiny-resnet'}", "--weights", "pretrained"]
    flags += ["--image-size", "48", "68", "--epochs", "1", "--out", str(folder / "run")]
    assert main(["train", *phantom_flags, *flags]) == 0
    return folder / "run"


@pytest.mark.parametrize("name", ["described", "from_a_folder"])
def test_nothing_of_the_machine_is_in_a_file(
    name: str, phantoms: Path, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(name)
    places = {run, run.parent, phantoms.parent, Path.home(), Path.cwd(), Path(sys.prefix)}
    words = {str(place).encode() for place in places} | {b"/tmp", b"pytest-"}
    for path in (run / bundle.FILE, run / "README.md"):
        content = path.read_bytes()
        assert [word for word in words if word in content] == []


def test_a_network_of_a_folder_needs_it_no_more(from_a_folder: Path, tmp_path: Path) -> None:
    said, _ = _parts(from_a_folder / bundle.FILE)
    assert said["architecture"]["network"] == "hf/tiny-resnet"
    (tmp_path / "m.safetensors").write_bytes((from_a_folder / bundle.FILE).read_bytes())
    assert bundle.load(tmp_path / "m.safetensors").regressor.feature_count == 16


# Files that are none


def _refused(path: Path, capsys: pytest.CaptureFixture[str] | None = None) -> str:
    """The sentence that refuses it, soon."""
    start = time.perf_counter()
    with pytest.raises(InputError) as error:
        bundle.load(path)
    assert time.perf_counter() - start < 5
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 1000
    if capsys is not None:
        assert main(["predict", str(path), str(path), "--out", str(path.parent / "p.csv")]) == 2
        assert capsys.readouterr().err == f"finecorr: error: {message}\n"
    return message


@pytest.fixture
def changed(file: Path, tmp_path: Path) -> Callable[..., Path]:
    """A file whose description is changed, as JSON (and then as text), and its weights."""

    def make(
        change: Callable[[dict[str, Any]], Any] = lambda _: None,
        weights: Callable[[dict[str, Tensor]], Any] = lambda _: None,
        text: Callable[[str], str] = lambda text: text,
        key: str = KEY,
    ) -> Path:
        said, tensors = _parts(file)
        change(said)
        weights(tensors)
        path = tmp_path / bundle.FILE
        path.write_bytes(to_bytes(tensors, {key: text(json.dumps(said))}))
        return path

    return make


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no trained model \(model\.safetensors is missing"):
        bundle.load(tmp_path)
    with pytest.raises(InputError, match=r"holds no trained model \(other is missing"):
        bundle.load(tmp_path / "other")


def test_a_file_that_ends_anywhere(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    path = tmp_path / bundle.FILE
    for end in (0, 1, 7, 8, 9, 100, 3000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert "is damaged: " in _refused(path)


def test_a_byte_of_the_header_is_another(file: Path, tmp_path: Path) -> None:
    whole = bytearray(file.read_bytes())
    length = int.from_bytes(whole[:8], "little")
    path = tmp_path / bundle.FILE
    refused = 0
    for place in np.random.default_rng(0).integers(0, length + 8, 150).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 0x5
        path.write_bytes(damaged)
        with suppress(InputError):
            bundle.load(path)
            refused -= 1  # It is a letter of a name.
        refused += 1
    assert refused > 75


def test_files_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: Callable[..., Path]
) -> None:
    path = tmp_path / bundle.FILE
    torch.save({"weights": torch.zeros(2)}, path)
    assert "is damaged: " in _refused(path, capsys)
    path.write_bytes(to_bytes({"weights": torch.zeros(2)}))
    assert "is no model of finecorr" in _refused(path, capsys)
    path.write_bytes(to_bytes({"weights": torch.zeros(2)}, {"format": "pt"}))
    assert "is no model of finecorr" in _refused(path)
    before = "is in the format finecorr-4, not finecorr-5: train it again, or use the finecorr"
    assert before in _refused(changed(key="finecorr-4"), capsys)


def _at(said: dict[str, Any], *path: Any) -> Callable[[Any], None]:
    *way, last = path
    for step in way:
        said = said[step]

    def put(value: Any) -> None:
        said[last] = value

    return put


DESCRIPTIONS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "images of 20,000 pixels": (
        ("images", "image_size"),
        [20_000, 20_000],
        "--image-size must be from 32 32 to 8192 8192",
    ),
    "images of no pixels": (("images", "image_size"), [0, 0], "--image-size must be from"),
    "images of fewer": (("images", "image_size"), [-32, 48], "--image-size must be from"),
    "images of text": (("images", "image_size"), "large", "its image_size is 'large'"),
    "images of three sides": (("images", "image_size"), [32] * 3, "column is for pictures"),
    "images of four sides": (("images", "image_size"), [32] * 4, "not 4 numbers"),
    "voxels of pictures": (("images", "spacing"), [1.0], "--spacing is for volumes"),
    "images of half a pixel": (("images", "image_size"), [32.5, 48], "its image_size is 32.5"),
    "other images than the network's": (
        ("images", "image_size"),
        [64, 48],
        "its network, images and targets do not fit together",
    ),
    "a table of a machine": (("columns", "table"), "/etc/passwd", "its columns are others"),
    "no columns": (("columns",), None, "its columns are others"),
    "a list for an object": (("images",), [1], "its images are others"),
    "a number for an object": (("provenance",), 3, "its provenance is 3"),
    "an object for a list": (("targets",), {}, "its targets is {}"),
    "an unknown field": (("images", "sharpen"), True, "of ImageOptions has other fields"),
    "an unknown part": (("code",), "x", "its description has other parts"),
    "no such loss of a target": (("targets", 0, "loss"), 1, "of Target has other fields"),
    "other targets than its tensors": (
        ("targets", 1, "mean"),
        -2.5,
        "what it says of its targets is not what its weights say",
    ),
    "another unit than its columns": (("targets", 1, "unit"), "kg", "what it says of its targets"),
    "a target less": (("targets",), [], "what it says of its targets"),
    "a target twice": (
        ("columns", "target_columns"),
        ["b", "b"],
        "--length-columns: 'a (mm)' is none",
    ),
    "a calibration of no scores": (
        ("validation", "rows", 0),
        {"scores": [], "weights": [], "subjects": 3},
        "its calibration is none",
    ),
    "a calibration that falls": (
        ("validation", "distances"),
        {"scores": [2.0, 1.0], "weights": [0.5, 0.5], "subjects": 3},
        "its calibration is none",
    ),
    "a calibration of negative errors": (
        ("validation", "distances"),
        {"scores": [-2.0, 1.0], "weights": [0.5, 0.5], "subjects": 3},
        "its calibration is none",
    ),
    "a calibration of more than all": (
        ("validation", "distances"),
        {"scores": [1.0], "weights": [1.5], "subjects": 3},
        "its calibration is none",
    ),
    "a calibration of nobody": (
        ("validation", "distances", "subjects"),
        0,
        "its calibration is none",
    ),
    "a calibration of too many": (
        ("validation", "distances", "subjects"),
        10**400,
        "its calibration is none",
    ),
    "a calibration of other targets": (
        ("validation", "rows"),
        [None] * 3,
        "its validation is of other targets",
    ),
    "a network that there is not": (
        ("architecture", "network"),
        "resnet81",
        "unknown network 'resnet81' (did you mean resnet18?)",
    ),
    "wider layers than its file": (
        ("architecture", "hidden"),
        [10**9, 4],
        "its hidden layers are not those of its weights",
    ),
    "dropout of all": (("architecture", "dropout"), 1.0, "its dropout is 1.0"),
    "a million channels": (
        ("architecture", "channels"),
        10**6,
        "its network, images and targets do not fit together",
    ),
    "a version that is no text": (("provenance", "versions", "torch"), 2, "its versions is 2"),
    "a long text": (("images", "view"), "x" * 10**6, "its view is 'xxx"),
    "a number beyond all": (("images", "max_megapixels"), 10**400, "too large"),
    "an augmentation beyond all": (("augmentation", "rotation"), 1e9, "--rotation must be in"),
    "a network of the hub without its configuration": (
        ("architecture", "network"),
        "hf/microsoft/resnet-18",
        "it does not have the configuration of its network",
    ),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_that_is_none(name: str, changed: Callable[..., Path]) -> None:
    where, value, words = DESCRIPTIONS[name]
    message = _refused(changed(lambda said: _at(said, *where)(value)))
    assert " is damaged: " in message
    assert words in message


def test_a_description_that_is_no_json(
    changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for text, words in (
        (lambda _: "", "is damaged: "),
        (lambda _: "[]", "its description has other parts"),
        (lambda _: "null", "its description has other parts"),
        (lambda _: "[" * 200_000, "is damaged: "),
        (lambda _: '{"a":' * 200_000, "is damaged: "),
        (lambda text: text[:-5], "is damaged: "),
        (lambda text: text.replace("100.0", "NaN"), "its description has NaN in the place of"),
        (lambda text: text.replace("100.0", "-Infinity"), "has -Infinity in the place of"),
        (lambda text: text.replace("100.0", "1e999"), "has 1e999 in the place of"),
        (lambda text: text.replace("100.0", "9" * 5000), "is damaged: "),
    ):
        assert words in _refused(changed(text=text), capsys)


@pytest.mark.parametrize(
    "part", ["targets", "architecture", "images", "columns", "validation", "provenance"]
)
def test_a_part_or_a_field_is_missing(part: str, changed: Callable[..., Path]) -> None:
    assert "has other parts" in _refused(changed(lambda said: said.pop(part)))

    def without_a_field(said: dict[str, Any]) -> None:
        fields = said[part][0] if part == "targets" else said[part]
        fields.popitem()

    assert "has other fields" in _refused(changed(without_a_field))


WEIGHTS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "that are no numbers": (
        lambda w: w["head.bias"].fill_(torch.nan),
        "weights that are no finite numbers",
    ),
    "of another shape": (
        lambda w: w.update({"head.bias": torch.zeros(3)}),
        "size mismatch for head.bias",
    ),
    "of another type": (
        lambda w: w.update({"head.bias": torch.full([2], 1e300, dtype=torch.float64)}),
        "its head.bias is torch.float64, not torch.float32",
    ),
    "that are missing": (lambda w: w.pop("backbone.0.weight"), "backbone.0.weight"),
    "that are too many": (lambda w: w.update({"more\nof it": torch.zeros(2)}), "more"),
    "that are none": (dict.clear, "its hidden layers are not those of its weights"),
    "of a layer of a billion": (
        lambda w: w.update({"hidden.1.weight": torch.zeros(10**9, 0)}),
        "its hidden layers are not those of its weights",
    ),
    "with a standard deviation of 0": (
        lambda w: w["image_std"].zero_(),
        "standard deviations that are not positive",
    ),
    "with novelty of other features": (
        lambda w: w.update({"novelty.mean": torch.zeros(3), "novelty.axes": torch.zeros(5, 3)}),
        "its novelty is of other features",
    ),
    "with novelty in part": (lambda w: w.pop("novelty.axes"), "its novelty has no axes"),
    "with novelty without variance": (
        lambda w: w["novelty.variances"].zero_(),
        "variances that are not positive",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none(name: str, changed: Callable[..., Path]) -> None:
    change, words = WEIGHTS[name]
    message = _refused(changed(weights=change))
    assert " is damaged: " in message
    assert words in message


@pytest.mark.parametrize(
    ("network", "module", "words"),
    [
        ("timm/resnet18", "timm", 'timm is missing: pip install "finecorr[timm]"'),
        ("hf/a/b", "transformers", 'transformers is missing: pip install "finecorr[hf]"'),
        ("nowhere_at_all:net", None, "install the package, or name its folder in PYTHONPATH"),
        ("own_networks:nothing", None, "own_networks defines no function 'nothing'"),
    ],
)
def test_a_network_that_is_not_installed(
    network: str,
    module: str | None,
    words: str,
    changed: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if module is not None:
        monkeypatch.setitem(sys.modules, module, None)

    def change(said: dict[str, Any]) -> None:
        said["architecture"] |= {"network": network, "network_config": {"model_type": "resnet"}}

    message = _refused(changed(change), capsys)
    assert f"needs its network: --network {network}: " in message
    assert words in message


def test_a_network_larger_than_its_file(changed: Callable[..., Path]) -> None:
    pytest.importorskip("transformers")
    config = {"model_type": "vit", "hidden_size": 120_000, "num_attention_heads": 2}
    config |= {"intermediate_size": 10**6, "num_hidden_layers": 4}

    def change(said: dict[str, Any]) -> None:
        said["architecture"] |= {"network": "hf/a/b", "network_config": config}

    assert "its network is larger than its weights" in _refused(changed(change))


# Any value anywhere


def _leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, one in inside:
        if isinstance(one, dict | list):
            yield from _leaves(one, (*way, name))
        else:
            yield (*way, name)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([-1, 0, 1, 2, 10**5, 10**30, 10**400, 1e-300, 1e300, float("inf")]),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["", "fit", "crops", "image", "resnet18", "os:abort", "hf/", "a\nb"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=400)
@given(data=st.data())
def test_any_value_in_the_place_of_any_other(
    file: Path,
    file_of_columns: Path,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    said, weights = _parts(data.draw(st.sampled_from([file, file_of_columns])))
    where = data.draw(st.sampled_from(list(_leaves(said))))
    _at(said, *where)(data.draw(JSON))
    path = tmp_path_factory.getbasetemp() / "anything.safetensors"
    path.write_bytes(to_bytes(weights, {KEY: json.dumps(said)}))
    message = ""
    try:
        bundle.load(path)
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert len(message) < 1000
