"""What the mean of the losses within small batches learns, beside the loss of all of them together.

    python benchmarks/global_batch.py

draws docs/results/global_batch.png, in half a minute. Eight processes have m samples each:

- Left: targets and predictions from a normal distribution, correlated by 0.7. The mean of the eight
  correlations, and the correlation of all 8 m samples.
- Right: a small network that has learnt for a while. The gradient of its parameters by the mean of
  the eight losses, less that by the loss of all samples, over the length of the latter.

Lines are medians, and within the bands are 80 % of the draws.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from torch import Tensor, nn

from finecorr import losses
from finecorr.losses import Loss

PROCESSES = 8
SIZES = [2, 4, 8, 16, 32, 64, 128, 256]
CORRELATION = 0.7
DRAWS, DRAWN_GRADIENTS = 2000, 60
INPUTS, FEATURES = 10, 16
LOSSES = {"pearson": "#7a4fa3", "fine_grained": "#2e8b57"}
PATH = Path(__file__).parents[1] / "docs" / "results" / "global_batch.png"


def correlations(size: int) -> tuple[Tensor, Tensor]:
    """`(draws,)`: the mean within batches of that size, and that of all together."""
    target = torch.randn(DRAWS, PROCESSES, size)
    noise = torch.randn(DRAWS, PROCESSES, size)
    prediction = CORRELATION * target + (1 - CORRELATION**2) ** 0.5 * noise
    return _pearson(prediction, target).mean(1), _pearson(prediction.flatten(1), target.flatten(1))


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    correlation: Tensor = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return correlation


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(INPUTS, FEATURES), nn.Tanh())
        self.head = nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.head(features).squeeze(-1), features


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Inputs, and targets that are the first of them and noise."""
    x = torch.randn(size, INPUTS)
    return x, CORRELATION * x[:, 0] + (1 - CORRELATION**2) ** 0.5 * torch.randn(size)


def trained(loss: Loss) -> Network:
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(100):
        x, target = batch(128)
        prediction, features = network(x)
        optimizer.zero_grad()
        loss(prediction, target, features).backward()
        optimizer.step()
    return network


def error(loss: Loss, network: Network, size: int) -> float:
    """Of the gradient of the mean loss, over the length of the right one."""
    x, target = batch(PROCESSES * size)

    def gradient(processes: int) -> Tensor:
        parts = zip(x.chunk(processes), target.chunk(processes), strict=True)
        values = [loss(*_call(network, *part)) for part in parts]
        return _flat(torch.stack(values).mean(), network)

    right = gradient(1)
    return float((gradient(PROCESSES) - right).norm() / right.norm())


def _call(network: Network, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    prediction, features = network(x)
    return prediction, target, features


def _flat(value: Tensor, network: Network) -> Tensor:
    parameters = list(network.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(of) if gradient is None else gradient).flatten()
            for gradient, of in zip(found, parameters, strict=True)
        ]
    )


def draw_correlations(axis: Axes) -> None:
    found = [correlations(size) for size in SIZES]
    for i, (label, color) in enumerate(
        (("mean of those within the processes", "#d95f02"), ("of all samples together", "#1b6ca8"))
    ):
        low, middle, high = (
            [torch.quantile(each[i], share).item() for each in found] for share in (0.1, 0.5, 0.9)
        )
        axis.fill_between(SIZES, low, high, color=color, alpha=0.2, linewidth=0)
        axis.plot(SIZES, middle, "o-", color=color, label=label, markersize=4)
    label = f"of the distribution: {CORRELATION}"
    axis.axhline(CORRELATION, color="#555555", linewidth=0.8, linestyle="--", label=label)
    axis.set_ylabel("Pearson correlation")
    axis.set_title("Small batches have another correlation", fontsize=10)
    axis.legend(loc="lower right", frameon=False)


def draw_errors(axis: Axes) -> None:
    for name, color in LOSSES.items():
        loss = losses.build(name)
        network = trained(loss)
        found = [
            torch.tensor([error(loss, network, size) for _ in range(DRAWN_GRADIENTS)])
            for size in SIZES
        ]
        low, middle, high = (
            [torch.quantile(each, share).item() for each in found] for share in (0.1, 0.5, 0.9)
        )
        axis.fill_between(SIZES, low, high, color=color, alpha=0.2, linewidth=0)
        axis.plot(SIZES, middle, "o-", color=color, label=name, markersize=4)
        print(name, *(f"{size}: {value:.3f}" for size, value in zip(SIZES, middle, strict=True)))
    axis.set_yscale("log")
    axis.set_yticks([0.03, 0.1, 0.3, 1, 3], ["3 %", "10 %", "30 %", "100 %", "300 %"])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylabel("error, in % of the gradient")
    axis.set_title("The mean of their losses has another gradient", fontsize=10)
    axis.legend(loc="upper right", frameon=False)


def main() -> None:
    torch.manual_seed(0)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), dpi=150, layout="constrained")
    draw_correlations(axes[0])
    draw_errors(axes[1])
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.set_xlabel("samples in each of 8 processes")
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(PATH)


if __name__ == "__main__":
    main()
