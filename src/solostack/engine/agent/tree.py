"""The file operations, over the real file system or, in a dry run, what it would be by then."""

from __future__ import annotations

import os
import threading

from .files import (
    ABSENT,
    DIRECTORY,
    FILE,
    LINK,
    NOTHING,
    OTHER,
    State,
    look,
    put,
)
from .report import UNCHANGED, Failure, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .ledger import Ledger
    from .pending import Pending

UNKNOWN_ID = -1
PARENT = State(DIRECTORY, mode=0o755)


class Tree:
    """Looks at paths and changes them, with the ledger and the pending acts told beforehand."""

    def __init__(self, *, dry_run: bool, ledger: Ledger | None, pending: Pending | None) -> None:
        self._dry_run = dry_run
        self._ledger = ledger
        self._pending = pending
        self._virtual: dict[str, State] = {}
        self._lock = threading.RLock()

    def look(self, path: str) -> State:
        """Return what is at path, with the dry run's own changes."""
        found = self._virtual.get(path)
        return look(path) if found is None else found

    def change(self, path: str, wanted: State, record: Callable[[State], None] | None) -> None:
        """Make wanted of path, and its missing parents; record keeps what was there before."""
        with self._lock:
            if wanted.kind != ABSENT:
                for parent in self._missing_parents(path):
                    self.change(parent, PARENT, self.recorder(parent))
            if self._pending is not None:
                self._pending.touch(path)
            if self._dry_run:
                self._virtual[path] = wanted
                return
            if record is not None:
                record(look(path))
            put(path, wanted)

    def is_filled(self, path: str) -> bool:
        """Say whether there is anything in the directory at path."""
        names = set(os.listdir(path)) if os.path.isdir(path) else set()
        names |= {os.path.basename(one) for one in self._virtual if os.path.dirname(one) == path}
        return any(self.look(f"{path}/{name}").kind != ABSENT for name in names)

    def _missing_parents(self, path: str) -> list[str]:
        """Return the folders that must be made before path, the uppermost first."""
        missing: list[str] = []
        parent = os.path.dirname(path)
        while (kind := self.look(parent).kind) != DIRECTORY:
            if kind == LINK and os.path.isdir(parent):
                break
            if kind != ABSENT:
                raise Failure(f"{parent} is there and is not a directory")
            missing.append(parent)
            parent = os.path.dirname(parent)
        return missing[::-1]

    def recorder(self, path: str) -> Callable[[State], None] | None:
        """Return what keeps the whole prior state of path in the ledger, if there is one."""
        ledger = self._ledger
        return None if ledger is None else lambda prior: ledger.record_path(path, prior)

    def file(self, operation: dict[str, Any]) -> Outcome:
        """Run a File operation."""
        path, now = operation["path"], self.look(operation["path"])
        if now.kind in {DIRECTORY, OTHER}:
            raise Failure(f"{path} is there and is not a file")
        wanted = self._wanted(FILE, operation, operation["content"])
        if now.same(wanted):
            return UNCHANGED
        self.change(path, wanted, self.recorder(path))
        return self._outcome(operation, now, wanted)

    def directory(self, operation: dict[str, Any]) -> Outcome:
        """Run a Directory operation; a link to a directory counts as that directory."""
        path = operation["path"]
        now = self.look(path)
        if now.kind == LINK and os.path.isdir(path):
            path = os.path.realpath(path)
            now = self.look(path)
        if now.kind not in {DIRECTORY, ABSENT}:
            raise Failure(f"{path} is there and is not a directory")
        wanted = self._wanted(DIRECTORY, operation, "")
        if now.same(wanted):
            return UNCHANGED
        self.change(path, wanted, self.recorder(path))
        return Outcome(changed=True, details=_access_details(operation, now, wanted))

    def line(self, operation: dict[str, Any]) -> Outcome:
        """Run a Line operation; a link is followed and stays."""
        path = os.path.realpath(operation["path"])
        now = self.look(path)
        if now.kind not in {FILE, ABSENT}:
            raise Failure(f"{path} is there and is not a file")
        old, text = edit_line(_text(now.content), operation["match"], operation["line"])
        if text == _text(now.content):
            return UNCHANGED
        content = text.encode("utf-8", "surrogateescape")
        mode, uid, gid = (0o644, 0, 0) if now.kind == ABSENT else now.access()
        wanted = State(FILE, content=content, mode=mode, uid=uid, gid=gid)
        ledger, line = self._ledger, operation["line"]
        record: Callable[[State], None] | None = None
        if ledger is not None:

            def record(prior: State) -> None:
                ledger.record_line(path, prior, content, (old, line))

        self.change(path, wanted, record)
        return self._outcome(operation, now, wanted)

    def absent(self, operation: dict[str, Any]) -> Outcome:
        """Run an Absent operation."""
        path, now = operation["path"], self.look(operation["path"])
        if now.kind == ABSENT:
            return UNCHANGED
        if now.kind == OTHER:
            raise Failure(f"{path} is neither a file nor a link nor a directory; not removed")
        if now.kind == DIRECTORY and self.is_filled(path):
            raise Failure(f"{path} is a directory that is not empty; not removed")
        self.change(path, NOTHING, self.recorder(path))
        return Outcome(changed=True, details=(f"remove the {now.kind}",))

    def _wanted(self, kind: str, operation: dict[str, Any], content: str) -> State:
        return State(
            kind,
            content=content.encode("utf-8", "surrogateescape"),
            mode=operation["mode"],
            uid=self._number("user", operation["owner"]),
            gid=self._number("group", operation["group"]),
        )

    def _number(self, kind: str, name: str) -> int:
        """Return the number of a user or group; in a dry run it may be one that is yet to come."""
        if name == "root" or name.isdigit():
            return 0 if name == "root" else int(name)
        try:
            if kind == "user":
                import pwd

                return pwd.getpwnam(name).pw_uid
            import grp

            return grp.getgrnam(name).gr_gid
        except KeyError:
            if self._dry_run:
                return UNKNOWN_ID
            raise Failure(f"no {kind} called {name}") from None

    def _outcome(self, operation: dict[str, Any], now: State, wanted: State) -> Outcome:
        diff = ""
        if self._dry_run and not now.same_content(wanted):
            from .diff import render_diff

            diff = render_diff(
                operation["path"], now, wanted, private=bool(operation.get("holds_secrets"))
            )
        return Outcome(changed=True, details=_access_details(operation, now, wanted), diff=diff)


def edit_line(text: str, match: str, line: str) -> tuple[str | None, str]:
    """Put line in the place of the first one that matches; return the old one and the new text."""
    import re

    lines = text.split("\n")
    count = len(lines) - 1 if lines[-1] == "" else len(lines)
    for index in range(count):
        if re.search(match, lines[index]):
            old, lines[index] = lines[index], line
            return old, "\n".join(lines)
    if count == len(lines) and text:
        text += "\n"
    return None, f"{text}{line}\n"


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _access_details(operation: dict[str, Any], now: State, wanted: State) -> tuple[str, ...]:
    if now.kind == ABSENT:
        return (f"new {wanted.kind}, mode {wanted.mode:04o}",)
    details = []
    if now.kind != wanted.kind:
        details.append(f"{now.kind} -> {wanted.kind}")
    if now.mode != wanted.mode:
        details.append(f"mode {now.mode:04o} -> {wanted.mode:04o}")
    if (now.uid, now.gid) != (wanted.uid, wanted.gid):
        details.append(f"owner {now.uid}:{now.gid} -> {operation['owner']}:{operation['group']}")
    if not now.same_content(wanted):
        details.append("content")
    return tuple(details)
