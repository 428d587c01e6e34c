"""How public addresses reach a host: listens on its card while somebody knocks at them.

What arrives cannot be had from any configuration of the host: only the provider's router knows, and
it shows by what it sends. Knows no site's method; host.check_method compares.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from solostack.doors.knock import Knocks
from solostack.doors.process import Executor
from solostack.errors import CommandError, HostError
from solostack.host import method_probe_script
from solostack.site.model import Site
from solostack.site.networks import floating_addresses

LISTEN_S = 3.0
FILTER_PROBE_S = 2.0
ROUND_TRIP_S = 25.0
MOST_TARGETS = 3
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

IPv4Address = ipaddress.IPv4Address
Knocker = Callable[[Sequence[IPv4Address]], Knocks]


class Way(enum.StrEnum):
    """How public addresses arrive.

    on the wire: somebody asks for them with ARP. routed: packets come to the card's own MAC, and
    nobody on this host answers ARP for them. either: packets come, and this host answers ARP for
    them, so that both are possible. nothing: none came. unknown: nobody could listen.
    """

    ON_WIRE = "on the wire"
    ROUTED = "routed"
    EITHER = "either"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """The first frame of a kind, and how many there were: who sent it, to which MAC."""

    mac: str
    ip: str
    to: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was heard about one address.

    asked: somebody looked for it with ARP. came: an IPv4 packet for it, to the card's own MAC.
    passed: one to another MAC. answered: this host answers ARP for it.
    """

    address: IPv4Address
    asked: Sign | None = None
    came: Sign | None = None
    passed: Sign | None = None
    answered: bool = False

    @property
    def way(self) -> Way:
        """What that proves about this address."""
        if self.came is not None and not self.answered:
            return Way.ROUTED
        if self.asked is not None or (self.passed is not None and self.answered):
            return Way.ON_WIRE
        return Way.NOTHING if self.came is None else Way.EITHER


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FilterProbe:
    """Which MAC answered an ARP probe for the gateway sent from the card's MAC, and from another.

    Empty: none did.
    """

    gateway: IPv4Address
    own: str
    foreign: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MethodSeen:
    """What was heard on the card. knocks None: nobody knocked; error: why nobody listened."""

    nic: str
    targets: tuple[IPv4Address, ...]
    heard: tuple[Heard, ...] = ()
    knocks: Knocks | None = None
    filter_probe: FilterProbe | None = None
    error: str = ""

    @property
    def proof(self) -> Heard | None:
        """The address that tells most.

        What is on the wire first: for a routed block nobody asks at all, while a router that has
        asked before sends to the same address without asking again.
        """
        for way in (Way.ON_WIRE, Way.ROUTED, Way.EITHER):
            for heard in self.heard:
                if heard.way is way:
                    return heard
        return None

    @property
    def way(self) -> Way:
        """How public addresses arrive."""
        proof = self.proof
        if proof is not None:
            return proof.way
        return Way.UNKNOWN if self.error or not self.targets else Way.NOTHING

    @property
    def evidence(self) -> str:
        """How that is known, in a reader's words; empty when nothing was heard."""
        heard = self.proof
        if heard is None:
            return ""
        if heard.way is Way.ON_WIRE and heard.asked is not None:
            return f"{heard.asked.ip} ({heard.asked.mac}) asked with ARP who has {heard.address}"
        if heard.way is Way.ON_WIRE and heard.passed is not None:
            return f"a packet for {heard.address} came to {heard.passed.to}, which answers for it"
        if heard.came is None:
            return ""
        came = (
            f"a packet for {heard.address} came from {heard.came.mac} to {self.nic}'s own MAC "
            f"{heard.came.to}"
        )
        asked = "nobody asked for it with ARP" if heard.asked is None else "no ARP answer of ours"
        return f"{came}, {asked}" if heard.way is Way.ROUTED else came


