"""One's own networks: functions of installed packages."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from finecorr.errors import InputError
from finecorr.models.networks import FeatureKind
from finecorr.models.networks.network import MissingNetwork, Network, no_stages, normalisation


def build(name: str, channels: int, features: FeatureKind) -> Network:
    """What `package.module:function` returns for the number of channels.

    As a model's file may name any function, it has to be Python's own code (a function, or a class
    of modules), defined in a package that is not of the standard library. Where the module says
    `image_mean` and `image_std`, a number for each channel, images are normalised by these.

    Raises:
        InputError: there is no such function, or it fails, or returns no module.
    """
    module_name, _, function_name = name.partition(":")
    flag = f"--network {name}"
    package = module_name.partition(".")[0]
    if package in sys.stdlib_module_names:
        raise InputError(f"{flag}: {package} is of Python's own library, which has no networks")
    if features == "stages":
        raise no_stages(name)
    module = _imported(module_name, flag)
    function: Any = getattr(module, function_name, None)
    of_modules = isinstance(function, type) and issubclass(function, nn.Module)
    if not (of_modules or isinstance(function, FunctionType)):
        raise MissingNetwork(f"{flag}: {module_name} defines no function {function_name!r}")
    if function.__module__.partition(".")[0] != package:
        raise InputError(f"{flag}: {function_name} is of {function.__module__}: name it there")
    if not _takes_a_number(function):
        raise InputError(
            f"{flag}: its first parameter must be the number of channels: without a default, or "
            "with a whole number as its default"
        )
    try:
        network = function(channels)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{flag}: for {channels} channels it fails: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{flag}: for {channels} channels it returns a {type(network).__name__}, not a "
            "torch.nn.Module"
        )
    if not all(isinstance(value, Tensor) for value in network.state_dict().values()):
        raise InputError(f"{flag}: its state_dict must hold tensors alone: a file keeps no more")
    mean, std = (getattr(network, name, None) for name in ("image_mean", "image_std"))
    if mean is None or std is None:
        return Network(network, network)
    try:
        mean, std = normalisation(mean, std)
        if len(mean) != channels:
            raise ValueError
    except ValueError as error:
        raise InputError(
            f"{flag}: its image_mean and image_std need {channels} numbers each, those of "
            "image_std above 0"
        ) from error
    return Network(network, network, mean=mean, std=std)


def code_of(name: str) -> bytes:
    """The file that defines it."""
    file = _imported(name.partition(":")[0], f"--network {name}").__file__
    return Path(file).read_bytes() if file else b""


def _imported(module_name: str, flag: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise MissingNetwork(
            f"{flag}: {error}: install the package, or name its folder in PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{flag}: importing it fails: {type(error).__name__}: {error}") from error


def _takes_a_number(function: Callable[..., Any]) -> bool:
    """Whether its first parameter may be the number of channels: a model's file can name any
    function that is installed, and most of them mean something else."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return (
        first is not None
        and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
        and (first.default is first.empty or type(first.default) is int)
    )
