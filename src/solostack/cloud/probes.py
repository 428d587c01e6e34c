"""The checks of `verify`: what they are called, what to do when one fails, and those from outside.

What can only be seen from inside the cloud is checked by the agent (agent.proving) and comes here
as findings; what an operator's machine sees is probed here, through an executor on that machine.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from solostack.doors.clock import Clock, Deadline
from solostack.doors.process import Executor
from solostack.errors import CommandError

PING_TIMEOUT_S = 45.0
HTTP_TIMEOUT_S = 45.0
CLOSED_TIMEOUT_S = 5
UNITS_TIMEOUT_S = 120.0
# Between two looks a unit may end and be started again by another.
ENDED_LOOKS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check: its name, and what to do first when it fails."""

    name: str
    hint: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How a check ended. skipped: it could not be made, so ok is false without anything known."""

    name: str
    ok: bool
    seconds: float
    detail: str = ""
    hint: str = ""
    skipped: bool = False


_METADATA_HINT = (
    "on the host: journalctl -u neutron-ovn-metadata-agent -e; on the controller: "
    "journalctl -u nova-api-metadata -u nova-api -e"
)
_DHCP_HINT = (
    "on the host: journalctl -u ovn-controller -e; on the controller: ovn-sbctl show must list "
    "the host as chassis"
)
_FLOATING_HINT = (
    "follow the packet: tcpdump on the host's external bridge, then on eth1 of the network node; "
    "ovn-nbctl show on the controller must list the address as dnat_and_snat"
)
_OUTWARD_HINT = (
    "on the host: sysctl net.ipv4.ip_forward must be 1, and nft list ruleset must masquerade the "
    "transit subnet"
)
_TCP_HINT = (
    "ping answers but TCP does not: checksum offload or MTU on the way (ethtool -k on the host's "
    "veth pairs; ip link)"
)

UNITS = Check(
    name="units",
    hint="start it: solostack up; why it does not run: on {machine}: journalctl -b -u {unit}",
)
PING = Check(name="ping", hint=_FLOATING_HINT)
HTTP = Check(name="HTTP", hint=_TCP_HINT)
CLOSED = Check(
    name="port 8080 is blocked",
    hint="on the controller: ovn-nbctl acl-list; openstack port list --long must show security on",
)
CLEAN_UP = Check(
    name="clean-up", hint="run solostack verify again: it removes what an earlier run left"
)

AGENT_CHECKS = (
    Check(name="APIs answer", hint="on the controller: systemctl --failed; journalctl -p err -e"),
    Check(
        name="compute services up",
        hint="on that host: systemctl status nova-compute; journalctl -u nova-compute -e",
    ),
    Check(
        name="network agents alive",
        hint="on that machine: systemctl status ovn-controller neutron-ovn-metadata-agent",
    ),
    Check(
        name="instances start",
        hint="on the host: journalctl -u nova-compute -e; on the controller: journalctl -u "
        "nova-scheduler -u nova-conductor -e",
    ),
    Check(name="console log readable", hint="on the host: journalctl -u nova-compute -e"),
    Check(name="DHCP: first instance", hint=_DHCP_HINT),
    Check(name="DHCP: second instance", hint=_DHCP_HINT),
    Check(name="metadata: first instance", hint=_METADATA_HINT),
    Check(name="metadata: second instance", hint=_METADATA_HINT),
    Check(name="outward with a floating IP", hint=_OUTWARD_HINT),
    Check(name="outward without a floating IP", hint=_OUTWARD_HINT),
    Check(name="second instance reaches the first", hint=_TCP_HINT),
    Check(name="port 8080 listens inside", hint="see the instance's console above"),
    Check(name="floating IP given to a running instance", hint=_FLOATING_HINT),
)

_VOLUME_HINT = (
    "on the storage node: journalctl -u cinder-volume -e; on the controller: journalctl -u "
    "cinder-scheduler -u cinder-api -e"
)
VOLUME_CHECKS = (
    Check(
        name="volume services up",
        hint="solostack status must show the storage node running (virsh start storage on its "
        "host); on it: systemctl status solostack-disks tgt cinder-volume",
    ),
    Check(
        name="room for volumes",
        hint="solostack storage grow cinder SIZE, or delete volumes and snapshots",
    ),
    Check(name="volume made and extended", hint=_VOLUME_HINT),
    Check(name="snapshot and clone", hint=_VOLUME_HINT),
    Check(name="volume from an image", hint=_VOLUME_HINT),
    Check(
        name="volume on an instance",
        hint="on the host: journalctl -u nova-compute -u iscsid -e; iscsiadm -m session; on the "
        "storage node: tgt-admin --show",
    ),
    Check(name="volumes deleted", hint=_VOLUME_HINT),
)

# Prints one JSON object: what a TCP connection, and an HTTP request over it, came to. Plain
# sockets, so that no proxy of the environment gets in between.
_CONNECT = """
import http.client, json, socket, sys
address, port, limit, ask = json.loads(sys.argv[1])
told = {"outcome": "open", "text": ""}
try:
    if ask:
        link = http.client.HTTPConnection(address, port, timeout=limit)
        link.request("GET", "/")
        answer = link.getresponse()
        told["text"] = f"{answer.status} " + answer.read(200).decode("utf-8", "replace").strip()
    else:
        socket.create_connection((address, port), limit).close()
