"""The site's JSON schema for editors and the table of keys for docs/site.md, from the model."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator

import pydantic
import pydantic.fields
import pydantic_core

from solostack.site.model import Site
from solostack.site.releases import RELEASES

SCHEMA_FILE = "site.schema.json"
EDITOR_HINT = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""First line of a site file: editors with yaml-language-server then complete and check it."""


def json_schema() -> dict[str, typing.Any]:
    """Return the JSON schema (draft 2020-12) of a site file.

    It knows what the types say; overlaps, clashes and the like only load_site finds.
    """
    schema = Site.model_json_schema()
    properties = schema["properties"]
    properties["release"] = {
        "title": "Release",
        "description": properties["release"]["description"],
        "default": properties["release"]["default"],
        # An unquoted 2025.1 is a number to editors; the loader reads the text.
        "enum": [*RELEASES, *(float(name) for name in RELEASES)],
    }
    _name_networks(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "solostack site",
        "description": "One physical host with one network card becomes an OpenStack cloud.",
        **{key: value for key, value in schema.items() if key not in {"title", "description"}},
    }


def render_schema() -> str:
    """Return the schema as the text of SCHEMA_FILE."""
    return json.dumps(json_schema(), indent=2) + "\n"


def render_reference() -> str:
    """Return every key of a site as a Markdown table: key, default, meaning."""
    rows = [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _rows(Site, "")]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"


def default_of(field: pydantic.fields.FieldInfo) -> object:
    """Return a field's default as plain data (mappings, lists, scalars); it must have one."""
    return pydantic_core.to_jsonable_python(field.get_default(call_default_factory=True))


def model_of(annotation: object) -> type[pydantic.BaseModel] | None:
    """Return the model an annotation holds (``Host``, ``tuple[Host, ...]``, ``Demo | None``)."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, pydantic.BaseModel) else None
    models = (model_of(each) for each in typing.get_args(annotation))
    return next((each for each in models if each is not None), None)


def is_list(annotation: object) -> bool:
    """Say whether an annotation is a list's."""
    return typing.get_origin(annotation) is tuple


def _rows(model: type[pydantic.BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        below = f"{prefix}{name}[]" if is_list(field.annotation) else f"{prefix}{name}"
        yield below, _default_text(field, inner), _meaning(field)
        if inner is not None:
            yield from _rows(inner, f"{below}.")


def _default_text(field: pydantic.fields.FieldInfo, inner: type[pydantic.BaseModel] | None) -> str:
    if field.is_required():
        return "**required**"
    value: typing.Any = default_of(field)
    match value:
        case None:
            return "-"
        case dict() if inner is not None:
            return "see below"
        case [_, *_] if inner is not None:
            return ", ".join(f"`{each['name']}`" for each in value)
        case str():
            return f"`{value}`"
        case _:
            return f"`{json.dumps(value)}`"


def _meaning(field: pydantic.fields.FieldInfo) -> str:
    text = field.description or ""
    bounds = [
        f"{word} {getattr(each, name)}"
        for each in field.metadata
        for name, word in (("ge", "at least"), ("le", "at most"))
        if getattr(each, name, None) is not None
    ]
    return "; ".join([text, *bounds])


def _name_networks(schema: object) -> None:
    """Give what JSON schema has no format for a pattern editors can check."""
    if isinstance(schema, list):
        for each in schema:
            _name_networks(each)
    if isinstance(schema, dict):
        if schema.get("format") == "ipv4network":
            schema["pattern"] = r"^[0-9]+(\.[0-9]+){3}(/[0-9]{1,2})?$"
        for each in schema.values():
            _name_networks(each)
