"""The inventory's machine output: JSON values and CSV rows, stable and documented.

docs/inventory-schema.json is their contract. A change that takes a name away or changes a meaning
is a new number in FORMAT; new names may come at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from solostack.inventory.model import (
    DiskInfo,
    DomainInfo,
    InterfaceInfo,
    Machine,
    NodeInfo,
    Owner,
)

DOMAINS_FORMAT = "solostack.domains/1"
DISKS_FORMAT = "solostack.disks/1"

DOMAIN_COLUMNS = (
    "name", "uuid", "id", "type", "os_type", "state", "state_code", "reason", "reason_code",
    "vcpus", "vcpus_max", "memory_kib", "memory_max_kib", "cpu_time_ns", "autostart", "persistent",
    "owner", "owner_name", "owner_uuid", "site", "role", "macs", "networks", "addresses",
)  # fmt: skip
DISK_COLUMNS = DiskInfo._fields


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an output comes from: the URI, the host's own name if known, and the notes."""

    uri: str
    host: str | None
    notes: Sequence[str] = ()


def domains_document(
    source: Source, domains: Iterable[DomainInfo], nodes: Iterable[NodeInfo]
) -> dict[str, object]:
    """Return the whole JSON value of ``solostack domains``; nodes are those that are no domains."""
    return {
        "format": DOMAINS_FORMAT,
        "uri": source.uri,
        "host": source.host,
        "domains": [domain_value(domain) for domain in domains],
        "nodes": [node_value(node) for node in nodes],
        "notes": list(source.notes),
    }


def disks_document(source: Source, disks: Iterable[DiskInfo]) -> dict[str, object]:
    """Return the whole JSON value of ``solostack disks``."""
    return {
        "format": DISKS_FORMAT,
        "uri": source.uri,
        "host": source.host,
        "disks": [disk_value(disk) for disk in disks],
        "notes": list(source.notes),
    }


def domain_value(domain: DomainInfo) -> dict[str, object]:
    """Return a domain in JSON's own types."""
    value = _fields(domain)
    del value["connection"]
    value["memory"] = domain.memory
    value["memory_max"] = domain.memory_max
    value["owner"] = _owner_value(domain.owner)
    value["interfaces"] = [_interface_value(interface) for interface in domain.interfaces]
    return value


def node_value(node: NodeInfo) -> dict[str, object]:
    """Return a control node in JSON's own types."""
    value = _fields(node)
    value["interfaces"] = [_interface_value(interface) for interface in node.interfaces]
    return value


def disk_value(disk: DiskInfo) -> dict[str, object]:
    """Return a disk in JSON's own types."""
    value: dict[str, object] = disk._asdict()
    value["hosts"] = [host._asdict() for host in disk.hosts]
    value["backing"] = None if disk.backing is None else [layer._asdict() for layer in disk.backing]
    return value


def domain_row(machine: Machine) -> tuple[str, ...]:
    """Return the CSV row of a domain, or of a container node; several values have spaces between.

    None is empty, truth is true or false.
    """
    owner = machine.owner
    interfaces = machine.interfaces
    special: dict[str, object] = {
        "owner": str(owner.kind),
        "owner_name": owner.name,
        "owner_uuid": owner.uuid,
        "site": owner.site,
        "role": owner.role,
        "macs": [interface.mac for interface in interfaces if interface.mac],
        "networks": [interface.source for interface in interfaces if interface.source],
        "addresses": [
            address.address for interface in interfaces for address in interface.addresses
        ],
    }
    return tuple(
        _cell(special[column] if column in special else getattr(machine, column, None))
        for column in DOMAIN_COLUMNS
    )


def disk_row(disk: DiskInfo) -> tuple[str, ...]:
    """Return the CSV row of a disk; hosts and layers of backing have spaces between."""
    value: dict[str, object] = disk._asdict()
    value["hosts"] = [
        host.socket or f"{host.name or ''}{'' if host.port is None else f':{host.port}'}"
        for host in disk.hosts
    ]
    if disk.backing is not None:
        value["backing"] = [layer.source or "" for layer in disk.backing]
    return tuple(_cell(value[column]) for column in DISK_COLUMNS)


def _fields(value: DomainInfo | NodeInfo | InterfaceInfo | Owner) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _owner_value(owner: Owner) -> dict[str, object]:
    return {**_fields(owner), "kind": str(owner.kind)}


def _interface_value(interface: InterfaceInfo) -> dict[str, object]:
    addresses = [
        {"address": item.address, "prefix": item.prefix, "source": str(item.source)}
        for item in interface.addresses
    ]
    return {**_fields(interface), "addresses": addresses}


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return str(value)