except TimeoutError:
    told["outcome"] = "timeout"
except ConnectionRefusedError:
    told["outcome"] = "refused"
except (OSError, http.client.HTTPException) as error:
    told["outcome"] = str(error) or type(error).__name__
print(json.dumps(told))
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """A machine outside the cloud that probes it."""

    executor: Executor
    clock: Clock


def agent_result(finding: Mapping[str, Any], checks: Sequence[Check]) -> CheckResult:
    """Turn a finding of the agent into a result; its own hint goes before that of checks."""
    hints = {check.name: check.hint for check in checks}
    name, ok = str(finding["name"]), bool(finding["ok"])
    return CheckResult(
        name=name,
        ok=ok,
        seconds=float(finding["seconds"]),
        detail=str(finding["detail"]),
        hint="" if ok else str(finding.get("hint") or hints.get(name, "")),
        skipped=bool(finding.get("skipped")),
    )


def missing_results(
    seen: Sequence[CheckResult], checks: Sequence[Check]
) -> tuple[CheckResult, ...]:
    """Return a skipped result for every check of the agent that was not made."""
    names = {result.name for result in seen}
    return tuple(skipped(check.name) for check in checks if check.name not in names)


def skipped(name: str) -> CheckResult:
    """Return the result of a check that could not be made."""
    return CheckResult(
        name=name, ok=False, seconds=0.0, detail="not made: see the failures above", skipped=True
    )


def probe_ping(vantage: Vantage, address: ipaddress.IPv4Address) -> CheckResult:
    """Ping an address until it answers three times in a row."""
    command = ("ping", "-n", "-c", "3", "-i", "0.3", "-W", "2", str(address))

    def attempt() -> tuple[bool, str]:
        try:
            done = vantage.executor.run(command, check=False, timeout_s=30)
        except CommandError as error:
            return False, error.message
        lines = done.text.strip().splitlines()
        lost = next((line for line in lines if "packet loss" in line), "no answer")
        times = next((line for line in lines if line.startswith("rtt")), "")
        return ", 0% packet loss" in lost, times or lost

    return _until(vantage, (f"{PING.name} {address}", PING.hint), PING_TIMEOUT_S, attempt)


