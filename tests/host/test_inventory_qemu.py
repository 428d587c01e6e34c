"""The inventory against real QEMU domains: running, paused, shut off, crashed, overlays, leases.

Needs a libvirt daemon that runs QEMU domains (emulated ones do); SOLOSTACK_TEST_LIBVIRT_URI names
another one than qemu:///system, which must be on this machine.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.doors import hypervisor
from solostack.inventory import (
    AddressSource,
    Connection,
    DomainNotFoundError,
    HypervisorConnectError,
    HypervisorError,
    OwnerKind,
    connect,
    get_domain,
    iterate_disks,
    list_all_disks,
    list_disks,
    list_domains,
)

pytestmark = pytest.mark.host

URI = os.environ.get("SOLOSTACK_TEST_LIBVIRT_URI", "qemu:///system")
PREFIX = "solostack-test-inventory-"
MIB = 1024**2
# mov dx, 0x505; mov al, 1; out dx, al; hlt: a boot sector that reports a guest panic to QEMU's
# pvpanic device (docs/specs/pvpanic.rst of QEMU), the only thing that makes a domain "crashed".
PANIC_SECTOR = bytes.fromhex("ba0505b001eef4ebfd").ljust(510, b"\0") + b"\x55\xaa"
IDLE_SECTOR = bytes.fromhex("f4ebfd").ljust(510, b"\0") + b"\x55\xaa"

DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <metadata>{metadata}</metadata>
  <memory unit='MiB'>32</memory>
  <vcpu current='1'>2</vcpu>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
  <on_crash>preserve</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='{format}' cache='writeback' discard='unmap'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
      <serial>{name}</serial>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='user'><mac address='{mac}'/><model type='virtio'/></interface>
    <panic model='isa'/>
  </devices>
</domain>
"""
NODE = (
    "<s:node xmlns:s='https://solostack.example/xmlns/domain/1.0' site='lab' name='controller'"
    " role='controller'/>"
)
NOVA = (
    "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
    "<nova:name>web-1</nova:name></nova:instance>"
)


@dataclasses.dataclass
class Lab:
    """Domains of this test in a real libvirt; raw is a read-write connection of its own."""

    raw: Any
    directory: Path

    def define(self, name: str, *, metadata: str = "", sector: bytes = IDLE_SECTOR) -> Any:
        base = self.directory / f"{name}.raw"
        base.write_bytes(sector.ljust(MIB, b"\0"))
        overlay = self.directory / f"{name}.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay, "8M"],
            check=True,
        )
        number = len(self.raw.listAllDomains()) + 1
        return self.raw.defineXML(
            DOMAIN.format(
                name=PREFIX + name,
                metadata=metadata,
                disk=overlay,
                format="qcow2",
                mac=f"52:54:00:5a:00:{number:02x}",
            )
        )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if shutil.which("qemu-img") is None or shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-img or qemu-system-x86_64 is not installed here")
    try:
        connection = connect(URI, read_only=False)
    except HypervisorConnectError as error:
        pytest.skip(f"no libvirt with QEMU here: {error.message}")
    # Not pytest's own folder: QEMU runs as another user, who may not enter it.
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    directory.chmod(0o755)
    with connection:
        remove_domains(connection.raw)
        yield Lab(connection.raw, directory)
        remove_domains(connection.raw)
    shutil.rmtree(directory)


def remove_domains(raw: Any) -> None:
    """Remove this test's domains, also those of a run that was killed."""
    for domain in raw.listAllDomains():
        if domain.name().startswith(PREFIX):
            if domain.isActive():
                domain.destroy()
            domain.undefine()


@pytest.fixture
def conn(lab: Lab) -> Iterator[Connection]:
    with connect(URI) as connection:
        yield connection


@pytest.fixture(scope="module")
def domains(lab: Lab) -> dict[str, Any]:
    """One domain in every state that can be had without a guest's help."""
    made = {
        "running": lab.define("running", metadata=NOVA),
        "paused": lab.define("paused", metadata=NODE),
        "off": lab.define("off"),
        "crashed": lab.define("crashed", sector=PANIC_SECTOR),
    }
    for name in ("running", "paused", "crashed"):
        made[name].create()
    made["paused"].suspend()
    made["running"].setAutostart(True)
    deadline = time.monotonic() + 60
    while made["crashed"].state()[0] != 6 and time.monotonic() < deadline:
        time.sleep(0.2)
    return made


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("running", "running", "booted"),
        ("paused", "paused", "user"),
        ("off", "shut off", "unknown"),
        ("crashed", "crashed", "panicked"),
    ],
)
def test_states_of_real_domains(
    conn: Connection, domains: dict[str, Any], name: str, state: str, reason: str
) -> None:
    info = get_domain(conn, PREFIX + name)
    assert (info.state, info.reason) == (state, reason)
    assert info.uuid == domains[name].UUIDString()
    assert (info.id is not None) == (name != "off")
    assert (info.type, info.os_type, info.arch) == ("qemu", "hvm", "x86_64")
    assert (info.vcpus, info.vcpus_max) == (1, 2)
    assert (info.memory_kib, info.memory_max_kib, info.memory) == (32768, 32768, "32.0 MiB")
    assert info.autostart is (name == "running")
    assert info.persistent is True
    assert (info.cpu_time_ns is not None) == (name != "off")


