"""Networks of the Hugging Face hub, or of a folder in its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finecorr.errors import InputError
from finecorr.models.networks import FeatureKind
from finecorr.models.networks.network import (
    MissingNetwork,
    Network,
    chosen,
    normalisation,
    not_there,
    of_channels,
    pooled,
)

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PROCESSOR = "preprocessor_config.json"
_SHOWN = 10
_CODE = ("auto_map", "custom_pipelines", "quantization_config", "attn_implementation")
"""Entries of a configuration that may name code, and all that begin with an underscore."""


def build(
    name: str,
    channels: int,
    features: FeatureKind,
    *,
    pretrained: bool,
    config: dict[str, Any] | None,
) -> Network:
    """A network of the hub, or of a folder, without its classifier; never with code from there.

    Args:
        name: on the hub, or of a folder.
        channels: of the images.
        features: which of them.
        pretrained: with its weights.
        config: its configuration, as `Network.config` gives it; without it, that of `name`.

    Raises:
        InputError: transformers is missing, or there is no such network, or it takes other images.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingNetwork(
            f'--network hf/{name}: transformers is missing: pip install "finecorr[hf]"'
        ) from error
    settings = _settings(transformers, name, config)
    if pretrained and getattr(settings, "num_channels", channels) != channels:
        grey = "--rgb" if channels == 1 else "--no-rgb"
        raise InputError(
            f"--network hf/{name} takes {settings.num_channels} channels, not {channels}: {grey}"
        )
    settings.num_channels = channels
    make = _pretrained if pretrained else _untrained
    network = make(transformers.AutoModel, name, settings)
    mean, std = _normalisation(name, channels) if config is None else (None, None)
    return Network(
        _Features(network, features),
        network,
        mean=mean,
        std=std,
        config=_without_code(json.loads(settings.to_json_string(use_diff=False))),
        left_out=("classifier.",),
    )


def _settings(transformers: Any, name: str, config: dict[str, Any] | None) -> Any:
    try:
        if config is None:
            return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        return transformers.AutoConfig.for_model(**_without_code(config))
    except Exception as error:
        folder = "" if Path(name).is_dir() else f", and there is no folder {name}"
        raise InputError(
            f"--network hf/{name}: its configuration cannot be loaded{folder}: {_line(error)}"
        ) from error


def _untrained(models: Any, name: str, settings: Any) -> Any:
    try:
        return _without_pooler(models.from_config(settings, trust_remote_code=False))
    except Exception as error:
        raise InputError(f"--network hf/{name}: {_line(error)}") from error


def _pretrained(models: Any, name: str, settings: Any) -> Any:
    try:
        network, loaded = models.from_pretrained(
            name,
            config=settings,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise not_there(f"hf/{name}", error) from error
    network = _without_pooler(network)
    missing = sorted({*loaded["missing_keys"]} & {*network.state_dict()})
    if missing or loaded["mismatched_keys"]:
        first = ", ".join(map(str, [*missing, *loaded["mismatched_keys"]][:_SHOWN]))
        raise InputError(
            f"--weights pretrained: those of hf/{name} do not fit its network: they lack, or have "
            f"in another shape, {first}"
        )
    return network


def _without_pooler(network: Any) -> Any:
    """Which has learnt to classify, and which many files of weights do not have."""
    pooler = getattr(network, "pooler", None)
    if pooler is not None and [*pooler.parameters()]:
        network.pooler = None
    return network


class _Features(nn.Module):
    def __init__(self, network: Any, features: FeatureKind) -> None:
        super().__init__()
        self.network = network
        self._stages = features == "stages"

    def forward(self, image: Tensor) -> Tensor:
        found = self.network(pixel_values=image, output_hidden_states=self._stages)
        if self._stages:
            _, *stages = found.hidden_states  # the first is what the stages begin with
            return pooled([_maps(stages[place]) for place in chosen(len(stages))])
        if getattr(found, "pooler_output", None) is not None:
            return torch.flatten(found.pooler_output, 1)
        return _maps(found.last_hidden_state).flatten(2).mean(2)


def _maps(hidden: Tensor) -> Tensor:
    """`(n, channels, ...)` of maps, or of tokens `(n, tokens, channels)`."""
    return hidden.transpose(1, 2) if hidden.ndim == 3 else hidden


def _normalisation(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of its images, as its processor has them; or those of
    ImageNet."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(name, _PROCESSOR)
    except OSError:
        path = None
    if path is None:
        return of_channels(_IMAGENET_MEAN, channels), of_channels(_IMAGENET_STD, channels)
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
        mean, std = said.get("image_mean", _IMAGENET_MEAN), said.get("image_std", _IMAGENET_STD)
        mean, std = normalisation(mean, std)
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: image_mean and image_std must be a number for each channel, those of "
            "image_std above 0"
        ) from error
    return of_channels(mean, channels), of_channels(std, channels)


def _without_code(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in config.items()
        if key not in _CODE and not key.startswith("_") and key != "transformers_version"
    }


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
