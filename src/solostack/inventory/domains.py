"""A domain's record and XML to DomainInfo: pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from solostack.doors.hypervisor import Connection
from solostack.doors.hypervisor_records import DomainRecord
from solostack.inventory.interfaces import Known, build_interfaces
from solostack.inventory.model import DomainInfo, Owner
from solostack.inventory.owners import read_owner
from solostack.inventory.parsing import attribute, element_text, number, size_bytes
from solostack.inventory.states import reason_name, state_name

KIB = 1024
_NOTHING = ET.Element("domain")


def build_domain(
    record: DomainRecord,
    domain: ET.Element | None,
    known: Known,
    connection: Connection | None = None,
) -> DomainInfo:
    """Return what is known of a domain; domain None: its XML could not be read.

    Statistics of a running domain come before its configuration, which says what was wanted.
    """
    tree = _NOTHING if domain is None else domain
    vcpus_max = record.vcpus_max or number(element_text(tree, "vcpu"))
    memory_max = record.memory_max_kib or _kib(tree, "memory")
    return DomainInfo(
        name=record.name,
        uuid=record.uuid,
        id=record.id,
        type=tree.get("type"),
        os_type=element_text(tree, "./os/type"),
        arch=attribute(tree, "./os/type", "arch"),
        machine=attribute(tree, "./os/type", "machine"),
        title=element_text(tree, "title"),
        state=state_name(record.state),
        state_code=record.state,
        reason=reason_name(record.state, record.reason),
        reason_code=record.reason,
        # formatdomain: an absent current, or currentMemory, means all of it.
        vcpus=record.vcpus or number(attribute(tree, "vcpu", "current")) or vcpus_max,
        vcpus_max=vcpus_max,
        memory_kib=_first(record.memory_kib, _kib(tree, "currentMemory"), memory_max),
        memory_max_kib=memory_max,
        cpu_time_ns=record.cpu_time_ns,
        autostart=record.autostart,
        persistent=record.persistent,
        owner=Owner() if domain is None else read_owner(domain),
        interfaces=build_interfaces(tree, known),
        connection=connection,
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _kib(domain: ET.Element, tag: str) -> int | None:
    size = size_bytes(domain.find(tag), default_unit="KiB")
    return None if size is None else size // KIB
