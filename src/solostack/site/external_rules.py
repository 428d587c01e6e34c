"""What each external method needs and refuses, and mistakes in published ports and the firewall.

Pure: a Site in, Problems out, in no order.
"""

from __future__ import annotations

from collections.abc import Iterator

from solostack.site.document import Location
from solostack.site.fields import IPv4Address, IPv4Network
from solostack.site.model import ExternalMethod, Host, Protocol, Site
from solostack.site.networks import (
    floating_addresses,
    why_not_floating,
)
from solostack.site.problems import Problem, did_you_mean, dotted, repeated
from solostack.site.ranges import block_is_sound, ranges

EXAMPLE_BLOCK = "198.51.100.0/28"
MOST_ADDRESSES = 256
SPARE_PORT = 10_000
"""Added to a port that is taken, for a suggestion."""

_PRIVATE = tuple(
    IPv4Network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
"""RFC 1918 and RFC 6598."""

_WHOLE_BLOCK = {
    ExternalMethod.ROUTED: "none with method routed: the whole block leads to the host",
    ExternalMethod.PRIVATE: "none with method private: the whole block is the cloud's",
}
_NO_ADDRESSES = {
    ExternalMethod.ROUTED: "none with method routed: single addresses are for proxy and bridge",
    ExternalMethod.PRIVATE: "none with method private: floating IPs come from block",
}


def check_external(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the public addresses and the ports that lead to them."""
    yield from _given(site)
    yield from _single_addresses(site)
    yield from _not_ours(site)
    yield from _private(site)
    yield from _some_usable(site)
    yield from _published(site)


def check_firewall(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the host's firewall."""
    yield from _ssh_from(site)
    yield from _open(site)
    yield from _networks(site)


def _given(site: Site) -> Iterator[Problem]:
    external = site.external
    if external.method in _WHOLE_BLOCK:
        if external.block is None:
            yield Problem(
                location=("external", "block"),
                other=("external",),
                expected=f"the public block with method {external.method}, as {EXAMPLE_BLOCK}",
                found="none",
                suggestion="addresses on the provider's wire are for method proxy or bridge",
            )
        for key, values, why in (
            ("addresses", external.addresses, _NO_ADDRESSES[external.method]),
            ("not_ours", external.not_ours, _WHOLE_BLOCK[external.method]),
        ):
            if values:
                yield Problem(
                    location=("external", key),
                    expected=why,
                    found=_shown(values),
                    suggestion="take them out, or give the method that fits",
                )
    elif external.block is None and not external.addresses:
        yield Problem(
            location=("external", "block"),
            other=("external",),
            expected=f"block or addresses with method {external.method}",
            found="neither",
        )


def _single_addresses(site: Site) -> Iterator[Problem]:
    external = site.external
    if len(external.addresses) > MOST_ADDRESSES:
        yield Problem(
            location=("external", "addresses"),
            expected=f"at most {MOST_ADDRESSES} single addresses (a block holds more)",
            found=f"{len(external.addresses)}",
        )
    located: list[tuple[Location, IPv4Address]] = [
        (("external", "addresses", index), address)
        for index, address in enumerate(external.addresses)
    ]
    yield from repeated(located, "each address once")
    for location, address in located:
        taken = _taken(site, address)
        if taken is not None:
            yield Problem(
                location=location,
                expected="an address for floating IPs",
                found=f"{address}, {taken}",
            )
        elif external.block is not None and _offered(site, external.block, address):
            yield Problem(
                location=location,
                other=("external", "block"),
                expected=f"an address outside external.block {external.block}",
                found=f"{address}, which is usable already",
            )


def _taken(site: Site, address: IPv4Address) -> str | None:
    for host in site.hosts:
        if address == host.address:
            return f"the own address of host {host.name}"
    return "which external.not_ours lists too" if address in site.external.not_ours else None


def _not_ours(site: Site) -> Iterator[Problem]:
    external = site.external
    located: list[tuple[Location, IPv4Address]] = [
        (("external", "not_ours", index), address)
        for index, address in enumerate(external.not_ours)
    ]
    yield from repeated(located, "each address once")
    for location, address in located:
        if external.on_wire and (external.block is None or address not in external.block):
            where = "external.block" + (f" {external.block}" if external.block else "")
            yield Problem(
                location=location,
                other=("external", "block"),
                expected=f"an address in {where}, where others have some",
                found=f"{address}",
                suggestion="what is outside the block need not be listed",
            )


def _private(site: Site) -> Iterator[Problem]:
    block = site.external.block
    if site.external.method is not ExternalMethod.PRIVATE or block is None:
        return
    if not any(block.subnet_of(each) for each in _PRIVATE):
        yield Problem(
            location=("external", "block"),
            other=("external", "method"),
            expected="a private block with method private, in " + ", ".join(map(str, _PRIVATE)),
            found=f"{block}",
            suggestion="public addresses are for the methods routed, proxy and bridge",
        )


def _some_usable(site: Site) -> Iterator[Problem]:
    if block_is_sound(site) and not floating_addresses(site):
        yield Problem(
            location=("external", "block"),
            expected="at least one address that can be a floating IP",
            found=f"none in {site.external.block}: they are hosts', others', or the subnet's ends",
        )


def _published(site: Site) -> Iterator[Problem]:
    published = site.external.published
    located: list[tuple[Location, str]] = [
        (("external", "published", index, "port"), f"{each.protocol} {each.port}")
        for index, each in enumerate(published)
    ]
    yield from repeated(located, "each port of the host once per protocol")
    open_ports = {
        (each.protocol, each.port): index for index, each in enumerate(site.firewall.open)
    }
    for index, each in enumerate(published):
        location: Location = ("external", "published", index, "port")
        if each.protocol is Protocol.TCP and each.port in _ssh_ports(site):
            yield _ssh_taken(location, each.port, "a port other than SSH's, which the host needs")
        elif (each.protocol, each.port) in open_ports:
            other = ("firewall", "open", open_ports[each.protocol, each.port], "port")
            yield Problem(
                location=location,
                other=other,
                expected=f"a port that {dotted(other)} does not keep for the host",
                found=f"{each.protocol} {each.port}",
            )
        if not _is_floating(site, each.to):
            yield _no_floating_ip(site, ("external", "published", index, "to"), each.to)


def _ssh_taken(location: Location, port: int, expected: str) -> Problem:
    return Problem(
        location=location,
        expected=expected,
        found=f"{port}",
        suggestion=did_you_mean((port + SPARE_PORT) % 65536),
    )


def _ssh_ports(site: Site) -> frozenset[int]:
    return frozenset({22, _gateway_host(site).ssh.port})


def _gateway_host(site: Site) -> Host:
    name = site.nodes.network.host
    return next((host for host in site.hosts if host.name == name), site.hosts[0])


def _is_floating(site: Site, address: IPv4Address) -> bool:
    block = site.external.block
    if site.front_door is not None and address == site.front_door.address:
        return False
    return address in site.external.addresses or (
        block is not None and _offered(site, block, address)
    )


def _offered(site: Site, block: IPv4Network, address: IPv4Address) -> bool:
    return address in block and why_not_floating(site, address) is None


def _no_floating_ip(site: Site, location: Location, address: IPv4Address) -> Problem:
    block = site.external.block
    reason = None
    door = site.front_door.address if site.front_door else None
    if address == door or (block is not None and address in block):
        reason = why_not_floating(site, address)
    usable = floating_addresses(site) if block is None or block_is_sound(site) else ()
    kind = "private" if site.external.method is ExternalMethod.PRIVATE else "public"
    why = reason[1] if reason else f"which is not among the {kind} addresses"
    near = min(usable, key=lambda each: abs(int(each) - int(address)), default=None)
    return Problem(
        location=location,
        expected="an address that can be a floating IP",
        found=f"{address}, {why}",
        suggestion="" if near is None else did_you_mean(near),
    )


def _ssh_from(site: Site) -> Iterator[Problem]:
    sources = site.firewall.ssh_from
    own = [each.network for each in ranges(site)]
    if sources and all(any(source.subnet_of(each) for each in own) for source in sources):
        yield Problem(
            location=("firewall", "ssh_from"),
            expected="a network outside the cloud, where you log in from",
            found=_shown(sources) + ", only the cloud's own: nobody could log in through the card",
        )


def _open(site: Site) -> Iterator[Problem]:
    located: list[tuple[Location, str]] = [
        (("firewall", "open", index, "port"), f"{each.protocol} {each.port}")
        for index, each in enumerate(site.firewall.open)
    ]
    yield from repeated(located, "each port once per protocol")
    for index, each in enumerate(site.firewall.open):
        ssh = {host.ssh.port for host in site.hosts}
        if each.protocol is Protocol.TCP and each.port in ssh and site.firewall.ssh_from:
            yield Problem(
                location=("firewall", "open", index, "port"),
                other=("firewall", "ssh_from"),
                expected="a port other than SSH's, which firewall.ssh_from is about",
                found=f"{each.port}",
                suggestion="give its sources under firewall.ssh_from",
            )


def _networks(site: Site) -> Iterator[Problem]:
    for index, network in enumerate(site.firewall.networks):
        for each in ranges(site):
            if network.overlaps(each.network):
                yield Problem(
                    location=("firewall", "networks", index),
                    other=each.location,
                    expected=f"a network apart from {each.title} ({each.network})",
                    found=f"{network}",
                )


def _shown(values: tuple[object, ...]) -> str:
    return ", ".join(str(each) for each in values)
