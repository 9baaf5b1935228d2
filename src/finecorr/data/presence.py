"""Whether a table is there at all, found out before anything is loaded."""

from __future__ import annotations

import difflib
from pathlib import Path

from finecorr.errors import InputError, spelled
from finecorr.files import check_unicode


def check_table(path: Path) -> None:
    """Raises InputError, with names that are near, if there is no such file."""
    check_unicode(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _siblings(path), 3)
        hint = f"; in that folder there are: {', '.join(near)}" if near else ""
        raise InputError(f"no table {spelled(path)}{hint}")


def _siblings(path: Path) -> list[str]:
    try:
        return [other.name for other in path.parent.iterdir()]
    except OSError:
        return []
