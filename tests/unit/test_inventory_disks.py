"""Every disk type of libvirt's formatdomain, and every oddity, by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solostack.doors.hypervisor_records import BlockStats
from solostack.inventory import BackingInfo, DiskInfo, StorageHost, disks_from_xml
from solostack.inventory.disks import build_disks
from solostack.inventory.parsing import parse_xml

DOMAINS = Path(__file__).resolve().parents[1] / "data" / "domains"


def host(name: str | None, port: int | None = None, **rest: Any) -> StorageHost:
    return StorageHost(
        name=name, port=port, transport=rest.get("transport"), socket=rest.get("socket")
    )


def disk(device: str | None, source_file: str | None, format: str | None, **rest: Any) -> Any:  # noqa: A002
    return {"device": device, "source_file": source_file, "format": format, **rest}


def network(device: str, source: str, *hosts: StorageHost, **rest: Any) -> Any:
    protocol = source.partition(":")[0]
    values = {"bus": "virtio", "protocol": protocol, "hosts": hosts, "source": source}
    common = disk(device, None, "raw", source_type="network")
    return {**common, **values, **rest}


WANTED: dict[str, list[dict[str, Any]]] = {
    "file": [
        disk(
            "vda",
            "/var/lib/libvirt/images/domain.qcow2",
            "qcow2",
            bus="virtio",
            source="/var/lib/libvirt/images/domain.qcow2",
            serial="WD-WMAP9A966149",
            wwn="0123456789abcdef",
            boot_order=2,
            shareable=True,
            cache="none",
            io="native",
            discard="unmap",
        ),
        disk(
            "hda",
            "/var/lib/xen/images/fv0",
            "aio",
            bus="ide",
            source="/var/lib/xen/images/fv0",
            cache="default",
            encrypted=True,
        ),
        disk(
            "vdb",
            "/images/with & and ä.img",
            "raw",
            bus="virtio",
            source="/images/with & and ä.img",
            encrypted=True,
            transient=True,
            mirror="/copy/vdb.qcow2",
        ),
    ],
    "block": [
        disk(
            "vda",
            None,
            "raw",
            bus="virtio",
            source_type="block",
            source="/dev/mapper/vg0-root",
            cache="none",
        ),
        disk("sda", None, "raw", kind="lun", bus="scsi", source_type="block", source="/dev/sda"),
        disk("hdd", None, "raw", kind="cdrom", bus="ide", source_type="block", read_only=True),
    ],
    "directory": [
        disk(
            "fda",
            None,
            "fat",
            kind="floppy",
            bus="fdc",
            source_type="dir",
            source="/var/lib/drivers",
            read_only=True,
        )
    ],
    "network": [
        network("vda", "nbd://example.com:10809/export", host("example.com", 10809)),
        network(
            "vdb",
            "nbd://unix:/var/run/nbdsock",
            host(None, transport="unix", socket="/var/run/nbdsock"),
        ),
        network(
            "vdc",
            "rbd://mon1.example.org:6321,mon2.example.org:6322,[2001:db8::3]/pool/image@snapname",
            host("mon1.example.org", 6321),
            host("mon2.example.org", 6322),
            host("2001:db8::3"),
        ),
        network("vdd", "rbd:volumes/volume-99ed8dd7"),
        network(
            "sda",
            "iscsi://example.com:3260/iqn.2013-07.com.example:iscsi-nopool/1",
            host("example.com", 3260),
            kind="lun",
            bus="scsi",
        ),
        network("vde", "sheepdog://hostname:7000/image_name", host("hostname", 7000)),
        network(
            "vdf",
            "gluster://example.org:6000,rdma:example.net:24007,unix:/path/to/sock"
            "/volume/image.qcow2",
            host("example.org", 6000, transport="tcp"),
            host("example.net", 24007, transport="rdma"),
            host(None, transport="unix", socket="/path/to/sock"),
            format="qcow2",
        ),
        network(
            "vdg",
            "vxhs://192.168.0.1:9999/eb90327c-8302-4725-9e1b-4e85ed4dc251",
            host("192.168.0.1", 9999),
        ),
        network("vdh", "nfs://example.com/PATH", host("example.com")),
        network(
            "hda",
            "http://hostname:80/url_path?foo=bar&baz=flurb",
            host("hostname", 80),
            kind="cdrom",
            bus="ide",
            read_only=True,
        ),
        *(
            network(
                device,
                f"{protocol}://hostname:{port}/url_path",
                host("hostname", port),
                kind="cdrom",
                bus="ide",
                read_only=True,
            )
            for device, protocol, port in (
                ("hdb", "https", 443),
                ("hdc", "ftp", 21),
                ("hdd", "ftps", 990),
                ("hde", "tftp", 69),
            )
        ),
        network("vdi", "ssh://[2001:db8::1]:22/images/vm.img", host("[2001:db8::1]", 22)),
    ],
    "volume": [
        disk(
            "hdk",
            None,
            "raw",
            bus="ide",
            source_type="volume",
            source="volume:blk-pool0/blk-pool0-vol0",
            pool="blk-pool0",
            volume="blk-pool0-vol0",
        ),
        disk(
            "sdc",
            None,
            "raw",
            kind="lun",
            bus="scsi",
            source_type="volume",
            source="volume:iscsi-pool/unit:0:0:2",
            pool="iscsi-pool",
            volume="unit:0:0:2",
        ),
    ],
    "special": [
        disk(
            "vde",
            None,
            "raw",
            bus="virtio",
            source_type="nvme",
            source="nvme://0000:01:1f.2/1",
        ),
        disk(
            "vdf",
            None,
            "raw",
            bus="virtio",
            source_type="vhostuser",
            source="unix:/tmp/vhost-blk.sock",
        ),
        disk(
            "vdg",
            None,
            "raw",
            bus="virtio",
            source_type="vhostvdpa",
            source="/dev/vhost-vdpa-0",
        ),
        disk(
            "vdh",
            None,
            "lattice",
            kind="hologram",
            bus="light",
            source_type="crystal",
            source="crystal:depth=3,facet=7",
        ),
    ],
    "odd": [
        disk("sda", None, None, kind="cdrom", bus="sata", read_only=True),
        disk("fda", None, None, kind="floppy", bus="fdc"),
        disk("vda", "/no-driver.img", None, bus="virtio", source="/no-driver.img"),
        disk("vda", "/same-target.img", None, bus="virtio", source="/same-target.img"),
        disk(None, None, None),
        disk(None, None, None),
        disk(None, None, None, source_type="network"),
        disk(None, None, None, source_type="volume"),
        disk(None, None, None, source_type="nvme", source="nvme:2"),
        disk(None, None, None, source_type="vhostuser"),
        disk(None, None, None, source_type="crystal"),
        disk("vdb", "/real.img", "qcow2", bus="virtio", source="/real.img"),
    ],
    "backing": [
        disk(
            "vda",
            "/images/domain.snap2",
            "qcow2",
            bus="virtio",
            source="/images/domain.snap2",
            backing=(
                BackingInfo("file", "/images/domain.snap1", "/images/domain.snap1", "qcow2"),
                BackingInfo("network", "rbd://mon1/pool/template@gold", None, "qcow2"),
                BackingInfo("block", "/dev/mapper/base", None, "raw"),
            ),
        ),
        disk(
            "vdb",
            "/images/plain.raw",
            "raw",
            bus="virtio",
            source="/images/plain.raw",
            backing=(),
        ),
        disk(
            "vdc",
            "/images/not-looked-at.qcow2",
            "qcow2",
            bus="virtio",
            source="/images/not-looked-at.qcow2",
        ),
        disk(
            "vdd",
            "/images/lost-base.qcow2",
            "qcow2",
            bus="virtio",
            source="/images/lost-base.qcow2",
            backing=(BackingInfo("file", None, None, None),),
            mirror="/old/copy.img",
        ),
    ],
    "control-node": [],
    "interfaces": [],
    "lxc": [],
    "nova-instance": [],
}


def read(name: str) -> str:
    return (DOMAINS / f"{name}.xml").read_text()


def test_every_example_is_expected() -> None:
    assert {path.stem for path in DOMAINS.glob("*.xml")} == set(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_disks_by_value(name: str) -> None:
    found = disks_from_xml(read(name))
    tree = parse_xml(read(name), "domain")
    common = {"domain": tree.findtext("name"), "domain_uuid": tree.findtext("uuid")}
    assert list(found) == [DiskInfo(**{**common, **values}) for values in WANTED[name]]


def test_every_source_type_of_libvirts_documentation_is_among_the_examples() -> None:
    documented = {"file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa"}
    seen = {item.get("source_type", "file") for items in WANTED.values() for item in items}
    assert documented <= seen


def test_every_documented_protocol_is_among_the_examples() -> None:
    documented = {
        "nbd", "iscsi", "rbd", "sheepdog", "gluster", "vxhs", "nfs", "http", "https", "ftp",
        "ftps", "tftp", "ssh",
    }  # fmt: skip
    assert documented <= {item.get("protocol") for items in WANTED.values() for item in items}


def test_three_field_code_keeps_working() -> None:
    info = disks_from_xml(read("file"))[0]
    device, source_file, format_ = info[:3]
    assert (device, source_file, format_) == (
        "vda",
        "/var/lib/libvirt/images/domain.qcow2",
        "qcow2",
    )
    assert isinstance(info, tuple)
    assert info._fields[:3] == ("device", "source_file", "format")


def test_an_empty_drive_says_so() -> None:
    found = disks_from_xml(read("odd"))
    assert [item.is_empty for item in found[:3]] == [True, True, False]


def test_sizes_come_from_the_statistics_of_the_same_target() -> None:
    def stats(device: str, size: int | None) -> BlockStats:
        return BlockStats(
            device=device, capacity_bytes=size, allocation_bytes=None, physical_bytes=7
        )

    tree = parse_xml(read("backing"), "domain")
    blocks = (stats("vdc", 300), stats("vda", 100), stats("gone", 1))
    found = build_disks(tree, name="d", uuid=None, blocks=blocks)
    assert [item.capacity_bytes for item in found] == [100, None, 300, None]
    assert [item.physical_bytes for item in found] == [7, None, 7, None]
    assert {item.allocation_bytes for item in found} == {None}
