"""The calls of the inventory: domains, disks and volumes of a host, each with few libvirt calls."""

from __future__ import annotations

import difflib
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Sequence

from solostack.doors.hypervisor import (
    Connection,
    RawConnection,
    adopt,
    adopt_domain,
    is_raw_connection,
    is_raw_domain,
)
from solostack.doors.hypervisor_records import DomainRecord, DomainText, RawDomain
from solostack.errors import SolostackError
from solostack.inventory.disks import build_disks
from solostack.inventory.domains import build_domain
from solostack.inventory.interfaces import Known, index_addresses
from solostack.inventory.model import (
    AddressSource,
    DiskInfo,
    DomainInfo,
    Listing,
    VolumeInfo,
)
from solostack.inventory.parsing import DomainXmlError, parse_xml
from solostack.inventory.volumes import build_volume

# libvirt-domain.h, enum virDomainInterfaceAddressesSource.
_ADDRESS_CALLS = {AddressSource.AGENT: 1, AddressSource.ARP: 2}
_ADDRESS_SOURCES = {number: source for source, number in _ADDRESS_CALLS.items()}
DEFAULT_ADDRESSES = (AddressSource.LEASE,)


class DomainNotFoundError(SolostackError):
    """No domain of the host has that name, UUID or id; the hint has the nearest names."""


def list_domains(
    conn: Connection | RawConnection,
    *,
    names: Collection[str] = (),
    addresses: Sequence[AddressSource] = DEFAULT_ADDRESSES,
) -> Listing[DomainInfo]:
    """Return all domains of the host, active and inactive, sorted by name.

    names limits the result to these names, UUIDs or ids. addresses says whom to ask for addresses:
    LEASE costs one call a network; AGENT (read-write connections only) and ARP one call a running
    domain. What Nova's metadata says is always there. Domains that vanish meanwhile are left out
    and noted in the result's notes.

    Raises HypervisorError, HypervisorConnectError, DomainNotFoundError.
    """
    connection = _connection(conn)
    bulk = connection.records()
    notes = list(bulk.notes)
    known, single = _network_leases(connection, addresses)
    found = []
    for text in connection.texts(_select(bulk.records, names), sources=single):
        if text.why:
            notes.append(f"{text.record.name}: {text.why}")
        if not text.vanished:
            tree = _tree_or_note(text, notes)
            everything = _with_own_addresses(known, text)
            found.append(build_domain(text.record, tree, everything, connection))
    return Listing(sorted(found, key=lambda info: info.name), notes)


def get_domain(
    conn: Connection | RawConnection,
    name_or_uuid_or_id: str | int,
    *,
    addresses: Sequence[AddressSource] = DEFAULT_ADDRESSES,
) -> DomainInfo:
    """Return one domain. A text is tried as a name first, then as a UUID, then as an id.

    Raises DomainNotFoundError, whose hint has the nearest names, and what list_domains raises.
    """
    connection = _connection(conn)
    handle = _find(connection, name_or_uuid_or_id)
    if handle is None:
        raise _not_found(str(name_or_uuid_or_id), connection.names())
    record = connection.record(handle)
    known, single = _network_leases(connection, addresses)
    text = next(connection.texts([record], sources=single))
    if text.xml is None:
        raise DomainNotFoundError(f"domain {record.name}: {text.why}")
    tree = parse_xml(text.xml, "domain")
    return build_domain(record, tree, _with_own_addresses(known, text), connection)


def list_disks(dom: DomainInfo | RawDomain, *, sizes: bool = True) -> Listing[DiskInfo]:
    """Return the disks of one domain: of a DomainInfo whose connection is open, or libvirt's own.

    sizes False leaves out the call for capacity, allocation and physical size. Raises
    DomainXmlError, HypervisorError (the domain has vanished), HypervisorConnectError.
    """
    if isinstance(dom, DomainInfo) and dom.connection is not None:
        handle = dom.handle()
        connection = dom.connection
    elif is_raw_domain(dom):
        handle = dom
        connection = adopt_domain(handle)
    else:
        message = "list_disks takes a DomainInfo or a libvirt.virDomain"
        raise TypeError(message)
    record = connection.record(handle, want_blocks=sizes)
    text = next(connection.texts([record]))
    if text.xml is None:
        raise DomainNotFoundError(f"domain {record.name}: {text.why}")
    return Listing(_disks_of(text))


def list_all_disks(
    conn: Connection | RawConnection, *, names: Collection[str] = (), sizes: bool = True
) -> Listing[DiskInfo]:
    """Return the disks of all domains (or of those in names), by domain name, then in XML order.

    sizes False leaves out the call for capacity, allocation and physical size, which makes the
    daemon ask every running QEMU. Domains that vanish meanwhile are left out and noted, as is one
    whose XML cannot be read. Raises what list_domains raises.
    """
    notes: list[str] = []
    return Listing(iterate_disks(conn, names=names, sizes=sizes, notes=notes), notes)


