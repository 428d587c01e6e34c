"""The script that listens on a host's card. Shipped as text, standard library only.

host.method sends this file over standard input of ``python3 -I -`` with a call of ``main`` behind
it. One line says that it listens, so that the machine solostack runs on begins to knock; the last
line is what was heard. What it means is decided in host.method. It leaves nothing on the host.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ETH_P_ALL, ETH_P_ARP, ETH_P_IP = 0x0003, 0x0806, 0x0800
# linux/if_packet.h, asm-generic/socket.h, linux/filter.h
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_AUXDATA = 263, 1, 1, 8
PACKET_HOST, PACKET_OTHERHOST, PACKET_OUTGOING = 0, 3, 4
TP_STATUS_VLAN_VALID = 16
SO_ATTACH_FILTER = 26
BPF_LOAD_HALF, BPF_LOAD_WORD, BPF_JUMP_EQUAL, BPF_RETURN = 0x28, 0x20, 0x15, 0x06
BROADCAST = b"\xff" * 6
REQUEST, REPLY = 1, 2
SNAP_BYTES = 256
PROBE_ROUNDS = 3


def main(request_text: str) -> None:
    """Listen as the request says and write what was heard as the last line of JSON."""
    request = json.loads(request_text)
    answer: dict[str, Any] = {"error": "", "heard": {}, "answered": [], "probe": None}
    try:
        answer["mac"] = mac_of(request["nic"])
        with open_tap(request["nic"], packed(request["targets"])) as tap:
            say({"listening": True})
            heard = listen(tap, request["targets"], request["listen_s"])
        answering_now = answering(request["nic"], heard["heard"], request["targets"])
        answer["heard"] = heard["heard"]
        answer["answered"] = sorted({*heard["answered"], *answering_now})
        if request["gateway"]:
            answer["probe"] = probe_filter(request)
    except (OSError, subprocess.SubprocessError) as error:
        answer["error"] = str(getattr(error, "strerror", None) or error)
    say({"result": answer})


def say(value: dict[str, Any]) -> None:
    """Write one line at once: the other side waits for it."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def mac_of(nic: str) -> str:
    """Return the card's MAC address."""
    return Path(f"/sys/class/net/{nic}/address").read_text(encoding="ascii").strip()


def packed(addresses: list[str]) -> list[int]:
    """Return addresses as numbers."""
    return [struct.unpack("!I", socket.inet_aton(address))[0] for address in addresses]