def probe_http(vantage: Vantage, address: ipaddress.IPv4Address) -> CheckResult:
    """Ask an instance's web server for its page, until it is the test image's."""

    def attempt() -> tuple[bool, str]:
        told = _connect(vantage, address, 80, limit_s=5, ask=True)
        good = told["outcome"] == "open" and told["text"].startswith("200 solostack")
        return good, told["text"] if told["outcome"] == "open" else told["outcome"]

    return _until(vantage, (f"{HTTP.name} {address}", HTTP.hint), HTTP_TIMEOUT_S, attempt)


def probe_closed(vantage: Vantage, address: ipaddress.IPv4Address, port: int) -> CheckResult:
    """Try a port that listens but no rule opens: nothing at all may come back."""
    start_s = vantage.clock.monotonic_s()
    told = _connect(vantage, address, port, limit_s=CLOSED_TIMEOUT_S, ask=False)
    ok = told["outcome"] == "timeout"
    return CheckResult(
        name=CLOSED.name,
        ok=ok,
        seconds=vantage.clock.monotonic_s() - start_s,
        detail="no answer, as it must be" if ok else f"the connection is {told['outcome']}",
        hint="" if ok else CLOSED.hint,
    )


def probe_units(
    executor: Executor, clock: Clock, units: Sequence[str], *, all_ours: bool
) -> CheckResult:
    """Check that a machine's units are active, and with all_ours that none of any has failed.

    What is about to start is waited for; what has ended and is not being started is not.
    """
    start_s = clock.monotonic_s()
    deadline = Deadline.after(clock, UNITS_TIMEOUT_S)
    ended = 0
    while bad := bad_units(executor, units, all_ours=all_ours):
        ended = ended + 1 if _stays(executor, bad) else 0
        if ended == ENDED_LOOKS or deadline.passed():
            break
        clock.sleep(1.0)
    first = next(iter(bad), "")
    return CheckResult(
        name=f"{UNITS.name} {executor.name}",
        ok=not bad,
        seconds=clock.monotonic_s() - start_s,
        detail=", ".join(f"{unit} {state}" for unit, state in bad.items())
        or f"{len(units)} active",
        hint=UNITS.hint.format(machine=executor.name, unit=first) if bad else "",
    )


def bad_units(executor: Executor, units: Sequence[str], *, all_ours: bool) -> dict[str, str]:
    """Return the state of units that are not active, with all_ours also of any that failed."""
    found: dict[str, str] = {}
    if units:
        done = executor.run(("systemctl", "is-active", *units), check=False)
        for unit, state in zip(units, done.text.split(), strict=False):
            if state != "active":
                found[unit] = state
    listing = ("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
    for line in executor.run(listing).text.splitlines() if all_ours else ():
        if line.strip():
            found[line.split()[0]] = "failed"
    return found


def _stays(executor: Executor, bad: Mapping[str, str]) -> bool:
    """Return whether bad units will not start by themselves: all ended, and systemd has no job."""
    if not set(bad.values()) <= {"inactive", "failed"}:
        return False
    return not executor.run(("systemctl", "list-jobs", "--no-legend", "--no-pager")).text.strip()


def _connect(
    vantage: Vantage, address: ipaddress.IPv4Address, port: int, *, limit_s: int, ask: bool
) -> dict[str, str]:
    request = json.dumps([str(address), port, limit_s, ask])
    done = vantage.executor.run(
        ("python3", "-I", "-", request), stdin=_CONNECT.encode(), timeout_s=60
    )
    told: dict[str, str] = json.loads(done.text)
    return told


def _until(
    vantage: Vantage,
    check: tuple[str, str],
    limit_s: float,
    attempt: Callable[[], tuple[bool, str]],
) -> CheckResult:
    name, hint = check
    clock = vantage.clock
    start_s = clock.monotonic_s()
    deadline = Deadline.after(clock, limit_s)
    while True:
        ok, detail = attempt()
        if ok or deadline.passed():
            seconds = clock.monotonic_s() - start_s
            return CheckResult(
                name=name, ok=ok, seconds=seconds, detail=detail, hint="" if ok else hint
            )
        clock.sleep(1.0)
