"""A population of any size, through a network that holds a few samples at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint


def in_pieces(network: Callable[..., Any], *inputs: Tensor, size: int) -> Any:
    """The outputs of a network for many samples, and their exact gradient, in the memory of a few.

        prediction, features = in_pieces(network, images, size=8)
        loss_function(prediction, target, features).backward()

    The network runs over pieces of the inputs and keeps their outputs. `backward()` runs it over
    each piece once more, and takes the gradient of the piece: that of the loss of all samples. What
    is in memory is what the network keeps of one piece, and the inputs and outputs of all; it takes
    a forward pass more. What is one piece, or needs no gradient, runs once.

    Both passes see the same network: what torch draws, as for dropout, is drawn again, and the
    autocast is the same. Python's and NumPy's generators are not set back. Batch normalisation
    takes the statistics of each piece, as if it were the batch; buffers, its running statistics
    among them, move in the first pass only. Gradients are what autograd makes: scaled, clipped,
    accumulated and averaged over processes as ever. A module that averages them over processes has
    to have this inside, as `DistributedDataParallel(InPieces(network, 8))` has it.

    Args:
        network: a module, or a method of one, of the inputs. It returns tensors, in tuples, lists
            or dicts if there are several, whose first dimension is that of the samples.
        inputs: of all samples, `(n, ...)`, on any device: each piece is moved to that of the
            network's parameters.
        size: samples in a piece.

    Raises:
        ValueError: the inputs have different numbers of samples, or `size` is not positive.
        TypeError: the network is no module, and no method of one; or it is a
            `DistributedDataParallel`, whose processes would exchange the gradient of each piece.
    """
    module = network if isinstance(network, nn.Module) else getattr(network, "__self__", None)
    if not isinstance(module, nn.Module):
        raise TypeError("network must be a module, or a method of one")
    if isinstance(network, DistributedDataParallel):
        raise TypeError(
            "pieces belong into DistributedDataParallel, as in DistributedDataParallel(InPieces("
            "network, 8)): around it, the gradient of each piece would be exchanged"
        )
    if size < 1:
        raise ValueError(f"size must be positive, not {size}")
    if not inputs or len({len(values) for values in inputs}) != 1:
        raise ValueError(
            f"inputs must have the same number of samples, not {[len(x) for x in inputs]}"
        )
    # Beside the inputs, it says on which device the numbers are drawn that are drawn again.
    place = next((p.detach().flatten()[:0] for p in module.parameters()), inputs[0][:0])
    again = torch.is_grad_enabled() and len(inputs[0]) > size
    once_more = partial(checkpoint, use_reentrant=False, context_fn=partial(_passes, module))
    outputs = []
    for piece in zip(*(torch.split(values, size) for values in inputs), strict=True):
        run = partial(_moved, network)
        outputs.append(once_more(run, place, *piece) if again else run(place, *piece))
    return outputs[0] if len(outputs) == 1 else tree_map(_joined, *outputs)


class InPieces(nn.Module):
    """A network that takes its inputs in pieces; see `in_pieces`.

    Args:
        network: the module.
        size: samples in a piece.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, *inputs: Tensor) -> Any:
        return in_pieces(self.network, *inputs, size=self.size)

    def extra_repr(self) -> str:
        return f"size={self.size}"


def _moved(network: Callable[..., Any], place: Tensor, *piece: Tensor) -> Any:
    return network(*(values.to(place.device) for values in piece))


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts)


def _passes(module: nn.Module) -> tuple[Any, Any]:
    """What the first pass, and the second, runs in."""
    return nullcontext(), _with_buffers_kept(module)


@contextmanager
def _with_buffers_kept(module: nn.Module) -> Iterator[None]:
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, values in before:
            # What autograd has saved of it is as it was.
            buffer.data.copy_(values)
