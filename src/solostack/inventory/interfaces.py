"""Network cards of a domain and the addresses that somebody knows of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence

from solostack.doors.hypervisor_records import Lease
from solostack.inventory.model import Address, AddressSource, InterfaceInfo
from solostack.inventory.owners import find_nova_instance
from solostack.inventory.parsing import number
from solostack.inventory.sources import pci_address

# Addresses by what they are known for: a MAC address, or the name of a device on the host. One can
# never be the other: a device's name has at most 15 characters (IFNAMSIZ).
Known = Mapping[str, Sequence[Address]]
# neutron-lib names a port's device on the host tap + the first 11 characters of the port's UUID.
PORT_DEVICE_CHARACTERS = 11
_NOTHING = ET.Element("nothing")


def build_interfaces(domain: ET.Element, known: Known) -> tuple[InterfaceInfo, ...]:
    """Return every interface element of a domain's devices, with the addresses known of it."""
    ports = _nova_addresses(domain)
    return tuple(
        _build_interface(element, known, ports) for element in domain.findall("./devices/interface")
    )


def index_addresses(source: AddressSource, leases: Iterable[Lease]) -> dict[str, list[Address]]:
    """Return what source knows, by MAC address and by device."""
    found: dict[str, list[Address]] = {}
    for lease in leases:
        address = Address(address=lease.address, prefix=lease.prefix, source=source)
        for key in (lease.mac, lease.device):
            if key:
                found.setdefault(key, []).append(address)
    return found


def _build_interface(
    interface: ET.Element, known: Known, ports: Mapping[str, Sequence[Address]]
) -> InterfaceInfo:
    source = interface.find("source")
    mac = _attribute(interface, "mac", "address")
    device = _attribute(interface, "target", "dev")
    mac = mac.lower() if mac else None
    kind = interface.get("type")
    where = _NOTHING if source is None else source
    return InterfaceInfo(
        mac=mac,
        type=kind,
        source=_readable(kind, where),
        network=where.get("network"),
        bridge=where.get("bridge"),
        device=device,
        model=_attribute(interface, "model", "type"),
        addresses=_addresses(mac, device, known, ports.get(_port_key(interface, device), ())),
    )


def _attribute(parent: ET.Element, tag: str, name: str) -> str | None:
    child = parent.find(tag)
    return None if child is None else child.get(name) or None


def _readable(kind: str | None, source: ET.Element) -> str | None:
    """Return what the card is plugged into (formatdomain, "Network interfaces")."""
    match kind:
        case "network" | "bridge" if source.get(kind):
            return source.get(kind)
        case "hostdev":
            address = source.find("address")
            return None if address is None else pci_address(address)
        case "mcast" | "server" | "client" | "udp":
            return f"{source.get('address') or ''}:{source.get('port') or ''}".strip(":") or None
        case _:
            # direct and vdpa have dev, vhostuser path, vds switchid.
            keys = ("dev", "path", "switchid", "name", "network", "bridge")
            return next((source.get(key) for key in keys if source.get(key)), None)


def _addresses(
    mac: str | None, device: str | None, known: Known, fixed: Iterable[Address]
) -> tuple[Address, ...]:
    found: dict[str, Address] = {}
    for address in (*known.get(mac or "", ()), *known.get(device or "", ()), *fixed):
        found.setdefault(address.address, address)
    return tuple(found.values())


def _nova_addresses(domain: ET.Element) -> dict[str, list[Address]]:
    """Return the fixed addresses in Nova's metadata, by the start of the port's UUID."""
    instance, namespace = find_nova_instance(domain)
    found: dict[str, list[Address]] = {}
    if instance is None:
        return found
    for port in instance.findall(f"{{{namespace}}}ports/{{{namespace}}}port"):
        addresses = found.setdefault((port.get("uuid") or "")[:PORT_DEVICE_CHARACTERS], [])
        addresses.extend(
            Address(address=text, prefix=number(ip.get("prefix")), source=AddressSource.NOVA)
            for ip in port.findall(f"{{{namespace}}}ip")
            if (text := ip.get("address"))
        )
    return found


def _port_key(interface: ET.Element, device: str | None) -> str:
    parameters = interface.find("./virtualport/parameters")
    port = None if parameters is None else parameters.get("interfaceid")
    if port:
        return port[:PORT_DEVICE_CHARACTERS]
    return device.removeprefix("tap") if device and device.startswith("tap") else "none"
