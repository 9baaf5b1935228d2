"""Losses with label weights in few operations, against the general form in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from finecorr import losses
from finecorr.functional import fine_grained_loss, robust_pearson_loss
from strategies import assert_near, random_batch

LOSSES: dict[str, Callable[..., Tensor]] = {
    "robust_pearson": robust_pearson_loss,
    "fine_grained": fine_grained_loss,
    "fine_grained, global": partial(fine_grained_loss, rank_weight=0.0),
    "fine_grained, local 3": partial(fine_grained_loss, rank_weight=3.0),
}


@pytest.fixture(params=LOSSES.values(), ids=list(LOSSES))
def loss(request: pytest.FixtureRequest) -> Any:
    return request.param


def batch_of(n: int, scale: float, offset: float, missing: bool) -> tuple[Tensor, Tensor, Tensor]:
    batch = random_batch(n, n)
    prediction, target = (scale * (v + offset) for v in (batch.prediction, batch.target))
    features = scale * batch.features
    features[1] = features[0]
    if n > 10:
        target[3] += 30 * scale
    if missing:
        target[n // 2 :: 7] = torch.nan
    return prediction.float(), target.float(), features.float()


def value_and_gradients(
    loss: Callable[..., Tensor], *call: Tensor, weight: Tensor | None = None
) -> list[Tensor]:
    prediction, target, features = call
    inputs = [values.clone().requires_grad_() for values in (prediction, features)]
    value = loss(inputs[0], target, inputs[1], weight=weight)
    found = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    return [value.detach(), *found]


@pytest.mark.parametrize("n", [8, 11, 64, 200])
@pytest.mark.parametrize(("scale", "offset"), [(1e-12, 0.0), (1.0, 0.0), (1.0, 200.0), (1e12, 0.0)])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("weights", ["none", "each", "some 0"])
def test_equals_the_general_form(
    loss: Callable[..., Tensor],
    n: int,
    scale: float,
    offset: float,
    missing: bool,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = batch_of(n, scale, offset, missing)
    weight = None if weights == "none" else torch.linspace(0.1, 2, n)
    if weight is not None and weights == "some 0":
        weight[4::9] = 0
    expected = value_and_gradients(
        loss,
        *(values.double() for values in call),
        weight=None if weight is None else weight.double(),
    )
    # It is this arithmetic that is tested, and no other.
    for general in ("pearson.weigh", "fine_grained.weigh"):
        monkeypatch.setattr(f"finecorr.functional.{general}", None)
    column = [call[0][:, None], call[1][:, None], call[2]]
    for shaped in (call, column):
        actual = value_and_gradients(loss, *shaped, weight=weight)
        for found, wanted in zip(actual, expected, strict=True):
            assert_near(found.view(wanted.shape), wanted, 2e-3, 2e-5)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_tells_the_label_weights(missing: bool, weighted: bool) -> None:
    prediction, target, features = batch_of(40, 1.0, 0.0, missing)
    weight = torch.linspace(0.1, 2, 40) if weighted else None
    for name in ("robust_pearson", "fine_grained"):
        each = losses.build(name)
        _, believed = each.with_label_weights(prediction, target, features, weight=weight)
        call = prediction.double(), target.double(), features.double()
        data = None if weight is None else weight.double()
        assert_near(believed, each.with_label_weights(*call, weight=data)[1], 1e-5)
        assert believed[3] < 0.1
        assert (believed[target.isnan()] == 1).all()


def test_second_derivatives_are_those_of_the_general_form(loss: Callable[..., Tensor]) -> None:
    found = []
    for dtype in (torch.float32, torch.float64):
        prediction, target, features = (v.to(dtype) for v in batch_of(12, 1.0, 0.0, False))
        prediction.requires_grad_()
        (first,) = torch.autograd.grad(
            loss(prediction, target, features), prediction, create_graph=True
        )
        (second,) = torch.autograd.grad(first.square().sum(), prediction)
        found.append(second)
    assert_near(found[0], found[1], 1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda p, y, f: (p, torch.ones_like(y), f),
        lambda p, y, f: (torch.ones_like(p), y, f),
        lambda p, y, f: (p, y, torch.ones_like(f)),
        lambda p, y, f: (p, torch.full_like(y, torch.nan).index_fill(0, torch.tensor([3]), 1.0), f),
        lambda p, y, f: (p, y + 1e6, f),
    ],
    ids=["constant target", "constant prediction", "constant features", "one label", "far"],
)
def test_the_rest_is_left_to_the_general_form(
    loss: Callable[..., Tensor], change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = change(*batch_of(20, 1.0, 0.0, False))
    actual = value_and_gradients(loss, *call)
    for name in ("pearson", "fine_grained"):
        monkeypatch.setattr(f"finecorr.functional.{name}.plain_step", lambda *_: None)
    for found, wanted in zip(actual, value_and_gradients(loss, *call), strict=True):
        assert_near(found, wanted, 1e-5, 1e-6)


def test_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At numbers on the device, however many parts the loss has."""
    looks = 0
    tolist = Tensor.tolist

    def counted(values: Tensor) -> Any:
        nonlocal looks
        looks += 1
        return tolist(values)

    def never(*_: Any) -> Any:
        raise AssertionError("a further look")

    monkeypatch.setattr(Tensor, "tolist", counted)
    for name in ("item", "__bool__", "__float__"):
        monkeypatch.setattr(Tensor, name, never)
    call = batch_of(64, 1.0, 0.0, False)
    for loss in (robust_pearson_loss, fine_grained_loss):
        looks = 0
        loss(*call)
        assert looks == 1
