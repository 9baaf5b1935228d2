"""What the commands show to a person: a mistake without a traceback, and a remark."""


class InputError(ValueError):
    """What the user gave is at fault: the message says what, where, and what to do."""


class Stopped(InputError):
    """Something outside stopped a training, which goes on from its last checkpoint when that is
    mended."""


class InputWarning(UserWarning):
    """What the user gave can be used, but may not be what was meant: the message says why."""
