"""Values to canonical JSON and back: equal values, equal bytes, equal digests."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import ipaddress
import json
import uuid
from collections.abc import Mapping
from pathlib import PurePath
from typing import TypeAlias, TypeVar

import pydantic

from solostack.errors import StateError

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

_T = TypeVar("_T")
_TEXTS = (
    ipaddress.IPv4Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Address,
    ipaddress.IPv6Network,
    uuid.UUID,
    PurePath,
)


def to_data(value: object) -> Json:
    """Return value as plain JSON data: dataclasses and pydantic models by field, addresses as text.

    Raises:
        TypeError: something in it has no JSON form (a set has no order, bytes no text).
    """
    match value:
        case enum.Enum():
            return to_data(value.value)
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [to_data(each) for each in value]
        case Mapping():
            return {_key(key): to_data(each) for key, each in value.items()}
        case pydantic.BaseModel():
            return {name: to_data(getattr(value, name)) for name in type(value).model_fields}
        case _ if isinstance(value, _TEXTS):
            return str(value)
        case _ if dataclasses.is_dataclass(value):
            return {
                field.name: to_data(getattr(value, field.name))
                for field in dataclasses.fields(value)
            }
        case _:
            message = f"{type(value).__name__} has no JSON form"
            raise TypeError(message)


def to_json(value: object) -> str:
    """Return value as canonical JSON: sorted keys, no white space, ASCII, one line without end.

    Raises:
        TypeError: as to_data.
        ValueError: a number is not finite.
    """
    return json.dumps(to_data(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_pretty_json(value: object) -> str:
    """Return the same JSON for people: sorted keys, two spaces per level, a newline at the end."""
    return json.dumps(to_data(value), sort_keys=True, indent=2, allow_nan=False) + "\n"


def digest(value: object) -> str:
    """Return the SHA-256 of to_json(value), in hex."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def from_json(kind: type[_T], text: str) -> _T:
    """Return the value of kind (HostFacts, Plan, ...) whose JSON is text.

    What a version before this one did not know may be missing; it gets its default.

    Raises:
        StateError: text is not that of such a value, or has a key that this version does not know.
    """
    try:
        value = pydantic.TypeAdapter(kind).validate_json(text)
        same = _is_kept(to_data(json.loads(text)), to_data(value))
    except ValueError as error:
        lines = str(error).splitlines()
        raise StateError(f"the stored {kind.__name__} cannot be read", details=lines) from error
    if not same:
        raise StateError(
            f"the stored {kind.__name__} has keys or values this version does not know",
            hint="it was written by another version of solostack; use that one",
        )
    return value


def _is_kept(stored: Json, read: Json) -> bool:
    """Return whether all that was stored is in what was read."""
    match stored, read:
        case dict(), dict():
            return all(key in read and _is_kept(each, read[key]) for key, each in stored.items())
        case list(), list():
            return len(stored) == len(read) and all(map(_is_kept, stored, read))
        case _:
            return stored == read


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(key.value) if isinstance(key, enum.Enum) else key
    message = f"a key of JSON is a text, not {type(key).__name__}"
    raise TypeError(message)
