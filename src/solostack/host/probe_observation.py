"""What was seen on a physical host, as frozen values. Knows nothing of sites and rules."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections.abc import Mapping

from solostack.host.directory_probe import DirectorySeen
from solostack.host.kvm import GuestProbe, Verdict
from solostack.host.method import MethodSeen
from solostack.plan.model import HostFacts

IPv4Address = ipaddress.IPv4Address
IPv4Network = ipaddress.IPv4Network
IPv4Interface = ipaddress.IPv4Interface

NODES_PATH = "/var/lib/solostack"


class Presence(enum.StrEnum):
    """Whether the kernel has a feature. UNKNOWN: neither modules nor configuration to look at."""

    LOADED = "loaded"
    BUILTIN = "builtin"
    AVAILABLE = "available"
    MISSING = "missing"
    UNKNOWN = "unknown"

    @property
    def usable(self) -> bool:
        """Whether it is there, or is a module that can be loaded."""
        return self in {Presence.LOADED, Presence.BUILTIN, Presence.AVAILABLE}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Processor and memory. virtualization is systemd-detect-virt's word, ``none`` on metal."""

    cores: int
    memory_mib: int
    available_memory_mib: int
    architecture: str
    cpu_model: str
    cpu_flag: str
    """``vmx`` (Intel) or ``svm`` (AMD), empty when the processor shows neither."""
    virtualization: str
    is_container: bool
    nested: bool | None
    """Whether the KVM module lets guests have guests; None when it is not loaded."""
    kvm_device: bool
    kvm_usable: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The operating system. os_version is 0 where there is no number (testing, unstable)."""

    hostname: str
    fqdn: str
    os_id: str
    os_version: int
    os_text: str
    kernel: str
    python: tuple[int, ...]
    is_root: bool
    systemd: bool
    time_synchronized: bool | None
    reboot_required: bool
    selinux_enforcing: bool
    apparmor: bool
    dpkg_problem: str
    name_servers: tuple[str, ...]
    units: Mapping[str, UnitState]
    installed: Mapping[str, str]
    candidates: Mapping[str, str]
    """Package to the version apt would install, empty when no source has it."""
    suites: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """A systemd unit that exists."""

    active: bool
    enabled: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Kernel features by module name, and the settings of the network that concern us.

    modules_folder is whether the running kernel's modules are on disk. The sysctls are by their
    name without ``net.``, such as ``ipv4.conf.all.rp_filter``; absent ones are left out.
    """

    modules_folder: bool
    releases: tuple[str, ...]
    features: Mapping[str, Presence]
    sysctls: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """The file system where path is or would be. used_mib is what is already below path."""

    path: str
    mount: str
    kind: str
    device: int
    free_mib: int
    total_mib: int
    used_mib: int
    read_only: bool
    restricted: tuple[str, ...]
    """Those of noexec, nodev and nosuid it is mounted with."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IPv4 address of a link; dynamic when DHCP may change it."""

    interface: IPv4Interface
    dynamic: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface. kind is ``ip -d``'s (bridge, veth, tun, ...), empty for hardware."""

    name: str
    kind: str
    mac: str
    mtu: int
    carrier: bool
    master: str
    addresses: tuple[Address, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An IPv4 route of the main table. device is empty for blackhole and its like."""

    destination: IPv4Network
    device: str
    gateway: IPv4Address | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An open TCP or UDP port. process is empty for the kernel's own sockets.

    device is the one interface it is bound to (SO_BINDTODEVICE), mostly empty.
    """

    protocol: str
    address: str
    device: str = ""
    port: int
    process: str

    @property
    def is_wildcard(self) -> bool:
        """Whether it listens on all addresses of all interfaces."""
        return not self.device and self.address in {"*", "0.0.0.0", "::"}  # noqa: S104 (compared, not bound)

    @property
    def text(self) -> str:
        """How a reader writes it."""
        owner = f" by {self.process}" if self.process else ""
        return f"{self.protocol} {self.address}:{self.port}{owner}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtNetwork:
    """A libvirt network with the prefixes it routes. mode is empty for an isolated one."""

    name: str
    active: bool
    bridge: str
    mode: str
    prefixes: tuple[IPv4Network, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A libvirt domain."""

    name: str
    running: bool
    memory_mib: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Libvirt:
    """What libvirt says. error is why it does not answer although it is installed."""

    installed: bool
    error: str
    networks: tuple[LibvirtNetwork, ...]
    domains: tuple[Domain, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An nftables base chain that sees IPv4. names are all strings in its table's rules."""

    family: str
    table: str
    name: str
    hook: str
    policy: str
    names: frozenset[str]

    @property
    def text(self) -> str:
        """How nft names it."""
        return f"{self.family} {self.table} {self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A systemd-networkd .network file of this host: the names, kinds and MACs its [Match] takes.

    macs are in small letters; PermanentMACAddress is not among them, only hardware has one.
    """

    path: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    macs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Interfaces, routes, ports and rules. chains is None where nftables could not be read."""

    links: tuple[Link, ...]
    routes: tuple[Route, ...]
    listeners: tuple[Listener, ...]
    chains: tuple[Chain, ...] | None
    legacy_tables: tuple[str, ...]
    """Tables of the old iptables kernel interface that are in use."""
    nftables_flushes: bool
    """Whether /etc/nftables.conf flushes all rules of all owners."""
    networkd_files: tuple[NetworkFile, ...]

    def link(self, name: str) -> Link | None:
        """Return the interface called name."""
        return next((link for link in self.links if link.name == name), None)

    @property
    def default_routes(self) -> tuple[Route, ...]:
        """The ways out, the preferred one first."""
        return tuple(route for route in self.routes if route.destination.prefixlen == 0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What deployments left.

    sites are the names of those whose control nodes live here; ledger says that some deployment
    of solostack changed the host and has not taken it back.
    """

    sites: tuple[str, ...]
    ledger: bool
    netplan: bool
    nova_instances: tuple[str, ...]
    nova_compute_id: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The SSH session of whoever looks: where from, to which address and port of the host."""

    client: str
    server: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostObservation:
    """Everything that was seen on the host called name.

    session is None for who did not come over SSH; method None where nobody listened on the card;
    directory None where there was none to ask.
    """

    name: str
    machine: Machine
    guest: GuestProbe
    system: System
    kernel: Kernel
    file_systems: Mapping[str, FileSystem]
    network: Network
    libvirt: Libvirt
    traces: Traces
    session: Session | None = None
    method: MethodSeen | None = None
    directory: DirectorySeen | None = None

    def facts(self) -> HostFacts:
        """Return what the plan needs of it."""
        disk = self.file_systems[NODES_PATH]
        return HostFacts(
            name=self.name,
            cores=self.machine.cores,
            memory_mib=self.machine.memory_mib,
            disk_gib=(disk.free_mib + disk.used_mib) // 1024,
            kvm=self.guest.verdict is Verdict.YES
            or (self.guest.verdict is Verdict.UNKNOWN and self.machine.kvm_usable),
            kvm_proven=self.guest.verdict is not Verdict.UNKNOWN,
            openvswitch_module=self.kernel.features["openvswitch"].usable,
        )
