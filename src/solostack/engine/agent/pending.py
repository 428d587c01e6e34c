"""Who still has to act on a changed path: restarts, guarded steps, systemd's own reload.

The note of it is on disk before the path changes and is taken away after the act, so that an apply
that was killed in between still restarts what it must when it runs again.
"""

from __future__ import annotations

import json
import threading

from .files import write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STORE = "/var/lib/solostack/pending.json"
RELOAD = "daemon-reload"
RELOAD_PATHS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/etc/fstab",
    "/etc/init.d",
)


class Pending:
    """The acts that are due. In a dry run it reads the note and keeps changes to itself."""

    def __init__(self, watchers: Mapping[str, Sequence[str]], *, dry_run: bool) -> None:
        self._watchers = {RELOAD: RELOAD_PATHS, **watchers}
        self._dry_run = dry_run
        self._lock = threading.Lock()
        self._due = _load()

    def touch(self, path: str) -> None:
        """Note that path is about to change."""
        found = {key for key, watched in self._watchers.items() if is_watched(path, watched)}
        with self._lock:
            if not found <= self._due:
                self._due |= found
                self._save()

    def is_due(self, key: str) -> bool:
        """Say whether the act called key is due."""
        return key in self._due

    def settle(self, *keys: str) -> None:
        """Note that these acts are done."""
        with self._lock:
            if self._due & set(keys):
                self._due -= set(keys)
                self._save()

    def finish(self) -> None:
        """Note the end of a whole apply: what nobody came to act on is due no more."""
        self.settle(*(key for key in self._watchers if key != RELOAD))

    def clear(self) -> None:
        """Note that nothing is due any more."""
        self.settle(*self._due)

    def _save(self) -> None:
        if not self._dry_run:
            write_private(STORE, json.dumps({"due": sorted(self._due)}).encode())


def is_watched(path: str, watched: Sequence[str]) -> bool:
    """Say whether path is one of the watched paths or below one of them."""
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in watched)


def _load() -> set[str]:
    try:
        with open(STORE, encoding="utf-8") as file:
            return set(json.load(file)["due"])
    except FileNotFoundError:
        return set()
