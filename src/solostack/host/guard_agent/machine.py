"""Files and systemd units: pictures of them, and the way back."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import stat

from . import look
from .tools import Log, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Whoever changes the network may change these without saying so; the way in depends on them.
FILES = (
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/*",
    "/etc/netplan/*",
    "/etc/nftables.conf",
    "/etc/ssh/sshd_config",
    "/etc/ssh/sshd_config.d/*",
    "/etc/sysctl.conf",
    "/etc/sysctl.d/*",
    "/etc/systemd/network/*",
)
UNITS = ("ssh.service", "ssh.socket", "systemd-networkd.service", "networking.service")
SSH_UNIT = "ssh.service"
UNIT_TIMEOUT_S = 30.0
# The way in waits for it.
STOP_TIMEOUT_S = 10.0
_BY_LINK = {"enabled", "enabled-runtime", "linked", "linked-runtime"}


def files(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Return what is at each path: absent, a link, a file with its content, or something else."""
    return {path: _file(path) for path in look.expand(paths)}


def units(names: list[str]) -> dict[str, dict[str, str]]:
    """Return each unit's state; units that do not exist count as inactive and not enabled."""
    return {name: _unit(name) for name in dict.fromkeys((*names, *UNITS))}


def restore_files(before: dict[str, dict[str, Any]], log: Log) -> tuple[str, ...]:
    """Make every file what it was; return the paths that were changed."""
    changed = []
    for path, old in before.items():
        if old == _file(path) or old["kind"] == "other":
            continue
        try:
            _put(path, old)
        except OSError as error:
            log.fail(f"file {path}: {error.strerror}")
        else:
            log.note(f"file {path}")
            changed.append(path)
    return tuple(changed)


def new_files(before: dict[str, dict[str, Any]]) -> list[str]:
    """Return what came meanwhile into the folders that the way in depends on."""
    folders = [pattern for pattern in FILES if "*" in pattern]
    return [path for path in look.expand(folders) if path not in before]


def put_aside(before: dict[str, dict[str, Any]], folder: str, log: Log) -> tuple[str, ...]:
    """Move new files below folder: there they do nothing, and nothing of anybody's is lost."""
    moved = []
    for path in new_files(before):
        aside = f"{folder}/aside{path}"
        try:
            os.makedirs(os.path.dirname(aside), mode=0o700, exist_ok=True)
            shutil.move(path, aside)
        except OSError as error:
            log.fail(f"file {path}: {error.strerror}")
        else:
            log.note(f"file {path} was not there before: it is {aside} now")
            moved.append(path)
    return tuple(moved)


def differing_files(before: dict[str, dict[str, Any]]) -> list[str]:
    """Return the paths that are not as they were."""
    return [path for path, old in before.items() if old["kind"] != "other" and old != _file(path)]


def differing_units(before: dict[str, dict[str, str]]) -> list[str]:
    """Return the units that do not run, or will not start, as they did."""
    return [
        f"{name}: {now['active']} {now['enabled']}, was {old['active']} {old['enabled']}"
        for name, old in before.items()
        if (now := _unit(name)) and (_runs(now) != _runs(old) or _starts(now) != _starts(old))
    ]


def stop_new(before: dict[str, dict[str, str]], log: Log, *, wait: bool = True) -> None:
    """Stop and disable the units that did not run or start at boot before."""
    mode = () if wait else ("--no-block",)
    for name, old in before.items():
        now = _unit(name)
        if is_to_stop(old, now, wait=wait):
            log.act(("systemctl", "-q", *mode, "stop", name), timeout_s=STOP_TIMEOUT_S)
        if _starts(now) and not _starts(old):
            log.act(("systemctl", "-q", "disable", name), timeout_s=UNIT_TIMEOUT_S)


