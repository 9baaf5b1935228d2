"""timm's networks."""

from __future__ import annotations

import difflib
from typing import Any

from torch import Tensor, nn

from finecorr.errors import InputError
from finecorr.models.networks import FeatureKind
from finecorr.models.networks.network import (
    MissingNetwork,
    Network,
    chosen,
    no_stages,
    not_there,
    of_channels,
    pooled,
)


def build(name: str, channels: int, features: FeatureKind, *, pretrained: bool) -> Network:
    """A network of timm without its classifier.

    Raises:
        InputError: timm is missing, or has no such network, or cannot load its weights.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingNetwork(
            f'--network timm/{name}: timm is missing: pip install "finecorr[timm]"'
        ) from error
    known = timm.list_models()
    model, _, tag = name.partition(".")
    if model not in known:
        near = difflib.get_close_matches(model, known, 3)
        hint = f"; near are {', '.join(near)}" if near else ""
        raise MissingNetwork(f"--network timm/{name}: timm {timm.__version__} has no {model}{hint}")
    if tag and name not in timm.list_pretrained(f"{model}.*"):
        raise InputError(f"--network timm/{name}: timm knows no weights {tag!r} of {model}")
    try:
        network: Any = timm.create_model(
            name, pretrained=pretrained, in_chans=channels, num_classes=0
        )
    except Exception as error:
        if not pretrained:
            raise InputError(f"--network timm/{name}: {error}") from error
        raise not_there(f"timm/{name}", error) from error
    config = network.pretrained_cfg
    classifier = config.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    module: nn.Module = network
    if features == "stages":
        if not hasattr(network, "forward_intermediates"):
            raise no_stages(f"timm/{name}")
        module = _Stages(network)
    return Network(
        module,
        network,
        mean=of_channels(config["mean"], channels),
        std=of_channels(config["std"], channels),
        left_out=tuple(f"{head}." for head in heads),
    )


class _Stages(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self._chosen = chosen(len(network.feature_info))
        self._planes = str(getattr(network, "output_fmt", "NCHW")) == "NCHW"

    def forward(self, image: Tensor) -> Tensor:
        network: Any = self.network
        last, stages = network.forward_intermediates(image, indices=self._chosen, output_fmt="NCHW")
        # What follows the last stage, where it is more than its normalisation.
        more = last.ndim == 4 and self._planes and last.shape[1] != stages[-1].shape[1]
        return pooled([*stages, last] if more else stages)
