"""What types cannot say about a site: clashing names, overlapping networks, impossible sizes.

Pure: a Site in, Problems out, in no order. Nothing here knows of files or of real machines.
"""

from __future__ import annotations

from collections.abc import Iterator

from solostack.site.document import Location
from solostack.site.external_rules import check_external, check_firewall
from solostack.site.fields import IPv4Address, IPv4Network
from solostack.site.model import Role, Site
from solostack.site.networks import assign_data_addresses, node_settings
from solostack.site.problems import Problem, did_you_mean, dotted, nearest, repeated
from solostack.site.ranges import Range, check_ranges, ranges, unusable
from solostack.site.releases import RELEASES
from solostack.site.service_rules import check_services

RESERVED_BRIDGES = ("br-int", "br-ex", "br-phy", "br-uplink", "lo")
"""Bridges Open vSwitch and OVN make themselves, ours for method bridge, and the loopback device."""

MINIMUM_MEMORY_MIB = {
    Role.CONTROLLER: 2048,
    Role.NETWORK: 512,
    Role.STORAGE: 1024,
    Role.DIRECTORY: 384,
}
"""Below this a node's services do not start: measured 1.6 GiB for a controller with one process
per API, and a network node's Debian with Open vSwitch needs nearly 0.5 GiB."""


def check_site(site: Site) -> tuple[Problem, ...]:
    """Return everything wrong with a well-typed site; an empty tuple when it is sound."""
    return (
        *_release(site),
        *_hosts(site),
        *_host_addresses(site),
        *_nodes(site),
        *_bridges(site),
        *check_ranges(site),
        *check_external(site),
        *check_firewall(site),
        *check_services(site),
        *_data_addresses(site),
        *_catalogue(site),
    )


def _release(site: Site) -> Iterator[Problem]:
    if site.release not in RELEASES:
        yield Problem(
            location=("release",),
            expected="one of " + ", ".join(RELEASES),
            found=f"'{site.release}'",
            suggestion=nearest(site.release, RELEASES) or did_you_mean(next(iter(RELEASES))),
        )


def _hosts(site: Site) -> Iterator[Problem]:
    names = [(("hosts", index, "name"), host.name) for index, host in enumerate(site.hosts)]
    yield from repeated(names, "a host name of its own")
    for location, name in names:
        if name in set(Role):
            yield Problem(
                location=location,
                expected="a name that is no role's (nodes are named after their role)",
                found=f"'{name}'",
                suggestion=did_you_mean(f"{name}-host"),
            )
    local = [index for index, host in enumerate(site.hosts) if host.local]
    for index in local[1:]:
        yield Problem(
            location=("hosts", index, "local"),
            expected="at most one host with local: true",
            found=f"another one (hosts[{local[0]}] is it already)",
        )
    for index, host in enumerate(site.hosts):
        if host.ssh.user != "root":
            yield Problem(
                location=("hosts", index, "ssh", "user"),
                expected="root (solostack changes the host's network)",
                found=f"'{host.ssh.user}'",
                suggestion=did_you_mean("root"),
            )


def _host_addresses(site: Site) -> Iterator[Problem]:
    own = [(("hosts", index, "address"), host.address) for index, host in enumerate(site.hosts)]
    yield from repeated(own, "an address of its own")
    for location, address in own:
        if unusable(IPv4Network(address)):
            yield Problem(
                location=location,
                expected="an address a machine can have",
                found=f"{address}",
            )
        for each in ranges(site):
            if address in each.network and not (each.public and site.external.on_wire):
                yield Problem(
                    location=location,
                    other=each.location,
                    expected=f"an address outside {each.title} ({each.network})",
                    found=f"{address}",
                    suggestion=_why_outside(each),
                )


def _why_outside(each: Range) -> str:
    if each.location == ("external", "block"):
        return "the whole block leads to the cloud, the host's own address is another one"
    return f"give {dotted(each.location)} another network"


