"""Address arithmetic the rules of a site and its plan share. Pure; knows nothing of files."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping

from solostack.site.model import Node, Role, Site

IPv4Address = ipaddress.IPv4Address
IPv4Network = ipaddress.IPv4Network

FIRST_HOST = 1
FIRST_NODE = 11
NODE_RANGE = 20
"""Offsets .11 to .30 of the data network are kept for nodes, so that a node of a new role and a
new host never compete for an address."""


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


def node_settings(site: Site) -> Mapping[Role, Node]:
    """Return what the site says of each control node, in the order of the roles."""
    return {role: getattr(site.nodes, role.value) for role in Role}


def assign_data_addresses(site: Site) -> Mapping[str, IPv4Address | None]:
    """Return the data address of every host and node by name; None where the network is too small.

    Explicit addresses are kept. Nodes take the first free of .11 to .30 in the order of roles,
    hosts the first free of .1 to .10, then .31 onward, in the order of the site; so a host put at
    the end of the list moves nobody.
    """
    nodes = node_settings(site)
    explicit: dict[str, IPv4Address | None] = {
        host.name: host.data_address for host in site.hosts
    } | {role.value: node.address for role, node in nodes.items()}
    taken = {address for address in explicit.values() if address is not None}
    free_for_nodes = _free(site.data.cidr, _node_offsets(), taken)
    free_for_hosts = _free(site.data.cidr, _host_offsets(site.data.cidr), taken)
    assigned = {
        role.value: node.address or next(free_for_nodes, None) for role, node in nodes.items()
    }
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
