"""Weights of a network from a file, none of them ignored."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from finecorr.errors import InputError, InputWarning
from finecorr.models.networks.network import Network

_SHOWN = 10


def load_weights(network: Network, path: Path) -> None:
    """Gives a network the weights of a file: safetensors, or a state dict of torch that holds no
    code.

    Those of a classifier, which the network does not have, are left out, with a note.

    Raises:
        InputError: the file cannot be read, or does not have just the tensors of the network.
    """
    found = _read(path)
    expected = network.weighted.state_dict()
    heads = sorted(
        name for name in found if name not in expected and name.startswith(network.left_out)
    )
    given = {name: value for name, value in found.items() if name not in heads}
    faults = [
        *(f"the file lacks {name}" for name in expected if name not in given),
        *(f"the network has no {name}" for name in given if name not in expected),
        *(
            f"{name} {fault}"
            for name, value in expected.items()
            if name in given and (fault := _fault(given[name], value))
        ),
    ]
    if faults:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise InputError(
            "\n  ".join([f"--weights {path} does not fit the network:", *faults[:_SHOWN], *more])
        )
    if heads:
        warnings.warn(
            f"--weights {path}: the classifier is left out: {', '.join(heads)}",
            InputWarning,
            stacklevel=2,
        )
    network.weighted.load_state_dict(given)


def _fault(given: Tensor, expected: Tensor) -> str | None:
    """What keeps a tensor of a file from being that of the network."""
    if given.shape != expected.shape:
        return f"is {list(given.shape)} in the file and {list(expected.shape)} in the network"
    if given.is_meta or given.layout != torch.strided:
        return "has no plain values in the file"
    if given.is_complex() or given.is_floating_point() != expected.is_floating_point():
        return f"is {given.dtype} in the file and {expected.dtype} in the network"
    if given.is_floating_point() and not torch.isfinite(given).all():
        return "holds values in the file that are no finite numbers"
    return None


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            f"--weights {path}: no such file; say a file's name, or pretrained, or none"
        )
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:
            raise InputError(f"--weights {path}: cannot be read as safetensors: {error}") from error
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    # torch's message advises to run the code of the file.
    except Exception as error:
        raise InputError(
            f"--weights {path}: cannot be read as a state dict: it is damaged, no file of "
            "torch, or holds code, which is not run"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise InputError(f"--weights {path}: holds no state dict: names and tensors")
    return found
