"""The API against libvirt's own test driver, which needs no daemon and no rights."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.doors import hypervisor
from solostack.inventory import (
    Address,
    AddressSource,
    Connection,
    DiskInfo,
    DomainNotFoundError,
    HypervisorError,
    Listing,
    OwnerKind,
    connect,
    get_domain,
    iterate_disks,
    list_all_disks,
    list_disks,
    list_domains,
    list_volumes,
)
from solostack.inventory.documents import domain_value

pytest.importorskip("libvirt")

HOST = Path(__file__).resolve().parents[1] / "data" / "host.xml"
URI = f"test://{HOST}"


@pytest.fixture
def conn() -> Iterator[Connection]:
    with connect(URI) as connection:
        yield connection


@pytest.fixture
def writable() -> Iterator[Connection]:
    with connect(URI, read_only=False) as connection:
        yield connection


def test_every_state_is_listed_by_name(conn: Connection) -> None:
    assert {info.name: info.state for info in list_domains(conn)} == {
        "blocked": "idle",
        "controller": "running",
        "crash": "crashed",
        "every-disk": "paused",
        "fleeting": "running",
        "instance-00000001": "running",
        "no-state": "no state",
        "off": "shut off",
        "sleeper": "suspended by PM",
        "stopping": "in shutdown",
    }


def test_a_domain_by_value(conn: Connection) -> None:
    info = next(item for item in list_domains(conn) if item.name == "instance-00000001")
    assert info.uuid == "11111111-0000-4000-8000-000000000002"
    assert (info.type, info.os_type) == ("test", "hvm")
    assert (info.state_code, info.reason, info.reason_code) == (1, "unknown", 0)
    assert (info.vcpus, info.vcpus_max) == (1, 2)
    assert (info.memory_kib, info.memory_max_kib) == (1024**2, 2 * 1024**2)
    assert (info.memory, info.memory_max) == ("1.0 GiB", "2.0 GiB")
    assert info.id is not None
    assert info.cpu_time_ns is not None
    assert (info.autostart, info.persistent) == (False, True)
    assert (info.owner.kind, info.owner.name) == (OwnerKind.NOVA, "web-1")
    assert [card.mac for card in info.interfaces] == ["52:54:00:aa:00:02"]


def test_inactive_transient_and_autostarted_domains(writable: Connection) -> None:
    writable.raw.lookupByName("off").setAutostart(True)
    found = {info.name: info for info in list_domains(writable)}
    assert (found["off"].id, found["off"].cpu_time_ns) == (None, None)
    assert (found["off"].autostart, found["off"].persistent) == (True, True)
    assert found["fleeting"].persistent is False


@pytest.mark.parametrize("key", ["name", "uuid", "id", "id as text", "UUID in capitals"])
def test_one_domain_by_any_of_its_names(conn: Connection, key: str) -> None:
    wanted = next(info for info in list_domains(conn) if info.name == "controller")
    keys = {
        "name": wanted.name,
        "uuid": wanted.uuid,
        "id": wanted.id,
        "id as text": str(wanted.id),
        "UUID in capitals": wanted.uuid.upper(),
    }
    found = get_domain(conn, keys[key] or "")
    # The test driver counts time as CPU time.
    assert {**domain_value(found), "cpu_time_ns": 0} == {**domain_value(wanted), "cpu_time_ns": 0}


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("controler", "did you mean controller?"),
        ("instance-00000002", "did you mean instance-00000001?"),
        ("zzz", "solostack domains"),
        ("", "solostack domains"),
        ("4711", "solostack domains"),
        ("99999999999999999999", "solostack domains"),
        ("11111111-0000-4000-8000-0000000000ff", "solostack domains"),
        (-1, "solostack domains"),
        (4711, "solostack domains"),
    ],
)
def test_a_domain_that_is_not_there(conn: Connection, key: str | int, hint: str) -> None:
    with pytest.raises(DomainNotFoundError) as caught:
        get_domain(conn, key)
    assert hint in caught.value.hint
    assert str(key) in caught.value.message


def test_a_name_goes_before_an_id(writable: Connection) -> None:
    number = get_domain(writable, "controller").id
    xml = "<domain type='test'><name>{}</name><memory>1</memory><os><type>hvm</type></os></domain>"
    writable.raw.defineXML(xml.format(number))
    assert get_domain(writable, str(number)).name == str(number)
    assert get_domain(writable, number or 0).name == "controller"
    assert [info.name for info in list_domains(writable, names=[str(number)])] == [str(number)]


def test_chosen_domains_only(conn: Connection) -> None:
    names = ("off", "11111111-0000-4000-8000-000000000001", "off")
    assert [info.name for info in list_domains(conn, names=names)] == ["controller", "off"]
    with pytest.raises(DomainNotFoundError):
        list_domains(conn, names=("of",))


def test_all_disks_by_value(conn: Connection) -> None:
    found = [(disk.domain, disk.device, disk.source) for disk in list_all_disks(conn)]
    assert found == [
        ("controller", "vda", "/default-pool/controller.qcow2"),
        ("every-disk", "vda", "/dev/mapper/vg0-data"),
        ("every-disk", "vdb", "rbd://mon1:6789,mon2/pool/image@gold"),
        ("every-disk", "vdc", "volume:default-pool/base.raw"),
        ("every-disk", "vdd", "nvme://0000:01:00.0/1"),
        ("every-disk", "vde", "unix:/tmp/vhost-blk.sock"),
        ("every-disk", "vdf", "/images/no-driver.img"),
        ("every-disk", "vdg", "/images/scratch.qcow2"),
        ("every-disk", "fda", "/srv/floppy"),
        ("every-disk", "hda", "http://web.example:80/cd.iso?a=b"),
        ("every-disk", "hdc", None),
        ("instance-00000001", "vda", "/default-pool/web-1.qcow2"),
        ("instance-00000001", "hdc", "/default-pool/install.iso"),
        ("off", "vda", "/default-pool/archive.raw"),
    ]


def test_disks_of_one_domain_three_ways(conn: Connection) -> None:
    wanted = list_all_disks(conn, names=("controller",))
    assert list_disks(get_domain(conn, "controller")) == wanted
    assert list_disks(conn.raw.lookupByName("controller")) == wanted
    assert tuple(iterate_disks(conn, names=("controller",))) == wanted
    assert wanted[0][:3] == ("vda", "/default-pool/controller.qcow2", "qcow2")
    assert isinstance(wanted[0], DiskInfo)


def test_disks_of_something_else_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="DomainInfo"):
        list_disks("controller")


def test_a_kept_domain_does_not_keep_its_connection() -> None:
    with connect(URI) as conn:
        info = get_domain(conn, "controller")
        assert info.handle().name() == "controller"
    with pytest.raises(HypervisorError, match="closed"):
        list_disks(info)


def test_a_domain_that_has_gone(writable: Connection) -> None:
    info = get_domain(writable, "off")
    info.handle().undefine()
    with pytest.raises(HypervisorError, match="off has vanished"):
        list_disks(info)


def test_a_domain_that_vanishes_meanwhile_is_left_out_and_noted(
    writable: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor, "LOCAL_BATCH", 10)
    notes: list[str] = []
    disks = iterate_disks(_with_many_domains(writable), notes=notes)
    next(disks)
    writable.raw.lookupByName("zz-99").undefine()
    assert "zz-99" not in {disk.domain for disk in disks}
    assert notes == ["zz-99: it vanished while the host was read"]


def test_a_listing_is_a_tuple_with_notes(conn: Connection) -> None:
    found = list_domains(conn)
    assert isinstance(found, Listing)
    assert isinstance(found, tuple)
    assert found.notes == ()
    assert Listing([1, 2], ["n"]) == (1, 2)


def test_addresses_are_asked_for_when_wanted(conn: Connection) -> None:
    by_default = list_domains(conn, names=["instance-00000001"])[0]
    assert by_default.interfaces[0].addresses == ()
    asked = list_domains(conn, names=["instance-00000001"], addresses=[AddressSource.ARP])[0]
    address = asked.interfaces[0].addresses[0]
    assert address == Address(address=address.address, prefix=24, source=AddressSource.ARP)
    assert address.address.startswith("192.168.122.")


def test_volumes(conn: Connection) -> None:
    found = {volume.name: volume for volume in list_volumes(conn)}
    volume = found["web-1.qcow2"]
    assert (volume.pool, volume.path) == ("default-pool", "/default-pool/web-1.qcow2")
    assert (volume.type, volume.format) == ("file", "qcow2")
    assert (volume.capacity_bytes, volume.allocation_bytes) == (10 * 1024**3, 1024**3)
    assert volume.backing == "/default-pool/base.raw"
    assert len(found) == 6


class CountingConnection:
    """libvirt's connection, counting what is asked of it; its domains count into the same."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.calls.append(name)
            return getattr(self.raw, name)(*args)

        return call


