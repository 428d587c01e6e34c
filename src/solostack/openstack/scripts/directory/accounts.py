"""Actions on users and groups for `solostack users`: list, add, remove, lock, passwords, groups.

Passwords are set by an account that is not the manager, because to the manager the server's
password policy does not apply; its own password is made for the one action and forgotten.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import ldap  # type: ignore[import-not-found,unused-ignore]

from .entries import MARK, NOTE, PERSON, Tree, described
from .server import URI, Server, SetupError, reason

NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
LOCK = Path("/run/solostack-directory.lock")
# Below the time that solostack gives a request, so that what is said here is what is read there.
LOCK_TIMEOUT_S = 30.0
LOCK_PAUSE_S = 0.05
Request = Mapping[str, Any]
Row = dict[str, object]


def act(wanted: Mapping[str, Any], request: Request) -> Row:
    """Carry out one request; SetupError says why not. Those that change something take turns."""
    for key in ("name", "group"):
        if key in request and not NAME.fullmatch(request[key]):
            raise SetupError(
                f"{request[key]!r} is no name",
                hint="names are lower case letters, digits, _ . - and begin with a letter",
                kind="name",
            )
    work = _Accounts(Server(dry_run=False), wanted)
    if request["action"] == "list":
        return {"users": work.users(), "groups": work.groups()}
    with _turn():
        _change(work, request)
    return {"done": True}


def _change(work: _Accounts, request: Request) -> None:
    match request["action"]:
        case "add":
            work.add(request)
        case "remove":
            work.remove(request["name"])
        case "password":
            work.set_password(request["name"], request["password"])
        case "lock":
            work.set_lock(request["name"], locked=request["locked"])
        case "join":
            work.join(request["name"], request["group"])
        case "leave":
            work.leave(request["name"], request["group"])
        case _:
            raise SetupError(f"there is no action {request['action']}")


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Hold the lock: the one account that sets passwords has a new password of its own each time.

    Members of a group are read, then written, too. The kernel ends the lock with its process.
    """
    with os.fdopen(os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        end_s = time.monotonic() + LOCK_TIMEOUT_S
        while not _is_taken(file):
            if time.monotonic() > end_s:
                raise SetupError(
                    f"another command has been changing users for {LOCK_TIMEOUT_S:.0f} s and does "
                    "not end",
                    hint=f"try again; on the directory node `lslocks | grep {LOCK.name}` shows it",
                    kind="busy",
                )
            time.sleep(LOCK_PAUSE_S)
        yield


def _is_taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Accounts:
    """The directory's users and groups."""

    def __init__(self, server: Server, wanted: Mapping[str, Any]) -> None:
        self._server = server
        self._tree = Tree(wanted["suffix"])
        self._site_users = {user["name"] for user in wanted["users"]}

    def users(self) -> list[Row]:
        """Return all users by name."""
        rows = self._server.children(
            self._tree.people,
            "inetOrgPerson",
            ("uid", "cn", "mail", "nsAccountLock", "memberOf", NOTE),
        )
        return sorted((self._row(entry) for _, entry in rows), key=lambda row: str(row["name"]))

    def _row(self, entry: Mapping[str, list[str]]) -> Row:
        note = entry.get(NOTE.lower(), [""])[0]
        groups = [_first_value(dn) for dn in entry.get("memberof", [])]
        return {
            "name": entry["uid"][0],
            "full_name": entry["cn"][0],
            "mail": entry.get("mail", [""])[0],
            "enabled": entry.get("nsaccountlock", [""])[0].lower() != "true",
            "origin": "site" if note.startswith(MARK) else "command",
            "groups": sorted(groups),
        }

    def groups(self) -> list[Row]:
        """Return all groups by name."""
        rows = self._server.children(self._tree.groups, "groupOfNames", ("cn", "member"))
        found: list[Row] = [
            {"name": entry["cn"][0], "members": sorted(map(_first_value, entry.get("member", [])))}
            for _, entry in rows
        ]
        return sorted(found, key=lambda row: str(row["name"]))

    def add(self, request: Request) -> None:
        """Make a user with a password, in groups that exist."""
        name, dn = request["name"], self._tree.user(request["name"])
        if self._server.read(dn, ("1.1",)) is not None:
            raise SetupError(
                f"there is a user {name} already",
                hint=f"another name, or a new password: solostack users passwd {name}",
                kind="exists",
            )
        for group in request["groups"]:
            self._group(group)
        values = {"objectClass": PERSON, "uid": [name], **described(request),
                  "userPassword": [request["password"]]}  # fmt: skip
        encoded = [(key, [one.encode() for one in each]) for key, each in values.items() if each]
        try:
            self._as_admin().add_s(dn, encoded)
        except ldap.CONSTRAINT_VIOLATION as error:
            raise _weak(error) from error
        for group in request["groups"]:
            self.join(name, group)

    def remove(self, name: str) -> None:
        """Delete a user; the server takes it out of its groups."""
        self._user(name)
        if name in self._site_users:
            raise SetupError(
                f"{name} is in the site file",
                hint="take the user out of directory.users there and run solostack up, which locks "
                f"it; then solostack users remove {name}",
                kind="site",
            )
        self._server.delete(self._tree.user(name))

    def set_password(self, name: str, password: str) -> None:
        """Give a user a new password and end a lock that wrong ones have brought."""
        self._user(name)
        dn = self._tree.user(name)
        try:
            self._as_admin().modify_s(dn, [(ldap.MOD_REPLACE, "userPassword", [password.encode()])])
        except ldap.CONSTRAINT_VIOLATION as error:
            raise _weak(error) from error
        self._server.modify(dn, {"passwordRetryCount": [], "accountUnlockTime": []})

    def set_lock(self, name: str, *, locked: bool) -> None:
        """Lock a user out, or let it in again."""
        self._user(name)
        self._server.modify(self._tree.user(name), {"nsAccountLock": ["TRUE"] if locked else []})

    def join(self, name: str, group: str) -> None:
        """Put a user into a group; nothing happens when it is there."""
        self._user(name)
        members, dn = self._group(group), self._tree.user(name)
        if dn.lower() not in map(str.lower, members):
            self._server.modify(self._tree.group(group), {"member": [*members, dn]})

    def leave(self, name: str, group: str) -> None:
        """Take a user out of a group; nothing happens when it is not there."""
        members, dn = self._group(group), self._tree.user(name).lower()
        left = [member for member in members if member.lower() != dn]
        if len(left) != len(members):
            self._server.modify(self._tree.group(group), {"member": left})

    def _user(self, name: str) -> None:
        if self._server.read(self._tree.user(name), ("1.1",)) is None:
            raise SetupError(
                f"there is no user {name}", hint="solostack users list shows all", kind="absent"
            )

    def _group(self, name: str) -> list[str]:
        entry = self._server.read(self._tree.group(name), ("member",))
        if entry is None:
            raise SetupError(
                f"there is no group {name}",
                hint="add it to directory.groups in the site file and run solostack up",
                kind="absent",
            )
        return entry.get("member", [])

    def _as_admin(self) -> Any:  # noqa: ANN401  an LDAPObject
        password = secrets.token_hex(24)
        self._server.modify(self._tree.admin, {"userPassword": [password]})
        link = ldap.initialize(URI)
        link.simple_bind_s(self._tree.admin, password)
        self._server.modify(self._tree.admin, {"userPassword": ["{CRYPT}*"]})
        return link


def _weak(error: ldap.LDAPError) -> SetupError:
    return SetupError(
        f"the directory refuses this password: {reason(error)}",
        hint="choose another, or let one be made: --generate",
        kind="weak",
    )


def _first_value(dn: str) -> str:
    return dn.split(",", 1)[0].partition("=")[2]
