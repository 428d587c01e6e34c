"""Where a disk's data is: libvirt's source element as one readable string.

Every source type of formatdomain has a form here; a type that is newer than this module is shown
by its own attributes. Nothing is resolved or looked up.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from solostack.inventory.model import StorageHost
from solostack.inventory.parsing import number


def read_hosts(source: ET.Element) -> tuple[StorageHost, ...]:
    """Return the servers of a network source, in their order."""
    return tuple(
        StorageHost(
            name=host.get("name"),
            port=number(host.get("port")),
            transport=host.get("transport"),
            socket=host.get("socket"),
        )
        for host in source.findall("host")
    )


def readable_source(source_type: str, source: ET.Element) -> str | None:
    """Return one string for a source element; None when it names nothing."""
    match source_type:
        case "file" | "dir":
            return source.get(source_type) or None
        case "block" | "vhostvdpa":
            return source.get("dev") or None
        case "network":
            return _network(source)
        case "volume":
            return _volume(source)
        case "nvme":
            return _nvme(source)
        case "vhostuser":
            return _prefixed(source.get("type") or "unix", source.get("path"))
        case _:
            return _by_attributes(source_type, source)


def _prefixed(prefix: str, value: str | None) -> str | None:
    return f"{prefix}:{value}" if value else None


def _volume(source: ET.Element) -> str | None:
    pool, volume = source.get("pool"), source.get("volume")
    return f"volume:{pool or ''}/{volume or ''}" if pool or volume else None


def _nvme(source: ET.Element) -> str | None:
    """Return QEMU's own form, nvme://DOMAIN:BUS:SLOT.FUNCTION/NAMESPACE."""
    address = source.find("address")
    namespace = source.get("namespace")
    if address is None:
        return _prefixed("nvme", namespace)
    return f"nvme://{pci_address(address)}/{namespace or ''}"


def pci_address(address: ET.Element) -> str:
    """Return a PCI address element the way lspci writes it, 0000:01:00.0."""
    parts = (("domain", 4), ("bus", 2), ("slot", 2), ("function", 1))
    domain, bus, slot, function = (_hexadecimal(address.get(name), size) for name, size in parts)
    return f"{domain}:{bus}:{slot}.{function}"


def _hexadecimal(text: str | None, size: int) -> str:
    """Return a number in hexadecimal; libvirt writes 0x.., a person may have written decimals."""
    if not text:
        return "0" * size
    try:
        return f"{int(text, 0):0{size}x}"
    except ValueError:
        return text


def _network(source: ET.Element) -> str | None:
    protocol = source.get("protocol")
    name = source.get("name") or ""
    if source.get("query"):
        name += f"?{source.get('query')}"
    snapshot = source.find("snapshot")
    if snapshot is not None and snapshot.get("name"):
        name += f"@{snapshot.get('name')}"
    hosts = read_hosts(source)
    if not protocol and not name and not hosts:
        return None
    scheme = protocol or "network"
    if not hosts:
        return f"{scheme}:{name}"
    path = f"/{name.removeprefix('/')}" if name else ""
    return f"{scheme}://{','.join(_host(host) for host in hosts)}{path}"


def _host(host: StorageHost) -> str:
    if host.socket:
        return f"unix:{host.socket}"
    name = host.name or ""
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    text = name if host.port is None else f"{name}:{host.port}"
    return f"{host.transport}:{text}" if host.transport not in (None, "tcp") else text


def _by_attributes(source_type: str, source: ET.Element) -> str | None:
    # index numbers the layers of an active domain; a brace begins another namespace's attribute.
    own = sorted(key for key in source.attrib if key != "index" and not key.startswith("{"))
    known = [f"{key}={source.get(key)}" for key in own]
    return _prefixed(source_type, ",".join(known)) if known else None