def _nodes(site: Site) -> Iterator[Problem]:
    names = list(dict.fromkeys(host.name for host in site.hosts))
    for role, node in node_settings(site).items():
        if node.host is not None and node.host not in names:
            yield Problem(
                location=("nodes", role.value, "host"),
                expected="the name of a host (" + ", ".join(names) + ")",
                found=f"'{node.host}'",
                suggestion=nearest(node.host, names) or did_you_mean(names[0]),
            )
        minimum = MINIMUM_MEMORY_MIB[role]
        if node.memory_mib is not None and node.memory_mib < minimum:
            yield Problem(
                location=("nodes", role.value, "memory_mib"),
                expected=f"at least {minimum} MiB for a {role} node",
                found=f"{node.memory_mib}",
                suggestion=did_you_mean(minimum),
            )


def _bridges(site: Site) -> Iterator[Problem]:
    data: tuple[Location, str] = (("data", "bridge"), site.data.bridge)
    external: tuple[Location, str] = (("external", "bridge"), site.external.bridge)
    for location, bridge in (data, external):
        for index, host in enumerate(site.hosts):
            if bridge == host.nic:
                yield Problem(
                    location=location,
                    other=("hosts", index, "nic"),
                    expected="a bridge name that is not a network card's",
                    found=f"'{bridge}', the nic of {host.name}",
                    suggestion=_other_bridge(site, str(location[0])),
                )
        if bridge in RESERVED_BRIDGES:
            yield Problem(
                location=location,
                expected="a bridge name other than " + ", ".join(RESERVED_BRIDGES),
                found=f"'{bridge}'",
                suggestion=_other_bridge(site, str(location[0])),
            )
    if data[1] == external[1]:
        yield Problem(
            location=external[0],
            other=data[0],
            expected="another bridge than data.bridge",
            found=f"'{external[1]}' for both",
            suggestion=_other_bridge(site, "external"),
        )


def _other_bridge(site: Site, purpose: str) -> str:
    taken = {site.data.bridge, site.external.bridge, *(host.nic for host in site.hosts)}
    names = (f"br-{purpose}", f"br-{purpose}0", f"br-{purpose}1")
    return did_you_mean(next((name for name in names if name not in taken), "br-cloud"))


def _data_addresses(site: Site) -> Iterator[Problem]:
    cidr = site.data.cidr
    given = [
        (location, address)
        for location, address in _explicit_data_addresses(site)
        if address is not None
    ]
    yield from repeated(given, "a data address of its own")
    for location, address in given:
        if address not in cidr:
            yield Problem(
                location=location,
                other=("data", "cidr"),
                expected=f"an address in the data network {cidr}",
                found=f"{address}",
            )
        elif address in {cidr[0], cidr[-1]}:
            yield Problem(
                location=location,
                other=("data", "cidr"),
                expected=f"an address inside {cidr}",
                found=f"{address}, its network or broadcast address",
            )
    missing = [name for name, each in assign_data_addresses(site).items() if each is None]
    if missing:
        yield Problem(
            location=("data", "cidr"),
            expected="room for every host and node (a /28 or larger; nodes begin at .11)",
            found=f"{cidr}, none left for " + ", ".join(missing),
            suggestion=_larger(cidr),
        )


def _larger(cidr: IPv4Network) -> str:
    prefix = 24 if cidr.prefixlen > 24 else max(cidr.prefixlen - 1, 8)
    return did_you_mean(cidr.supernet(new_prefix=prefix))


def _explicit_data_addresses(site: Site) -> Iterator[tuple[Location, IPv4Address | None]]:
    for index, host in enumerate(site.hosts):
        yield ("hosts", index, "data_address"), host.data_address
    for role, node in node_settings(site).items():
        yield ("nodes", role.value, "address"), node.address


def _catalogue(site: Site) -> Iterator[Problem]:
    flavors = [(("flavors", index, "name"), each.name) for index, each in enumerate(site.flavors)]
    images = [(("images", index, "name"), each.name) for index, each in enumerate(site.images)]
    yield from repeated(flavors, "a flavor name of its own")
    yield from repeated(images, "an image name of its own")
    for index, image in enumerate(site.images):
        if not image.source.startswith(("/", "http://", "https://")):
            yield Problem(
                location=("images", index, "source"),
                expected="an absolute path or an http(s) URL",
                found=f"'{image.source}'",
            )
