"""The `finecorr` command, also where only the core is installed."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Runs `finecorr.cli.main`, or says what has to be installed for it."""
    # What a batch system sends before it kills is as good as Ctrl-C, unless that is ignored.
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        numbers.append(signal.SIGINT)
    _on(numbers, _end)
    try:
        from finecorr.cli import main as run
    except ModuleNotFoundError as error:
        print(
            f"finecorr: error: {error.name} is missing, which the losses do not need but the "
            'commands do: pip install "finecorr[app]"',
            file=sys.stderr,
        )
        return 2
    try:
        _on(numbers, signal.default_int_handler)
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = _INTERRUPTED
    finally:
        _on(numbers, _end)
    return code


def _on(numbers: list[signal.Signals], handler: signal._HANDLER) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """Before there is anything to lose, and after all is written: an exception in the middle of an
    import, or while Python ends, has a traceback, or worse."""
    os.write(2, b"\ninterrupted\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
