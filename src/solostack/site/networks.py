"""Address arithmetic the rules of a site and its plan share. Pure; knows nothing of files."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from solostack.site.model import Node, Role, Site
from solostack.site.services import DirectoryProvider

IPv4Address = ipaddress.IPv4Address
IPv4Network = ipaddress.IPv4Network

FRONT_DOOR = "front door"
"""Use of the public address that leads to the controller."""
FIRST_HOST = 1
FIRST_NODE = 11
NODE_RANGE = 20
"""Offsets .11 to .30 of the data network are kept for nodes, so that a node of a new role and a
new host never compete for an address."""
VERIFY_NETWORKS = ("10.254.254.0/24", "192.168.254.0/24", "172.31.254.0/24", "100.127.254.0/24")
"""Candidates for the tenant network `verify` makes; the first apart from the site's is taken."""


def supernet(block: IPv4Network) -> IPv4Network:
    """Return the smallest network around block whose first and last address are not block's.

    Neutron refuses allocation pools that hold the first or the last address of their subnet
    (``OutOfBoundsAllocationPool``); declared with this wider CIDR, both ends of the block are
    ordinary addresses. The CIDR never becomes a route: OVN only sees the gateway port's subnet.

    Raises:
        ValueError: no such network exists (the block touches 0.0.0.0 or 255.255.255.255).
    """
    for prefix in range(block.prefixlen - 1, -1, -1):
        wider = block.supernet(new_prefix=prefix)
        if wider[0] != block[0] and wider[-1] != block[-1]:
            return wider
    message = f"{block} touches an end of the address space"
    raise ValueError(message)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FloatingSubnet:
    """One subnet of floating IPs as Neutron is told of it.

    cidr is wider than what it stands for, so that both ends of a pool are usable; pools are
    inclusive ranges.
    """

    cidr: IPv4Network
    pools: tuple[tuple[IPv4Address, IPv4Address], ...]


def why_not_floating(site: Site, address: IPv4Address) -> tuple[str, str] | None:
    """Return use and reason of an address of the block that cannot be a floating IP, else None.

    On a wire the block is a subnet of the provider's: its router takes the first and the last
    address for the subnet itself (RFC 1122 section 3.2.1.3). Routed to us they are like any other.
    """
    external, block = site.external, site.external.block
    if any(address == host.address for host in site.hosts):
        return "host", "a host has it as its own"
    if address in external.not_ours:
        return "not ours", "listed under external.not_ours"
    if block is not None and address in block and external.on_wire and block.prefixlen <= 30:
        if address == block[0]:
            return "subnet", "the subnet's own address: the provider's router would not look for it"
        if address == block[-1]:
            return (
                "broadcast",
                "the subnet's broadcast address: reaches no single machine on a wire",
            )
    if site.front_door is not None and address == site.front_door.address:
        return FRONT_DOOR, "HTTPS at it leads to the controller, so no instance can have it"
    return None


def floating_addresses(site: Site) -> tuple[IPv4Address, ...]:
    """Return every address that can be a floating IP, in order."""
    found = {
        address for address in site.external.block or () if why_not_floating(site, address) is None
    }
    door = site.front_door.address if site.front_door else None
    return tuple(sorted(found | (set(site.external.addresses) - {door})))


def is_public(site: Site, address: IPv4Address) -> bool:
    """Return whether address is one of the public ones that lead to the cloud, the door's too."""
    if address in site.external.addresses:
        return True
    block = site.external.block
    why = why_not_floating(site, address)
    return block is not None and address in block and (why is None or why[0] == FRONT_DOOR)


def floating_subnets(site: Site) -> tuple[FloatingSubnet, ...]:
    """Return the subnets Neutron needs for these addresses; none overlaps another.

    Raises:
        ValueError: an address is next to an end of the address space.
    """
    addresses = floating_addresses(site)
    return tuple(
        FloatingSubnet(cidr=wider, pools=_runs(inside))
        for wider in wider_networks(site)
        if (inside := [address for address in addresses if address in wider])
    )


def wider_networks(site: Site) -> tuple[IPv4Network, ...]:
    """Return the CIDRs Neutron is told of, in order: none has a floating IP at an end.

    Raises:
        ValueError: as floating_subnets.
    """
    block = site.external.block
    start = [] if block is None else [block]
    start += [IPv4Network(address) for address in site.external.addresses]
    return tuple(sorted(_apart(supernet(each) for each in start)))


def _apart(networks: Iterable[IPv4Network]) -> Iterator[IPv4Network]:
    """Drop networks that lie in others: two networks overlap only so.

    Neighbours are not merged, or an address more would change the subnet of another.
    """
    kept: list[IPv4Network] = []
    for each in sorted(set(networks), key=lambda one: one.prefixlen):
        if not any(each.subnet_of(other) for other in kept):
            kept.append(each)
            yield each


def _runs(addresses: Sequence[IPv4Address]) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
    runs: list[tuple[IPv4Address, IPv4Address]] = []
    for address in addresses:
        if runs and int(runs[-1][1]) + 1 == int(address):
            runs[-1] = (runs[-1][0], address)
        else:
            runs.append((address, address))
    return tuple(runs)


def node_settings(site: Site) -> Mapping[Role, Node]:
    """Return what the site says of each control node that it has, in the order of the roles."""
    return {role: _settings(site, role) for role in Role if has_node(site, role)}


def has_node(site: Site, role: Role) -> bool:
    """Return whether a site has a node of this role."""
    match role:
        case Role.CONTROLLER | Role.NETWORK:
            return True
        case Role.STORAGE:
            return site.storage is not None
        case Role.DIRECTORY:
            own = DirectoryProvider.OWN
            return site.directory is not None and site.directory.provider is own


def _settings(site: Site, role: Role) -> Node:
    node: Node = getattr(site.nodes, role.value)
    return node


def assign_data_addresses(site: Site) -> Mapping[str, IPv4Address | None]:
    """Return the data address of every host and node by name; None where the network is too small.

    Explicit addresses are kept. Nodes take the first free of .11 to .30 in the order of roles (a
    role that the site does not have leaves its address free, so that a node that is added later
    moves nobody), hosts the first free of .1 to .10, then .31 onward, in the order of the site; so
    a host put at the end of the list moves nobody.
    """
    nodes = {role: _settings(site, role) for role in Role}
    explicit: dict[str, IPv4Address | None] = {
        host.name: host.data_address for host in site.hosts
    } | {role.value: node.address for role, node in nodes.items()}
    taken = {address for address in explicit.values() if address is not None}
    free_for_nodes = _free(site.data.cidr, _node_offsets(), taken)
    free_for_hosts = _free(site.data.cidr, _host_offsets(site.data.cidr), taken)
    places = {role: node.address or next(free_for_nodes, None) for role, node in nodes.items()}
    assigned = {role.value: place for role, place in places.items() if has_node(site, role)}
    for host in site.hosts:
        assigned[host.name] = host.data_address or next(free_for_hosts, None)
    return assigned


def _node_offsets() -> Iterable[int]:
    return range(FIRST_NODE, FIRST_NODE + NODE_RANGE)


def _host_offsets(network: IPv4Network) -> Iterable[int]:
    return itertools.chain(
        range(FIRST_HOST, FIRST_NODE), range(FIRST_NODE + NODE_RANGE, network.num_addresses)
    )


def _free(
    network: IPv4Network, offsets: Iterable[int], taken: set[IPv4Address]
) -> Iterator[IPv4Address]:
    last = network.num_addresses - 1
    for offset in offsets:
        if offset < last and network[offset] not in taken:
            yield network[offset]
