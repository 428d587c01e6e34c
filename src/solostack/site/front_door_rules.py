"""What types cannot say about the front door: whose address it is, and who has its ports. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from solostack.site.document import Location
from solostack.site.fields import IPv4Address
from solostack.site.model import Host, Protocol, Site
from solostack.site.networks import floating_addresses, is_public, why_not_floating
from solostack.site.problems import Problem, did_you_mean, dotted
from solostack.site.ranges import block_is_sound
from solostack.site.services import FrontDoor

SPARE_PORTS = {"port": (443, 8443, 9443), "http_port": (80, 8080, 9080)}


def check_front_door(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the front door, and with a dashboard that has none."""
    door = site.front_door
    if door is None:
        if site.dashboard is not None:
            yield Problem(
                location=("dashboard",),
                expected="a front_door, behind which it is",
                found="no front_door",
                suggestion="write `front_door: {}`",
            )
        return
    if door.port == door.http_port:
        yield Problem(
            location=("front_door", "http_port"),
            other=("front_door", "port"),
            expected="another port than front_door.port",
            found=f"{door.http_port} for both",
        )
    yield from _hostname(door)
    yield from _address(site, door)
    yield from _ports(site, door)


def _hostname(door: FrontDoor) -> Iterator[Problem]:
    if door.hostname is None:
        return
    try:
        ipaddress.IPv4Address(door.hostname)
    except ValueError:
        return
    yield Problem(
        location=("front_door", "hostname"),
        expected="a DNS name (without one, URLs have the address)",
        found=f"'{door.hostname}', an address",
        suggestion="give it as front_door.address, if it is not the host's own",
    )


def _address(site: Site, door: FrontDoor) -> Iterator[Problem]:
    own = gateway_host(site).address
    if door.address is None or door.address == own or is_public(site, door.address):
        return
    reason = why_not_floating(site, door.address)
    block = site.external.block
    usable = floating_addresses(site) if block is None or block_is_sound(site) else ()
    yield Problem(
        location=("front_door", "address"),
        expected=f"the host's own address {own} or one of the public addresses",
        found=f"{door.address}, {_why_not(site, door.address, reason)}",
        suggestion=did_you_mean(usable[0] if usable else own),
    )


def _why_not(site: Site, address: IPv4Address, reason: tuple[str, str] | None) -> str:
    for host in site.hosts:
        if address == host.address:
            return f"the own address of host {host.name}, which has not the public ones"
    block = site.external.block
    if reason is not None and block is not None and address in block and reason[0] != "front door":
        return reason[1]
    return "which is neither"


def _ports(site: Site, door: FrontDoor) -> Iterator[Problem]:
    """Only the host's own address has other services at its ports."""
    own = gateway_host(site)
    if door.address not in {None, own.address}:
        return
    taken = _taken(site, own)
    for key, port in (("port", door.port), ("http_port", door.http_port)):
        if port not in taken:
            continue
        other, whose = taken[port]
        others = {door.port, door.http_port, *taken}
        free = next((one for one in SPARE_PORTS[key] if one not in others), None)
        yield Problem(
            location=("front_door", key),
            other=other,
            expected=f"a port of the host that {whose} does not have",
            found=f"{port}",
            suggestion=did_you_mean(free) if free else "",
        )


def _taken(site: Site, host: Host) -> Mapping[int, tuple[Location | None, str]]:
    """Return the host's TCP ports that are somebody else's, where the site says so, and whose."""
    index = site.hosts.index(host)
    found: dict[int, tuple[Location | None, str]] = {22: (None, "SSH")}
    found[host.ssh.port] = (("hosts", index, "ssh", "port"), "SSH")
    for number, opened in enumerate(site.firewall.open):
        if opened.protocol is Protocol.TCP:
            place: Location = ("firewall", "open", number, "port")
            found[opened.port] = (place, f"{dotted(place[:-1])}, a service of the host,")
    for number, published in enumerate(site.external.published):
        if published.protocol is Protocol.TCP:
            place = ("external", "published", number, "port")
            found[published.port] = (place, dotted(place[:-1]))
    return found


def gateway_host(site: Site) -> Host:
    """Return the host that has the public addresses: the network node's."""
    name = site.nodes.network.host
    return next((host for host in site.hosts if host.name == name), site.hosts[0])
