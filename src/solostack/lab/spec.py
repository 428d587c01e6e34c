"""What a lab is: its hosts, its provider, and every name and address that follow from them.

Pure values. Nothing here looks at the machine; the same spec always gives the same names.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import ipaddress
import json
import re
from pathlib import Path
from typing import Any

from solostack.errors import LabError

FORMAT = 1
MOST_HOSTS = 20
# Documentation networks (RFC 5737): never anybody's real addresses. Every lab lives in namespaces
# of its own, so all labs use the same ones.
WIRE = ipaddress.IPv4Network("203.0.113.0/24")
GATEWAY = ipaddress.IPv4Address("203.0.113.1")
BLOCK = ipaddress.IPv4Network("198.51.100.0/28")
# A subnet on the wire costs its provider an address of it: the router's own.
WIRE_BLOCK = ipaddress.IPv4Network("198.51.100.0/29")
WIRE_ROUTER = ipaddress.IPv4Address("198.51.100.1")
# What the site of a lab without public addresses uses. Not 10.98.0.0/24: Neutron's wider subnet
# around that one would hold the transit network 10.99.0.0/24.
PRIVATE_BLOCK = ipaddress.IPv4Network("10.98.1.0/24")
PUBLISHED_PORT = 8080
# An address beyond the provider's router, so that "reaches the outside" can be tried.
BEYOND = ipaddress.IPv4Address("192.0.2.1")
SCATTERED = tuple(
    ipaddress.IPv4Address(text)
    for text in ("198.51.100.3", "198.51.100.77", "198.51.100.130", "203.0.113.201")
)
NIC = "peth0"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


class Provider(enum.StrEnum):
    """How the simulated provider hands out public addresses.

    routed: BLOCK is routed to the first host. on-link: WIRE_BLOCK is a subnet of the wire, the
    router has WIRE_ROUTER of it and looks for every other address with ARP. scattered: each of
    SCATTERED is looked for on the wire, and hosts have a /32 with a gateway outside of it.
    mac-filter: on-link, and the switch drops and counts frames whose source is not the host's own
    MAC. single: the host's own address and nothing else.
    """

    ROUTED = "routed"
    ON_LINK = "on-link"
    SCATTERED = "scattered"
    MAC_FILTER = "mac-filter"
    SINGLE = "single"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """One simulated physical host. tree is the read-only directory its root is laid over."""

    name: str
    address: ipaddress.IPv4Address
    mac: str
    tree: Path


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """A whole lab. cache is a directory of this machine, shown writable to every host."""

    name: str
    provider: Provider
    cache: Path
    hosts: tuple[LabHost, ...]

    def host(self, name: str) -> LabHost:
        """Return the host of that name; LabError names those there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        there = ", ".join(host.name for host in self.hosts)
        raise LabError(f"lab {self.name} has no host {name}", hint=f"use one of: {there}")

    def with_hosts(self, count: int, tree: Path) -> LabSpec:
        """Return this lab grown to count hosts, the new ones from tree. It never shrinks."""
        if count > MOST_HOSTS:
            raise LabError(f"a lab has at most {MOST_HOSTS} hosts, not {count}")
        new = tuple(
            LabHost(
                name=f"phys{number}",
                address=GATEWAY + number,
                mac=_mac(self.name, number),
                tree=tree,
            )
            for number in range(len(self.hosts) + 1, count + 1)
        )
        return dataclasses.replace(self, hosts=(*self.hosts, *new))


def check_name(name: str) -> str:
    """Return name if a lab may be called that, else raise LabError."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot be a lab's name",
            hint="use a lower-case letter, then up to 19 lower-case letters, digits or hyphens",
        )
    return name


def upstream_namespace(lab: str) -> str:
    """Name the network namespace of a lab's provider."""
    return f"solostack-lab-{lab}-upstream"


def host_namespace(lab: str, host: str) -> str:
    """Name a host's network namespace; its control group and machine are called the same."""
    return f"solostack-lab-{lab}-{host}"


def is_of_lab(resource: str, lab: str) -> bool:
    """Whether a namespace or control group was made by that lab, and by no other.

    Host names are ``phys`` and a number, so lab ``a`` never takes what lab ``a-phys1`` made.
    """
    return bool(re.fullmatch(rf"solostack-lab-{re.escape(lab)}-(upstream|phys\d+)", resource))


def dump(spec: LabSpec) -> str:
    """Render a spec as the JSON text that load reads."""
    hosts = [
        {"name": host.name, "address": str(host.address), "mac": host.mac, "tree": str(host.tree)}
        for host in spec.hosts
    ]
    data = {
        "format": FORMAT,
        "name": spec.name,
        "provider": spec.provider.value,
        "cache": str(spec.cache),
        "hosts": hosts,
    }
    return json.dumps(data, indent=2) + "\n"


def load(text: str) -> LabSpec:
    """Read what dump wrote; raises LabError for anything else."""
    try:
        data: dict[str, Any] = json.loads(text)
        if data["format"] != FORMAT:
            raise LabError(f"the lab's state has format {data['format']}, this is {FORMAT}")
        return LabSpec(
            name=data["name"],
            provider=Provider(data["provider"]),
            cache=Path(data["cache"]),
            hosts=tuple(_load_host(host) for host in data["hosts"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"the lab's state cannot be read: {error}", hint="remove it: solostack lab down"
        ) from error


def _load_host(data: dict[str, str]) -> LabHost:
    return LabHost(
        name=data["name"],
        address=ipaddress.IPv4Address(data["address"]),
        mac=data["mac"],
        tree=Path(data["tree"]),
    )


def _mac(lab: str, number: int) -> str:
    # 02: a locally administered unicast address (IEEE 802), so never a real card's.
    digest = hashlib.sha256(f"{lab}/{number}".encode()).digest()
    return ":".join(["02", *(f"{byte:02x}" for byte in digest[:5])])