def is_to_stop(old: dict[str, str], now: dict[str, str], *, wait: bool) -> bool:
    """Say whether a unit must stop as it did not run before.

    wait False: early in a boot, when it may only be in the queue, which a stop empties too. What
    started at boot before stays there, even if it had failed (networking.service easily does).
    """
    return not _runs(old) and (_runs(now) if wait else not _starts(old))


def start_old(before: dict[str, dict[str, str]], log: Log, *, wait: bool = True) -> None:
    """Enable, unmask and start the units that did so before."""
    log.act(("systemctl", "daemon-reload"), timeout_s=UNIT_TIMEOUT_S)
    for name, old in before.items():
        now = _unit(name)
        if now["enabled"].startswith("masked") and not old["enabled"].startswith("masked"):
            log.act(("systemctl", "-q", "unmask", name), timeout_s=UNIT_TIMEOUT_S)
        if _starts(old) and not _starts(now):
            log.act(("systemctl", "-q", "enable", name), timeout_s=UNIT_TIMEOUT_S)
        if wait and _runs(old) and not _runs(now):
            run(("systemctl", "-q", "reset-failed", name))
            log.act(("systemctl", "-q", "start", name), timeout_s=UNIT_TIMEOUT_S)


def stop_stale(
    restart_on: dict[str, list[str]],
    before: dict[str, dict[str, str]],
    changed: list[str],
    log: Log,
) -> None:
    """Stop units that ran before and now run on files that are going to be replaced."""
    for name, paths in restart_on.items():
        if _runs(before[name]) and _is_below(changed, paths):
            log.act(("systemctl", "-q", "stop", name), timeout_s=STOP_TIMEOUT_S)


def restart_old(restart_on: dict[str, list[str]], changed: tuple[str, ...], log: Log) -> None:
    """Restart the running units that read files which are back: they still run on the others."""
    log.act(("systemctl", "daemon-reload"), timeout_s=UNIT_TIMEOUT_S)
    watchers = {**restart_on, SSH_UNIT: ["/etc/ssh"]}
    for name, paths in watchers.items():
        if _is_below(changed, paths):
            log.act(("systemctl", "-q", "try-restart", name), timeout_s=UNIT_TIMEOUT_S)


def _is_below(paths: Sequence[str], places: Sequence[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for path in paths for one in places)


def _file(path: str) -> dict[str, Any]:
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "absent"}
    owner = {"uid": seen.st_uid, "gid": seen.st_gid}
    if stat.S_ISLNK(seen.st_mode):
        return {"kind": "link", "target": os.readlink(path), **owner}
    if not stat.S_ISREG(seen.st_mode):
        return {"kind": "other"}
    with open(path, "rb") as file:
        content = base64.b64encode(file.read()).decode("ascii")
    mode, mtime = stat.S_IMODE(seen.st_mode), seen.st_mtime_ns
    return {"kind": "file", "content": content, "mode": mode, "mtime_ns": mtime, **owner}


def _put(path: str, old: dict[str, Any]) -> None:
    if old["kind"] == "absent":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = f"{path}.solostack-guard"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    if old["kind"] == "link":
        os.symlink(old["target"], new)
        os.lchown(new, old["uid"], old["gid"])
    else:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64decode(old["content"]))
            os.fchown(file.fileno(), old["uid"], old["gid"])
            os.fchmod(file.fileno(), old["mode"])
            file.flush()
            os.fsync(file.fileno())
        os.utime(new, ns=(old["mtime_ns"], old["mtime_ns"]))
    os.rename(new, path)


def _unit(name: str) -> dict[str, str]:
    shown = run(("systemctl", "show", "-p", "ActiveState,UnitFileState", "--", name)).out
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return {
        "active": values.get("ActiveState", "unknown"),
        "enabled": values.get("UnitFileState", ""),
    }


def _runs(unit: dict[str, str]) -> bool:
    return unit["active"] in {"active", "reloading", "refreshing", "activating"}


def _starts(unit: dict[str, str]) -> bool:
    return unit["enabled"] in _BY_LINK
