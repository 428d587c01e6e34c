"""One value of a site file changed in its text; everything else stays as it is, comments too."""

from __future__ import annotations

import re
from typing import Any

import ruamel.yaml
from ruamel.yaml.comments import CommentedMap

_SCALAR = re.compile(r"""\"[^\"]*\"|'[^']*'|[^\s,}\]#]+""")


def with_number(text: str, location: tuple[str, ...], value: int) -> str:
    """Return text with the number at location, which names keys from the top, set to value.

    Where the file leaves the key out, it is added first in its mapping. text must be a site file
    that loads, with the mapping around the key in it; KeyError without one.
    """
    yaml = ruamel.yaml.YAML(typ="rt", pure=True)
    mapping: Any = yaml.load(text)
    *path, key = location
    for part in path:
        mapping = mapping[part]
        if not isinstance(mapping, CommentedMap):
            raise KeyError(part)
    lines = text.splitlines(keepends=True)
    if key in mapping:
        row, column = mapping.lc.value(key)
        line = lines[row]
        found = _SCALAR.match(line, column)
        end = found.end() if found else column
        lines[row] = f"{line[:column]}{value}{line[end:]}"
        return "".join(lines)
    row, column = mapping.lc.line, mapping.lc.col
    entry = f"{key}: {value}"
    line = lines[row]
    if line[column] == "{":
        separator = ", " if len(mapping) else ""
        lines[row] = f"{line[: column + 1]}{entry}{separator}{line[column + 1 :]}"
    else:
        lines.insert(row, f"{' ' * column}{entry}\n")
    return "".join(lines)
