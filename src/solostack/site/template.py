"""The commented site.yaml that ``init`` writes: a few active keys, every default as a comment."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping

import pydantic
import pydantic.fields

from solostack.site.model import ExternalMethod, Host, Site
from solostack.site.schema import EDITOR_HINT, default_of, model_of

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9./_-]*|[0-9]+(\.[0-9]+){3}(/[0-9]+)?")
_NOT_TEXT = frozenset({"true", "false", "null"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What ``init`` must know, as the operator typed it; parse_site says what is wrong with it.

    host is the host's name, address its own, nic its card, block the public block, addresses single
    public ones. local: solostack runs on that host itself.
    """

    address: str
    nic: str
    block: str = ""
    method: str = ExternalMethod.ROUTED
    addresses: tuple[str, ...] = ()
    name: str = "cloud"
    host: str = "phys1"
    local: bool = False


def render_site(answers: Answers) -> str:
    """Return the text of a site file. Uncommenting any of its lines changes nothing by itself."""
    host: dict[str, object] = {
        "name": answers.host,
        "address": answers.address,
        "nic": answers.nic,
    }
    if answers.local:
        host["local"] = True
    given = {"name": answers.name, "hosts": host, "external": _external(answers)}
    return "\n".join(_text(given)) + "\n"


def _external(answers: Answers) -> Mapping[str, object]:
    external: dict[str, object] = {}
    if answers.method != ExternalMethod.ROUTED:
        external["method"] = answers.method
    if answers.block:
        external["block"] = answers.block
    if answers.addresses:
        external["addresses"] = list(answers.addresses)
    return external


def _text(given: Mapping[str, object]) -> Iterator[str]:
    yield EDITOR_HINT
    yield "# What you want; solostack decides the rest and shows it: solostack plan"
    yield "# Commented lines are the defaults, uncomment one to change it."
    for name, field in Site.model_fields.items():
        yield ""
        if name == "hosts":
            yield f"hosts:  # {field.description}"
            yield from _host(given[name])
        else:
            yield from _field(name, field, given=given, indent="")


def _host(given: object) -> Iterator[str]:
    lines = _model(Host, given=given, indent="    ")
    yield next(lines).replace("    ", "  - ", 1)
    yield from lines


def _model(model: type[pydantic.BaseModel], *, given: object, indent: str) -> Iterator[str]:
    values = given if isinstance(given, Mapping) else {}
    for name, field in model.model_fields.items():
        yield from _field(name, field, given=values, indent=indent)


def _field(
    name: str, field: pydantic.fields.FieldInfo, *, given: Mapping[str, object], indent: str
) -> Iterator[str]:
    if name not in given:
        yield from (f"{indent}# {line}" for line in _default(name, field))
        return
    value = given[name]
    inner = model_of(field.annotation)
    if inner is not None:
        yield f"{indent}{name}:  # {field.description}"
        yield from _model(inner, given=value, indent=indent + "  ")
    else:
        yield f"{indent}{name}: {_scalar(value)}  # {field.description}"


def _default(name: str, field: pydantic.fields.FieldInfo) -> Iterator[str]:
    """Yield a default as it would stand uncommented, its inner lines' meaning behind them."""
    value = default_of(field)
    inner = model_of(field.annotation)
    if inner is not None and isinstance(value, Mapping):
        yield f"{name}:  # {field.description}"
        for key, below in inner.model_fields.items():
            yield from (f"  {line}" for line in _default(key, below))
    elif inner is not None and isinstance(value, list) and value:
        yield f"{name}:  # {field.description}"
        for each in value:
            yield "  - {" + ", ".join(f"{key}: {_scalar(of)}" for key, of in each.items()) + "}"
    else:
        yield f"{name}: {_scalar(value)}  # {field.description}"


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value)
