"""The plan: everything decided, nothing done. Frozen values, all a function of Site and facts."""

from __future__ import annotations

import dataclasses
import ipaddress
import uuid

from solostack.site.model import (
    ExternalMethod,
    Firewall,
    Flavor,
    Image,
    Published,
    Role,
    Runtime,
)
from solostack.site.networks import FloatingSubnet
from solostack.site.services import Dashboard, Directory, Storage

# Marks the domains of control nodes; an identifier, not an address that anything fetches.
NODE_XML_NAMESPACE = "https://solostack.example/xmlns/domain/1.0"

FRONT_DOOR_TLS_PORT = 443
FRONT_DOOR_REDIRECT_PORT = 80
"""Where the front door listens on the controller, whatever ports the site has outside."""

IPv4Address = ipaddress.IPv4Address
IPv4Network = ipaddress.IPv4Network
IPv4Interface = ipaddress.IPv4Interface
UUID = uuid.UUID
"""NodePlan's field uuid hides the module of that name when its annotations are evaluated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the plan needs to know of a physical host; read once by host.facts, kept in the state.

    memory_mib is MemTotal; disk_gib is free plus what solostack already uses there; kvm says that
    a guest really ran under KVM; openvswitch_module that the kernel has the datapath. Where no
    guest could be booted yet (QEMU is not installed), kvm is a guess and kvm_proven False.
    """

    name: str
    cores: int
    memory_mib: int
    disk_gib: int
    kvm: bool
    openvswitch_module: bool
    kvm_proven: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A node's network card. address None: no IP on it (the network node's external NIC)."""

    name: str
    network: str
    bridge: str
    mac: str
    mtu: int
    address: IPv4Interface | None
    gateway: IPv4Address | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """A disk of a node besides its root disk.

    The guest sees it as /dev/disk/by-id/virtio-NAME. volume_group is the host's LVM volume group
    that it is taken from; None: a file in the node's folder.
    """

    name: str
    size_gib: int
    volume_group: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrontDoorPlan:
    """The one entry from outside. address leads to the controller; url has no / at its end.

    own_address: it is the gateway host's own address, not one of the public ones.
    own_certificate: the operator brings the certificate.
    """

    address: IPv4Address
    own_address: bool
    own_certificate: bool
    port: int
    http_port: int
    hostname: str | None
    url: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """A control node. interfaces[0] is on the data network; runtime is never AUTO here."""

    name: str
    role: Role
    host: str
    runtime: Runtime
    uuid: UUID
    machine_id: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    interfaces: tuple[Interface, ...]
    kernel_datapath: bool
    disks: tuple[DiskPlan, ...] = ()

    @property
    def data_address(self) -> IPv4Address:
        """The node's address on the data network."""
        address = self.interfaces[0].address
        if address is None:
            message = f"node {self.name} has no data address"
            raise ValueError(message)
        return address.ip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """A physical host. data_mac: as the data network knows it; reserved_* are for nova.conf."""

    name: str
    address: IPv4Address
    nic: str
    data_address: IPv4Interface
    data_mac: str
    kvm: bool
    kernel_datapath: bool
    control_memory_mib: int
    instance_memory_mib: int
    reserved_memory_mib: int
    reserved_cpus: int
    reserved_disk_mib: int
    gateway: bool
    """True on the host whose external bridge carries the block (the network node's host)."""
    ssh_port: int = 22


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AddressRow:
    """One address, what it is for, and why. usable: a floating IP can have it."""

    address: IPv4Address
    network: str
    use: str
    usable: bool
    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPlan:
    """Where floating IPs come from and how they reach the host.

    networks is what the host routes to the external bridge and owns: the whole block (routed,
    private) or the usable addresses only, in as few networks as hold exactly them (proxy, bridge).
    transit_gateway is the host's address on the external bridge, transit_pool the routers' gateway
    addresses. block is None where the site lists single addresses.
    """

    method: ExternalMethod
    block: IPv4Network | None
    networks: tuple[IPv4Network, ...]
    subnets: tuple[FloatingSubnet, ...]
    published: tuple[Published, ...]
    bridge: str
    transit: IPv4Network
    transit_gateway: IPv4Interface
    transit_pool: tuple[IPv4Address, IPv4Address]

    @property
    def pools(self) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
        """Every inclusive range of floating IPs."""
        return tuple(pool for subnet in self.subnets for pool in subnet.pools)

    @property
    def floating_addresses(self) -> tuple[IPv4Address, ...]:
        """Every address that can be a floating IP, in order."""
        return tuple(
            IPv4Address(number)
            for first, last in self.pools
            for number in range(int(first), int(last) + 1)
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataPlan:
    """The data network; geneve tenants get tenant_mtu."""

    network: IPv4Network
    bridge: str
    mtu: int
    tenant_mtu: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """The first project's objects."""

    project: str
    network: IPv4Network
    dns: tuple[IPv4Address, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole deployment, decided."""

    site: str
    release: str
    region: str
    hosts: tuple[HostPlan, ...]
    nodes: tuple[NodePlan, ...]
    data: DataPlan
    external: ExternalPlan
    firewall: Firewall
    workers: int
    egress: bool
    flavors: tuple[Flavor, ...]
    images: tuple[Image, ...]
    demo: DemoPlan | None
    addresses: tuple[AddressRow, ...]
    storage: Storage | None = None
    directory: Directory | None = None
    front_door: FrontDoorPlan | None = None
    dashboard: Dashboard | None = None

    def node(self, role: Role) -> NodePlan:
        """Return the node of a role; KeyError when the site has none."""
        for node in self.nodes:
            if node.role is role:
                return node
        raise KeyError(role)

    def has(self, role: Role) -> bool:
        """Return whether there is a node of this role."""
        return any(node.role is role for node in self.nodes)

    def host(self, name: str) -> HostPlan:
        """Return the host called name; KeyError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)
