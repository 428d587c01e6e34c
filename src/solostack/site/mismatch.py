"""What pydantic refuses, said in the words of a site: expected, found, nearest valid key or value.

Pure: a pydantic error and the model in, a Problem out. The texts of pydantic itself never show.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import types
import typing
from collections.abc import Mapping

import pydantic
import pydantic.fields
import pydantic_core

from solostack.site import fields
from solostack.site.document import Location
from solostack.site.model import Site
from solostack.site.problems import Problem, did_you_mean, nearest

_PATTERNS: Mapping[str, str] = {
    fields.NAME_PATTERN: "a name (lower-case letters, digits and -, first a letter, at most 31)",
    fields.DEVICE_PATTERN: "a network device name (letters, digits, _ . -, at most 15)",
    fields.TITLE_PATTERN: "a name (letters, digits, space, . _ -, at most 63)",
    fields.LOGIN_PATTERN: "a login name (lower-case letters, digits, _ . -, at most 32)",
    fields.VOLUME_GROUP_PATTERN: "a volume group's name (letters, digits, + _ . -)",
    fields.HOSTNAME_PATTERN: "a DNS name of two labels or more (cloud.example.org)",
    fields.DN_PATTERN: "a distinguished name (ou=people,dc=example,dc=org), without escapes or $",
    fields.ATTRIBUTE_PATTERN: "a class or attribute of LDAP (letters, digits, -)",
    fields.FILTER_PATTERN: "an LDAP filter in brackets, as (ou=cloud), without $",
    fields.LDAP_URL_PATTERN: "ldaps://NAME[:PORT] or ldap://NAME[:PORT]",
    fields.SHA256_PATTERN: "a SHA-256 sum (64 characters, 0-9 a-f)",
}
_KINDS: Mapping[str, str] = {
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "tuple_type": "a list (lines that begin with `- `)",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_parsing_size": "a whole number of sensible size",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "ip_v4_address": "an IPv4 address",
    "ip_v4_network": "an IPv4 network (address/prefix, host bits zero)",
    "too_short": "at least one",
}


def describe(error: pydantic.ValidationError) -> tuple[Problem, ...]:
    """Return the Problems that make a mapping no Site."""
    return tuple(_describe(each) for each in error.errors(include_url=False) if not _is_echo(each))


def _is_echo(error: pydantic_core.ErrorDetails) -> bool:
    """A list whose only items are wrong also counts as too short: said already, item by item."""
    return error["type"] == "too_short" and bool(error["input"])


def _describe(error: pydantic_core.ErrorDetails) -> Problem:
    location: Location = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind == "missing":
        return Problem(
            location=location,
            expected=f"the key '{location[-1]}'" + _purpose(location),
            found="nothing",
        )
    found = error["input"]
    return Problem(
        location=location,
        expected=_expected(error),
        found=_shown(found),
        suggestion=_suggestion(kind, found, location),
    )


def _unknown_key(location: Location) -> Problem:
    owner = _model_at(location[:-1])
    known = tuple(owner.model_fields) if owner is not None else ()
    return Problem(
        location=location,
        expected="one of the keys " + ", ".join(known),
        found=f"the unknown key '{location[-1]}'",
        suggestion=nearest(str(location[-1]), known),
        at_key=True,
    )


def _expected(error: pydantic_core.ErrorDetails) -> str:
    kind = error["type"]
    context = error.get("ctx", {})
    match kind:
        case "string_pattern_mismatch":
            return _PATTERNS[context["pattern"]]
        case "enum" | "literal_error":
            choices = _choices(tuple(error["loc"]))
            return "one of " + ", ".join(choices)
        case "greater_than_equal":
            return f"a number of at least {context['ge']}"
        case "less_than_equal":
            return f"a number of at most {context['le']}"
        case _:
            return _KINDS.get(kind) or error["msg"]


def _suggestion(kind: str, found: object, location: Location) -> str:
    if not isinstance(found, str):
        return ""
    match kind:
        case "enum" | "literal_error":
            return nearest(found, _choices(location))
        case "ip_v4_network":
            return _near_network(found)
        case "ip_v4_address":
            return _near_address(found)
        case "string_pattern_mismatch":
            return _near_name(found)
        case "int_parsing":
            return _near_size(found, unit=str(location[-1])[-3:])
        case "bool_parsing":
            return nearest(found, ("true", "false"))
        case _:
            return ""


def _near_network(found: str) -> str:
    try:
        return did_you_mean(ipaddress.IPv4Network(found.strip(), strict=False))
    except ValueError:
        return ""


def _near_address(found: str) -> str:
    try:
        return did_you_mean(ipaddress.IPv4Interface(found.strip()).ip)
    except ValueError:
        return ""


def _near_name(found: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", found.strip().lower()).strip("-")[:31]
    good = re.match(fields.NAME_PATTERN, name) is not None and name != found
    return did_you_mean(name) if good else ""


def _near_size(found: str, *, unit: str) -> str:
    """Suggest 4096 for ``4g`` where the key counts in MiB."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*([MGT])(i?B)?\s*", found, flags=re.IGNORECASE)
    units = {"mib": "MGT", "gib": "GT"}.get(unit, "")
    if match is None or match[2].upper() not in units:
        return ""
    return did_you_mean(int(match[1]) * 1024 ** units.index(match[2].upper()))


def _shown(found: object) -> str:
    match found:
        case None:
            return "null"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list" if found else "an empty list"
        case _:
            return f"{found!r:.60}"


def _purpose(location: Location) -> str:
    owner = _model_at(location[:-1])
    if owner is None:
        return ""
    field = owner.model_fields[str(location[-1])]
    return f" ({field.description})" if field.description else ""


def _model_at(location: Location) -> type[pydantic.BaseModel] | None:
    """Return the model of the mapping at location; None when that is no mapping."""
    current: type[pydantic.BaseModel] | None = Site
    for part in location:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return None
        found = _inner_types(current.model_fields[part].annotation)
        models = [each for each in found if issubclass(each, pydantic.BaseModel)]
        current = models[0] if models else None
    return current


def _choices(location: Location) -> tuple[str, ...]:
    owner = _model_at(location[:-1])
    annotation = owner.model_fields[str(location[-1])].annotation if owner is not None else None
    if typing.get_origin(annotation) is typing.Literal:
        return tuple(str(each) for each in typing.get_args(annotation))
    for each in _inner_types(annotation):
        if issubclass(each, enum.Enum):
            return tuple(str(member.value) for member in each)
    return ()


def _inner_types(annotation: object) -> tuple[type, ...]:
    """Return the classes an annotation is made of: ``tuple[Host, ...] | None`` gives Host."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return (annotation,)
    found: list[type] = []
    for each in typing.get_args(annotation):
        found.extend(_inner_types(each))
    return tuple(found)
