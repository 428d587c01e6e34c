"""The door to plain sockets that knock at addresses; their answers do not matter.

Whoever listens at the other end of the way sees how they arrive, see host.method.
"""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence

from solostack.doors.clock import Clock, SystemClock

UDP_PORT = 33434
"""Where traceroute's datagrams go: nobody serves there, and it alarms nobody."""
TCP_PORT = 443
ROUNDS = 3
INTERVAL_S = 0.6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Knocks:
    """What was sent: packets that left, and the reason why the others did not (empty: none)."""

    addresses: tuple[ipaddress.IPv4Address, ...]
    sent: int
    error: str = ""

    @property
    def text(self) -> str:
        """How a reader is told of it."""
        names = ", ".join(str(address) for address in self.addresses)
        return f"UDP {UDP_PORT} and TCP {TCP_PORT} to {names}, {ROUNDS} times each"


def knock(addresses: Sequence[ipaddress.IPv4Address], *, clock: Clock | None = None) -> Knocks:
    """Send a datagram and a SYN to each address, in rounds; takes under two seconds.

    Never fails: what the network refuses is in the result.
    """
    clock = clock or SystemClock()
    sent, reason = 0, ""
    for number in range(ROUNDS):
        if number:
            clock.sleep(INTERVAL_S)
        for address in addresses:
            for error in (_datagram(address), _syn(address)):
                sent += not error
                reason = error or reason
    return Knocks(addresses=tuple(addresses), sent=sent, error=reason)


def _datagram(address: ipaddress.IPv4Address) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setblocking(False)  # noqa: FBT003 (socket's own signature)
            out.sendto(b"solostack check\n", (str(address), UDP_PORT))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _syn(address: ipaddress.IPv4Address) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as out:
            out.setblocking(False)  # noqa: FBT003 (socket's own signature)
            status = out.connect_ex((str(address), TCP_PORT))
    except OSError as error:
        return error.strerror or str(error)
    # A refusal is an answer to a packet that left.
    expected = {0, errno.EINPROGRESS, errno.ECONNREFUSED}
    return "" if status in expected else os.strerror(status)
