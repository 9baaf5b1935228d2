"""One's own networks: functions of installed packages."""

from __future__ import annotations

import importlib
import sys
from types import FunctionType
from typing import Any

from torch import nn

from finecorr.errors import InputError
from finecorr.models.networks.network import FeatureKind, MissingNetwork, Network, no_stages


def build(name: str, channels: int, features: FeatureKind) -> Network:
    """What `package.module:function` returns for the number of channels.

    As a model's file may name any function, it has to be Python's own code (a function, or a class
    of modules), defined in a package that is not of the standard library. Where the module says
    `image_mean` and `image_std`, a number for each channel, images are normalised by these.

    Raises:
        InputError: there is no such function, or it returns no module.
    """
    module_name, _, function_name = name.partition(":")
    flag = f"--network {name}"
    package = module_name.partition(".")[0]
    if package in sys.stdlib_module_names:
        raise InputError(f"{flag}: {package} is of Python's own library, which has no networks")
    if features == "stages":
        raise no_stages(name)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingNetwork(
            f"{flag}: {error}: install the package, or name its folder in PYTHONPATH"
        ) from error
    function: Any = getattr(module, function_name, None)
    of_modules = isinstance(function, type) and issubclass(function, nn.Module)
    if not (of_modules or isinstance(function, FunctionType)):
        raise MissingNetwork(f"{flag}: {module_name} defines no function {function_name!r}")
    if function.__module__.partition(".")[0] != package:
        raise InputError(f"{flag}: {function_name} is of {function.__module__}: name it there")
    network = function(channels)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{flag}: for {channels} channels it returns a {type(network).__name__}, not a "
            "torch.nn.Module"
        )
    mean, std = (getattr(network, name, None) for name in ("image_mean", "image_std"))
    if mean is None or std is None:
        return Network(network, network)
    if not len(mean) == len(std) == channels:
        raise InputError(f"{flag}: its image_mean and image_std need {channels} numbers each")
    return Network(network, network, mean=tuple(mean), std=tuple(std))