def test_bulk_and_single_reading_agree(conn: Connection, domains: dict[str, Any]) -> None:
    bulk = {info.name: info for info in list_domains(conn)}
    for raw in domains.values():
        single = get_domain(conn, raw.name())
        same = dataclasses.replace(bulk[raw.name()], cpu_time_ns=single.cpu_time_ns)
        assert same == single


def test_owners(conn: Connection, domains: dict[str, Any]) -> None:
    nova = get_domain(conn, f"{PREFIX}running").owner
    assert (nova.kind, nova.name) == (OwnerKind.NOVA, "web-1")
    assert nova.uuid == domains["running"].UUIDString()
    node = get_domain(conn, f"{PREFIX}paused").owner
    assert (node.kind, node.site, node.role) == (OwnerKind.SOLOSTACK, "lab", "controller")
    assert get_domain(conn, f"{PREFIX}off").owner.kind is OwnerKind.OTHER


def test_disks_of_a_running_domain_have_sizes_and_layers(
    conn: Connection, lab: Lab, domains: dict[str, Any]
) -> None:
    disk, drive = list_disks(get_domain(conn, f"{PREFIX}running"))
    overlay, base = lab.directory / "running.qcow2", lab.directory / "running.raw"
    assert disk[:3] == ("vda", str(overlay), "qcow2")
    assert (disk.bus, disk.cache, disk.discard) == ("virtio", "writeback", "unmap")
    assert disk.serial == f"{PREFIX}running"
    assert disk.capacity_bytes == 8 * MIB
    assert disk.allocation_bytes is not None
    assert disk.physical_bytes is not None
    assert disk.backing is not None
    assert [(layer.source, layer.format) for layer in disk.backing] == [(str(base), "raw")]
    assert drive[:2] == ("sda", None)
    assert (drive.kind, drive.is_empty, drive.capacity_bytes) == ("cdrom", True, None)


def test_disks_of_a_domain_that_is_off(conn: Connection, lab: Lab, domains: dict[str, Any]) -> None:
    disk = list_disks(get_domain(conn, f"{PREFIX}off"))[0]
    assert disk[:3] == ("vda", str(lab.directory / "off.qcow2"), "qcow2")
    # libvirt looks for the layers below only when it starts a domain.
    assert disk.backing is None


def test_every_disk_element_is_listed(conn: Connection, domains: dict[str, Any]) -> None:
    wanted = {raw.name(): raw.XMLDesc().count("<disk ") for raw in domains.values()}
    found = list_all_disks(conn, names=tuple(wanted))
    for name, count in wanted.items():
        assert sum(disk.domain == name for disk in found) == count


def test_a_missing_image_of_a_stopped_domain_fails_nothing(
    conn: Connection, lab: Lab, domains: dict[str, Any]
) -> None:
    lost = lab.define("lost")
    (lab.directory / "lost.qcow2").unlink()
    try:
        disks = list_all_disks(conn)
        assert f"{PREFIX}lost" in {disk.domain for disk in disks}
        assert f"{PREFIX}running" in {disk.domain for disk in disks}
        running = next(disk for disk in disks if disk.domain == f"{PREFIX}running")
        assert running.capacity_bytes == 8 * MIB
    finally:
        lost.undefine()


def test_an_external_snapshot_becomes_a_layer(
    conn: Connection, lab: Lab, domains: dict[str, Any]
) -> None:
    raw = lab.define("snapshots")
    raw.create()
    overlay = lab.directory / "snapshots.top"
    raw.snapshotCreateXML(
        "<domainsnapshot><name>s1</name><disks><disk name='vda' snapshot='external'>"
        f"<source file='{overlay}'/></disk><disk name='sda' snapshot='no'/></disks>"
        "</domainsnapshot>",
        16 | 4,  # VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | NO_METADATA
    )
    disk = list_disks(get_domain(conn, f"{PREFIX}snapshots"))[0]
    assert disk.source_file == str(overlay)
    assert disk.backing is not None
    assert [Path(layer.source or "").name for layer in disk.backing] == [
        "snapshots.qcow2",
        "snapshots.raw",
    ]


def test_a_domain_that_vanishes_meanwhile_is_noted(
    conn: Connection, lab: Lab, domains: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor, "LOCAL_BATCH", 4)
    for index in range(8):
        lab.define(f"aaa-{index:02}")
    victim = lab.define("zzz-victim")
    notes: list[str] = []
    disks = iterate_disks(conn, notes=notes)
    next(disks)
    victim.undefine()
    left = {disk.domain for disk in disks}
    assert f"{PREFIX}zzz-victim" not in left
    assert any("zzz-victim" in note and "vanished" in note for note in notes)
    with pytest.raises(DomainNotFoundError):
        get_domain(conn, f"{PREFIX}zzz-victim")


def test_an_agent_needs_a_read_write_connection(conn: Connection, domains: dict[str, Any]) -> None:
    with pytest.raises(HypervisorError) as caught:
        list_domains(conn, addresses=(AddressSource.AGENT,))
    assert "read_only=False" in caught.value.hint
    with connect(URI, read_only=False) as writable:
        assert list_domains(writable, addresses=(AddressSource.AGENT, AddressSource.ARP))
