"""One reading of a host as the commands show it: domains with their nodes, or disks, selected."""

from __future__ import annotations

import dataclasses

from solostack.doors.hypervisor import Connection
from solostack.doors.process import Executor
from solostack.errors import SolostackError
from solostack.inventory import selection
from solostack.inventory.documents import Source
from solostack.inventory.listing import DEFAULT_ADDRESSES, list_all_disks, list_domains
from solostack.inventory.model import (
    AddressSource,
    DiskInfo,
    DomainInfo,
    Listing,
    Machine,
    NodeInfo,
)
from solostack.inventory.nodes import containers, list_nodes, with_site_addresses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to show; empty names, states or owners mean all. order is as in selection.sort_by."""

    names: tuple[str, ...] = ()
    states: frozenset[str] = frozenset()
    owners: tuple[str, ...] = ()
    order: str = ""
    addresses: tuple[AddressSource, ...] = DEFAULT_ADDRESSES
    sizes: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The domains of a host and its nodes that are containers, selected and in order."""

    source: Source
    machines: tuple[Machine, ...]

    @property
    def domains(self) -> tuple[DomainInfo, ...]:
        """The domains among the machines."""
        return tuple(item for item in self.machines if isinstance(item, DomainInfo))

    @property
    def nodes(self) -> tuple[NodeInfo, ...]:
        """The containers among the machines."""
        return tuple(item for item in self.machines if isinstance(item, NodeInfo))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """The disks of a host, selected and in order."""

    source: Source
    disks: tuple[DiskInfo, ...]


def read_machines(conn: Connection, wanted: Wanted, executor: Executor | None) -> Machines:
    """Read a host's domains; executor, if given, is the way to its descriptions of nodes.

    Without those descriptions the domains are shown all the same, with a note. Raises what
    list_domains raises, and UsageError for an unknown order.
    """
    nodes = _read_nodes(executor)
    boxes = containers(nodes)
    chosen = tuple(node for node in boxes if not wanted.names or node.name in wanted.names)
    rest = tuple(name for name in wanted.names if name not in {node.name for node in chosen})
    found: Listing[DomainInfo] = Listing()
    if rest or not wanted.names:
        found = list_domains(conn, names=rest, addresses=wanted.addresses)
    notes = [*found.notes, *nodes.notes]
    if not found and not wanted.names and conn.uri.endswith("/session"):
        notes.append("session connections have domains of their own; see --connect qemu:///system")
    machines: list[Machine] = [*with_site_addresses(found, nodes), *chosen]
    selected = selection.select_machines(machines, wanted.states, wanted.owners)
    ordered = selection.sort_by(selected, selection.DOMAIN_KEYS, wanted.order or "name")
    source = Source(uri=conn.uri, host=conn.hostname(), notes=notes)
    return Machines(source=source, machines=tuple(ordered))


def read_disks(conn: Connection, wanted: Wanted) -> Disks:
    """Read a host's disks; states and owners are those of their domains.

    Raises what list_all_disks raises, and UsageError for an unknown order.
    """
    notes: list[str] = []
    names = wanted.names
    if wanted.states or wanted.owners:
        domains = list_domains(conn, names=names, addresses=())
        selected = selection.select_machines(domains, wanted.states, wanted.owners)
        names = tuple(domain.uuid for domain in selected)
        notes.extend(domains.notes)
    found: Listing[DiskInfo] = Listing()
    if names or not (wanted.states or wanted.owners):
        found = list_all_disks(conn, names=names, sizes=wanted.sizes)
    notes.extend(note for note in found.notes if note not in notes)
    disks: list[DiskInfo] = list(found)
    if wanted.order:
        disks = selection.sort_by(disks, selection.DISK_KEYS, wanted.order)
    source = Source(uri=conn.uri, host=conn.hostname(), notes=notes)
    return Disks(source=source, disks=tuple(disks))


def _read_nodes(executor: Executor | None) -> Listing[NodeInfo]:
    if executor is None:
        return Listing()
    try:
        return list_nodes(executor)
    except SolostackError as error:
        return Listing((), (f"control nodes in containers are not known: {error.message}",))
