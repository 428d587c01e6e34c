"""What a check says, and what its rules look at. Knows no rule."""

from __future__ import annotations

import dataclasses
import enum

from solostack.host.probe_observation import HostObservation
from solostack.host.uplink import UPLINK_BRIDGE
from solostack.plan.build import home_of
from solostack.plan.model import Plan
from solostack.site.model import ExternalMethod, Host, Role, Site


class Severity(enum.StrEnum):
    """How much a finding matters. Only ERROR keeps a deployment from being built."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Subject(enum.StrEnum):
    """What a finding is about; each has a row in docs/check.md."""

    ADDRESS = "address"
    ARCHITECTURE = "architecture"
    BLOCK = "block"
    BRIDGE = "bridge"
    BRIDGE_NETFILTER = "bridge netfilter"
    CACHE = "cache"
    CERTIFICATES = "certificates"
    CPU = "cpu"
    DEBIAN = "debian"
    DEPLOYMENT = "deployment"
    DIRECTORY = "directory"
    DISK = "disk"
    DNS = "dns"
    DPKG = "dpkg"
    METHOD = "external method"
    FIREWALL = "firewall"
    GATEWAY = "gateway"
    HOSTNAME = "hostname"
    HOSTS = "hosts"
    KERNEL = "kernel"
    KVM = "kvm"
    LIBVIRT = "libvirt"
    MEMORY = "memory"
    NAMES = "interface names"
    NETWORK_MANAGER = "network manager"
    NETWORKS = "networks behind"
    NIC = "nic"
    OPEN_PORTS = "open ports"
    OTHER_CLOUD = "other cloud"
    PACKAGES = "packages"
    PORTS = "ports"
    PREFIXES = "prefixes"
    PYTHON = "python"
    ROOT = "root"
    SECURITY_MODULE = "security module"
    SSH = "ssh"
    SYSCTL = "sysctl"
    SYSTEMD = "systemd"
    TIME = "time"
    VIRTUALIZATION = "virtualization"
    VOLUMES = "volumes"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: what is there, why it matters, what to do about it."""

    severity: Severity
    subject: Subject
    what: str
    why: str = ""
    todo: str = ""


def ok(subject: Subject, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(severity=Severity.OK, subject=subject, what=what)


def info(subject: Subject, what: str, *, why: str, todo: str = "") -> Finding:
    """Return a finding that is good to know."""
    return Finding(severity=Severity.INFO, subject=subject, what=what, why=why, todo=todo)


def warning(subject: Subject, what: str, *, why: str, todo: str) -> Finding:
    """Return a finding that may hurt."""
    return Finding(severity=Severity.WARNING, subject=subject, what=what, why=why, todo=todo)


def error(subject: Subject, what: str, *, why: str, todo: str) -> Finding:
    """Return a finding that keeps the deployment from working."""
    return Finding(severity=Severity.ERROR, subject=subject, what=what, why=why, todo=todo)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What rules look at: the site, a host of it, what was seen there, the plan if there is one."""

    site: Site
    host: Host
    plan: Plan | None
    seen: HostObservation

    @property
    def is_ours(self) -> bool:
        """Whether this very site is deployed on the host already.

        A host without control nodes has a ledger only, which does not name the site.
        """
        traces = self.seen.traces
        return self.site.name in traces.sites or (traces.ledger and not traces.sites)

    @property
    def is_gateway(self) -> bool:
        """Whether the public block arrives at this host: the network node's home."""
        return home_of(self.site, Role.NETWORK) is self.host

    @property
    def uplink(self) -> str:
        """The device the outside reaches the host by: the NIC, or our bridge while that has it.

        It has it until the next `up` when the site no longer says bridge.
        """
        link = self.seen.network.link(self.host.nic)
        joined = link is not None and link.master == UPLINK_BRIDGE
        ours = self.is_ours or self.coming_uplink == UPLINK_BRIDGE
        return UPLINK_BRIDGE if joined and ours else self.host.nic

    @property
    def coming_uplink(self) -> str:
        """The device the outside reaches the host by once the cloud is there."""
        bridged = self.site.external.method is ExternalMethod.BRIDGE and self.is_gateway
        return UPLINK_BRIDGE if bridged else self.host.nic

    @property
    def data_address(self) -> str:
        """The host's address on the data network, empty when neither site nor plan knows it."""
        if self.host.data_address is not None:
            return str(self.host.data_address)
        plans = self.plan.hosts if self.plan is not None else ()
        return next(
            (str(plan.data_address.ip) for plan in plans if plan.name == self.host.name), ""
        )
