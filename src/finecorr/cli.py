"""The command line: which command, with what, and what it shows to a person."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from jsonargparse import Namespace

from finecorr.data.presence import check_table
from finecorr.data.presets import expand_presets, one_preset_each
from finecorr.errors import InputError, InputWarning, Interrupted
from finecorr.files import refusal
from finecorr.flags import CHECK_OPTIONS, COMPARE_OPTIONS, TRAIN_OPTIONS, build, parser_of
from finecorr.tasks import expand_task

_USER_ERROR = 2
_INTERRUPTED = 130
_WITH_TRAINING = {
    "train": TRAIN_OPTIONS,
    "check": CHECK_OPTIONS,
    "compare": COMPARE_OPTIONS,
}
_DRAWN = ("--folds", "--repeats")
"""Flags that draw the splits, in the place of those that a preset names."""


def main(arguments: Sequence[str] | None = None, ready: Callable[[], None] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C.

    Args:
        arguments: those of the command line, if they are others.
        ready: called when what the command needs is loaded, and before it begins.
    """
    # Where the terminal has no letter for it, a name is spelled in numbers.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _remarks():
            words = list(sys.argv[1:] if arguments is None else arguments)
            command, calls = parsed(words)
            _check(command, calls[0])
            room = import_module(f"finecorr.commands.{command}")
            if ready is not None:
                ready()
            room.run(*calls)
    except InputError as error:
        print(f"finecorr: error: {error}", file=sys.stderr)
        return _USER_ERROR
    # What the system refuses (a full disk, say) is no fault in the program.
    except OSError as error:
        print(f"finecorr: error: {refusal(error)}", file=sys.stderr)
        return _USER_ERROR
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"\ninterrupted{stop}", file=sys.stderr)
        return _INTERRUPTED
    return 0


def parsed(words: list[str]) -> tuple[str, list[Namespace]]:
    """The command, and its flags: once, or once for each preset.

    Raises:
        InputError: there is no such command or flag.
    """
    parser = parser_of(words[0] if words else None)
    calls = []
    for call in one_preset_each(words):
        given = _expanded(call)
        if given[:1] in (["train"], ["check"], ["compare"]):
            without = {"loss"} if given[0] == "compare" else set()
            given = expand_task(given, without)
        calls.append(parser.parse_args(_config_first(given)))
    command: str = calls[0].subcommand
    options = [call[command] for call in calls]
    several = command == "evaluate" and any(len(call.table or ()) > 1 for call in options)
    if several and "--preset" in words:
        raise InputError("evaluate takes tables, or --preset, and not both at once")
    return command, options


def _check(command: str, options: Namespace) -> None:
    """Finds mistakes that can be found before anything is loaded."""
    kinds = _WITH_TRAINING.get(command)
    if kinds is None:
        return
    _check_task(options)
    table, images, augmentation, training, _ = (build(kind, options) for kind in kinds)
    if command == "compare":
        training = replace(training, loss_options={})  # these flags are by the names of losses
    if training.processes > 1:
        return  # of which the first says it, when they know of each other
    for part in (images, augmentation, training):
        part.check()
    training.check_input(table, images, augmentation)
    if table.layout is None:
        check_table(table.table)


@contextmanager
def _remarks() -> Iterator[None]:
    """Shows each `InputWarning` once, as a line."""
    shown: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                others(message, category, *place, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                print(f"finecorr: note: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _expanded(arguments: list[str]) -> list[str]:
    """With the flags of a preset; what the user says of the splits counts, and not its column."""
    given = expand_presets(arguments)
    flags = [argument.partition("=")[0] for argument in arguments]
    drawn = next((flag for flag in _DRAWN if flag in flags), None)
    if drawn is None or "--split-column" in flags or "--split-column" not in given:
        return given
    warnings.warn(
        f"the split that comes with the data set is not used, as {drawn} draws others",
        InputWarning,
        stacklevel=2,
    )
    return [*given, "--split-column", "null"]


def _config_first(arguments: list[str]) -> list[str]:
    """`COMMAND --config FILE` before all else, as what comes later overrides what came before."""
    for at, argument in enumerate(arguments[1:], 1):
        if argument == "--config" or argument.startswith("--config="):
            end = at + (2 if argument == "--config" else 1)
            return [arguments[0], *arguments[at:end], *arguments[1:at], *arguments[end:]]
    return arguments


def _check_task(options: Namespace) -> None:
    """On the command line, it has been replaced by then."""
    if "task" in options:
        raise InputError(
            "--config: task is for the command line, where it stands for other flags: give "
            f"--task {options.task} there, or write those into the file"
        )
