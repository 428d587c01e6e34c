"""The guard's commands. Each prints one JSON object; status 0, or 3 when it refuses.

arm ID, applied ID, confirm ID, rollback [ID], status are for solostack and the operator; boot and
watch for systemd.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time

from . import look, machine, network, rollback, store, way_in
from .tools import run as run_tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNIT = "solostack-guard.service"
OK, REFUSED = 0, 3
POLL_S = 0.5
TRIES = 3


def run() -> None:
    """Run the command line of this process and end it."""
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command."""
    options = _parse(argv)
    place = store.Place(options.folder, not options.no_units, options.boot_id_path)
    os.umask(0o077)
    try:
        answer = COMMANDS[options.command](place, options)
    except store.RefusedError as refused:
        answer = {"refused": refused.reason, "hint": refused.hint}
    sys.stdout.write(json.dumps(answer) + "\n")
    return REFUSED if "refused" in answer else OK


def arm(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Take the picture of now, keep it, start the watcher; only then may the change begin."""
    request = json.loads(sys.stdin.read() or "{}")
    with store.locked(place):
        old = store.read_armed(place)
        if old is not None and old["id"] != options.id:
            raise store.RefusedError(
                f"a change is armed already: {old['what']} ({old['id']})",
                "confirm it or take it back first: solostack guard status",
            )
        if options.nic not in look.look()["links"]:
            raise store.RefusedError(f"there is no interface {options.nic}")
        seen = network.picture()
        if problem := network.unreadable(seen):
            raise store.RefusedError(
                f"the network of now cannot be read: {problem}", "run the same command again"
            )
        now = store.boottime_s()
        defaults = machine.FILES if place.units else ()
        armed = {
            "id": options.id,
            "what": request.get("what", ""),
            "nic": options.nic,
            "armed_at": now,
            "timeout_s": options.timeout,
            "deadline": now + options.timeout,
            "applied_at": None,
            "boot_id": place.boot_id(),
            "network": seen,
            "files": machine.files([*request.get("files", []), *defaults]),
            "units": machine.units(request.get("units", [])) if place.units else {},
            "restart_on": request.get("restart_on", {}),
        }
        store.write_armed(place, armed)
    if place.units:
        _start_watcher(place)
    return _state(place)


def applied(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Note that the change is made: only sessions that begin from now on can confirm it."""
    with store.locked(place):
        armed = _armed(place, options.id)
        armed["applied_at"] = store.boottime_s()
        store.write_armed(place, armed)
    return _state(place)


def confirm(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Keep the change, if this very session proves that the host is reached."""
    with store.locked(place):
        armed = _armed(place, options.id)
        if armed["applied_at"] is None:
            raise store.RefusedError(
                "the change is not wholly made yet", "take it back: solostack guard rollback"
            )
        if options.console:
            proof = f"gateway {way_in.require_gateway(armed['nic'])} answered"
        else:
            connection = os.environ.get("SSH_CONNECTION", "")
            client = way_in.require_new_session(
                armed["nic"], armed["applied_at"], connection, os.getpid()
            )
            proof = f"new session from {client}"
        _require_time(armed)
        store.finish(place, store.summary(armed, "kept", why=proof))
    return _state(place)


def take_back(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Take the armed change back now."""
    with store.locked(place):
        armed = store.read_armed(place)
        if armed is None or (options.id and armed["id"] != options.id):
            raise store.RefusedError("no such change is armed", "see solostack guard status")
        _restore(place, armed, "asked for")
    return _state(place)


def status(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Say what is armed, how long it has left, and how the last change ended."""
    del options
    return _state(place)


def boot(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Restore the files of before when the host was rebooted in the middle of a change."""
    del options
    with store.locked(place):
        armed = store.read_armed(place)
        if armed is not None and armed["boot_id"] != place.boot_id():
            rollback.take_back_files(place, armed)
    return {"done": True}


def watch(place: store.Place, options: argparse.Namespace) -> dict[str, Any]:
    """Wait until the change is confirmed, its time is over or another boot began."""
    del options
    failures = 0
    while (armed := store.read_armed(place)) is not None:
        left = armed["deadline"] - store.boottime_s()
        rebooted = armed["boot_id"] != place.boot_id()
        if not rebooted and left > 0:
            time.sleep(min(POLL_S, left))
            continue
        try:
            _expire(place, armed["id"], rebooted=rebooted)
        except Exception as error:  # noqa: BLE001 (nobody else is there to bring the host back)
            failures += 1
            sys.stderr.write(f"the way back failed: {error!r}\n")
            if failures >= TRIES:
                # At least a reboot has to bring the host back.
                with contextlib.suppress(Exception):
                    rollback.take_back_files(place, armed)
                store.finish(place, store.summary(armed, "failed", why=repr(error)))
            time.sleep(1.0)
    return _state(place)


COMMANDS = {
    "arm": arm,
    "applied": applied,
    "confirm": confirm,
    "rollback": take_back,
    "status": status,
    "boot": boot,
    "watch": watch,
}


def _expire(place: store.Place, identity: str, *, rebooted: bool) -> None:
    with store.locked(place):
        armed = store.read_armed(place)
        # It may have been confirmed while we waited for the lock.
        if armed is None or armed["id"] != identity:
            return
        _restore(place, armed, "the host was rebooted" if rebooted else "not confirmed in time")


def _restore(place: store.Place, armed: dict[str, Any], why: str) -> None:
    if armed["boot_id"] == place.boot_id():
        rollback.take_back(place, armed, why)
        return
    if armed.get("early", {}).get("boot_id") != place.boot_id():
        rollback.take_back_files(place, armed)
    rollback.take_back_after_boot(place, armed, why)


def _armed(place: store.Place, identity: str) -> dict[str, Any]:
    armed = store.read_armed(place)
    if armed is None or armed["id"] != identity:
        raise store.RefusedError(f"change {identity} is not armed any more")
    if armed["boot_id"] != place.boot_id():
        raise store.RefusedError("the host was rebooted since; the change is being taken back")
    _require_time(armed)
    return armed


def _require_time(armed: dict[str, Any]) -> None:
    if store.boottime_s() >= armed["deadline"]:
        raise store.RefusedError("its time is over; the change is being taken back")


def _state(place: store.Place) -> dict[str, Any]:
    armed, last = store.read_armed(place), store.read_last(place)
    answer: dict[str, Any] = {"armed": armed is not None, "last": last}
    if armed is not None:
        left = armed["deadline"] - store.boottime_s()
        rebooted = armed["boot_id"] != place.boot_id()
        answer |= {key: armed[key] for key in ("id", "what", "nic", "timeout_s")}
        answer |= {
            "applied": armed["applied_at"] is not None,
            "seconds_left": 0.0 if rebooted else round(max(0.0, left), 1),
        }
    return answer


def _start_watcher(place: store.Place) -> None:
    """Start the unit; without a watcher that runs nothing is armed."""
    enabled = run_tool(("systemctl", "is-enabled", UNIT))
    started = run_tool(("systemctl", "restart", UNIT))
    active = run_tool(("systemctl", "is-active", UNIT))
    if enabled.status == started.status == active.status == 0:
        return
    os.unlink(place.armed_path)
    problem = started.error or f"it is {enabled.out.strip()} and {active.out.strip()}"
    raise store.RefusedError(f"{UNIT} does not run: {problem}", f"look there: journalctl -u {UNIT}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="guard", description=__doc__)
    parser.add_argument("--folder", default=store.FOLDER, help=argparse.SUPPRESS)
    parser.add_argument("--no-units", action="store_true", help="systemd does not run here")
    parser.add_argument("--boot-id-path", default=store.BOOT_ID, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="command", required=True)
    one = verbs.add_parser("arm", help="take the picture of now and start the timer")
    one.add_argument("id")
    one.add_argument("--timeout", type=float, required=True, help="seconds until it is taken back")
    one.add_argument("--nic", required=True, help="the interface that the host is reached through")
    verbs.add_parser("applied", help="the change is made").add_argument("id")
    two = verbs.add_parser("confirm", help="keep the change; over a new SSH session")
    two.add_argument("id")
    two.add_argument("--console", action="store_true", help="on the console: ask the gateway")
    verbs.add_parser("rollback", help="take it back now").add_argument("id", nargs="?", default="")
    for name in ("status", "boot", "watch"):
        verbs.add_parser(name)
    return parser.parse_args(argv)
