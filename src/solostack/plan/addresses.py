"""The address plan: who has which address, which are floating IPs, and why.

Routed method: the provider routes the whole block to the host, so no address of it has to be on a
wire. Router gateways take addresses of a private transit network, the host's bridge too; Neutron
knows the block under a wider CIDR (site.networks.supernet). So every address is a floating IP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from solostack.plan.model import AddressRow, ExternalPlan
from solostack.site.model import ExternalMethod, Host, Site
from solostack.site.networks import (
    assign_data_addresses,
    floating_addresses,
    floating_subnets,
    is_public,
    node_settings,
    supernet,
    why_not_floating,
)

IPv4Address = ipaddress.IPv4Address
IPv4Interface = ipaddress.IPv4Interface

_HOSTS_OWN = "the host's own; solostack leaves it as it is"
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
    """Return where floating IPs come from and how they reach the host."""
    external = site.external
    transit = external.transit
    subnets = floating_subnets(site)
    return ExternalPlan(
        method=external.method,
        block=external.block,
        networks=_routed_networks(site),
        subnets=subnets,
        published=external.published,
        bridge=external.bridge,
        transit=transit,
        transit_gateway=IPv4Interface((transit[1], transit.prefixlen)),
        transit_pool=(transit[2], transit[-2]),
    )


def _routed_networks(site: Site) -> tuple[IPv4Network, ...]:
    block = site.external.block
    if block is not None and not site.external.on_wire:
        return (block,)
    usable = [IPv4Network(address) for address in floating_addresses(site)]
    door = site.front_door.address if site.front_door else None
    if door is not None and is_public(site, door):
        usable.append(IPv4Network(door))
    return tuple(ipaddress.collapse_addresses(usable))


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


def usable_text(rows: Iterable[AddressRow], method: ExternalMethod) -> str:
    """Say how many addresses can be floating IPs, and what the others are.

    >>> usable_text((), ExternalMethod.ROUTED)
    '0 of 0 usable (routed)'
    """
    public = [row for row in rows if row.network == "external"]
    other = [f"{row.address} {row.use}" for row in public if not row.usable]
    text = f"{len(public) - len(other)} of {len(public)} usable ({method}"
    return f"{text}; not: {', '.join(other)})" if other else f"{text})"


def _block_rows(site: Site, gateway_host: Host) -> Iterator[AddressRow]:
    usable = frozenset(floating_addresses(site))
    for address in sorted(usable.union(site.external.block or (), site.external.addresses)):
        use, why = "floating IP", _why_floating(site, address, gateway_host)
        if address not in usable:
            use, why = _not_floating(site, address) or (use, why)
        else:
            use += "".join(
                f", {each.protocol} port {each.port} of {gateway_host.name} leads to it"
                for each in site.external.published
                if each.to == address
            )
        yield AddressRow(
            address=address, network="external", use=use, usable=address in usable, why=why
        )


def _not_floating(site: Site, address: IPv4Address) -> tuple[str, str] | None:
    for host in site.hosts:
        if address == host.address:
            return f"host {host.name} on {host.nic}", _HOSTS_OWN
    return why_not_floating(site, address)


def _why_floating(site: Site, address: IPv4Address, gateway_host: Host) -> str:
    block = site.external.block
    ends = {} if block is None or block.prefixlen == 32 else {block[0]: "first", block[-1]: "last"}
    if block is not None and address in ends and address not in site.external.addresses:
        return (
            f"the block's {ends[address]} address is usable too: Neutron's subnet is the wider "
            f"{supernet(block)}, whose ends lie elsewhere"
        )
    gateways = f"router gateways are on {site.external.transit}, so no address is spent on them"
    match site.external.method:
        case ExternalMethod.ROUTED:
            return f"the block is routed to {gateway_host.name}; {gateways}"
        case ExternalMethod.PROXY:
            return f"{gateway_host.name} answers ARP for it on the wire; {gateways}"
        case ExternalMethod.BRIDGE:
            return f"OVN answers ARP for it on the wire; {gateways}"
        case ExternalMethod.PRIVATE:
            return f"private: reached from {gateway_host.name} and by a route to it; {gateways}"


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
    block = site.external.block
    for host in site.hosts:
        if block is not None and host.address in block:
            continue  # has its row among the block's
        yield AddressRow(
            address=host.address,
            network="host",
            use=f"host {host.name} on {host.nic}",
            usable=False,
            why=_HOSTS_OWN,
        )
