"""Proof that the host is still reached through its NIC: a new SSH session, or its gateway's MAC."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import struct
import time

from . import look
from .store import RefusedError
from .tools import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GATEWAY_WAIT_S = 4.0
POLL_S = 0.1
DISCARD_PORT = 9
_ARP = 0x0806
# A process's start is known to a tick of the clock only (proc_pid_stat(5), starttime).
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def require_new_session(nic: str, since_s: float, connection: str, pid: int) -> str:
    """Return who connected; RefusedError unless this process serves a new session through the NIC.

    connection is $SSH_CONNECTION (ssh(1)): client, its port, server, its port. since_s is the
    moment (CLOCK_BOOTTIME) from which a session counts as new.
    """
    words = connection.split()
    if len(words) != 4:
        raise RefusedError(
            "this is no SSH session, so it proves nothing about the way in",
            "confirm over a new SSH connection; on the host's own console add --console",
        )
    client, server = _plain(words[0]), _plain(words[2])
    ours = _addresses(nic)
    if server not in ours:
        raise RefusedError(
            f"this session came to {server}, which is not an address of {nic}",
            f"connect to one of its addresses: {', '.join(sorted(ours)) or 'it has none'}",
        )
    devices = {nic, *_masters(nic)}
    way = _way_to(client)
    if way not in devices:
        raise RefusedError(
            f"answers to {client} leave through {way or 'nothing'}, not through {nic}",
            "confirm from a machine that is reached through the NIC",
        )
    started = session_start_s(pid)
    if started is None:
        raise RefusedError("no sshd is above this process; $SSH_CONNECTION alone proves nothing")
    if started + 1 / _TICKS_PER_S < since_s:
        raise RefusedError(
            "this SSH session began before the change was made",
            "confirm over a new connection (ssh -o ControlPath=none)",
        )
    return client


def session_start_s(pid: int) -> float | None:
    """Return when the SSH connection that pid runs in was accepted; None when there is none.

    OpenSSH 9.8 and newer have a process sshd-session per connection; before, a child of sshd.
    """
    chain: list[tuple[str, int, float]] = []
    while pid > 1:
        seen = _process(pid)
        if seen is None:
            break
        name, parent, started = seen
        if name.startswith("sshd"):
            chain.append((name, parent, started))
        elif chain:
            break
        pid = parent
    sessions = [one for one in chain if one[0] != "sshd"] or chain
    # The listener is older than every connection; its parent is systemd.
    if len(sessions) > 1 and sessions[-1][0] == "sshd" and sessions[-1][1] == 1:
        sessions.pop()
    return sessions[-1][2] if sessions else None


def require_gateway(nic: str) -> str:
    """Return the gateway that answered; RefusedError when none does.

    Its neighbour entry is forgotten and asked for anew, by the kernel's own way through all
    filters. A gateway that answers no ping still has to answer this.
    """
    devices = {nic, *_masters(nic)}
    entries = json.loads(run(("ip", "-j", "route", "show", "default")).out or "[]")
    ways = [entry for entry in entries if entry.get("dev") in devices and "gateway" in entry]
    if not ways:
        raise RefusedError(f"there is no default route with a gateway through {nic}")
    for way in ways:
        gateway, device = way["gateway"], way["dev"]
        run(("ip", "neigh", "flush", "to", gateway, "dev", device))
        if _answers(gateway, device):
            return str(gateway)
    raise RefusedError(f"the gateway {ways[0]['gateway']} does not answer through {nic}")


def announce(nic: str) -> None:
    """Tell the neighbours the NIC's MAC (gratuitous ARP, RFC 5227); best effort.

    Their memory of another one would keep the host away for minutes.
    """
    picture = look.look()
    for device in (nic, *_masters(nic)):
        link = picture["links"].get(device)
        if link is None or len(link["mac"]) != 17:
            continue
        mac = bytes.fromhex(link["mac"].replace(":", ""))
        addresses = picture["addresses"][device]
        with contextlib.suppress(OSError):
            _send_arp(device, mac, [one["local"] for one in addresses if one["family"] == "4"])


def _send_arp(device: str, mac: bytes, addresses: list[str]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as wire:
        wire.bind((device, _ARP))
        for address in addresses:
            ip = socket.inet_aton(address)
            head = b"\xff" * 6 + mac + struct.pack("!H", _ARP)
            wire.send(head + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + b"\0" * 6 + ip)


def _answers(gateway: str, device: str) -> bool:
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    end = time.monotonic() + GATEWAY_WAIT_S
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                probe.sendto(b"", (gateway, DISCARD_PORT))
            shown = run(("ip", "neigh", "show", "to", gateway, "dev", device)).out
            if "lladdr" in shown and "FAILED" not in shown:
                return True
            time.sleep(POLL_S)
    return False


def _addresses(nic: str) -> set[str]:
    picture = look.look()
    return {
        one["local"]
        for device in (nic, *_masters(nic))
        for one in picture["addresses"].get(device, ())
    }


def _masters(nic: str) -> tuple[str, ...]:
    shown = json.loads(run(("ip", "-j", "link", "show", "dev", nic)).out or "[]")
    return tuple(entry["master"] for entry in shown if entry.get("master"))


def _way_to(client: str) -> str:
    entries: list[dict[str, Any]] = json.loads(
        run(("ip", "-j", "route", "get", client)).out or "[]"
    )
    return next((str(entry.get("dev", "")) for entry in entries if entry), "")


def _plain(text: str) -> str:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _process(pid: int) -> tuple[str, int, float] | None:
    """Return a process's name, parent and start in seconds since boot (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 1 :].split()
    return name, int(fields[1]), int(fields[19]) / _TICKS_PER_S
