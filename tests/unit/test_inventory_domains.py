"""States, owners, interfaces and sizes of a domain, by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solostack.doors.hypervisor import NODE_XML_NAMESPACE
from solostack.doors.hypervisor_records import DomainRecord, Lease, build_record
from solostack.inventory import Address, AddressSource, DomainInfo, Owner, OwnerKind, readable_size
from solostack.inventory.domains import build_domain
from solostack.inventory.interfaces import Known, index_addresses
from solostack.inventory.parsing import parse_xml
from solostack.inventory.states import STATES, parse_state, reason_name, state_name
from solostack.plan import model as plan_model

DOMAINS = Path(__file__).resolve().parents[1] / "data" / "domains"


class Handle:
    """What build_record needs of libvirt's domain object."""

    def __init__(self, number: int) -> None:
        self.number = number

    def ID(self) -> int:  # noqa: N802 (libvirt's name)
        return self.number

    def name(self) -> str:
        return "d"

    def UUIDString(self) -> str:  # noqa: N802
        return "6d1b5a3e-0001-4000-8000-00000000000f"


def record(number: int = 4, **stats: Any) -> DomainRecord:
    values = {key.replace("__", "."): value for key, value in stats.items()}
    return build_record(Handle(number), values, autostart=True, persistent=False)


def read(name: str, known: Known | None = None, **stats: Any) -> DomainInfo:
    tree = parse_xml((DOMAINS / f"{name}.xml").read_text(), "domain")
    return build_domain(record(**stats), tree, known or {})


def test_the_namespace_is_the_one_that_the_plan_writes() -> None:
    assert NODE_XML_NAMESPACE == plan_model.NODE_XML_NAMESPACE


@pytest.mark.parametrize(
    ("code", "name"),
    [*enumerate(STATES), (8, "unknown (8)"), (-1, "unknown (-1)"), (None, "unknown")],
)
def test_states_have_names_and_new_ones_are_kept(code: int | None, name: str) -> None:
    assert state_name(code) == name


def test_the_states_are_those_of_libvirt() -> None:
    assert STATES == (
        "no state",
        "running",
        "idle",
        "paused",
        "in shutdown",
        "shut off",
        "crashed",
        "suspended by PM",
    )


@pytest.mark.parametrize(
    ("state", "reason", "name"),
    [
        (0, 0, "unknown"),
        (1, 1, "booted"),
        (1, 8, "event wakeup"),
        (1, 11, "post-copy failed"),
        (2, 0, "unknown"),
        (3, 1, "user"),
        (3, 5, "I/O error"),
        (3, 14, "api error"),
        (4, 1, "user"),
        (5, 1, "shutdown"),
        (5, 2, "destroyed"),
        (5, 8, "daemon"),
        (6, 1, "panicked"),
        (7, 0, "unknown"),
        (1, 12, "unknown (12)"),
        (5, -1, "unknown (-1)"),
        (8, 3, "unknown (3)"),
        (None, 3, "unknown"),
        (1, None, "unknown"),
    ],
)
def test_reasons(state: int | None, reason: int | None, name: str) -> None:
    assert reason_name(state, reason) == name


def test_the_library_knows_no_reason_that_is_newer_than_the_table() -> None:
    libvirt = pytest.importorskip("libvirt")
    prefixes = (
        "NOSTATE_UNKNOWN", "RUNNING_", "BLOCKED_UNKNOWN", "PAUSED_", "SHUTDOWN_U", "SHUTOFF_",
        "CRASHED_", "PMSUSPENDED_",
    )  # fmt: skip
    for state, prefix in enumerate(prefixes):
        codes = {
            getattr(libvirt, name)
            for name in dir(libvirt)
            if name.startswith(f"VIR_DOMAIN_{prefix}") and not name.endswith(("_LAST", "_DISK"))
        }
        assert all("(" not in reason_name(state, code) for code in codes), prefix


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("running", "running"),
        ("Shut Off", "shut off"),
        ("shut-off", "shut off"),
        ("shutoff", "shut off"),
        ("off", "shut off"),
        ("pmsuspended", "suspended by PM"),
        ("SUSPENDED BY PM", "suspended by PM"),
        ("nostate", "no state"),
        ("blocked", "idle"),
        ("unknown", "unknown"),
        ("unknown (9)", "unknown (9)"),
        ("sleeping", None),
        ("", None),
    ],
)
def test_states_can_be_typed(text: str, state: str | None) -> None:
    assert parse_state(text) == state


def test_a_control_node() -> None:
    info = read("control-node", state__state=1, state__reason=1, cpu__time=5)
    assert info.owner == Owner(
        kind=OwnerKind.SOLOSTACK,
        name="controller",
        uuid="6d1b5a3e-0001-4000-8000-00000000000a",
        site="lab",
        role="controller",
    )
    assert str(info.owner) == "solostack/lab/controller"
    assert (info.type, info.os_type, info.arch) == ("kvm", "hvm", "x86_64")
    assert (info.machine, info.title) == ("pc-q35-10.0", "solostack lab: controller node")
    assert (info.memory_kib, info.memory_max_kib) == (4194304, 4194304)
    assert (info.memory, info.memory_max) == ("4.0 GiB", "4.0 GiB")
    assert (info.vcpus, info.vcpus_max) == (4, 4)
    assert (info.state, info.reason, info.cpu_time_ns) == ("running", "booted", 5)
    assert (info.autostart, info.persistent, info.is_active) == (True, False, True)
    card = info.interfaces[0]
    assert (card.mac, card.type, card.source) == ("52:54:00:aa:00:01", "network", "data")
    assert (card.network, card.bridge) == ("data", "virbr1")
    assert (card.device, card.model) == ("vnet0", "virtio")


