"""What the processes of a global batch send each other, and what they make of it: bytes, digits,
and shares of the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from finecorr import losses
from finecorr.functional.sharing import Share
from finecorr.losses import GlobalBatch, Loss
from finecorr.losses.base import Batch
from processes import in_processes


class Case(NamedTuple):
    """One call of a loss, on a batch that all processes share."""

    name: str
    options: Mapping[str, Any] = MappingProxyType({})
    n: int = 40
    targets: int = 1
    offset: float = 0.0
    d: int | None = None
    """How many features; None for none."""
    dtype: torch.dtype = torch.float32
    weights: bool = False
    missing: bool = False
    groups: bool = False
    sent: tuple[str, ...] = ()
    """What a process sends; see `expected_bytes`."""

    def __str__(self) -> str:
        given = [f"{k}={v}" for k, v in self._asdict().items() if v != Case._field_defaults.get(k)]
        return " ".join(given)

    def loss(self) -> Loss:
        return losses.build(self.name, **self.options)

    def batch(self) -> Batch:
        random = torch.Generator().manual_seed(self.n)
        draw = partial(torch.randn, generator=random, dtype=torch.float64)
        target = draw(self.n, self.targets)
        prediction = target + 0.3 * draw(self.n, self.targets) + self.offset
        target = target + self.offset
        features = None
        if self.d is not None:
            features = target @ draw(self.targets, self.d) + draw(self.n, self.d)
            features = features.to(self.dtype).requires_grad_()
        if self.missing:  # all of the first process, and some of the others
            target[: self.n * 3 // 10] = target[-3] = torch.nan
            prediction[0] = torch.inf
        if self.targets == 1:
            prediction, target = prediction[:, 0], target[:, 0]
        return Batch(
            prediction.to(self.dtype).requires_grad_(),
            target.to(self.dtype),
            features,
            torch.rand(self.n, generator=random).to(self.dtype) + 0.1 if self.weights else None,
            torch.arange(self.n) * 7 % 3 if self.groups else None,
        )

    @property
    def labelled(self) -> int:
        return int((~self.batch().target.isnan()).sum()) // self.targets

    def bounds(self, processes: int) -> list[int]:
        """Where the samples of each process start; of four, one has none."""
        third = self.n * 3 // 10
        return [0, third, third, self.n // 2, self.n] if processes == 4 else [0, third, self.n]

    def expected_bytes(self, processes: int) -> list[int]:
        bounds = self.bounds(processes)
        most = max(stop - start for start, stop in pairwise(bounds))
        size = self.dtype.itemsize
        row = size * (2 * self.targets + self.weights) + 8 * self.groups
        of = {
            "introduction": 8 * (5 * 4 + 1 + 40),
            "moments": 80 * self.targets,
            "samples": most * row,
            "samples and features": most * (row + size * (self.d or 0)),
            "neighbours": size * self.n * self.targets,
            "gradient": size * (self.n * (self.d or 1) + processes),
            "gradient and facts": size * (self.labelled * (self.d or 1) + 3 * processes),
        }
        return [of[each] for each in ("introduction", *self.sent)]


UNWEIGHED = {"robust": False}


def of_moments() -> Iterator[Case]:
    for name in ("pearson", "concordance", "mse", "mae", "huber", "focal_mse", "focal_mae"):
        yield Case(name)
        yield Case(name, n=400, d=8)
        yield Case(name, weights=True, missing=True)
        yield Case(name, targets=2, missing=True, weights=True)
        yield Case(name, dtype=torch.float64, offset=1e8, missing=True)
        yield Case(name, offset=1e4)
    yield Case("robust_pearson", UNWEIGHED, d=8)
    yield Case("robust_pearson", UNWEIGHED, offset=1e4, weights=True, missing=True)
    yield Case("fine_grained", UNWEIGHED, targets=2, offset=1e4)
    yield Case("pearson", n=400, targets=6, sent=("moments",))
    yield Case("mae", {"log": True}, targets=3)
    # The mean of groups' means is that of all; but not that of their logarithms.
    yield Case("huber", groups=True, weights=True)
    yield Case("huber", {"log": True}, groups=True, sent=("samples",))
    # What the moments do not tell: a constant, and correlations within groups.
    yield Case("pearson", offset=1e12, sent=("samples",))
    yield Case("concordance", groups=True, weights=True, sent=("samples",))


CASES = [
    *of_moments(),
    Case("spearman", d=8, sent=("samples",)),
    Case("pairwise_rank", d=8, targets=2, weights=True, groups=True, sent=("samples",)),
    Case("norm_in_norm", d=8, sent=("samples",)),
    Case("mse", {"robust": True}, d=8, sent=("samples and features",)),
    Case("robust_pearson", d=8, sent=("samples and features",)),
    Case("fine_grained", d=8, sent=("samples and features",)),
    Case("ranksim", d=8, sent=("samples and features",)),
]

MANY = 1500
"""Samples, of which not all pairs are in memory at once."""


def of_similarities() -> Iterator[Case]:
    """In float64, and in groups, it is the general form that is taken."""
    for name, options, sent in (
        ("fine_grained", {}, ("neighbours", "gradient and facts")),
        ("fine_grained", UNWEIGHED, ("gradient and facts",)),
        ("robust_pearson", {}, ("neighbours",)),
        ("similarity_rank", {}, ("gradient",)),
        ("rank_n_contrast", {}, ("gradient",)),
    ):
        case = Case(name, options, n=MANY, d=8, sent=("samples and features", *sent))
        yield case
        yield case._replace(weights=True, missing=True)
        general = tuple(each.removesuffix(" and facts") for each in case.sent)
        yield case._replace(dtype=torch.float64, groups=True, missing=True, sent=general)
    yield Case("similarity_rank", n=MANY, sent=("samples", "gradient"))
    several = "samples and features", "neighbours", "gradient"
    yield Case("fine_grained", n=MANY // 2, targets=3, d=8, missing=True, sent=several)


SHARED = [*of_similarities()]


class Answer(NamedTuple):
    value: Tensor
    gradients: list[Tensor | None]
    """Of predictions and features."""
    believed: Tensor
    sent: list[int]
    """The bytes of each collective operation."""
    anchors: int
    """Of which similarities were taken."""


class Watch:
    """What is sent, and how many anchors are taken, from here on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[int] = []
        self.anchors = 0
        slices = Share.slices

        def counted(share: Share, n: int, step: int) -> Iterator[slice]:
            for rows in slices(share, n, step):
                assert rows.stop - rows.start <= step
                self.anchors += rows.stop - rows.start
                yield rows

        monkeypatch.setattr(Share, "slices", counted)
        for name in dir(dist):
            if name.startswith(("all_", "reduce", "gather", "scatter", "broadcast", "send")):
                monkeypatch.setattr(dist, name, self._watched(name))

    def _watched(self, name: str) -> Any:
        function = getattr(dist, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            # Of the other operations, which GlobalBatch does not use, this is not what is sent.
            tensor = arguments[{"all_gather": 1, "all_reduce": 0}[name]]
            self.sent.append(tensor.numel() * tensor.element_size())
            return function(*arguments, **options)

        return watched


def answered(case: Case, rank: int = 0, processes: int = 1) -> Answer:
    """By one process, of its samples."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        whole = case.batch()
        own: dict[str, Any] = dict.fromkeys(vars(whole))
        start, stop = case.bounds(processes)[rank : rank + 2] if processes > 1 else (0, case.n)
        for name, values in vars(whole).items():
            if values is not None:
                own[name] = values.detach()[start:stop].requires_grad_(values.requires_grad)
        watch = Watch(monkeypatch)
        loss = case.loss() if processes == 1 else GlobalBatch(case.loss())
        value, believed = loss.with_label_weights(**own)
        inputs = [own[name] for name in ("prediction", "features")]
        gradients = gradients_of(value, inputs)
        return Answer(value.detach(), gradients, believed, watch.sent, watch.anchors)


def gradients_of(value: Tensor, inputs: list[Tensor | None]) -> list[Tensor | None]:
    given = [values for values in inputs if values is not None]
    found = iter(torch.autograd.grad(value, given, allow_unused=True))
    return [None if values is None else next(found) for values in inputs]


Found = dict[str, Answer]


def in_a_process(rank: int, processes: int) -> Found:
    return {str(case): answered(case, rank, processes) for case in (*CASES, *SHARED)}


@pytest.fixture(scope="module", params=[2, 4])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return in_processes(in_a_process, request.param, tmp_path_factory.mktemp("processes"))


def whole(parts: list[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None


@pytest.mark.parametrize("case", [*CASES, *SHARED], ids=str)
def test_value_and_gradient_are_those_of_one_process(case: Case, found: list[Found]) -> None:
    answers = [each[str(case)] for each in found]
    precise = case.dtype is torch.float64 or case in SHARED
    expected = answered(case) if precise else answered_in_float64(case)
    error = 1e-10 if case.dtype is torch.float64 else 2e-5 if case in SHARED else 1e-6
    near = partial(torch.testing.assert_close, rtol=error, check_dtype=False)
    for answer in answers:
        assert torch.equal(answer.value, answers[0].value)
        near(answer.value, expected.value, atol=error)
    near(torch.cat([answer.believed for answer in answers]), expected.believed, atol=error)
    for i, right in enumerate(expected.gradients):
        actual = whole([answer.gradients[i] for answer in answers])
        if right is None:
            assert actual is None or not actual.any()
            continue
        assert actual is not None
        near(actual / len(answers), right, atol=error * float(right.abs().max()))


def answered_in_float64(case: Case) -> Answer:
    """By one process, of the same numbers."""
    batch = case.batch()
    given = {
        name: values.detach().double().requires_grad_(values.requires_grad)
        for name, values in vars(batch).items()
        if values is not None and values.is_floating_point()
    }
    value, believed = case.loss().with_label_weights(**given, group=batch.group)
    inputs = [given.get(name) for name in ("prediction", "features")]
    return Answer(value.detach(), gradients_of(value, inputs), believed, [], 0)


@pytest.mark.parametrize("case", [*CASES, *SHARED], ids=str)
def test_so_many_bytes_are_sent(case: Case, found: list[Found]) -> None:
    for of_process in found:
        assert of_process[str(case)].sent == case.expected_bytes(len(found))


@pytest.mark.parametrize("case", SHARED, ids=str)
def test_each_process_takes_its_share_of_the_anchors(case: Case, found: list[Found]) -> None:
    relations = sum(each.startswith(("neighbours", "gradient")) for each in case.sent)
    for of_process in found:
        anchors = of_process[str(case)].anchors
        assert abs(anchors * len(found) - relations * case.n) <= relations * (
            len(found) + case.n - case.labelled
        )
