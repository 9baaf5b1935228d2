"""The `finecorr` command, also where only the core is installed."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Runs `finecorr.cli.main`, or says what has to be installed for it."""
    # What a batch system sends before it kills is as good as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from finecorr.cli import main as run
    except ModuleNotFoundError as error:
        print(
            f"finecorr: error: {error.name} is missing, which the losses do not need but the "
            'commands do: pip install "finecorr[app]"',
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
