"""Takes the kernel's network back to a picture of it: the way in first, then the rest."""

from __future__ import annotations

import time

from . import look, tables, way_back
from .tools import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# An address of the NIC is back at once, but IPv6 needs a moment to have a link-local one.
SETTLE_S = 0.3
PASSES = 3


def picture() -> dict[str, Any]:
    """Return the picture of the whole network, nftables included."""
    return {**look.look(), "tables": tables.look()}


def unreadable(seen: dict[str, Any]) -> str:
    """Say what a picture cannot be, "" when it can: a tool that failed or hung shows nothing.

    The way back to such a picture would take away what was only not seen.
    """
    if not seen["rules"]["4"]:
        return "ip shows no rules, not even the kernel's own"
    if not seen["routes"]["4"] and any(
        one["family"] == "4" for found in seen["addresses"].values() for one in found
    ):
        return "ip shows no routes, not even those of the host's own addresses"
    missed = tables.unseen(seen["tables"])
    return f"nft does not show {missed}" if missed else ""


def restore(before: dict[str, Any], nic: str, log: Log) -> None:
    """Make the network what it was. What fails is noted, the rest goes on."""
    log.act_all(way_back.link_commands(before, look.look(), nic))
    _settings(before, log)
    log.act_all(way_back.address_commands(before, look.look()))
    for family in look.FAMILIES:
        now = look.look()
        log.act_all(way_back.rule_commands(before, now, family))
        _routes(before, family, log)
        log.act_all(way_back.neighbour_commands(before, look.look(), family))
    tables.restore(before["tables"], log)
    # Forwarding resets other settings, addresses and links bring their own.
    _settings(before, log)


def restore_nic(before: dict[str, Any], nic: str, log: Log) -> None:
    """Make what is of the NIC alone what it was: after a reboot the rest is the boot's own.

    Only what is missing comes back; a route of another protocol of the same way stays.
    """
    now = look.look()
    log.act_all(way_back.link_commands(before, now, nic))
    now = look.look()
    names = look.related(before["links"], nic)
    part = {
        **before,
        "addresses": {name: before["addresses"].get(name, []) for name in names if name != "lo"},
    }
    log.act_all(way_back.address_commands(part, now))
    for family in look.FAMILIES:
        now = look.look()
        _, missing = way_back.route_difference(before, now, family)
        ways = [line for line in missing if look.device_of(line) in names]
        wanted = {**before, "routes": {family: [*now["routes"][family], *ways]}}
        log.act_all(way_back.route_commands(wanted, now, family))


def _routes(before: dict[str, Any], family: str, log: Log) -> None:
    # A route may need another one first; what fails in an early pass is tried again.
    for number in range(PASSES):
        commands = list(way_back.route_commands(before, look.look(), family))
        if not commands:
            return
        attempt = log if number == PASSES - 1 else Log()
        attempt.act_all(commands)
        if attempt is not log:
            log.done += attempt.done
            if not attempt.failed:
                return


def _settings(before: dict[str, Any], log: Log) -> None:
    now = {"settings": look.settings(tuple(before["links"]))}
    for path, value in way_back.setting_changes(before, now):
        if look.read_setting(path) == value:
            continue
        try:
            with open(f"{look.PROC}/{path}", "w", encoding="ascii") as file:
                file.write(value)
            log.note(f"sysctl {path} = {value}")
        except OSError as error:
            log.fail(f"sysctl {path} = {value}: {error.strerror}")


def differences(before: dict[str, Any], nic: str) -> list[str]:
    """Return what is not as it was, one line each; none means the way back was whole."""
    time.sleep(SETTLE_S)
    now = picture()
    found = [" ".join(command) for command in way_back.link_commands(before, now, nic)]
    found += [" ".join(command) for command in way_back.address_commands(before, now)]
    for family in look.FAMILIES:
        extra, missing = way_back.route_difference(before, now, family)
        found += [f"route too many: {line}" for line in extra]
        found += [f"route missing: {line}" for line in missing]
        found += [" ".join(each) for each in way_back.rule_commands(before, now, family)]
        found += [" ".join(each) for each in way_back.neighbour_commands(before, now, family)]
    found += [
        f"sysctl {path} = {now['settings'].get(path)}, was {value}"
        for path, value in before["settings"].items()
        if now["settings"].get(path, value) != value
    ]
    found += [f"nftables table {key}" for key in tables.differing(before["tables"], now["tables"])]
    return found
