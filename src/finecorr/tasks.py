"""Defaults that go together, by what is predicted: `--task NAME` stands for exactly these flags."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from finecorr.errors import InputError

Value = str | tuple[str, ...] | bool


@dataclass(frozen=True)
class Task:
    meaning: str
    options: dict[str, Value] = field(default_factory=dict)
    """By the names of the options."""

    def flags(self, without: Collection[str] = ()) -> list[str]:
        """As the command line has them, for a command that does not know some options."""
        words = []
        for name, value in self.options.items():
            flag = name.replace("_", "-")
            if name in without:
                continue
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *([value] if isinstance(value, str) else value)]
        return words


_WHOLE: dict[str, Value] = {
    "view": "fit",
    "intensity": "image",
    "rgb": False,
    "flip": "0.5",
    "rotation": "10",
    "shift": "0.05",
    "zoom": "0.1",
    "gain": "0.2",
    "gamma": "0.2",
    "network": "resnet18",
    "weights": "none",
    "features": "last",
    "loss": "fine_grained",
    "mapped": False,
}
_NATIVE: dict[str, Value] = {
    "view": "crops",
    "intensity": "type",
    "rgb": True,
    "flip": "0.5",
    "rotation": "0",
    "shift": "0",
    "zoom": "0",
    "gain": "0",
    "gamma": "0",
    "network": "timm/tf_efficientnet_lite0",
    "weights": "pretrained",
    "features": "stages",
    "hidden": ("128", "64"),
    "dropout": "0.2",
    "backbone_rate": "3e-4",
    "loss": "fine_grained",
    "mapped": True,
}
TASKS = {
    "length": Task("a length in the image, which is seen whole", _WHOLE),
    "quality": Task("how good people find an image, at its own resolution and exposure", _NATIVE),
    "score": Task(
        "what the image as a whole shows, however it was exposed", {**_WHOLE, "zoom": "0"}
    ),
}


def expand_task(arguments: list[str], without: Collection[str] = ()) -> list[str]:
    """The arguments with `--task NAME` replaced by the flags that it stands for.

    They come right after the command, so that the other flags override them.

    Args:
        arguments: the command and its own.
        without: options that the command does not know.

    Raises:
        InputError: the name is unknown, or there are two.
    """
    rest, names = [], []
    words = iter(arguments)
    for word in words:
        if word == "--task":
            names.append(next(words, ""))
        elif word.startswith("--task="):
            names.append(word.removeprefix("--task="))
        else:
            rest.append(word)
    if not names:
        return arguments
    if len(names) > 1 or names[0] not in TASKS:
        raise InputError(f"--task is one of {', '.join(TASKS)}, and given once")
    return [rest[0], *TASKS[names[0]].flags(without), *rest[1:]]