@contextlib.contextmanager
def open_tap(nic: str, targets: list[int]) -> Iterator[socket.socket]:
    """Open a raw socket on the card that gets ARP and IPv4 for the targets only.

    All protocols, for a card that is a bridge's port gives the bridge the rest before a socket of
    one protocol sees it; the kernel filters, for a busy card has more than Python can read.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tap:
        program = render_filter(targets)
        code = ctypes.create_string_buffer(program)
        # struct sock_fprog: length in instructions of 8 bytes, pointer.
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        tap.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        tap.bind((nic, ETH_P_ALL))
        yield tap


def render_filter(targets: list[int]) -> bytes:
    """Build the classic BPF program: every ARP frame, and IPv4 to one of the targets."""
    count = len(targets)
    program = [
        (BPF_LOAD_HALF, 0, 0, 12),
        (BPF_JUMP_EQUAL, count + 3, 0, ETH_P_ARP),
        (BPF_JUMP_EQUAL, 0, count + 1, ETH_P_IP),
        (BPF_LOAD_WORD, 0, 0, 30),
        *((BPF_JUMP_EQUAL, count - index, 0, target) for index, target in enumerate(targets)),
        (BPF_RETURN, 0, 0, 0),
        (BPF_RETURN, 0, 0, SNAP_BYTES),
    ]
    return b"".join(struct.pack("@HBBI", *step) for step in program)


def frames(tap: socket.socket, duration_s: float) -> Iterator[tuple[bytes, int]]:
    """Yield frames and their packet type for so long. Frames of other VLANs are left out."""
    end = time.monotonic() + duration_s
    while (left := end - time.monotonic()) > 0:
        tap.settimeout(left)
        try:
            frame, extra, _, sender = tap.recvmsg(SNAP_BYTES, socket.CMSG_SPACE(64))
        except TimeoutError:
            return
        if not any(is_tagged(kind, data) for _, kind, data in extra):
            yield frame, sender[2]


def is_tagged(kind: int, data: bytes) -> bool:
    """Whether struct tpacket_auxdata says that the card took a VLAN tag off the frame."""
    return kind == PACKET_AUXDATA and bool(struct.unpack_from("@I", data)[0] & TP_STATUS_VLAN_VALID)


def listen(tap: socket.socket, targets: list[str], duration_s: float) -> dict[str, Any]:
    """Return what concerns the targets: the first of each kind, and how many there were."""
    heard: dict[str, dict[str, Any]] = {}
    answered: set[str] = set()
    for frame, kind in frames(tap, duration_s):
        event = read_event(frame, kind, targets)
        if event is None:
            continue
        target, what, by = event
        if what == "answered":
            answered.add(target)
            continue
        first = heard.setdefault(target, {}).setdefault(what, {"count": 0, **by})
        first["count"] += 1
    return {"heard": heard, "answered": sorted(answered)}


def read_event(
    frame: bytes, kind: int, targets: list[str]
) -> tuple[str, str, dict[str, str]] | None:
    """Return target, what happened and who did it; None for what is no concern of ours."""
    ether = struct.unpack_from("!H", frame, 12)[0]
    sender = text_of(frame[6:12])
    if ether == ETH_P_ARP and len(frame) >= 42:
        operation, _, source, _, target = read_arp(frame)
        if kind == PACKET_OUTGOING:
            mine = operation == REPLY and source in targets
            return (source, "answered", {}) if mine else None
        if operation == REQUEST and target in targets and source != target:
            return target, "asked", {"mac": sender, "ip": source}
        return None
    if ether == ETH_P_IP and len(frame) >= 34 and kind in {PACKET_HOST, PACKET_OTHERHOST}:
        what = "came" if kind == PACKET_HOST else "passed"
        by = {"mac": sender, "ip": socket.inet_ntoa(frame[26:30]), "to": text_of(frame[:6])}
        return socket.inet_ntoa(frame[30:34]), what, by
    return None


def read_arp(frame: bytes) -> tuple[int, bytes, str, bytes, str]:
    """Return operation, sender MAC, sender IP, target MAC, target IP (RFC 826)."""
    operation, sha, spa, tha, tpa = struct.unpack_from("!H6s4s6s4s", frame, 20)
    return operation, sha, socket.inet_ntoa(spa), tha, socket.inet_ntoa(tpa)


def text_of(mac: bytes) -> str:
    """Return a MAC address as ip(8) writes it."""
    return mac.hex(":")


def answering(nic: str, heard: dict[str, dict[str, Any]], targets: list[str]) -> set[str]:
    """Return the targets this host answers ARP for on the card, in whatever way."""
    switches = [f"/proc/sys/net/ipv4/conf/{name}/proxy_arp" for name in ("all", nic)]
    if any(Path(path).read_text(encoding="ascii").strip() != "0" for path in switches):
        return set(targets)
    words = lines_of(["ip", "-4", "neigh", "show", "proxy", "dev", nic])
    proxies = {line[0] for line in words}
    words = lines_of(["ip", "-4", "-o", "addr", "show"])
    local = {line[3].split("/")[0] for line in words if len(line) > 3}
    # With method bridge the MAC that answers is behind another port of the card's bridge.
    words = lines_of(["bridge", "fdb", "show"])
    behind = {line[0] for line in words if len(line) > 2 and line[1:3] != ["dev", nic]}
    ports = {name for name, signs in heard.items() if signs.get("passed", {}).get("to") in behind}
    return ({*proxies, *local} & set(targets)) | ports


def lines_of(argv: list[str]) -> list[list[str]]:
    """Return the words of each line a command says, none when there is no such command."""
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=10)  # noqa: S603
    except FileNotFoundError:
        return []
    return [line.split() for line in done.stdout.decode().splitlines() if line.split()]


def probe_filter(request: dict[str, Any]) -> dict[str, Any]:
    """Ask for the gateway with ARP from the card's MAC, and from another one; who was answered?

    Only for method bridge, where OVN's MAC would be on the wire for good: some providers lock a
    server that shows a MAC they do not know, so nobody else's check must ever send this. An ARP
    probe (sender 0.0.0.0, RFC 5227) enters no neighbour table. The card is promiscuous as long
    as the socket is open, or it would not take up the answer to the other MAC.
    """
    nic, gateway = request["nic"], request["gateway"]
    own = bytes.fromhex(mac_of(nic).replace(":", ""))
    foreign = bytes.fromhex(request["foreign_mac"].replace(":", ""))
    answers: dict[bytes, str] = {}
    with open_tap(nic, []) as tap:
        index = socket.if_nametoindex(nic)
        member = struct.pack("@iHH8s", index, PACKET_MR_PROMISC, 0, b"")
        tap.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, member)
        for _ in range(PROBE_ROUNDS):
            for mac in {own, foreign} - answers.keys():
                tap.send(render_probe(mac, gateway))
            for frame, kind in frames(tap, request["probe_s"] / PROBE_ROUNDS):
                if kind == PACKET_OUTGOING or len(frame) < 42:
                    continue
                operation, sha, source, tha, _ = read_arp(frame)
                if operation == REPLY and source == gateway:
                    answers.setdefault(tha, text_of(sha))
                if {own, foreign} <= answers.keys():
                    break
    return {
        "gateway": gateway,
        "own": answers.get(own, ""),
        "foreign": answers.get(foreign, ""),
    }


def render_probe(mac: bytes, address: str) -> bytes:
    """Build the frame of an ARP probe: sender 0.0.0.0, RFC 5227 section 2.1.1."""
    header = BROADCAST + mac + struct.pack("!HHHBBH", ETH_P_ARP, 1, ETH_P_IP, 6, 4, REQUEST)
    return header + mac + bytes(4) + bytes(6) + socket.inet_aton(address)
