"""Writing files so that nobody ever finds half of one, and finding out first whether one can."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finecorr.errors import InputError

_NAME_MAX = 255
"""Bytes of a name, on the file systems that people have."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an error."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix[:16]}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # A name that survives a crash must not be of an empty file.
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether it is a file of `replacing`, as a process that is killed leaves it."""
    return path.is_file() and re.fullmatch(r"\.[0-9a-f]{32}(\..{0,15})?", path.name) is not None


@contextmanager
def all_or_none(folder: Path) -> Iterator[Path]:
    """A temporary folder, whose files move into `folder` when the block ends without an error.

    Those of a folder in it move into the folder of that name, if there is one.
    """
    ancestor = _existing(folder)
    with tempfile.TemporaryDirectory(dir=ancestor, prefix=".") as temporary:
        yield Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _move(Path(temporary), folder)


def _move(folder: Path, into: Path) -> None:
    for path in sorted(folder.iterdir()):
        target = into / path.name
        if path.is_dir() and target.is_dir():
            _move(path, target)
        else:
            path.replace(target)


def check_folder(path: Path) -> None:
    """Raises InputError if --out cannot be a folder that is written to; leaves nothing."""
    check_writable(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path} is a file, not a folder")


def check_writable(path: Path) -> None:
    """Raises InputError if --out cannot be written, as a file or folder; leaves nothing."""
    check_unicode(path)
    try:
        for part in path.parts:
            if len(os.fsencode(part)) > _NAME_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        ancestor = _existing(path)
        if not ancestor.is_dir() and ancestor != path.absolute():
            raise InputError(f"--out {_short(path)}: {_short(ancestor)} is a file, not a folder")
        if path.exists() and not path.is_dir() and not path.is_file():
            raise InputError(f"--out {_short(path)} is neither a file nor a folder")
        folder = ancestor if ancestor.is_dir() else ancestor.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--out {_short(path)} cannot be written: {reason}") from error


def check_unicode(path: Path) -> None:
    """Raises InputError if a path is not Unicode, which nothing that names it could hold."""
    if any("\udc80" <= character <= "\udcff" for character in str(path)):
        raise InputError(f"{os.fsencode(path)!r} is no Unicode name: rename it")


def _existing(path: Path) -> Path:
    """The path, or else the closest folder above it that is there."""
    path = path.absolute()
    for place in (path, *path.parents):
        try:
            place.lstat()
            return place
        except (FileNotFoundError, NotADirectoryError):
            continue
    return path


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-50:]}"