def iterate_disks(
    conn: Connection | RawConnection,
    *,
    names: Collection[str] = (),
    sizes: bool = True,
    notes: list[str] | None = None,
) -> Iterator[DiskInfo]:
    """Yield what list_all_disks returns, holding only a few domains at a time in memory."""
    connection = _connection(conn)
    bulk = connection.records(want_blocks=sizes, want_usage=False)
    remarks = [] if notes is None else notes
    remarks.extend(bulk.notes)
    records = sorted(_select(bulk.records, names), key=lambda record: record.name)
    for text in connection.texts(records):
        if text.xml is None:
            remarks.append(f"{text.record.name}: {text.why}")
            continue
        try:
            yield from _disks_of(text)
        except DomainXmlError as error:
            remarks.append(f"{text.record.name}: its disks are unknown: {error.message}")


def list_volumes(conn: Connection | RawConnection) -> Listing[VolumeInfo]:
    """Return the volumes of all active storage pools, as the pools last saw them.

    Raises HypervisorError, HypervisorConnectError.
    """
    notes: list[str] = []
    found: list[VolumeInfo] = []
    for pool, text in _connection(conn).volume_texts():
        try:
            found.append(build_volume(pool, parse_xml(text, "volume")))
        except DomainXmlError as error:
            notes.append(f"pool {pool}: {error.message}")
    return Listing(found, notes)


def _connection(conn: Connection | RawConnection) -> Connection:
    if isinstance(conn, Connection):
        return conn
    if is_raw_connection(conn):
        return adopt(conn)
    message = f"a connection is needed (solostack.inventory.connect), not {type(conn).__name__}"
    raise TypeError(message)


def _disks_of(text: DomainText) -> tuple[DiskInfo, ...]:
    record = text.record
    tree = parse_xml(text.xml or "", "domain")
    return build_disks(tree, name=record.name, uuid=record.uuid, blocks=record.blocks)


def _tree_or_note(text: DomainText, notes: list[str]) -> ET.Element | None:
    if text.xml is None:
        return None
    try:
        return parse_xml(text.xml, "domain")
    except DomainXmlError as error:
        notes.append(f"{text.record.name}: {error.message}")
        return None


def _network_leases(
    connection: Connection, addresses: Sequence[AddressSource]
) -> tuple[Known, tuple[int, ...]]:
    """Return the leases of all networks, and the sources that must be asked domain by domain."""
    known: Known = {}
    if AddressSource.LEASE in addresses:
        known = index_addresses(AddressSource.LEASE, connection.leases())
    return known, tuple(number for source, number in _ADDRESS_CALLS.items() if source in addresses)


def _with_own_addresses(known: Known, text: DomainText) -> Known:
    if not text.leases:
        return known
    merged = dict(known)
    for number, leases in text.leases:
        for key, addresses in index_addresses(_ADDRESS_SOURCES[number], leases).items():
            merged[key] = (*merged.get(key, ()), *addresses)
    return merged


def _select(records: Sequence[DomainRecord], names: Collection[str]) -> Sequence[DomainRecord]:
    if not names:
        return records
    chosen: dict[str, DomainRecord] = {}
    for wanted in names:
        record = _match(records, wanted)
        if record is None:
            raise _not_found(wanted, sorted(record.name for record in records))
        chosen[record.uuid] = record
    return tuple(chosen.values())


def _match(records: Sequence[DomainRecord], wanted: str) -> DomainRecord | None:
    """Return the record meant: a name goes before a UUID, a UUID before an id."""
    tests: tuple[Callable[[DomainRecord], bool], ...] = (
        lambda record: record.name == wanted,
        lambda record: record.uuid == wanted.lower(),
        lambda record: record.id is not None and str(record.id) == wanted,
    )
    for test in tests:
        for record in records:
            if test(record):
                return record
    return None


def _find(connection: Connection, wanted: str | int) -> RawDomain | None:
    if isinstance(wanted, int):
        return connection.find(number=wanted) if wanted >= 0 else None
    handle = connection.find(name=wanted) if wanted else None
    if handle is None and _is_uuid(wanted):
        handle = connection.find(uuid=wanted)
    # libvirt's id is a C int.
    if handle is None and wanted.isascii() and wanted.isdigit() and int(wanted[:10]) < 2**31:
        handle = connection.find(number=int(wanted[:10]))
    return handle


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _not_found(wanted: str, names: Sequence[str]) -> DomainNotFoundError:
    nearest = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if nearest:
        hint = f"did you mean {' or '.join(nearest)}?"
    elif names:
        hint = "list what is there: solostack domains"
    else:
        hint = "this host has no domains; look at another one with --connect URI"
    return DomainNotFoundError(f"no domain has the name, UUID or id {wanted}", hint=hint)
