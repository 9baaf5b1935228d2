"""Networks that take a population in pieces."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from finecorr import FineGrainedCorrelationLoss, InPieces, in_pieces
from finecorr.losses import GlobalBatch, Loss, Memory, MSELoss, PearsonLoss
from processes import in_processes

FEATURES = 5


class Network(nn.Module):
    """Predictions and features, by way of dropout whose masks it remembers."""

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, FEATURES), nn.Tanh())
        self.norm = nn.BatchNorm1d(FEATURES) if norm else nn.Identity()
        self.head = nn.Linear(FEATURES, 1)
        self.dropout = dropout
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(self.body(x))
        mask = (torch.rand(features.shape) >= self.dropout).to(features.dtype)
        self.masks.append(mask)
        features = features * mask
        return self.head(features).squeeze(1), features


def batch(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 4, generator=generator, dtype=dtype)
    return x, x[:, 0] + 0.5 * torch.randn(n, generator=generator, dtype=dtype)


def gradient(module: nn.Module) -> Tensor:
    found = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.cat([values.flatten() for values in found])


def whole_gradient(network: Network, x: Tensor, y: Tensor, loss: Loss, masks: Tensor) -> Tensor:
    """Of all samples at once, which were dropped out as in the pieces."""
    features = network.norm(network.body(x)) * masks
    network.zero_grad()
    loss(network.head(features).squeeze(1), y, features).backward()
    return gradient(network)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 40),
    size=st.integers(1, 41),
    dropout=st.sampled_from([0.0, 0.5]),
    wide=st.booleans(),
    loss=st.sampled_from([FineGrainedCorrelationLoss(), PearsonLoss(), MSELoss()]),
)
def test_gradient_is_that_of_all_samples_at_once(
    n: int, size: int, dropout: float, wide: bool, loss: Loss
) -> None:
    dtype, error = (torch.float64, 1e-9) if wide else (torch.float32, 1e-6)
    assume(wide or n >= 8)  # Of few samples, a loss magnifies how its arguments are rounded.
    network = Network(dropout).to(dtype)
    x, y = batch(n, dtype)
    prediction, features = in_pieces(network, x, size=size)
    loss(prediction, y, features).backward()
    found, count = gradient(network), -(-n // size)
    masks = torch.cat(network.masks[:count])
    for first, second in zip(network.masks[:count], network.masks[count:][::-1], strict=False):
        assert torch.equal(first, second)
    expected = whole_gradient(network, x, y, loss, masks)
    assert float((found - expected).norm()) <= error * max(float(expected.norm()), 1e-3)
    assert len(network.masks) == (1 if count == 1 else 2 * count)


def test_one_piece_at_a_time_is_in_memory() -> None:
    """And each is there twice, but for a population of one piece, or without a gradient."""
    alive: list[int] = []
    kept: weakref.WeakSet[Tensor] = weakref.WeakSet()

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            activation = self.layer(x).exp()  # which its gradient needs
            kept.add(activation)
            alive.append(len(kept))
            total: Tensor = activation.square().sum(1)
            return total

    network = Counting()
    x, y = batch(32)
    for inputs, calls in ((x, 16), (x[:4], 1)):
        alive.clear()
        loss = PearsonLoss()(in_pieces(network, inputs, size=4), y[: len(inputs)])
        loss.backward()
        assert len(alive) == calls
        assert max(alive) == 1
    alive.clear()
    with torch.no_grad():
        torch.testing.assert_close(in_pieces(network, x, size=4), network(x))
    assert len(alive) == 9


def test_running_statistics_move_once() -> None:
    """As in a pass over the pieces that is differentiated at once."""
    pieces, once = Network(norm=True).train(), Network(norm=True).train()
    x, y = batch(30)
    prediction, features = in_pieces(pieces, x, size=8)
    FineGrainedCorrelationLoss()(prediction, y, features).backward()
    outputs = [once(x[start : start + 8]) for start in range(0, 30, 8)]
    prediction, features = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    FineGrainedCorrelationLoss()(prediction, y, features).backward()
    torch.testing.assert_close(gradient(pieces), gradient(once), rtol=1e-5, atol=1e-7)
    for name, buffer in once.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], buffer)
    assert pieces.norm.num_batches_tracked == 4


def trained(size: int, *, precision: torch.dtype | None = None, memory: int = 0) -> Tensor:
    """The parameters after some steps with all that a loop may have."""
    network = InPieces(Network(), size)
    loss = Memory(FineGrainedCorrelationLoss(), memory)
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=precision is not None)
    for step in range(4):
        x, y = batch(20 + step)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            prediction, features = network(x)
            value = loss(prediction, y, features)
        scaler.scale(value).backward()
        if step % 2:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return nn.utils.parameters_to_vector(network.parameters()).detach()


@pytest.mark.parametrize("memory", [0, 64])
def test_in_a_loop_with_accumulation_and_clipping(memory: int) -> None:
    whole, pieces = trained(100, memory=memory), trained(8, memory=memory)
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(trained(8, memory=memory), pieces)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_with_autocast_and_a_scaler(precision: torch.dtype) -> None:
    """The second pass is in the autocast of the first."""
    whole, pieces = trained(100, precision=precision), trained(8, precision=precision)
    torch.testing.assert_close(pieces, whole, rtol=1e-2, atol=1e-2)
    assert not torch.equal(pieces, trained(8))
    seen = []
    network = Network()
    network.norm.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", precision):
        prediction, _ = in_pieces(network, batch(20)[0], size=8)
    prediction.float().square().sum().backward()
    assert seen == [seen[0]] * 6


def in_a_process(rank: int, processes: int) -> tuple[Tensor, Tensor]:
    """Of uneven shares: the last process has more pieces."""
    network = DistributedDataParallel(InPieces(Network(norm=True).eval(), 3))
    loss = GlobalBatch(FineGrainedCorrelationLoss())
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    x, y = (values[8 * rank : 8 * rank + 8 if rank == 0 else 21] for values in batch(21))
    for _ in range(3):
        prediction, features = network(x)
        optimizer.zero_grad()
        loss(prediction, y, features).backward()
        optimizer.step()
    return gradient(network), nn.utils.parameters_to_vector(network.parameters()).detach()


def test_over_processes(tmp_path: Path) -> None:
    network = Network(norm=True).eval()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    x, y = batch(21)
    for _ in range(3):
        prediction, features = network(x)
        optimizer.zero_grad()
        FineGrainedCorrelationLoss()(prediction, y, features).backward()
        optimizer.step()
    expected = gradient(network), nn.utils.parameters_to_vector(network.parameters()).detach()
    for found in in_processes(in_a_process, 2, tmp_path):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_is_refused() -> None:
    network, x = Network(), batch(8)[0]
    with pytest.raises(ValueError, match="size must be positive"):
        in_pieces(network, x, size=0)
    with pytest.raises(ValueError, match="same number of samples"):
        in_pieces(network, x, x[:3], size=2)
    with pytest.raises(TypeError, match="a module, or a method of one"):
        in_pieces(lambda x: x, x, size=2)
