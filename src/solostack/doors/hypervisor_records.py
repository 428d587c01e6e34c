"""Plain records of what libvirt's bulk calls say, built from its named statistics.

Must not import libvirt: it sees libvirt's objects only as something that has a name and a UUID.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

RawDomain = Any  # libvirt.virDomain; the binding has no types


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BlockStats:
    """What bulk statistics say of one disk of a domain; None where the driver says nothing."""

    device: str | None
    capacity_bytes: int | None
    allocation_bytes: int | None
    physical_bytes: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainRecord:
    """A domain as the bulk calls describe it, before its XML. None: the driver does not say.

    handle is libvirt's own object. id is None for an inactive domain. Memory is in KiB.
    """

    handle: RawDomain
    name: str
    uuid: str
    id: int | None
    persistent: bool | None
    autostart: bool | None
    state: int | None
    reason: int | None
    vcpus: int | None
    vcpus_max: int | None
    memory_kib: int | None
    memory_max_kib: int | None
    cpu_time_ns: int | None
    blocks: tuple[BlockStats, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An address that is known for a MAC address or for a device on the host."""

    mac: str | None
    device: str | None
    address: str
    prefix: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """Records of many domains and what went wrong on the way, one line each."""

    records: tuple[DomainRecord, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainText:
    """A domain's XML; None when it could not be had, and why says so. vanished: it is gone.

    leases has the addresses by the source that was asked for them.
    """

    record: DomainRecord
    xml: str | None
    why: str = ""
    vanished: bool = False
    leases: tuple[tuple[int, tuple[Lease, ...]], ...] = ()


def build_record(
    handle: RawDomain,
    values: Mapping[str, Any],
    *,
    autostart: bool | None,
    persistent: bool | None,
) -> DomainRecord:
    """Build the record of a domain from libvirt's object and its named statistics."""
    number = handle.ID()
    return DomainRecord(
        handle=handle,
        name=handle.name(),
        uuid=handle.UUIDString(),
        id=number if number >= 0 else None,
        persistent=persistent,
        autostart=autostart,
        state=values.get("state.state"),
        reason=values.get("state.reason"),
        vcpus=values.get("vcpu.current"),
        vcpus_max=values.get("vcpu.maximum"),
        memory_kib=values.get("balloon.current"),
        memory_max_kib=values.get("balloon.maximum"),
        cpu_time_ns=values.get("cpu.time") if number >= 0 else None,
        blocks=_blocks(values),
    )


def _blocks(values: Mapping[str, Any]) -> tuple[BlockStats, ...]:
    return tuple(
        BlockStats(
            device=values.get(f"block.{index}.name"),
            capacity_bytes=values.get(f"block.{index}.capacity"),
            allocation_bytes=values.get(f"block.{index}.allocation"),
            physical_bytes=values.get(f"block.{index}.physical"),
        )
        for index in range(values.get("block.count", 0))
    )
