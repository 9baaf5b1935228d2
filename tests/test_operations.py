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
from finecorr.functional import closed_form, sorting, spearman

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
    monkeypatch.setattr(closed_form, "_on_cpu", closed_form._elsewhere)
    monkeypatch.setattr(sorting, "_is_plain", lambda _: False)
    monkeypatch.setattr(spearman, "_isotonic_of_equals", spearman._isotonic_by_means)


@pytest.mark.parametrize(
    ("loss", "most"),
    [
        (lambda: functional.pearson_loss(prediction, target), 20),
        (lambda: functional.concordance_loss(prediction, target), 20),
        (lambda: functional.robust_pearson_loss(prediction, target), 60),
        (lambda: functional.mse_loss(prediction, target), 8),
        (lambda: functional.mae_loss(prediction, target), 8),
        (lambda: functional.huber_loss(prediction, target), 8),
        (lambda: functional.similarity_correlation_loss(features, target), 45),
        (lambda: functional.similarity_rank_loss(features, target), 60),
        (lambda: functional.spearman_loss(prediction, target), 120),
    ],
    ids=["pearson", "concordance", "robust", "mse", "mae", "huber", "sim", "rank", "spearman"],
)
def test_losses(loss: Callable[[], Tensor], most: int) -> None:
    found = operations(loss)
    assert len(found) <= most, found


def test_a_step_of_fine_grained_with_label_weights() -> None:
    loss = losses.build("fine_grained")
    found = operations(lambda: loss.with_label_weights(prediction, target, features)[0])
    assert len(found) <= 130, found
