"""Ctrl-C takes effect once, whenever it comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from finecorr.models.stopping import Held, StopBetweenSteps


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """A shell's background jobs, and what they start, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class _Agreeing(SingleDeviceStrategy):
    """As one process of several, which is told of Ctrl-C while the others answer."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        ctrl_c()
        return decision


def test_while_the_processes_agree() -> None:
    """They stop together: at the next step."""
    agreeing: Any = SimpleNamespace(strategy=_Agreeing())
    alone: Any = SimpleNamespace(strategy=SingleDeviceStrategy())
    stop, steps = StopBetweenSteps(), []

    def train() -> None:
        with stop:
            stop.on_train_batch_start(agreeing)
            steps.append("first")
            stop.on_train_batch_start(alone)
            steps.append("second")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert steps == ["first"]


def test_after_the_last_step() -> None:
    steps = []

    def train() -> None:
        with Held():
            ctrl_c()
            steps.append("last")
        steps.append("after it")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert steps == ["last"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_is_not_hidden() -> None:
    def train() -> None:
        with Held():
            ctrl_c()
            raise ValueError("at fault")

    with pytest.raises(ValueError, match="at fault"):
        train()


def test_a_second_one_is_at_once() -> None:
    steps = []

    def train() -> None:
        with Held():
            ctrl_c()
            steps.append("held")
            ctrl_c()
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert steps == ["held"]
