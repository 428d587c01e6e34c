"""What a stranger on the provider's wire can do and see, with raw frames (packet(7)).

A program of its own, for the standard library only: it runs in the provider's namespace and, from
its standard input, on a host. It prints one JSON value. Commands, each with a JSON object:

- ``ask``: ARP requests for addresses; prints address -> the MACs that answered.
- ``send``: ICMP echo requests with any source, and their number; prints how many frames that were.
- ``watch``: prints a line when it listens; until SIGTERM notes what comes in at a device, also when
  the device goes and comes back; then prints what it saw.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

ETH_P_ALL, ETH_P_ARP, ETH_P_IP = 0x0003, 0x0806, 0x0800
PACKET_OUTGOING = 4
BROADCAST = b"\xff" * 6
ARP_HEAD = struct.pack("!HHBB", 1, ETH_P_IP, 6, 4)
ECHO_REQUEST = 8


def arp_request(own: bytes, sender: str, target: str) -> bytes:
    """Build the frame that asks who has target (RFC 826)."""
    return b"".join(
        (
            *(BROADCAST, own, struct.pack("!H", ETH_P_ARP), ARP_HEAD, struct.pack("!H", 1)),
            *(own, socket.inet_aton(sender), bytes(6), socket.inet_aton(target)),
        )
    )


def echo(own: bytes, to: bytes, source: str, target: str) -> bytes:
    """Build the frame of an ICMP echo request (RFC 791, RFC 792)."""
    data = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, 1, 1) + b"solostack"
    data = data[:2] + struct.pack("!H", checksum(data)) + data[4:]
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, 1, 0) + addresses
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return to + own + struct.pack("!H", ETH_P_IP) + head + data


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_arp(frame: bytes) -> tuple[int, bytes, str, str] | None:
    """Return operation, sender's MAC and address, and target address of an ARP frame."""
    if len(frame) < 42 or frame[12:14] != struct.pack("!H", ETH_P_ARP):
        return None
    (operation,) = struct.unpack("!H", frame[20:22])
    return operation, frame[22:28], socket.inet_ntoa(frame[28:32]), socket.inet_ntoa(frame[38:42])


def text(mac: bytes) -> str:
    return mac.hex(":")


def ask(device: str, sender: str, targets: list[str], tries: int, wait_s: float) -> dict[str, Any]:
    """Ask for every target, tries times; sender is the address that the questions come from."""
    answers: dict[str, set[str]] = {target: set() for target in targets}
    with opened(device, ETH_P_ARP) as wire:
        own = wire.getsockname()[4]
        for _ in range(tries):
            for target in targets:
                wire.send(arp_request(own, sender, target))
            for frame in frames(wire, wait_s):
                arp = read_arp(frame)
                if arp is not None and arp[0] == 2 and arp[2] in answers:
                    answers[arp[2]].add(text(arp[1]))
    return {target: sorted(macs) for target, macs in answers.items()}


def send(device: str, to: str, packets: list[list[str]], count: int) -> int:
    """Send each of packets (source, target) count times to a MAC."""
    mac = bytes.fromhex(to.replace(":", ""))
    with opened(device, ETH_P_IP) as wire:
        own = wire.getsockname()[4]
        for source, target in packets * count:
            wire.send(echo(own, mac, source, target))
            time.sleep(0.005)
    return len(packets) * count


def watch(device: str) -> dict[str, Any]:
    """Note the MACs, ARP and IPv4 addresses of everything that comes in at device."""
    seen: dict[str, set[str]] = {"macs": set(), "arp": set(), "asked": set(), "sources": set()}
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    # Bound to no device, or it would end when the host's cable goes.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        print(json.dumps("listening"), flush=True)  # noqa: T201
        for frame in frames(wire, 0.5, device=device, over=lambda: bool(over)):
            note(frame, seen)
    return {what: sorted(values) for what, values in seen.items()}


def note(frame: bytes, seen: dict[str, set[str]]) -> None:
    """Add what a frame tells to what was seen."""
    seen["macs"].add(text(frame[6:12]))
    arp = read_arp(frame)
    if arp is not None:
        seen["arp"].add(f"{arp[2]} {text(arp[1])}")
        seen["asked"].add(arp[3])
    elif frame[12:14] == struct.pack("!H", ETH_P_IP) and len(frame) >= 34:
        seen["sources"].add(socket.inet_ntoa(frame[26:30]))


def opened(device: str, protocol: int) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    wire.bind((device, protocol))
    return wire


def frames(
    wire: socket.socket,
    wait_s: float,
    *,
    device: str = "",
    over: Callable[[], bool] | None = None,
) -> Iterator[bytes]:
    """Yield what comes in, for wait_s, or until over says so."""
    end_s = time.monotonic() + wait_s
    while True:
        left_s = wait_s if over else end_s - time.monotonic()
        if left_s <= 0 or (over and over()):
            return
        wire.settimeout(left_s)
        try:
            frame, origin = wire.recvfrom(2048)
        except TimeoutError:
            continue
        except OSError:
            # ENETDOWN: a device went; the socket stays good.
            continue
        if origin[2] != PACKET_OUTGOING and device in {"", origin[0]}:
            yield frame


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"ask": ask, "send": send, "watch": watch}
    print(json.dumps(commands[sys.argv[1]](**json.loads(sys.argv[2]))))  # noqa: T201