def test_the_number_of_calls_does_not_grow_with_the_host(writable: Connection) -> None:
    counts = []
    for many in (False, True):
        if many:
            _with_many_domains(writable)
        counting = CountingConnection(writable.raw)
        connection = hypervisor.Connection(counting, uri=URI, read_only=True, timeout_s=10)
        list_domains(connection)
        list_all_disks(connection)
        counts.append(sorted(counting.calls))
    assert counts[0] == counts[1]
    assert len(counts[0]) == 7


def test_reading_disks_one_after_the_other_needs_no_memory_per_domain(
    writable: Connection,
) -> None:
    def peak() -> int:
        gc.collect()
        tracemalloc.start()
        for _ in iterate_disks(writable):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak()
    _with_many_domains(writable)
    # The records of the domains are all there is: about 1 KB each, their XML is 20 times that.
    assert peak() - few < 100 * 4000


def _with_many_domains(connection: Connection) -> Connection:
    for number in range(100):
        disks = "".join(
            f"<disk type='file'><source file='/d/{number}-{letter}'/>"
            f"<target dev='vd{letter}'/></disk>"
            for letter in "abcdefghij"
        )
        connection.raw.defineXML(
            f"<domain type='test'><name>zz-{number:02}</name><memory>1024</memory>"
            f"<os><type>hvm</type></os><devices>{disks}</devices></domain>"
        )
    return connection
