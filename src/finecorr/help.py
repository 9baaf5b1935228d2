"""How --help shows a command: its flags in groups, short."""

from __future__ import annotations

import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from typing import Any

from jsonargparse import DefaultHelpFormatter

_INDENT = "  "


class HelpFormatter(DefaultHelpFormatter):
    """Defaults as they are written on the command line, and no types; lines of an epilog stay."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        default = action.default
        unsaid = default is None or default is False or default == SUPPRESS
        if unsaid or "default" in text or not action.option_strings:
            return text
        values = default if isinstance(default, list) else [default]
        shown = " ".join(map(_written, values))
        return f"{text} (default: {shown})".replace("%", "%%") if shown else text

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        """The last word of a flag of several."""
        return action.dest.rpartition("_")[2].upper()

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = []
        for line in text.splitlines():
            own = indent + (_INDENT if line.startswith(_INDENT) else "")
            wrapped = textwrap.fill(
                line.strip(),
                width,
                initial_indent=own,
                subsequent_indent=own,
                break_on_hyphens=False,
            )
            parts.append(wrapped)
        return "\n".join(parts)


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value) if value != {} else ""


def listed(title: str, entries: Iterable[tuple[str, str]]) -> str:
    """A paragraph for an epilog, with a line for each entry."""
    return "\n".join([f"{title}:", *(f"{_INDENT}{name}: {text}" for name, text in entries)])
