"""What the guard keeps on disk: the armed change with its picture of before, and the last result.

``armed.json`` exists exactly while a change waits for its confirmation. Everything is written to a
new file, synchronised and renamed, so that a power cut leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FOLDER = "/var/lib/solostack/guard"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class RefusedError(Exception):
    """The guard does not do what was asked; the text says why, hint what to do instead."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this guard lives.

    units False: systemd does not run here; units, and files nobody named, are left alone.
    boot_id_path is a file whose text changes with every boot.
    """

    folder: str = FOLDER
    units: bool = True
    boot_id_path: str = BOOT_ID

    @property
    def armed_path(self) -> str:
        """The armed change."""
        return f"{self.folder}/armed.json"

    @property
    def last_path(self) -> str:
        """How the last change ended."""
        return f"{self.folder}/last.json"

    def boot_id(self) -> str:
        """Return what tells this boot from every other."""
        with open(self.boot_id_path, encoding="ascii") as file:
            return file.read().strip()


def boottime_s() -> float:
    """Seconds since boot, time asleep included (CLOCK_BOOTTIME, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold the guard's lock; it goes with the process that holds it."""
    os.makedirs(place.folder, mode=0o700, exist_ok=True)
    with open(f"{place.folder}/lock", "a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_armed(place: Place) -> dict[str, Any] | None:
    """Return the armed change, None when there is none."""
    return _read(place.armed_path)


def read_last(place: Place) -> dict[str, Any] | None:
    """Return how the last change ended, None when there was none."""
    return _read(place.last_path)


def write_armed(place: Place, armed: dict[str, Any]) -> None:
    """Keep the armed change; on disk for sure when this returns."""
    _write(place.armed_path, armed)


def finish(place: Place, last: dict[str, Any]) -> None:
    """Note how the armed change ended, then disarm."""
    _write(place.last_path, last)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.armed_path)
    _sync(place.folder)


def summary(armed: dict[str, Any], result: str, **more: object) -> dict[str, Any]:
    """Return what is kept of a change that ended: kept, or taken back and why."""
    return {
        "id": armed["id"],
        "what": armed["what"],
        "nic": armed["nic"],
        "result": result,
        "at": int(time.time()),
        **more,
    }


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            value: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return value


def _write(path: str, value: dict[str, Any]) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    _sync(folder)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
