"""Why something is not as before, where that is no leftover: packages that stay. Pure.

A reason is given only to what was not there before. Exceptions are lists of accounts and members,
alternatives that a new package took over, and settings that a package ships.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from solostack.host.snapshot_model import Difference, Kind, Owners, Snapshot

MODULE = "a kernel module that stays loaded until the next boot"
# The files that say again what users and groups say.
_LISTS = {
    "/etc/passwd": "users",
    "/etc/shadow": "users",
    "/etc/subuid": "users",
    "/etc/subgid": "users",
    "/etc/group": "groups",
    "/etc/gshadow": "groups",
}
_ROOTS = ("/etc", "/usr/local", "/var/lib")
# What is defined at run time is here, in folders that packages brought.
_DEFINED = ("/etc/libvirt/qemu/", "/etc/libvirt/storage/", "/etc/libvirt/secrets/")
# Written by pam-auth-update from what packages offer; with the same access.
_PAM = "/etc/pam.d/common-"


def explained(
    differences: Sequence[Difference],
    *,
    snapshots: tuple[Snapshot, Snapshot],
    kept: frozenset[str],
    made: frozenset[str],
    owners: Owners,
) -> tuple[Difference, ...]:
    """Return the differences with their reasons; packages count that are new and stay.

    snapshots are those of before and after; made are paths that have no reason.
    """
    before, after = snapshots
    new = _installed(after) - _installed(before)
    owners = dataclasses.replace(owners, edited=owners.edited | made)
    reasons = _Reasons(before, kept & new, owners, differences)
    found = {(one.section, one.name): reasons.of(one) for one in differences}
    for one in reversed(differences):
        # Of folders nobody names (most of systemd's *.wants): the deepest first, as names go.
        if not found[one.section, one.name] and one.after.startswith("directory "):
            inside = [why for place, why in found.items() if place[1].startswith(f"{one.name}/")]
            if one.kind is Kind.ADDED and one.name not in made and inside and all(inside):
                found[one.section, one.name] = inside[0]
    return tuple(
        dataclasses.replace(one, because=found[one.section, one.name]) for one in differences
    )


class _Reasons:
    def __init__(
        self,
        before: Snapshot,
        kept: frozenset[str],
        owners: Owners,
        differences: Sequence[Difference],
    ) -> None:
        self._before = before
        self._kept = kept
        self._owners = owners
        self._accounts: dict[str, dict[str, str]] = {"users": {}, "groups": {}}
        # Users first: the reason of a group's new member is that of the user.
        for section in ("users", "groups"):
            for one in differences:
                if one.section == section:
                    self._accounts[section][one.name] = self._account(one)

    def of(self, one: Difference) -> str:
        """Return a difference's reason, empty for a leftover."""
        match one.section:
            case "packages":
                return self._package(frozenset({_plain(one.name)}), one)
            case "users" | "groups":
                return self._accounts[one.section][one.name]
            case "files" | "state folders":
                return self._path(one)
            case "units" | "services":
                return self._unit(one)
            case "libvirt":
                return self._definition(one)
            case "sysctl":
                return self._setting(one)
            case _:
                return ""

    def _package(self, packages: frozenset[str], one: Difference) -> str:
        return self._because(packages) if one.kind is Kind.ADDED else ""

    def _because(self, packages: frozenset[str]) -> str:
        found = packages & self._kept
        return f"kept package {min(found)}" if found else ""

    def _account(self, one: Difference) -> str:
        if one.section == "groups" and one.kind is Kind.CHANGED:
            old, new = _members(one.before), _members(one.after)
            why = sorted(self._accounts["users"].get(name, "") for name in new[1] - old[1])
            return why[0] if why and old[0] == new[0] and old[1] <= new[1] and all(why) else ""
        return self._package(self._owners.accounts.get(one.name, frozenset()), one)

    def _path(self, one: Difference) -> str:
        if one.kind is Kind.CHANGED and one.name in _LISTS:
            return self._list(one)
        if one.kind is Kind.CHANGED and one.name.startswith("/etc/alternatives/"):
            packages = self._owners.paths.get(one.name, frozenset())
            return self._because(packages) if packages <= self._kept else ""
        if one.kind is Kind.CHANGED and one.name.startswith(_PAM):
            why = self._because(self._owners.mentions.get(one.name, frozenset()))
            return why if _access(one.before) == _access(one.after) else ""
        return self._new_path(one.name) if one.kind is Kind.ADDED else ""

    def _list(self, one: Difference) -> str:
        reasons = self._accounts[_LISTS[one.name]].values()
        same_access = _access(one.before) == _access(one.after)
        return min(reasons) if reasons and all(reasons) and same_access else ""

    def _new_path(self, path: str) -> str:
        """Return why a path is there: a package has it, makes it, or brought the folder."""
        if path in self._owners.edited:
            return ""
        of = self._owners.paths.get(path, frozenset()) | self._owners.mentions.get(
            path, frozenset()
        )
        why = self._because(of)
        folder = path.rpartition("/")[0]
        is_new = not any(folder in self._before.items(name) for name in ("files", "state folders"))
        if why or not is_new or folder in ("", *_ROOTS) or path.startswith(_DEFINED):
            return why
        return self._new_path(folder)

    def _unit(self, one: Difference) -> str:
        why = self._package(self._owners.units.get(one.name, frozenset()), one)
        if why or one.kind is not Kind.ADDED:
            return why
        return self._because(self._owners.paths.get(f"/etc/systemd/system/{one.name}", frozenset()))

    def _definition(self, one: Difference) -> str:
        path = definition(one.name)
        return self._new_path(path) if path and one.kind is Kind.ADDED else ""

    def _setting(self, one: Difference) -> str:
        if one.kind is Kind.ADDED:
            return MODULE
        packages = self._owners.sysctl.get(one.name, frozenset())
        return self._because(packages) if one.kind is Kind.CHANGED else ""


def definition(name: str) -> str:
    """Return the file that defines a libvirt object which packages bring: a network; else empty."""
    kind, _, network = name.partition(" ")
    return f"/etc/libvirt/qemu/networks/{network}.xml" if kind == "network" else ""


def _installed(snapshot: Snapshot) -> frozenset[str]:
    # A value that ends in ")" is one of a package whose configuration alone is left.
    items = snapshot.items("packages").items()
    return frozenset(_plain(name) for name, value in items if not value.endswith(")"))


def _plain(package: str) -> str:
    """Return a package's name without its architecture."""
    return package.partition(":")[0]


def _access(value: str) -> list[str]:
    return value.split()[:3]


def _members(value: str) -> tuple[str, frozenset[str]]:
    number, _, names = value.partition(":")
    return number, frozenset(filter(None, names.split(",")))
