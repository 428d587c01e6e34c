"""Two snapshots of a host compared: what is not as before, and which of it has a reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from solostack.host.snapshot_model import Difference, Kind, Owners, Section, Snapshot
from solostack.host.snapshot_reasons import definition, explained
from solostack.host.snapshot_volatile import is_volatile

FORMAT = 1
ALL = "(all)"
_OF_LINK = re.compile(r"net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.(?P<link>.+)\.[^.]+")
_FOR_EVERY_LINK = ("all", "default")


def parse_snapshot(raw: Mapping[str, Any]) -> Snapshot:
    """Return what snapshot_script wrote.

    Raises:
        ValueError: it is no snapshot, or one of another version of solostack.
    """
    if raw.get("format") != FORMAT:
        raise ValueError("it is no snapshot of this version of solostack")
    sections = {}
    for name, section in raw["sections"].items():
        items = {_text(key): _text(value) for key, value in section.get("items", {}).items()}
        sections[name] = Section(items=items, unknown=str(section.get("unknown", "")))
    return Snapshot(sections=sections)


def parse_owners(raw: Mapping[str, Any]) -> Owners:
    """Return what snapshot_owners_script wrote."""
    maps = {
        name: {key: frozenset(packages) for key, packages in raw[name].items()}
        for name in ("paths", "mentions", "units", "accounts", "sysctl")
    }
    return Owners(**maps, edited=frozenset(raw["edited"]))


def compare(
    before: Snapshot,
    after: Snapshot,
    *,
    kept_packages: Collection[str] = (),
    made: Collection[str] = (),
    owners: Owners | None = None,
) -> tuple[Difference, ...]:
    """Return everything that differs, each thing once, in the order of section and name.

    kept_packages are those that `up` brought and `down` leaves; with owners, differences that
    follow from them have their reason. made are paths that `up` itself made: they have none.
    Volatile things are left out, and so are the settings of
    interfaces that came or went: the interface itself is reported.
    """
    found = tuple(
        difference
        for section in sorted({*before.sections, *after.sections})
        for difference in _section(section, before, after)
    )
    return explained(
        found,
        snapshots=(before, after),
        kept=frozenset(kept_packages),
        made=frozenset(made),
        owners=owners or Owners(),
    )


def count_compared(before: Snapshot, after: Snapshot) -> dict[str, int]:
    """Return how many things of each section were compared; 0 for what could not be looked at."""
    counts = {}
    for section in sorted({*before.sections, *after.sections}):
        known = not (_unknown(before, section) or _unknown(after, section))
        names = {*before.items(section), *after.items(section)} if known else ()
        counts[section] = sum(_is_compared(section, name, before, after) for name in names)
    return counts


def owners_request(differences: Collection[Difference]) -> dict[str, list[str]]:
    """Return the names that snapshot_owners_script is to look up, folders around paths too."""
    paths = {one.name for one in differences if one.section in ("files", "state folders")}
    paths |= {definition(one.name) for one in differences if one.section == "libvirt"} - {""}
    for path in tuple(paths):
        while path.count("/") > 2:
            path = path.rpartition("/")[0]
            paths.add(path)
    units = {one.name for one in differences if one.section in ("units", "services")}
    paths |= {f"/etc/systemd/system/{name}" for name in units}
    accounts = {one.name for one in differences if one.section in ("users", "groups")}
    settings = {one.name for one in differences if one.section == "sysctl"}
    return {
        "paths": sorted(paths),
        "units": sorted(units),
        "accounts": sorted(accounts),
        "sysctl": sorted(settings),
    }


def _text(value: object) -> str:
    # A name on a file system is bytes; what is no UTF-8 of it cannot be printed.
    return str(value).encode("utf-8", "replace").decode()


def _section(section: str, before: Snapshot, after: Snapshot) -> Iterator[Difference]:
    unknown = _unknown(before, section), _unknown(after, section)
    old, new = before.items(section), after.items(section)
    if any(unknown):
        if old or new:
            yield Difference(
                section=section,
                name=ALL,
                kind=Kind.CHANGED,
                before=_summary(old, unknown[0]),
                after=_summary(new, unknown[1]),
            )
        return
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name) or not _is_compared(section, name, before, after):
            continue
        kind = Kind.ADDED if name not in old else Kind.CHANGED if name in new else Kind.REMOVED
        yield Difference(
            section=section,
            name=name,
            kind=kind,
            before=old.get(name, ""),
            after=new.get(name, ""),
        )


def _unknown(snapshot: Snapshot, section: str) -> str:
    found = snapshot.sections.get(section)
    return "it was not looked at" if found is None else found.unknown


def _summary(items: Mapping[str, str], unknown: str) -> str:
    return f"unknown: {unknown}" if unknown else f"{len(items)} of them"


def _is_compared(section: str, name: str, before: Snapshot, after: Snapshot) -> bool:
    if is_volatile(section, name):
        return False
    found = _OF_LINK.fullmatch(name) if section == "sysctl" else None
    if found is None:
        return True
    # sysctl(8) writes the dot of eth0.100 as a slash.
    link = found["link"].replace("/", ".")
    old, new = before.items("links"), after.items("links")
    return link in _FOR_EVERY_LINK or (link in old) == (link in new)
