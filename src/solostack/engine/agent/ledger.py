"""The ledger: how every changed thing was before, on disk for sure before it is changed.

One JSON object per line in journal.jsonl; contents in blobs/ by their SHA-256. A thing that is
changed again keeps its first record. Taking back is undo's work; a record that it is done with is
marked and counts no more.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time

from .files import FILE, State, sync_directory, write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FOLDER = "/var/lib/solostack/ledger"
JOURNAL = f"{FOLDER}/journal.jsonl"
BLOBS = f"{FOLDER}/blobs"


class Ledger:
    """The journal on this machine. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.entries = _load()
        self._next = 1 + max((entry["id"] for entry in self.entries), default=0)
        self._open = [entry for entry in self.entries if not entry.get("undone")]
        self._known = {_key(entry) for entry in self._open if entry["kind"] != "line"}
        self._file = -1

    def open_entries(self) -> list[dict[str, Any]]:
        """Return the records that are not taken back yet, the oldest first."""
        return list(self._open)

    def record_path(self, path: str, prior: State) -> None:
        """Keep what was at path."""
        self._record({"kind": "path", "path": path}, prior=prior)

    def record_line(
        self, path: str, prior: State, after: bytes, lines: tuple[str | None, str]
    ) -> None:
        """Keep one changed line (old, or None when it is added; new) and the file around it."""
        self._record(
            {
                "kind": "line",
                "path": path,
                "after": hashlib.sha256(after).hexdigest(),
                "old": lines[0],
                "new": lines[1],
            },
            prior=prior,
        )

    def record_step(self, name: str, undo: str, secrets: Sequence[str]) -> None:
        """Keep the script that takes a step back; secrets are the values it must not show."""
        content = json.dumps({"undo": undo, "secrets": list(secrets)}).encode()
        self._record({"kind": "step", "name": name, "blob": _digest(content)}, content=content)

    def record_unit(self, name: str, prior: dict[str, Any], restart_on: Sequence[str]) -> None:
        """Keep a unit's state and the paths after whose return it must restart."""
        for entry in self._open:
            if entry["kind"] == "unit" and entry["name"] == name:
                prior = entry["prior"]
        self._record(
            {"kind": "unit", "name": name, "prior": prior, "restart_on": sorted(restart_on)}
        )

    def record_packages(self, names: Sequence[str]) -> None:
        """Keep the names of packages that were not there."""
        self._record({"kind": "packages", "names": sorted(names)})

    def mark_undone(self, entry: dict[str, Any]) -> None:
        """Note that a record is taken back."""
        with self._lock:
            self._append({"undone": entry["id"]})

    def archive(self) -> str:
        """Put the journal and its contents away; return the folder they are in now."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        folder = f"{FOLDER}/archive/{stamp}-{os.getpid()}"
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        os.makedirs(folder, mode=0o700)
        if os.path.isdir(BLOBS):
            os.rename(BLOBS, f"{folder}/blobs")
        os.rename(JOURNAL, f"{folder}/journal.jsonl")
        sync_directory(FOLDER)
        return folder

    def _record(
        self, entry: dict[str, Any], *, prior: State | None = None, content: bytes = b""
    ) -> None:
        with self._lock:
            if _key(entry) in self._known:
                return
            if prior is not None:
                entry["prior"] = _pack(prior)
                content = prior.content
            if self._file < 0:
                self._file = _open_journal()
            if content:
                _write_blob(content)
            entry = {"id": self._next, "at": int(time.time()), **entry}
            self._append(entry)
            self._next += 1
            self._open.append(entry)
            if entry["kind"] != "line":
                self._known.add(_key(entry))

    def _append(self, entry: dict[str, Any]) -> None:
        if self._file < 0:
            self._file = _open_journal()
        data = json.dumps(entry, sort_keys=True).encode() + b"\n"
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)


def unpack(record: dict[str, Any]) -> State:
    """Build the state that a record keeps."""
    content = b""
    if record.get("blob"):
        content = read_blob(record["blob"])
    fields = {key: record[key] for key in ("mode", "uid", "gid", "target", "mtime_ns")}
    return State(record["kind"], content=content, **fields)


def read_blob(digest: str) -> bytes:
    """Return the content that has this SHA-256."""
    with open(f"{BLOBS}/{digest}", "rb") as file:
        return file.read()


def _pack(state: State) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": state.kind}
    if state.kind == FILE and state.content:
        record["blob"] = _digest(state.content)
    for name in ("mode", "uid", "gid", "target", "mtime_ns"):
        record[name] = getattr(state, name)
    return record


def _key(entry: dict[str, Any]) -> str:
    """Return what two records of the same thing share; the first one is kept."""
    same = ("kind", "path", "name", "blob", "restart_on", "names")
    return json.dumps([entry.get(name) for name in same])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_blob(content: bytes) -> None:
    path = f"{BLOBS}/{_digest(content)}"
    if not os.path.exists(path):
        write_private(path, content)


def _open_journal() -> int:
    for folder in (FOLDER, BLOBS):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(JOURNAL, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A power cut may have left half a line: what it was to record did not happen.
    with open(JOURNAL, "rb") as file:
        whole = file.read().rpartition(b"\n")
    length = len(whole[0]) + len(whole[1])
    os.ftruncate(descriptor, length)
    os.lseek(descriptor, length, os.SEEK_SET)
    os.fsync(descriptor)
    sync_directory(FOLDER)
    return descriptor


def _load() -> list[dict[str, Any]]:
    try:
        with open(JOURNAL, "rb") as file:
            lines = file.read().rpartition(b"\n")[0].splitlines()
    except FileNotFoundError:
        return []
    records = [json.loads(line) for line in lines if line]
    undone = {record["undone"] for record in records if "undone" in record}
    entries = [record for record in records if "id" in record]
    for entry in entries:
        entry["undone"] = entry["id"] in undone
    return entries
