"""Losses over the batches of several processes, which are real ones, on this machine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from finecorr import losses
from finecorr.losses import GlobalBatch, Loss
from processes import in_processes

STEPS, FEATURES = 3, 5
DTYPE = {
    "plain": torch.float32,
    "weights": torch.float64,
    "data": torch.float64,
    "columns": torch.float64,
}


class Model(torch.nn.Module):
    def __init__(self, targets: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, FEATURES), torch.nn.Tanh())
        self.head = torch.nn.Linear(FEATURES, targets)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.head(features), features


def batch_of(step: int, case: str) -> dict[str, Tensor]:
    """Of all processes: 21 samples, in `columns` of two targets."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(21, 4, generator=generator, dtype=torch.float64)
    target = x[:, :2] + 0.3 * torch.randn(21, 2, generator=generator, dtype=torch.float64)
    batch = {"x": x, "target": target if case == "columns" else target[:, 0]}
    if case in ("weights", "data"):
        # Of the process of the last samples no label is known; groups are in several processes.
        batch["target"][[2, 7]] = torch.nan
        batch["target"][15:] = torch.nan
        batch["weight"] = torch.rand(21, generator=generator, dtype=torch.float64) + 0.1
    if case == "data":
        batch["group"] = torch.arange(21) % 3
    return batch


def trained(loss: Loss, case: str, rank: int = 0, processes: int = 1) -> list[Tensor]:
    """The parameters after some steps, and the value of the last one."""
    model = Model(2 if case == "columns" else 1).to(DTYPE[case])
    wrapped: torch.nn.Module = model
    if processes > 1:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    for step in range(STEPS):
        batch = batch_of(step, case)
        # Uneven shares: the last process has the rest.
        start, stop = 5 * rank, 5 * rank + 5 if rank < processes - 1 else 21
        x, target, *more = (
            values[start:stop].to(DTYPE[case] if values.is_floating_point() else values.dtype)
            for values in batch.values()
        )
        data = dict(zip(("weight", "group"), more, strict=False))
        prediction, features = wrapped(x)
        prediction = prediction if case == "columns" else prediction.squeeze(1)
        loss.progress = 1.0
        value, believed = loss.with_label_weights(prediction, target, features, **data)
        assert believed.shape == target.shape
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [*(parameter.detach() for parameter in model.parameters()), value.detach()]


Found = dict[tuple[str, str], list[Tensor]]


def in_a_process(rank: int, processes: int) -> Found:
    found: Found = {
        (name, case): trained(GlobalBatch(losses.build(name)), case, rank, processes)
        for name in losses.available()
        for case in DTYPE
    }
    loss = GlobalBatch(losses.build("pearson"))
    x = torch.randn(4 + rank, requires_grad=True)
    # Validation may have other numbers of batches: no process waits for another.
    if rank == 0:
        with torch.no_grad():
            loss(x, x.detach())
        loss.eval()(x, x.detach())
        loss.train()
    with pytest.raises(ValueError, match="process 1 has a batch that does not fit"):
        loss(x, x.detach(), weight=torch.ones(len(x)) if rank == 0 else None)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss(x, x.detach() ** 2), x, create_graph=True)
    of_odd_layouts(rank, processes)
    return found


def of_odd_layouts(rank: int, processes: int) -> None:
    """One sample in all, and a column that is a row seen as one."""
    loss, batch = losses.build("pairwise_rank"), batch_of(0, "data")
    for n in (1, 9):
        prediction = batch["x"][:n, 0].clone()[None].T.requires_grad_()
        target, weight, group = batch["target"][:n, None], batch["weight"][:n], batch["group"][:n]
        own = slice(n * rank // processes, n * (rank + 1) // processes)
        value = GlobalBatch(loss)(
            prediction[own], target[own], weight=weight[own], group=group[own]
        )
        expected = loss(prediction, target, weight=weight, group=group)
        torch.testing.assert_close(value, expected)


@pytest.fixture(scope="module", params=[2, 4])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return in_processes(in_a_process, request.param, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", losses.available())
@pytest.mark.parametrize("case", DTYPE)
def test_parameters_are_those_of_one_process_with_the_whole_batch(
    name: str, case: str, found: list[Found]
) -> None:
    expected = trained(losses.build(name), case)
    for of_process in found:
        for actual, right in zip(of_process[name, case], expected, strict=True):
            error = 1e-5 if case == "plain" else 1e-10
            torch.testing.assert_close(actual, right, rtol=error, atol=error)


@pytest.mark.parametrize("name", losses.available())
def test_without_a_process_group_it_is_the_loss(name: str) -> None:
    alone, whole = (
        trained(loss, "data") for loss in (losses.build(name), GlobalBatch(losses.build(name)))
    )
    for actual, right in zip(whole, alone, strict=True):
        assert torch.equal(actual, right)
