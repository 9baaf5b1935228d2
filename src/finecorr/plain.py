"""Values as JSON and YAML have them, and dataclasses from these."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from finecorr.errors import spelled


def from_plain(cls: Any, values: Any, *, partly: bool = False) -> Any:
    """A dataclass of the values that JSON or YAML has of it.

    Args:
        cls: the dataclass.
        values: those of its fields.
        partly: whether fields may be missing, which have their defaults then.

    Raises:
        ValueError: a field is not there, or of another type.
    """
    kinds = get_type_hints(cls)
    if not isinstance(values, dict) or not (
        set(values) <= set(kinds) if partly else set(values) == set(kinds)
    ):
        raise ValueError(f"its description of {cls.__name__} has other fields")
    return cls(**{name: value_of(name, kinds[name], value) for name, value in values.items()})


def value_of(name: str, kind: Any, value: Any) -> Any:
    """A value of that type, of what JSON or YAML has of it.

    Raises:
        ValueError: it is of another one; `name` is what the message calls it.
    """
    origin, members = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        if value is None and NoneType in members:
            return None
        *others, last = [member for member in members if member is not NoneType]
        for member in others:
            with suppress(ValueError):
                return value_of(name, member, value)
        return value_of(name, last, value)
    if origin is tuple and isinstance(value, list):
        kinds = members[:1] * len(value) if members[-1] is Ellipsis else members
        if len(kinds) == len(value):
            return tuple(value_of(name, *pair) for pair in zip(kinds, value, strict=True))
    if kind is Any:
        return value
    if origin is dict and isinstance(value, dict):
        return {key: value_of(name, members[1], one) for key, one in value.items()}
    if origin is Literal and value in members:
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        return from_plain(kind, value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"its {name} is {spelled(repr(value))}")


def plain(value: Any) -> Any:
    """A field of a dataclass as JSON and YAML can hold it, without naming a class."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
