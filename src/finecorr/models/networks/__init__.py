"""Networks by name, each ending in features: MONAI's, timm's, those of Hugging Face, one's own."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Literal

from finecorr.errors import InputError
from finecorr.models.networks.monai_networks import NETWORKS

if TYPE_CHECKING:
    from finecorr.models.networks.network import Network

FeatureKind = Literal["last", "stages"]
"""Means of the last maps; or means and standard deviations of the maps of every stage."""
OF_COLUMNS = "mlp"
"""The network of tables without images: its layers are those of --hidden."""
_TIMM, _HUGGING_FACE = "timm/", "hf/"
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def available() -> list[str]:
    """The names of MONAI's networks."""
    return list(NETWORKS)


def is_own(name: str) -> bool:
    """Whether it is `package.module:function`."""
    return _OWN.fullmatch(name) is not None


def is_reentrant(name: str) -> bool:
    """Whether several threads may compute with it at a time: one's own may keep what it computes,
    and transformers' do."""
    return name in NETWORKS or name == OF_COLUMNS or name.startswith(_TIMM)


def code_of(name: str) -> bytes:
    """The code of one's own network, which a change of it changes; nothing of others."""
    if not is_own(name):
        return b""
    from finecorr.models.networks import own_networks

    return own_networks.code_of(name)


def check(name: str) -> None:
    """Raises InputError, with the known names, if no network can have that name."""
    if name in NETWORKS or name == OF_COLUMNS or is_own(name):
        return
    if name.startswith((_TIMM, _HUGGING_FACE)) and not name.endswith("/"):
        return
    near = difflib.get_close_matches(name, [*available(), OF_COLUMNS], 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(
        f"unknown network {name!r}{hint}; known are {', '.join(available())}, timm/NAME, "
        f"hf/NAME-OR-FOLDER and package.module:function; and for columns {OF_COLUMNS}"
    )


def build(
    name: str,
    channels: int,
    features: FeatureKind = "last",
    *,
    pretrained: bool = False,
    config: dict[str, Any] | None = None,
    dimensions: int = 2,
) -> Network:
    """The network of that name.

    Args:
        name: of MONAI's, `timm/NAME`, `hf/NAME-OR-FOLDER`, or `package.module:function`.
        channels: of the images; of columns, the numbers that they are encoded in.
        features: which of them it ends in.
        pretrained: with the weights that its source has for it.
        config: `Network.config` of the same network, which then needs no access to its source.
        dimensions: of the images: 2 for pictures, 3 for volumes.

    Raises:
        InputError: no network has that name, or what it needs is missing.
    """
    from finecorr.models.networks import (
        column_network,
        huggingface_networks,
        monai_networks,
        own_networks,
        timm_networks,
    )

    check(name)
    if dimensions == 3 and name.startswith((_TIMM, _HUGGING_FACE)):
        raise InputError(
            f"--network {name} takes pictures: for volumes there are {', '.join(available())}, and "
            "package.module:function"
        )
    if name.startswith(_TIMM):
        return timm_networks.build(
            name.removeprefix(_TIMM), channels, features, pretrained=pretrained
        )
    if name.startswith(_HUGGING_FACE):
        return huggingface_networks.build(
            name.removeprefix(_HUGGING_FACE),
            channels,
            features,
            pretrained=pretrained,
            config=config,
        )
    if pretrained:
        raise InputError(
            f"--weights pretrained: there are none for {name}; timm/NAME and hf/NAME have them, "
            "or give a file, --weights FILE"
        )
    if name == OF_COLUMNS:
        return column_network.build(channels)
    if is_own(name):
        return own_networks.build(name, channels, features)
    return monai_networks.build(name, channels, features, dimensions)
