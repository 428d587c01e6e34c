"""The address plan: who has which address, which are floating IPs, and why.

Routed method: the provider routes the whole block to the host, so no address of it has to be on a
wire. Router gateways take addresses of a private transit network, the host's bridge too; Neutron
knows the block under a wider CIDR (site.networks.supernet). So every address is a floating IP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from solostack.plan.model import AddressRow, ExternalPlan
from solostack.site.model import Host, Site
from solostack.site.networks import assign_data_addresses, node_settings, supernet

IPv4Address = ipaddress.IPv4Address
IPv4Interface = ipaddress.IPv4Interface
IPv4Network = ipaddress.IPv4Network


def data_addresses(site: Site) -> Mapping[str, IPv4Interface]:
    """Return the data address of every host and node, by name.

    Raises:
        ValueError: the data network is too small; a site that passed its rules never is.
    """
    prefix = site.data.cidr.prefixlen
    found: dict[str, IPv4Interface] = {}
    for name, address in assign_data_addresses(site).items():
        if address is None:
            message = f"{site.data.cidr} has no address left for {name}"
            raise ValueError(message)
        found[name] = IPv4Interface((address, prefix))
    return found


def external_plan(site: Site) -> ExternalPlan:
    """Return how the public block is used."""
    external = site.external
    transit = external.transit
    gateway = IPv4Interface((transit[1], transit.prefixlen))
    return ExternalPlan(
        method=external.method,
        block=external.block,
        bridge=external.bridge,
        supernet=supernet(external.block),
        pools=((external.block[0], external.block[-1]),),
        transit=transit,
        transit_gateway=gateway,
        transit_pool=(transit[2], transit[-2]),
    )


def address_rows(site: Site, gateway_host: Host) -> tuple[AddressRow, ...]:
    """Return one row per address: the whole block, then what is in use on the other networks.

    gateway_host is the host whose external bridge carries the block.
    """
    return (
        *_block_rows(site, gateway_host),
        *_transit_rows(site, gateway_host),
        *_data_rows(site),
        *_host_rows(site),
    )


def _block_rows(site: Site, gateway_host: Host) -> Iterator[AddressRow]:
    block = site.external.block
    wider = supernet(block)
    ends = {block[0]: "first", block[-1]: "last"}
    for address in block:
        why = (
            f"the block is routed to {gateway_host.name}; router gateways are on "
            f"{site.external.transit}, so no address is spent on them"
        )
        if address in ends:
            why = (
                f"the block's {ends[address]} address is usable too: Neutron's subnet is the "
                f"wider {wider}, whose ends lie elsewhere"
            )
        yield AddressRow(
            address=address, network="external", use="floating IP", usable=True, why=why
        )


def _transit_rows(site: Site, gateway_host: Host) -> Iterator[AddressRow]:
    plan = external_plan(site)
    yield AddressRow(
        address=plan.transit_gateway.ip,
        network="transit",
        use=f"{gateway_host.name} on {plan.bridge}",
        usable=False,
        why="next hop of every router; private, so that no public address is spent on it",
    )
    first, last = plan.transit_pool
    yield AddressRow(
        address=first,
        network="transit",
        use=f"router gateways, up to {last}",
        usable=False,
        why="each router takes one; traffic of instances without floating IP leaves from it",
    )


def _data_rows(site: Site) -> Iterator[AddressRow]:
    addresses = data_addresses(site)
    for host in site.hosts:
        chosen = "data_address in the site" if host.data_address else "first free of .1 to .10"
        yield AddressRow(
            address=addresses[host.name].ip,
            network="data",
            use=f"host {host.name}",
            usable=False,
            why=f"{chosen}; tunnels end here and nodes go out through it",
        )
    for role, node in node_settings(site).items():
        chosen = "address in the site" if node.address else "first free from .11"
        yield AddressRow(
            address=addresses[role.value].ip,
            network="data",
            use=f"node {role.value}",
            usable=False,
            why=f"{chosen}; management and tunnels",
        )


def _host_rows(site: Site) -> Iterator[AddressRow]:
    for host in site.hosts:
        yield AddressRow(
            address=host.address,
            network="host",
            use=f"host {host.name} on {host.nic}",
            usable=False,
            why="the host's own; solostack leaves it as it is",
        )
