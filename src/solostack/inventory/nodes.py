"""Control nodes of a host by their descriptions: also those that run as containers.

A container node is no libvirt domain. Its host has /etc/solostack/nodes/NAME.json and, for a
container, the unit solostack-node@NAME.service. One small program there reads both.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from solostack.doors.hypervisor_errors import UriParts, split_uri
from solostack.doors.process import Executor, LocalExecutor, PrefixExecutor
from solostack.inventory.model import (
    Address,
    AddressSource,
    DomainInfo,
    InterfaceInfo,
    Listing,
    NodeInfo,
)

CONTAINER = "container"
# Drivers whose local URI means this machine's own daemon; test and esx, for two, do not.
_HOST_DRIVERS = frozenset(("qemu", "lxc", "xen", "ch", "bhyve"))
_KIB_PER_MIB = 1024

# Runs on the host under its python3; says nothing and fails nowhere on a host without nodes.
_READER = r"""
import glob, json, os, subprocess, sys
found = []
for path in sorted(glob.glob("/etc/solostack/nodes/*.json")):
    name = os.path.basename(path)[:-5]
    try:
        with open(path, encoding="utf-8") as source:
            value = json.load(source)
    except (OSError, ValueError) as error:
        found.append({"path": path, "problem": str(error)})
        continue
    unit = {}
    if isinstance(value, dict) and value.get("runtime") == "container":
        keys = "Id,ActiveState,SubState,UnitFileState,CPUUsageNSec,MemoryCurrent"
        command = ["systemctl", "show", "--property=" + keys, "solostack-node@" + name + ".service"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            unit = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        except (OSError, subprocess.SubprocessError):
            pass
    found.append({"path": path, "description": value, "unit": unit})
json.dump(found, sys.stdout)
"""

# systemd's states that mean what a domain's state means; any other keeps systemd's own word.
_STATES = {"active": "running", "inactive": "shut off", "failed": "crashed"}


def node_executor(uri: str) -> Executor | None:
    """Return the way to the host of a libvirt URI; None when there is none but libvirt itself."""
    parts = split_uri(uri)
    if parts is None or parts.driver not in _HOST_DRIVERS:
        return None
    if not parts.is_remote:
        return LocalExecutor() if parts.transport in ("", "unix") else None
    return PrefixExecutor(LocalExecutor(), _ssh_argv(parts), parts.host) if parts.is_ssh else None


def _ssh_argv(parts: UriParts) -> tuple[str, ...]:
    """Return the command of the same login that libvirt itself makes for the URI.

    Not an SshTarget: who logs in is left to the user's ssh configuration unless the URI says it.
    """
    query = dict(parts.query)
    argv = [query.get("command", "ssh"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    if parts.port:
        argv += ["-p", str(parts.port)]
    if parts.user:
        argv += ["-l", parts.user]
    if "keyfile" in query:
        argv += ["-i", query["keyfile"]]
    return (*argv, "--", parts.host)


def list_nodes(executor: Executor, *, timeout_s: float = 15.0) -> Listing[NodeInfo]:
    """Return the control nodes that a host describes, sorted by name; none on an ordinary host.

    Both runtimes are there: a VM is also a domain of that host, with the same UUID. Needs python3
    on the host. Raises CommandError.
    """
    done = executor.run(("python3", "-I", "-"), stdin=_READER.encode(), timeout_s=timeout_s)
    return nodes_from_json(done.text)


def nodes_from_json(text: str) -> Listing[NodeInfo]:
    """Return the nodes in what the reader on the host printed; odd descriptions become notes."""
    notes: list[str] = []
    found: list[NodeInfo] = []
    for entry in json.loads(text or "[]"):
        description = entry.get("description")
        if isinstance(description, dict) and isinstance(description.get("name"), str):
            found.append(_build_node(description, entry.get("unit") or {}))
        else:
            notes.append(f"{entry['path']}: {entry.get('problem', 'is no description of a node')}")
    return Listing(sorted(found, key=lambda node: node.name), notes)


def containers(nodes: Iterable[NodeInfo]) -> tuple[NodeInfo, ...]:
    """Return the nodes that run as containers, which no list of domains has."""
    return tuple(node for node in nodes if node.type == CONTAINER)


def with_site_addresses(
    domains: Iterable[DomainInfo], nodes: Collection[NodeInfo]
) -> tuple[DomainInfo, ...]:
    """Return the domains with the planned addresses of those that are control nodes."""
    by_uuid = {node.uuid: node for node in nodes if node.uuid}
    return tuple(
        _with_addresses(domain, by_uuid[domain.uuid]) if domain.uuid in by_uuid else domain
        for domain in domains
    )


def _with_addresses(domain: DomainInfo, node: NodeInfo) -> DomainInfo:
    planned = {interface.mac: interface.addresses for interface in node.interfaces}
    interfaces = tuple(
        dataclasses.replace(interface, addresses=_merged(interface, planned.get(interface.mac, ())))
        for interface in domain.interfaces
    )
    return dataclasses.replace(domain, interfaces=interfaces)


def _merged(interface: InterfaceInfo, planned: Iterable[Address]) -> tuple[Address, ...]:
    known = {address.address for address in interface.addresses}
    return (
        *interface.addresses,
        *(address for address in planned if address.address not in known),
    )


def _build_node(description: Mapping[str, Any], unit: Mapping[str, str]) -> NodeInfo:
    memory_mib = _integer(description.get("memory_mib"))
    memory_bytes = _measured(unit, "MemoryCurrent")
    interfaces = description.get("interfaces")
    state = unit.get("ActiveState")
    return NodeInfo(
        name=description["name"],
        site=_string(description.get("site")),
        role=_string(description.get("role")),
        type=_string(description.get("runtime")),
        uuid=_string(description.get("uuid")),
        unit=unit.get("Id"),
        state=None if state is None else _STATES.get(state, state),
        reason=unit.get("SubState"),
        vcpus=_integer(description.get("vcpus")),
        memory_max_kib=None if memory_mib is None else memory_mib * _KIB_PER_MIB,
        memory_kib=None if memory_bytes is None else memory_bytes // 1024,
        cpu_time_ns=_measured(unit, "CPUUsageNSec"),
        autostart=unit["UnitFileState"] == "enabled" if unit.get("UnitFileState") else None,
        interfaces=tuple(
            _build_interface(value)
            for value in (interfaces if isinstance(interfaces, list) else ())
            if isinstance(value, dict)
        ),
    )


def _build_interface(value: Mapping[str, Any]) -> InterfaceInfo:
    mac = _string(value.get("mac"))
    return InterfaceInfo(
        mac=mac.lower() if mac else None,
        type="veth",
        source=_string(value.get("network")) or _string(value.get("bridge")),
        network=_string(value.get("network")),
        bridge=_string(value.get("bridge")),
        device=None,
        model=None,
        addresses=_planned_addresses(_string(value.get("address"))),
    )


def _planned_addresses(text: str | None) -> tuple[Address, ...]:
    if not text:
        return ()
    address, _, prefix = text.partition("/")
    return (
        Address(
            address=address,
            prefix=int(prefix) if prefix.isdecimal() else None,
            source=AddressSource.SITE,
        ),
    )


def _measured(unit: Mapping[str, str], key: str) -> int | None:
    """Return a number of systemd's; it says [not set], or 2**64-1, for what it does not know."""
    text = unit.get(key, "")
    return int(text) if text.isdecimal() and int(text) < 2**63 else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
