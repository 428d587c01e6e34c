"""How the outside reaches the cloud, as values: what the provider knows, addresses, words. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from solostack.plan.model import (
    AddressRow,
    ExternalPlan,
    HostPlan,
    IPv4Network,
    Plan,
)
from solostack.site.model import ExternalMethod, OpenPort

MOST_CELLS = 64
_MOST_NETWORKS = 3
_MOST_PORTS = 4
_MOST_PUBLISHED = 6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address; use says what it is for, why more of that. used: an instance may have it."""

    address: str
    use: str
    why: str
    usable: bool
    used: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The floating IPs, and how the provider comes to the host with them.

    cidr is "" where there are single addresses only. cells are the addresses of the block, none
    where there are more than MOST_CELLS; unusable those of the block that are no floating IPs;
    singles the addresses outside of it. size counts floating IPs, total what they are taken from.
    first and last are the ends of the block, "" without one. used are the allocated addresses,
    None when not known. known and does: what the provider's router has, in two short lines; wire:
    what is to be seen between the two; hint: how others reach addresses that nobody looks for.
    """

    method: ExternalMethod
    text: str
    cidr: str
    first: str
    last: str
    cells: tuple[Address, ...]
    unusable: tuple[Address, ...]
    singles: tuple[Address, ...]
    size: int
    total: int
    used: tuple[str, ...] | None
    known: str
    does: str
    wire: str
    hint: str

    @property
    def private(self) -> bool:
        """Whether nobody outside knows these addresses."""
        return self.method is ExternalMethod.PRIVATE


def _private(external: ExternalPlan) -> bool:
    return external.method is ExternalMethod.PRIVATE


def build_block(plan: Plan, allocated: Sequence[str] | None) -> Block:
    """Return the floating IPs of a plan; allocated are those in use, None when not known."""
    external, block = plan.external, plan.external.block
    taken = frozenset(allocated or ())
    rows = [row for row in plan.addresses if row.network == "external"]
    inside = [row for row in rows if block is not None and row.address in block]
    singles = [row for row in rows if block is None or row.address not in block]
    usable = [str(each) for each in external.floating_addresses]
    host = next(host for host in plan.hosts if host.gateway)
    known, does, wire = _provider(external, host)
    cells = inside if len(inside) <= MOST_CELLS else []
    return Block(
        method=external.method,
        text=public_text(external),
        cidr=str(block or ""),
        first=str(block[0]) if block is not None else "",
        last=str(block[-1]) if block is not None else "",
        cells=tuple(_address(row, taken) for row in cells),
        unusable=tuple(_address(row, taken) for row in inside if not row.usable),
        singles=tuple(_address(row, taken) for row in singles),
        size=len(usable),
        total=len(rows),
        used=None if allocated is None else tuple(one for one in usable if one in taken),
        known=known,
        does=does,
        wire=wire,
        hint=f"others reach them by a route via {host.address}" if _private(external) else "",
    )


def _address(row: AddressRow, taken: frozenset[str]) -> Address:
    text = str(row.address)
    return Address(address=text, use=row.use, why=row.why, usable=row.usable, used=text in taken)


def _provider(external: ExternalPlan, host: HostPlan) -> tuple[str, str, str]:
    """Return what the router has, what it does, and what is on the wire."""
    text = public_text(external)
    match external.method:
        case ExternalMethod.ROUTED:
            return (
                f"{text} via {host.address}",
                f"the block is routed to {host.name}",
                f"only the MAC of {host.nic}; no ARP for the block",
            )
        case ExternalMethod.PROXY:
            return (
                text,
                "asks for each address with ARP",
                f"only the MAC of {host.nic}, for every address",
            )
        case ExternalMethod.BRIDGE:
            return (
                text,
                "asks for each address with ARP",
                f"frames of OVN's MACs on the wire, beside those of {host.nic}",
            )
        case ExternalMethod.PRIVATE:
            return (
                str(host.address),
                "knows only the host's address",
                f"only {host.address}, with the MAC of {host.nic}",
            )


def public_text(external: ExternalPlan) -> str:
    """Return the block, or the first of single addresses, and how many there are besides."""
    block, addresses = external.block, external.floating_addresses
    if block is None:
        first, more = str(addresses[0]), len(addresses) - 1
    else:
        first, more = str(block), sum(each not in block for each in addresses)
    return f"{first} and {more} more" if more else first


def routed_networks(external: ExternalPlan) -> tuple[str, ...]:
    """Return what the host routes to the external bridge, shortened."""
    networks = [short(each) for each in external.networks]
    if len(networks) <= _MOST_NETWORKS:
        return tuple(networks)
    return (*networks[: _MOST_NETWORKS - 1], f"{len(networks) - _MOST_NETWORKS + 1} more networks")


def on_link_words(external: ExternalPlan) -> str:
    """Return what is on-link on the external bridge."""
    count, block = len(external.floating_addresses), external.block
    if block is not None and external.networks == (block,):
        return f"{block} on-link, no address of it spent here"
    if count == 1:
        return f"{external.floating_addresses[0]} on-link, not spent here"
    return f"{count} addresses on-link, none of them spent here"


def arp_words(plan: Plan, host: HostPlan) -> tuple[str, ...]:
    """Return for which addresses a host answers ARP."""
    method = plan.external.method
    if host.gateway and method is ExternalMethod.PROXY:
        return (
            f"answers for {_counted(plan)} on {host.nic} (neighbour proxies)",
            f"and for its own, {host.address}",
        )
    if host.gateway and method is ExternalMethod.BRIDGE:
        return (f"OVN answers for {_counted(plan)}", f"the host for its own, {host.address}")
    return (f"answers on {host.nic} for {host.address} only",)


def _counted(plan: Plan) -> str:
    count = len(plan.external.floating_addresses)
    return f"{count} address{'es' * (count != 1)}"


def published_words(plan: Plan, host: HostPlan) -> tuple[str, ...]:
    """Return the ports of a host that lead to floating IPs or to the front door."""
    published = plan.external.published if host.gateway else ()
    door = plan.front_door if host.gateway else None
    words = [f"{door.address}:{door.port} → front door"] if door else []
    words += [
        f"{host.address}:{each.port} → {each.to}:{each.to_port or each.port}"
        + " udp" * (each.protocol == "udp")
        for each in published
    ]
    return _first(words, _MOST_PUBLISHED, "ports")


def let_in_words(plan: Plan, host: HostPlan) -> tuple[str, ...]:
    """Return what the firewall lets in to the host itself, besides answers and pings."""
    firewall = plan.firewall
    ssh = "SSH" if host.ssh_port == 22 else f"SSH (TCP {host.ssh_port})"
    ports = _first([_open_words(each) for each in firewall.open], _MOST_PORTS, "ports")
    behind = (f"everything to {_who(firewall.networks)}",) if firewall.networks else ()
    return (f"{ssh} from {_who(firewall.ssh_from)}", *ports, *behind)


def _open_words(each: OpenPort) -> str:
    return f"{each.protocol.upper()} {each.port} from {_who(each.sources)}"


def _who(networks: Sequence[IPv4Network]) -> str:
    return ", ".join(_first([short(each) for each in networks], 3, "")) or "everybody"


def _first(words: Sequence[str], most: int, what: str) -> tuple[str, ...]:
    """Return the words, from the last that fits on counted."""
    if len(words) <= most:
        return tuple(words)
    return (*words[: most - 1], f"{len(words) - most + 1} more {what}".rstrip())


def short(network: IPv4Network) -> str:
    """Return a network as people write it: a single address without its length."""
    return str(network.network_address) if network.prefixlen == 32 else str(network)


def last_part(address: str) -> str:
    """Return an address's last number, as it is called among its neighbours."""
    return "." + address.rpartition(".")[2]


def unusable_words(block: Block) -> Iterator[tuple[str, str]]:
    """Yield what addresses of the block are no floating IPs, by use, with the whole as a tip."""
    uses: dict[str, list[Address]] = {}
    for each in block.unusable:
        uses.setdefault("host" if each.use.startswith("host ") else each.use, []).append(each)
    for use, addresses in uses.items():
        names = [last_part(one.address) if block.cells else one.address for one in addresses]
        yield f"{use} {' '.join(_first(names, 3, ''))}", tip(addresses[0])


def tip(one: Address) -> str:
    """Return everything about an address in a line."""
    in_use = ", in use" if one.used else ""
    return f"{one.address}{in_use}: {one.use}; {one.why}"
