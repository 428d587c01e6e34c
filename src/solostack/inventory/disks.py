"""Disk elements of a domain's XML to DiskInfo: pure, one value per element, none left out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from solostack.doors.hypervisor_records import BlockStats
from solostack.inventory.model import BackingInfo, DiskInfo
from solostack.inventory.parsing import element_text, number, parse_xml
from solostack.inventory.sources import read_hosts, readable_source

# What libvirt takes for an absent attribute: "defaulting to disk" (formatdomain), and
# src/conf/domain_conf.c for type.
DEFAULT_KIND = "disk"
DEFAULT_TYPE = "file"
_NOTHING = ET.Element("nothing")


def disks_from_xml(text: str) -> tuple[DiskInfo, ...]:
    """Return the disks of a domain's XML, without sizes. Raises DomainXmlError."""
    domain = parse_xml(text, "domain")
    return build_disks(
        domain,
        name=element_text(domain, "name"),
        uuid=element_text(domain, "uuid"),
        blocks=(),
    )


def build_disks(
    domain: ET.Element,
    *,
    name: str | None,
    uuid: str | None,
    blocks: Sequence[BlockStats],
) -> tuple[DiskInfo, ...]:
    """Return a value for every disk element of a domain's devices, in their order.

    blocks are the bulk statistics of the same domain, matched by the disks' target names.
    """
    sizes = {block.device: block for block in blocks}
    return tuple(
        _build_disk(element, name, uuid, sizes) for element in domain.findall("./devices/disk")
    )


def _build_disk(
    disk: ET.Element,
    name: str | None,
    uuid: str | None,
    sizes: dict[str | None, BlockStats],
) -> DiskInfo:
    # One pass over the children: find() for each of the fifteen of interest would be ten times
    # the work, and this is what a host with thousands of disks spends its time on.
    parts: dict[str, ET.Element] = {}
    for child in disk:
        parts.setdefault(child.tag, child)
    driver = parts.get("driver", _NOTHING)
    target = parts.get("target", _NOTHING)
    source = parts.get("source", _NOTHING)
    source_type = disk.get("type") or DEFAULT_TYPE
    device = target.get("dev") or None
    size = sizes.get(device)
    network = source_type == "network"
    volume = source_type == "volume"
    return DiskInfo(
        device=device,
        source_file=(source.get("file") or None) if source_type == "file" else None,
        format=driver.get("type") or None,
        domain=name,
        domain_uuid=uuid,
        kind=disk.get("device") or DEFAULT_KIND,
        bus=target.get("bus") or None,
        source_type=source_type,
        source=readable_source(source_type, source) if source is not _NOTHING else None,
        protocol=source.get("protocol") if network else None,
        hosts=read_hosts(source) if network else (),
        pool=source.get("pool") if volume else None,
        volume=source.get("volume") if volume else None,
        read_only="readonly" in parts,
        shareable="shareable" in parts,
        transient="transient" in parts,
        serial=_text(parts.get("serial")),
        wwn=_text(parts.get("wwn")),
        boot_order=number(parts["boot"].get("order")) if "boot" in parts else None,
        cache=driver.get("cache") or None,
        io=driver.get("io") or None,
        discard=driver.get("discard") or None,
        encrypted="encryption" in parts or source.find("encryption") is not None,
        backing=_read_backing(parts.get("backingStore")),
        mirror=_read_mirror(parts.get("mirror")),
        capacity_bytes=size.capacity_bytes if size else None,
        allocation_bytes=size.allocation_bytes if size else None,
        physical_bytes=size.physical_bytes if size else None,
    )


def _text(element: ET.Element | None) -> str | None:
    return (element.text.strip() or None) if element is not None and element.text else None


def _read_backing(store: ET.Element | None) -> tuple[BackingInfo, ...] | None:
    """Return the layers below the top image; an empty backingStore element ends the chain."""
    if store is None:
        return None
    layers: list[BackingInfo] = []
    while store is not None and (len(store) or store.get("type")):
        source_type = store.get("type") or DEFAULT_TYPE
        source = store.find("source")
        image_format = store.find("format")
        layers.append(
            BackingInfo(
                source_type=source_type,
                source=None if source is None else readable_source(source_type, source),
                source_file=source.get("file")
                if source is not None and source_type == "file"
                else None,
                format=None if image_format is None else image_format.get("type"),
            )
        )
        store = store.find("backingStore")
    return tuple(layers)


def _read_mirror(mirror: ET.Element | None) -> str | None:
    """Return the destination of a running block copy; old libvirt has it in attributes."""
    if mirror is None:
        return None
    source = mirror.find("source")
    if source is not None:
        return readable_source(mirror.get("type") or DEFAULT_TYPE, source)
    return mirror.get("file") or mirror.get("dev")
