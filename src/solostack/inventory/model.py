"""What the inventory knows of a host: values only, as libvirt gives them; None is "not known".

The meaning of every field is documented here and in docs/inventory.md; the names are the interface
of the JSON and CSV output too. Sizes have their unit in their name.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from solostack.doors.hypervisor import Connection
from solostack.doors.hypervisor_errors import HypervisorError
from solostack.doors.hypervisor_records import RawDomain

T_co = TypeVar("T_co", covariant=True)


class Listing(tuple[T_co, ...]):
    """A tuple of results that also says what could not be read, one line each, in notes."""

    notes: tuple[str, ...]

    def __new__(cls, items: Iterable[T_co] = (), notes: Iterable[str] = ()) -> Listing[T_co]:
        """Build a listing of items."""
        listing = super().__new__(cls, tuple(items))
        listing.notes = tuple(notes)
        return listing


class AddressSource(enum.StrEnum):
    """Who says that an interface has an address."""

    LEASE = "lease"  # the DHCP server of the libvirt network
    AGENT = "agent"  # the guest agent; needs a read-write connection
    ARP = "arp"  # the host's neighbour table
    NOVA = "nova"  # Nova's metadata in the domain
    SITE = "site"  # the plan of the solostack site that the control node belongs to


class OwnerKind(enum.StrEnum):
    """Who made a domain."""

    SOLOSTACK = "solostack"  # a control node of a solostack site
    NOVA = "nova"  # an instance of OpenStack Compute
    OTHER = "other"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who a domain belongs to, by its metadata.

    name and uuid are the owner's own: the control node's name, or the instance's name and UUID in
    Nova (which gives the domain the instance's UUID). site and role are set for control nodes;
    project and flavor for Nova instances.
    """

    kind: OwnerKind = OwnerKind.OTHER
    name: str | None = None
    uuid: str | None = None
    site: str | None = None
    role: str | None = None
    project: str | None = None
    flavor: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case OwnerKind.SOLOSTACK:
                return "/".join((self.kind, *(part for part in (self.site, self.name) if part)))
            case OwnerKind.NOVA:
                return f"{self.kind}/{self.name}" if self.name else str(self.kind)
            case OwnerKind.OTHER:
                return str(self.kind)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IP address of an interface. prefix is the network's length in bits."""

    address: str
    prefix: int | None
    source: AddressSource


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceInfo:
    """A network card of a domain.

    type is libvirt's (network, bridge, user, direct, hostdev, vhostuser, vdpa, ...); source is
    what it is plugged into in one string for every type; device is the host's side (vnet0).
    """

    mac: str | None
    type: str | None
    source: str | None
    network: str | None
    bridge: str | None
    device: str | None
    model: str | None
    addresses: tuple[Address, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainInfo:
    """A domain of the host, active or not.

    state and reason are names; state_code and reason_code libvirt's numbers, also those that are
    newer than this program. Memory is in KiB, the current one as the balloon has it. cpu_time_ns is
    None for inactive domains. persistent is False for a domain that vanishes when it stops.
    connection is the one it was read through; it takes no part in comparisons.
    """

    name: str
    uuid: str
    id: int | None
    type: str | None
    os_type: str | None
    arch: str | None
    machine: str | None
    title: str | None
    state: str
    state_code: int | None
    reason: str
    reason_code: int | None
    vcpus: int | None
    vcpus_max: int | None
    memory_kib: int | None
    memory_max_kib: int | None
    cpu_time_ns: int | None
    autostart: bool | None
    persistent: bool | None
    owner: Owner
    interfaces: tuple[InterfaceInfo, ...]
    connection: Connection | None = dataclasses.field(default=None, repr=False, compare=False)

    def handle(self) -> RawDomain:
        """Return libvirt's own object of this domain, for calls of your own.

        It is looked up anew, so that a kept DomainInfo does not keep its connection open. Raises
        HypervisorError when the connection is closed or the domain has vanished.
        """
        found = None if self.connection is None else self.connection.find(uuid=self.uuid)
        if found is None:
            raise HypervisorError(f"domain {self.name} has vanished")
        return found

    @property
    def is_active(self) -> bool:
        """Whether the domain has an id: it runs, is paused, or is about to end."""
        return self.id is not None

    @property
    def memory(self) -> str | None:
        """The current memory for people, such as 4.0 GiB."""
        return None if self.memory_kib is None else readable_size(self.memory_kib * 1024)

    @property
    def memory_max(self) -> str | None:
        """The most memory the domain may have, for people."""
        return None if self.memory_max_kib is None else readable_size(self.memory_max_kib * 1024)


class StorageHost(NamedTuple):
    """A server of a network disk, as its host element has it; socket only for transport unix."""

    name: str | None
    port: int | None
    transport: str | None
    socket: str | None


class BackingInfo(NamedTuple):
    """One layer below a disk's top image; the fields mean what they mean in DiskInfo."""

    source_type: str | None
    source: str | None
    source_file: str | None
    format: str | None


class DiskInfo(NamedTuple):
    """A disk element of a domain. ``device, source_file, format = info[:3]`` works.

    device: name in the guest's order (vda). source_file: the path for disks of type file, else
    None. format: driver type (qcow2, raw). kind: disk, cdrom, floppy or lun. source_type: file,
    block, dir, network, volume, nvme, vhostuser, vhostvdpa or what a newer libvirt has. source: one
    readable string for every type, None for an empty drive. protocol, hosts: of network disks.
    pool, volume: of volume disks. backing: the layers below from top to base, () if there is none,
    None if libvirt does not say (it looks only when a domain starts). Sizes: of the guest's view,
    the space taken, and the container's length; known for active domains.
    """

    device: str | None
    source_file: str | None
    format: str | None
    domain: str | None = None
    domain_uuid: str | None = None
    kind: str = "disk"
    bus: str | None = None
    source_type: str = "file"
    source: str | None = None
    protocol: str | None = None
    hosts: tuple[StorageHost, ...] = ()
    pool: str | None = None
    volume: str | None = None
    read_only: bool = False
    shareable: bool = False
    transient: bool = False
    serial: str | None = None
    wwn: str | None = None
    boot_order: int | None = None
    cache: str | None = None
    io: str | None = None
    discard: str | None = None
    encrypted: bool = False
    backing: tuple[BackingInfo, ...] | None = None
    mirror: str | None = None
    capacity_bytes: int | None = None
    allocation_bytes: int | None = None
    physical_bytes: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the drive."""
        return self.source is None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInfo:
    """A volume of an active storage pool. backing is the path of the image below it."""

    pool: str
    name: str | None
    path: str | None
    type: str | None
    format: str | None
    capacity_bytes: int | None
    allocation_bytes: int | None
    physical_bytes: int | None
    backing: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A control node as its host's /etc/solostack/nodes describes it, with its unit's state.

    type is container or vm; unit, reason and the measured values are of the systemd unit and None
    for a VM, which is listed as a domain. state is in the words of domains where systemd's state
    has such a word (running, shut off, crashed), else systemd's own.
    """

    name: str
    site: str | None
    role: str | None
    type: str | None
    uuid: str | None
    unit: str | None
    state: str | None
    reason: str | None
    vcpus: int | None
    memory_max_kib: int | None
    memory_kib: int | None
    cpu_time_ns: int | None
    autostart: bool | None
    interfaces: tuple[InterfaceInfo, ...]

    @property
    def owner(self) -> Owner:
        """The site the node belongs to."""
        return Owner(
            kind=OwnerKind.SOLOSTACK,
            name=self.name,
            uuid=self.uuid,
            site=self.site,
            role=self.role,
        )


Machine = DomainInfo | NodeInfo
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def readable_size(size_bytes: int) -> str:
    """Return a size for people in binary units, such as 4.0 GiB."""
    value = float(size_bytes)
    unit = 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{size_bytes} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"
