"""The error that the commands show to a person, without a traceback."""


class InputError(ValueError):
    """What the user gave is at fault: the message says what, where, and what to do."""