def knock_targets(site: Site) -> tuple[IPv4Address, ...]:
    """Return up to three addresses to knock at, spread over what the site may use.

    Not the first and last of a block: on a wire they are the subnet's own, and no router looks for
    them; nor, where there are others, their neighbours, which routers like to have themselves.
    """
    found = floating_addresses(site)
    if len(found) <= MOST_TARGETS:
        return found
    inner = found[1:-1]
    count = len(inner)
    return tuple(inner[index] for index in sorted({count // 4, count // 2, 3 * count // 4}))


def foreign_mac(mac: str) -> str:
    """Return another, locally administered MAC for a card's; equal cards, equal answer."""
    first, second = ("06", "53") if not mac.startswith("06:53") else ("0a", "53")
    return ":".join([first, second, *mac.split(":")[2:]])


def probe_method(
    executor: Executor,
    *,
    nic: str,
    targets: Sequence[IPv4Address],
    knocker: Knocker | None,
    filter_probe: tuple[IPv4Address, str] | None = None,
    listen_s: float = LISTEN_S,
) -> MethodSeen:
    """Listen on a host's card while knocker, if any, knocks from here; changes nothing there.

    filter_probe is the gateway and the card's MAC, to find out whether the provider drops frames
    from other MACs; it sends some, see method_probe_script.probe_filter.

    Raises:
        ConnectError: the host cannot be reached.
        HostError: the listener does not run there, or says what cannot be read.
    """
    knocks: list[Knocks] = []

    def on_line(line: str) -> None:
        if knocker is not None and not knocks and '"listening"' in line:
            knocks.append(knocker(targets))

    gateway, mac = filter_probe or ("", "")
    request = {
        "nic": nic,
        "targets": [str(target) for target in targets],
        "listen_s": listen_s,
        "gateway": str(gateway),
        "foreign_mac": foreign_mac(mac) if mac else "",
        "probe_s": FILTER_PROBE_S,
    }
    source = Path(method_probe_script.__file__).read_text(encoding="utf-8")
    script = f"{source}\nmain({json.dumps(request)!r})\n".encode()
    try:
        done = executor.run(
            ("python3", "-I", "-"),
            stdin=script,
            timeout_s=listen_s + FILTER_PROBE_S + ROUND_TRIP_S,
            on_line=on_line,
        )
    except CommandError as error:
        raise HostError(
            f"{executor.name}: nobody could listen on {nic}: {error.message}",
            details=error.details,
            hint=f"see that python3 (3.11 or newer) works on {executor.name}: apt install python3",
        ) from error
    seen = parse_method(done.text, name=executor.name, nic=nic, targets=targets)
    return dataclasses.replace(seen, knocks=knocks[0] if knocks else None)


def parse_method(text: str, *, name: str, nic: str, targets: Sequence[IPv4Address]) -> MethodSeen:
    """Read what the script wrote on the host called name.

    Raises:
        HostError: it is not what the script writes.
    """
    try:
        return _seen(_result(text), nic, tuple(targets))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(
            f"{name}: what was heard on {nic} cannot be read: {type(error).__name__}: {error}",
            hint=f"log in to {name} and see what python3 -I prints besides",
        ) from error


def _result(text: str) -> Mapping[str, Any]:
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("result"), dict):
                result: Mapping[str, Any] = value["result"]
                return result
    message = "no result"
    raise ValueError(message)


def _seen(result: Mapping[str, Any], nic: str, targets: tuple[IPv4Address, ...]) -> MethodSeen:
    answered = {str(address) for address in result["answered"]}
    heard = tuple(
        Heard(
            address=target,
            asked=_sign(result["heard"].get(str(target), {}).get("asked")),
            came=_sign(result["heard"].get(str(target), {}).get("came")),
            passed=_sign(result["heard"].get(str(target), {}).get("passed")),
            answered=str(target) in answered,
        )
        for target in targets
    )
    probe = result["probe"]
    return MethodSeen(
        nic=nic,
        targets=targets,
        heard=heard,
        filter_probe=None
        if probe is None
        else FilterProbe(
            gateway=IPv4Address(probe["gateway"]),
            own=_mac(probe["own"]),
            foreign=_mac(probe["foreign"]),
        ),
        error=_text(result["error"]),
    )


def _sign(raw: Mapping[str, Any] | None) -> Sign | None:
    if raw is None:
        return None
    return Sign(
        mac=_mac(raw["mac"]),
        ip=str(IPv4Address(_text(raw["ip"]))),
        to=_mac(raw.get("to", "")),
        count=int(raw["count"]),
    )


def _mac(value: object) -> str:
    text = _text(value)
    if text and not _MAC.fullmatch(text):
        message = f"not a MAC address: {text!r}"
        raise ValueError(message)
    return text


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    message = f"not a text: {value!r}"
    raise TypeError(message)
