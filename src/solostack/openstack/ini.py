"""Configuration file text: oslo.config and uWSGI ini files. Pure; knows no service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Value = str | int | bool | Sequence[str]
Section = Mapping[str, Value]
BANNER = "# Written by solostack; changes made here are lost at the next apply.\n"


def render_ini(sections: Mapping[str, Section]) -> str:
    """Render sections in the order given; empty sections are left out.

    Lists become comma separated values. A ``$`` is written as it is: oslo.config substitutes
    ``$name``, so values must not hold one that is not meant so.
    """
    blocks = [
        f"[{name}]\n" + "".join(f"{key} = {_text(value)}\n" for key, value in section.items())
        for name, section in sections.items()
        if section
    ]
    return BANNER + "\n" + "\n".join(blocks)


def _text(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case _:
            return ",".join(value)