def test_a_nova_instance() -> None:
    info = read("nova-instance")
    assert info.owner == Owner(
        kind=OwnerKind.NOVA,
        name="web 1 <prod>",
        uuid="2f0c8f7a-5a51-4d1e-9a52-0d3b6b9f7d10",
        project="demo",
        flavor="m1.small",
    )
    assert str(info.owner) == "nova/web 1 <prod>"

    def fixed(address: str) -> Address:
        return Address(address=address, prefix=None, source=AddressSource.NOVA)

    assert [card.addresses for card in info.interfaces] == [
        (fixed("10.0.0.15"), fixed("2001:db8::15")),
        (fixed("10.9.9.9"),),
        (),
    ]


def test_an_instance_of_an_older_nova() -> None:
    text = (DOMAINS / "nova-instance.xml").read_text().replace("nova/1.1", "nova/1.0")
    assert build_domain(record(), parse_xml(text, "domain"), {}).owner.name == "web 1 <prod>"


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "<x:instance xmlns:x='urn:mine'/>",
        "<node site='x'/>",
        "<x:node xmlns:x='https://solostack.example/xmlns/other'/>",
    ],
)
def test_other_owners(metadata: str) -> None:
    tree = parse_xml(f"<domain><metadata>{metadata}</metadata></domain>", "domain")
    assert build_domain(record(), tree, {}).owner == Owner(kind=OwnerKind.OTHER)


def test_metadata_that_says_little_still_says_whose_it_is() -> None:
    node = f"<x:node xmlns:x='{NODE_XML_NAMESPACE}'/>"
    nova = "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/>"
    for text, kind in ((node, OwnerKind.SOLOSTACK), (nova, OwnerKind.NOVA)):
        tree = parse_xml(f"<domain><metadata>{text}</metadata></domain>", "domain")
        owner = build_domain(record(), tree, {}).owner
        assert (owner.kind, owner.name, owner.uuid) == (kind, None, None)
        assert str(owner) == str(kind)


def test_every_type_of_interface() -> None:
    info = read("interfaces")
    found = [(card.type, card.source) for card in info.interfaces]
    assert found == [
        ("network", "default"),
        ("bridge", "br0"),
        ("user", None),
        ("ethernet", None),
        ("direct", "eth0"),
        ("hostdev", "0000:5e:02.1"),
        ("vhostuser", "/tmp/vhost1.sock"),
        ("vdpa", "/dev/vhost-vdpa-0"),
        ("mcast", "230.0.0.1:5558"),
        ("internal", "backplane"),
        ("null", None),
        (None, None),
    ]
    assert (info.memory_kib, info.vcpus, info.vcpus_max) == (1953125, 2, 8)


def test_a_container_of_libvirts_own() -> None:
    info = read("lxc")
    assert (info.type, info.os_type, info.memory) == ("lxc", "exe", "320.0 MiB")


def test_statistics_come_before_the_configuration() -> None:
    info = read(
        "interfaces",
        vcpu__current=1,
        vcpu__maximum=6,
        balloon__current=100,
        balloon__maximum=200,
    )
    assert (info.vcpus, info.vcpus_max, info.memory_kib, info.memory_max_kib) == (1, 6, 100, 200)


def test_what_nobody_says_is_none() -> None:
    info = build_domain(record(-1, cpu__time=9), None, {})
    assert (info.id, info.is_active, info.cpu_time_ns) == (None, False, None)
    assert (info.state, info.reason, info.state_code) == ("unknown", "unknown", None)
    values = (info.type, info.os_type, info.vcpus, info.vcpus_max, info.memory_kib, info.memory)
    assert set(values) == {None}
    assert info.interfaces == ()


def test_addresses_are_found_by_mac_or_by_the_hosts_device() -> None:
    leases = (
        Lease(mac="52:54:00:00:00:01", device=None, address="192.0.2.1", prefix=24),
        Lease(mac=None, device="vnet7", address="2001:db8::2", prefix=64),
        Lease(mac="52:54:00:00:00:99", device="vnet99", address="192.0.2.9", prefix=24),
    )
    info = read("interfaces", known=index_addresses(AddressSource.ARP, leases))
    found = {card.mac: card.addresses for card in info.interfaces if card.addresses}
    assert found == {
        "52:54:00:00:00:01": (Address(address="192.0.2.1", prefix=24, source=AddressSource.ARP),),
        "52:54:00:00:00:02": (Address(address="2001:db8::2", prefix=64, source=AddressSource.ARP),),
    }


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024**3, "10.0 GiB"),
        (2**70, "1024.0 EiB"),
    ],
)
def test_readable_sizes(size: int, text: str) -> None:
    assert readable_size(size) == text
