"""A good host as it is observed, and ways to make it a worse one."""

import dataclasses
import ipaddress
from typing import Any

from solostack.doors.knock import Knocks
from solostack.host.check import Finding, Subject, findings
from solostack.host.kvm import GuestProbe, Verdict
from solostack.host.method import Heard, MethodSeen, Sign
from solostack.host.probe_observation import (
    NODES_PATH,
    Address,
    Chain,
    FileSystem,
    HostObservation,
    Kernel,
    Libvirt,
    Link,
    Listener,
    Machine,
    Network,
    Presence,
    Route,
    System,
    Traces,
    UnitState,
)
from solostack.host.probe_parse import CACHE_PATH, INSTANCES_PATH, MODULES, NEEDED_PACKAGES
from solostack.site.model import Site

SITE = Site.model_validate(
    {
        "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1"}],
        "external": {"block": "198.51.100.0/28"},
    }
)


def site(**changes: Any) -> Site:
    """The site with some keys of its first level written otherwise."""
    return Site.model_validate(SITE.model_dump() | changes)


def link(name: str, *addresses: str, dynamic: bool = False, **changes: Any) -> Link:
    found = tuple(
        Address(interface=ipaddress.IPv4Interface(address), dynamic=dynamic)
        for address in addresses
    )
    values = {
        "kind": "",
        "mac": "52:54:00:00:00:01",
        "mtu": 1500,
        "carrier": True,
        "master": "",
    } | changes
    return Link(name=name, addresses=found, **values)


def route(destination: str, device: str, gateway: str | None = None) -> Route:
    return Route(
        destination=ipaddress.IPv4Network(destination),
        device=device,
        gateway=ipaddress.IPv4Address(gateway) if gateway else None,
    )


def listener(protocol: str, address: str, port: int, process: str = "other") -> Listener:
    return Listener(protocol=protocol, address=address, port=port, process=process)


def chain(hook: str, policy: str, *, table: str = "filter", **changes: Any) -> Chain:
    values = {"family": "inet", "name": hook, "names": frozenset()} | changes
    return Chain(table=table, hook=hook, policy=policy, **values)


def file_system(path: str, **changes: Any) -> FileSystem:
    values = {
        "mount": "/",
        "kind": "ext4",
        "device": 1,
        "free_mib": 200 * 1024,
        "total_mib": 250 * 1024,
        "used_mib": 0,
        "read_only": False,
        "restricted": (),
    } | changes
    return FileSystem(path=path, **values)


MACHINE = Machine(
    cores=8,
    memory_mib=15900,
    available_memory_mib=15300,
    architecture="x86_64",
    cpu_model="AMD Ryzen 5 3600",
    cpu_flag="svm",
    virtualization="none",
    is_container=False,
    nested=True,
    kvm_device=True,
    kvm_usable=True,
)
SYSTEM = System(
    hostname="phys1",
    fqdn="phys1.example.org",
    os_id="debian",
    os_version=13,
    os_text="Debian GNU/Linux 13 (trixie)",
    kernel="6.12.107+deb13-amd64",
    python=(3, 13, 5),
    is_root=True,
    systemd=True,
    time_synchronized=True,
    reboot_required=False,
    selinux_enforcing=False,
    apparmor=True,
    dpkg_problem="",
    name_servers=("9.9.9.9",),
    units={"systemd-networkd.service": UnitState(active=True, enabled=True)},
    installed={"python3": "3.13.5-1"},
    candidates=dict.fromkeys(NEEDED_PACKAGES, "1.0-1") | {"nova-compute": "2:31.0.0-6+deb13u2"},
    suites=("trixie", "trixie-security", "trixie-updates"),
)
KERNEL = Kernel(
    modules_folder=True,
    releases=("6.12.107+deb13-amd64",),
    features=dict.fromkeys(MODULES, Presence.AVAILABLE),
    sysctls={"ipv4.ip_forward": 1, "ipv4.conf.all.rp_filter": 2, "ipv4.conf.eno1.rp_filter": 0},
)
NETWORK = Network(
    links=(link("lo", "127.0.0.1/8"), link("eno1", "203.0.113.2/26")),
    routes=(route("0.0.0.0/0", "eno1", "203.0.113.1"), route("203.0.113.0/26", "eno1")),
    listeners=(listener("tcp", "0.0.0.0", 22, "sshd"),),
    chains=(),
    legacy_tables=(),
    nftables_flushes=False,
    networkd_files=(),
)
TARGET = ipaddress.IPv4Address("198.51.100.5")
CAME = Sign(mac="52:54:00:00:00:fe", ip="192.0.2.1", to="52:54:00:00:00:01", count=3)
METHOD = MethodSeen(
    nic="eno1",
    targets=(TARGET,),
    heard=(Heard(address=TARGET, came=CAME),),
    knocks=Knocks(addresses=(TARGET,), sent=6),
)
GOOD = HostObservation(
    name="phys1",
    machine=MACHINE,
    guest=GuestProbe(verdict=Verdict.YES, reason="a 64-bit guest ran", duration_s=0.2),
    system=SYSTEM,
    kernel=KERNEL,
    file_systems={path: file_system(path) for path in (NODES_PATH, INSTANCES_PATH, CACHE_PATH)},
    network=NETWORK,
    libvirt=Libvirt(installed=False, error="", networks=(), domains=()),
    traces=Traces(sites=(), ledger=False, netplan=False, nova_instances=(), nova_compute_id=False),
    session=None,
    method=METHOD,
)


def seen(**changes: Any) -> HostObservation:
    """The good host with changes in one part or several: machine={"cores": 1}."""
    parts = {}
    for part, values in changes.items():
        value = getattr(GOOD, part)
        if part == "file_systems":
            parts[part] = value | values
        elif not isinstance(values, dict):
            parts[part] = values
        else:
            parts[part] = dataclasses.replace(value, **values)
    return dataclasses.replace(GOOD, **parts)


def about(
    subject: Subject, observation: HostObservation, wanted: Site = SITE
) -> list[tuple[str, str]]:
    """What is found about a subject, as (severity, what)."""
    return [(str(item.severity), item.what) for item in full(subject, observation, wanted)]


def full(subject: Subject, observation: HostObservation, wanted: Site = SITE) -> list[Finding]:
    """What is found about a subject."""
    return [item for item in findings(wanted, None, observation) if item.subject is subject]
