"""What the commands show to a person: a mistake without a traceback, and a remark."""

_SPELLED = 200
"""Characters of a cell or name that a message shows."""


class InputError(ValueError):
    """What the user gave is at fault: the message says what, where, and what to do."""


class Stopped(InputError):
    """Something outside stopped a training, which goes on from its last checkpoint when that is
    mended."""


class Interrupted(Exception):
    """The person at the keyboard stopped the training; its last checkpoint is there."""


class InputWarning(UserWarning):
    """What the user gave can be used, but may not be what was meant: the message says why."""


def spelled(name: object) -> str:
    """A name for a message: not a page of it."""
    text = str(name)
    return text if len(text) <= _SPELLED else f"{text[: _SPELLED // 2]}...{text[-_SPELLED // 4 :]}"
