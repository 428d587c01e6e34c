"""What a host's state is, and what a difference between two of them is. Pure values."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One kind of thing on a host: names, each with one line or text that describes it.

    unknown says why it could not be looked at; empty when it could.
    """

    items: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unknown: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A host's state at one moment, by section."""

    sections: Mapping[str, Section]

    def items(self, section: str) -> Mapping[str, str]:
        """Return a section's items, none of a section that is not there or unknown."""
        found = self.sections.get(section)
        return {} if found is None else found.items


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Which packages things came with: by path, unit, account or kernel setting.

    mentions are paths in maintainer scripts and snippets of packages whose lists lack them; edited
    are configuration files that are not as their package shipped them.
    """

    paths: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    mentions: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    units: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    accounts: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    sysctl: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    edited: frozenset[str] = frozenset()


class Kind(enum.StrEnum):
    """How a thing differs from before."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as before.

    before or after is empty where the thing is not there; because says which package that stays
    brings it, or what else explains it, and is empty for a leftover.
    """

    section: str
    name: str
    kind: Kind
    before: str = ""
    after: str = ""
    because: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `down` found out of one host.

    differences are leftovers, or what others did meanwhile; kept_with_packages follow from
    packages that stay. compared counts the things looked at by section. problem says why nothing
    was compared, empty when it was.
    """

    differences: tuple[Difference, ...] = ()
    kept_with_packages: tuple[Difference, ...] = ()
    compared: Mapping[str, int] = dataclasses.field(default_factory=dict)
    problem: str = ""
