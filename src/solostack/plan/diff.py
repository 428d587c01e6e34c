"""What differs between two plans, in the words of the plan. Pure, on their JSON form."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator, Mapping

from solostack.plan.serial import Json

_DERIVED = frozenset({"addresses"})
"""Parts that only restate others, left out: the address table follows from the rest."""

_LIST_KEY = "name"


class ChangeKind(enum.StrEnum):
    """What happens to a value."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Scope(enum.StrEnum):
    """Where a change is felt."""

    HOST = "host"
    NODES = "nodes"
    CLOUD = "cloud"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. path is as in ``nodes[controller].memory_mib``; old or new is None if absent.

    Lists of named things are compared by name, so their order is no difference.
    """

    path: str
    kind: ChangeKind
    scope: Scope
    old: Json = None
    new: Json = None

    def line(self) -> str:
        """Return the change as one line for people."""
        match self.kind:
            case ChangeKind.ADDED:
                return f"+ {self.path}: {_shown(self.new)}"
            case ChangeKind.REMOVED:
                return f"- {self.path}: {_shown(self.old)}"
            case ChangeKind.CHANGED:
                return f"~ {self.path}: {_shown(self.old)} -> {_shown(self.new)}"


def diff(old: Mapping[str, Json], new: Mapping[str, Json]) -> tuple[Change, ...]:
    """Return what is different in new, ordered by path; () for equal plans.

    Both are a plan's ``to_data``. An empty old gives one ADDED change per part of new.
    """
    before = {key: value for key, value in old.items() if key not in _DERIVED}
    after = {key: value for key, value in new.items() if key not in _DERIVED}
    return tuple(_mappings("", before, after))


def _mappings(path: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[Change]:
    for key in sorted(old.keys() | new.keys()):
        below = f"{path}.{key}" if path else key
        yield from _entry(below, key, old, new)


def _entry(
    path: str, key: str, old: Mapping[str, Json], new: Mapping[str, Json]
) -> Iterator[Change]:
    scope = _scope(path)
    if key not in old:
        yield Change(path=path, kind=ChangeKind.ADDED, scope=scope, new=new[key])
    elif key not in new:
        yield Change(path=path, kind=ChangeKind.REMOVED, scope=scope, old=old[key])
    else:
        yield from _values(path, old[key], new[key])


def _values(path: str, old: Json, new: Json) -> Iterator[Change]:
    if _same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _mappings(path, old, new)
        return
    old_named, new_named = _named(old), _named(new)
    if old_named is not None and new_named is not None:
        if old_named.keys() == new_named.keys() and old_named == new_named:
            return
        for name in sorted(old_named.keys() | new_named.keys()):
            yield from _entry(f"{path}[{name}]", name, old_named, new_named)
        return
    yield Change(path=path, kind=ChangeKind.CHANGED, scope=_scope(path), old=old, new=new)


def _named(value: Json) -> dict[str, Json] | None:
    """Return a list of things with distinct names by name; None for any other value."""
    if not isinstance(value, list):
        return None
    found: dict[str, Json] = {}
    for each in value:
        name = each.get(_LIST_KEY) if isinstance(each, dict) else None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = each
    return found


def _same(old: Json, new: Json) -> bool:
    """Equal as JSON: unlike in Python, true is not 1."""
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True)


def _scope(path: str) -> Scope:
    top = path.replace("[", ".").split(".")[0]
    if top in {"hosts", "data", "egress", "firewall"}:
        return Scope.HOST
    if top in {"nodes", "workers", "release", "region", "site"}:
        return Scope.NODES
    if path in {
        "external.block",
        "external.bridge",
        "external.method",
        "external.networks",
        "external.published",
        "external.transit",
        "external.transit_gateway",
    }:
        return Scope.HOST
    return Scope.CLOUD
