"""MONAI's networks of pictures and volumes by name, each ending in features.

MONAI loads all of itself at once, so that it is asked for where a network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import nn

    from finecorr.models.networks import FeatureKind
    from finecorr.models.networks.network import Network


def _resnet(name: str, channels: int, dimensions: int, width: float = 1.0) -> nn.Module:
    from monai.networks import nets

    network: nn.Module = getattr(nets, name)(
        spatial_dims=dimensions,
        n_input_channels=channels,
        # MONAI's default stride of 1 is for small volumes, and four times the work.
        conv1_t_stride=2,
        widen_factor=width,
        feed_forward=False,
    )
    return network


def _densenet(name: str, channels: int, dimensions: int) -> nn.Module:
    from monai.networks import nets
    from torch import nn

    network: Any = getattr(nets, name)(
        spatial_dims=dimensions, in_channels=channels, out_channels=1
    )
    network.class_layers.out = nn.Identity()
    return cast(nn.Module, network)


def _efficientnet(name: str, channels: int, dimensions: int) -> nn.Module:
    from monai.networks import nets
    from torch import nn

    network: nn.Module = nets.EfficientNetBN(
        name, pretrained=False, spatial_dims=dimensions, in_channels=channels, num_classes=1
    )
    network._fc = nn.Identity()
    return network


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet10-narrow": partial(_resnet, "resnet10", width=0.5),
    "resnet10": partial(_resnet, "resnet10"),
    "resnet18": partial(_resnet, "resnet18"),
    "resnet34": partial(_resnet, "resnet34"),
    "resnet50": partial(_resnet, "resnet50"),
    "densenet121": partial(_densenet, "DenseNet121"),
    "densenet169": partial(_densenet, "DenseNet169"),
    "efficientnet-b0": partial(_efficientnet, "efficientnet-b0"),
    "efficientnet-b1": partial(_efficientnet, "efficientnet-b1"),
    "efficientnet-b2": partial(_efficientnet, "efficientnet-b2"),
}


_CLASSIFIERS = ("fc.", "class_layers.out.", "_fc.")


def build(name: str, channels: int, features: FeatureKind, dimensions: int = 2) -> Network:
    """One of `NETWORKS`, untrained.

    Raises:
        InputError: it has no stages.
    """
    from finecorr.models.networks.network import Network, no_stages

    if features == "stages":
        raise no_stages(name)
    module = NETWORKS[name](channels, dimensions)
    return Network(module, module, left_out=_CLASSIFIERS)
