"""The `finecorr` command, also where only the core is installed."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from types import FrameType

_INTERRUPTED = 130
APP = (
    *("PIL", "jinja2", "jsonargparse", "lightning", "matplotlib", "monai", "nibabel", "openpyxl"),
    *(
        "pandas",
        "plotly",
        "pyarrow",
        "pydicom",
        "safetensors",
        "sklearn",
        "tensorboard",
        "torchmetrics",
    ),
    *("tqdm", "yaml"),
)
"""The packages of the extra `app`, but for decoders that few images need."""


def main() -> int:
    """Runs `finecorr.cli.main`, or says what has to be installed for it."""
    # What a batch system sends before it kills is as good as Ctrl-C, unless that is ignored.
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        numbers.append(signal.SIGINT)
    _on(numbers, _end)
    # Each is loaded where it is needed, which must not be in the middle of a training.
    missing = [name for name in APP if find_spec(name) is None]
    if missing:
        print(
            f"finecorr: error: {missing[0]} is missing, which the losses do not need but the "
            'commands do: pip install "finecorr[app]"',
            file=sys.stderr,
        )
        return 2
    from finecorr.cli import main as run

    try:
        code = run(ready=lambda: _on(numbers, signal.default_int_handler))
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
