"""The way back as a whole: ends what still changes the host, restores, looks again, notes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time

from . import look, machine, network, store, way_in
from .tools import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Held by engine/agent while it changes this machine (engine/agent/main.py, LOCK).
APPLY_LOCK = "/run/solostack/apply.lock"
END_WAIT_S = 6.0
NIC_WAIT_S = 30.0
ROUNDS = 2


def take_back(place: store.Place, armed: dict[str, Any], why: str) -> dict[str, Any]:
    """Restore everything of an armed change in this boot; return what is noted of it.

    The caller holds the lock.
    """
    log = Log()
    if place.units:
        _end_apply(log)
    left: list[str] = []
    for number in range(ROUNDS):
        _once(place, armed, log)
        left = _left(place, armed)
        if not left:
            break
        if number + 1 < ROUNDS:
            log.note(f"not whole yet, once more: {'; '.join(left[:5])}")
    way_in.announce(armed["nic"])
    return _note(place, armed, why, log, left)


def take_back_files(place: store.Place, armed: dict[str, Any]) -> None:
    """Restore files and what starts at boot, early in the boot after an unconfirmed change.

    The network's own services have not begun; they read the files of before. Nothing is waited
    for here: the rest of the boot waits for us.
    """
    log = Log()
    machine.restore_files(armed["files"], log)
    if place.units:
        machine.put_aside(armed["files"], place.folder, log)
        machine.start_old(armed["units"], log, wait=False)
        machine.stop_new(armed["units"], log, wait=False)
    armed["early"] = {"boot_id": place.boot_id(), "done": log.done, "failed": log.failed}
    store.write_armed(place, armed)


def take_back_after_boot(place: store.Place, armed: dict[str, Any], why: str) -> dict[str, Any]:
    """Finish the way back after a reboot: the NIC, when the boot did not bring it by itself."""
    log = Log()
    log.done += armed["early"]["done"]
    log.failed += armed["early"]["failed"]
    before, nic = armed["network"], armed["nic"]
    end = time.monotonic() + (NIC_WAIT_S if place.units else 0.0)
    while not (back := _way_is_back(before, nic)) and time.monotonic() < end:
        time.sleep(1.0)
    # What the boot brought is left alone: our own uplink may be about to move it to its bridge.
    if not back:
        network.restore_nic(before, nic, log)
    if place.units:
        machine.start_old(armed["units"], log)
    way_in.announce(nic)
    left = [f"file {path}" for path in machine.differing_files(armed["files"])]
    return _note(place, armed, why, log, left)


def _once(place: store.Place, armed: dict[str, Any], log: Log) -> None:
    if place.units:
        # While the files are those they were started with, units know how to stop; and one that
        # keeps the network as it should have become would put every step of ours right again.
        machine.stop_new(armed["units"], log)
        stale = machine.differing_files(armed["files"])
        machine.stop_stale(armed["restart_on"], armed["units"], stale, log)
    network.restore(armed["network"], armed["nic"], log)
    changed = machine.restore_files(armed["files"], log)
    if place.units:
        changed += machine.put_aside(armed["files"], place.folder, log)
    if place.units and (changed or machine.differing_units(armed["units"])):
        machine.restart_old(armed["restart_on"], changed, log)
        machine.start_old(armed["units"], log)


def _left(place: store.Place, armed: dict[str, Any]) -> list[str]:
    left = network.differences(armed["network"], armed["nic"])
    left += [f"file {path}" for path in machine.differing_files(armed["files"])]
    if place.units:
        left += [f"file {path}" for path in machine.new_files(armed["files"])]
        left += [f"unit {text}" for text in machine.differing_units(armed["units"])]
    return left


def _note(
    place: store.Place, armed: dict[str, Any], why: str, log: Log, left: list[str]
) -> dict[str, Any]:
    last = store.summary(
        armed, "taken back", why=why, done=log.done, failed=log.failed, differs=left
    )
    store.finish(place, last)
    return last


def _way_is_back(before: dict[str, Any], nic: str) -> bool:
    """Say whether the NIC, or the bridge that it was a port of, is up and has what it had."""
    now = look.look()
    devices = look.related(before["links"], nic)
    wanted = _addresses(before, devices)
    defaults = any(
        line.startswith("default") and look.device_of(line) in devices
        for line in before["routes"]["4"]
    )
    ways = any(line.startswith("default") for line in now["routes"]["4"])
    up = now["links"].get(nic, {}).get("up", False)
    return up and wanted <= _addresses(now, devices) and (ways or not defaults)


def _addresses(picture: dict[str, Any], devices: tuple[str, ...]) -> set[str]:
    return {
        one["local"]
        for device in devices
        for one in picture["addresses"].get(device, ())
        if one["family"] == "4"
    }


def _end_apply(log: Log) -> None:
    """End a run of the engine that still changes this machine; it would undo the way back."""
    with contextlib.suppress(FileNotFoundError), open(APPLY_LOCK, "rb") as file:
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + END_WAIT_S
            while time.monotonic() < end:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = _holder(os.fstat(file.fileno()).st_ino)
                    if holder and end - time.monotonic() > END_WAIT_S - 0.2:
                        log.note(f"{number.name} to the run that still changes this host: {holder}")
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(holder, number)
                    time.sleep(0.2)
                else:
                    fcntl.flock(file, fcntl.LOCK_UN)
                    return


def _holder(inode: int) -> int:
    """Return the process that holds a lock on the file with this inode (proc_locks(5)), or 0."""
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return int(fields[4])
    return 0
