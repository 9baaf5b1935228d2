"""How many operations a loss starts: on a GPU, these are its time.

Views are not counted. Batches of 64 as most trainings have them, in the way that is taken on a GPU,
forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from finecorr import functional, losses
from finecorr.functional import sorting, spearman
from finecorr.functional.plain import moments

VIEWS = {
    *("view", "_unsafe_view", "_reshape_alias", "expand", "permute", "transpose", "t", "select"),
    *("slice", "split", "split_with_sizes", "unbind", "unsqueeze", "squeeze", "diagonal"),
    *("alias", "detach", "as_strided"),
    "promote_types",  # of no tensor's numbers
}

n, d = 64, 512
random = torch.Generator().manual_seed(0)
target = torch.randn(n, generator=random)
prediction = (target + 0.3 * torch.randn(n, generator=random)).requires_grad_()
features = torch.randn(n, d, generator=random).requires_grad_()


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function._schema.name.removeprefix("aten::")
        if name not in VIEWS:
            self.operations.append(name)
        return function(*args, **(kwargs or {}))


def operations(loss: Callable[[], Tensor]) -> list[str]:
    loss()  # What is kept between calls is not counted.
    prediction.grad = features.grad = None
    count = Count()
    with count:
        loss().backward()  # type: ignore[no-untyped-call]
    return count.operations


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_on_cpu", moments._elsewhere)
    monkeypatch.setattr(sorting, "_is_plain", lambda _: False)
    monkeypatch.setattr(spearman, "_isotonic_of_equals", spearman._isotonic_by_means)


MOST = {
    "pearson_loss": 20,
    "concordance_loss": 20,
    "robust_pearson_loss": 60,
    "mse_loss": 8,
    "mae_loss": 8,
    "huber_loss": 8,
    "spearman_loss": 120,
    "similarity_correlation_loss": 45,
    "similarity_rank_loss": 60,
    "fine_grained": 130,
}
OF_MOMENTS = [*MOST][:6]
WITH_WEIGHTS = [name for name in MOST if name not in ("spearman_loss", "similarity_rank_loss")]


def call(name: str, target: Tensor, **data: Any) -> Callable[[], Tensor]:
    """The loss of that name; `fine_grained` with its label weights, as a step of training."""
    if name == "fine_grained":
        loss = losses.build(name)
        return lambda: loss.with_label_weights(prediction, target, features, **data)[0]
    function = getattr(functional, name)
    return lambda: function(
        features if name.startswith("similarity") else prediction, target, **data
    )


@pytest.mark.parametrize("name", MOST)
def test_at_most_so_many(name: str) -> None:
    found = operations(call(name, target))
    assert len(found) <= MOST[name], found


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_weights_at_most_double_them(name: str) -> None:
    found = operations(call(name, target, weight=torch.rand(n) + 0.1))
    assert len(found) <= 2 * MOST[name], found


@pytest.mark.parametrize("name", OF_MOMENTS[:2] + OF_MOMENTS[3:])
def test_groups_at_most_double_them(name: str) -> None:
    found = operations(call(name, target, group=torch.arange(n) // 16))
    assert len(found) <= 2 * MOST[name], found


@pytest.mark.parametrize("name", OF_MOMENTS)
def test_several_targets_at_most_double_them(name: str) -> None:
    both = torch.stack([target, target.flip(0)], 1)
    guess = (both + prediction.detach()[:, None] / 3).requires_grad_()
    found = operations(lambda: getattr(functional, name)(guess, both))
    assert len(found) <= 2 * MOST[name], found


@pytest.mark.parametrize("name", MOST)
def test_missing_labels_at_most_double_them(name: str) -> None:
    some = target.masked_fill(torch.arange(n) % 9 == 4, torch.nan)
    found = operations(call(name, some))
    # torch's own mean absolute error is of several.
    assert len(found) <= 2 * MOST[name] + 2 * (name == "mae_loss"), found
