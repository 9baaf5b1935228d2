"""Writing files so that nobody ever finds half of one, and finding out first whether one can."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from finecorr.errors import InputError, spelled

_NAME_MAX = 255
"""Bytes of a name, on the file systems that people have."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\..{0,15})?")
_REFUSALS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in your quota",
    errno.EROFS: "use a place that can be written",
    errno.EACCES: "get the permission, or use another place",
    errno.EPERM: "get the permission, or use another place",
    errno.EIO: "look after the disk, which fails",
    errno.ESTALE: "look after the network file system, which fails",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
"""What to do about it."""


def refusal(error: OSError) -> str:
    """What the system refused, with the file, and what to do: a sentence for a person."""
    reason = error.strerror or str(error) or type(error).__name__
    where = "" if error.filename is None else f"{spelled(Path(os.fsdecode(error.filename)))}: "
    what = _REFUSALS.get(error.errno or 0)
    return f"{where}{reason[:1].lower()}{reason[1:]}{'' if what is None else f': {what}'}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an error.

    Raises:
        OSError: what the system refuses, with `path` as the file.
    """
    temporary = path.with_name(f".{_digest(path.name)[:16]}{uuid.uuid4().hex[:16]}")
    temporary = temporary.with_name(f"{temporary.name}{path.suffix[:16]}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # A name that survives a crash must not be of an empty file.
        temporary.replace(path)
    except OSError as error:
        # What fails to write does not say where, and nobody knows the temporary name.
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def state(path: Path) -> tuple[int, int]:
    """What changes where a file does, or one of a folder's."""
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    found = [file.stat() for file in files]
    return sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)


def is_temporary(path: Path) -> bool:
    """Whether it is a file of `replacing`, as a process that is killed leaves it."""
    return _TEMPORARY.fullmatch(path.name) is not None and path.is_file()


def remove_temporary(folder: Path, name: str | None = None) -> None:
    """Removes the files of `replacing` that a killed process left in a folder: those of the file
    `name`, or of all files in a folder that nobody else writes to."""
    if not folder.is_dir():
        return
    begin = "." if name is None else f".{_digest(name)[:16]}"
    for path in list(folder.iterdir()):
        if path.name.startswith(begin) and is_temporary(path):
            path.unlink(missing_ok=True)


@contextmanager
def all_or_none(folder: Path, sets: Mapping[str, Collection[str]]) -> Iterator[Path]:
    """A temporary folder, whose files move into `folder` when the block ends without an error.

    Those of a folder in it move into the folder of that name, if there is one. What a call for the
    same folder left when it was killed is removed first.

    Args:
        folder: where they move.
        sets: files that belong together, by the one that says that all of them are there. That one
            is taken away first, and comes last; what is in the folder of a set that is replaced,
            and not in the new one, is removed.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        for left in (_unmoved(place, folder, whole) for whole in (False, True)):
            if left.is_dir():
                shutil.rmtree(left)
    ancestor = _existing(folder)
    temporary = _unmoved(ancestor, folder, False)
    temporary.mkdir()
    try:
        yield temporary
        whole = temporary.rename(_unmoved(ancestor, folder, True))
        temporary = whole
        folder.mkdir(parents=True, exist_ok=True)
        _withdraw(whole, folder, sets)
        _move(whole, folder, sets)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def half_moved(folder: Path) -> bool:
    """Whether `all_or_none` was killed while it moved files into the folder."""
    places = (folder.absolute(), *folder.absolute().parents)
    return any(_unmoved(place, folder, True).is_dir() for place in places)


def _unmoved(place: Path, folder: Path, whole: bool) -> Path:
    """The temporary folder for a folder; another name when all is in it. By the folder's name, so
    that the next call finds it."""
    return place / f".{_digest(str(folder.resolve()))}{'.whole' if whole else ''}"


def _withdraw(folder: Path, into: Path, sets: Mapping[str, Collection[str]]) -> None:
    """From `into`, the files that say that sets are whole, and what sets no longer have."""
    paths = list(folder.iterdir())
    for path in paths:
        if path.name in sets:
            (into / path.name).unlink(missing_ok=True)
            for name in set(sets[path.name]) - {path.name for path in paths}:
                (into / name).unlink(missing_ok=True)
    for path in paths:
        if path.is_dir() and (into / path.name).is_dir():
            _withdraw(path, into / path.name, sets)


def _move(folder: Path, into: Path, sets: Mapping[str, Collection[str]]) -> None:
    for path in sorted(folder.iterdir(), key=lambda path: (path.name in sets, path.name)):
        target = into / path.name
        if path.is_dir() and target.is_dir():
            _move(path, target, sets)
        else:
            path.replace(target)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]


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
            raise InputError(f"--out {spelled(path)}: {spelled(ancestor)} is a file, not a folder")
        if path.exists() and not path.is_dir() and not path.is_file():
            raise InputError(f"--out {spelled(path)} is neither a file nor a folder")
        folder = ancestor if ancestor.is_dir() else ancestor.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--out {spelled(path)} cannot be written: {reason}") from error


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
