"""Trains two models that differ in one thing on synthetic ultrasound images of the fetal head, and
compares them."""

from __future__ import annotations

from typing import Literal

Task = Literal["length", "quality"]
TASKS: dict[Task, str] = {
    "length": "two losses, where one label in ten is wrong",
    "quality": "two views of images that were made worse in known steps",
}
