"""Every domain and every disk of any libvirt host: a small API that needs no site and no cloud.

    from solostack.inventory import connect, list_all_disks

    with connect() as conn:
        for disk in list_all_disks(conn):
            device, source_file, format = disk[:3]

Owns the reading of libvirt's XML and statistics. Must not know any site, and changes nothing.
See docs/inventory.md.
"""

from __future__ import annotations

from solostack.doors.hypervisor import DEFAULT_URI, Connection, connect
from solostack.doors.hypervisor_errors import (
    ConnectFailure,
    HypervisorConnectError,
    HypervisorError,
)
from solostack.inventory.disks import disks_from_xml
from solostack.inventory.listing import (
    DomainNotFoundError,
    get_domain,
    iterate_disks,
    list_all_disks,
    list_disks,
    list_domains,
    list_volumes,
)
from solostack.inventory.model import (
    Address,
    AddressSource,
    BackingInfo,
    DiskInfo,
    DomainInfo,
    InterfaceInfo,
    Listing,
    NodeInfo,
    Owner,
    OwnerKind,
    StorageHost,
    VolumeInfo,
    readable_size,
)
from solostack.inventory.parsing import DomainXmlError

__all__ = [
    "DEFAULT_URI",
    "Address",
    "AddressSource",
    "BackingInfo",
    "ConnectFailure",
    "Connection",
    "DiskInfo",
    "DomainInfo",
    "DomainNotFoundError",
    "DomainXmlError",
    "HypervisorConnectError",
    "HypervisorError",
    "InterfaceInfo",
    "Listing",
    "NodeInfo",
    "Owner",
    "OwnerKind",
    "StorageHost",
    "VolumeInfo",
    "connect",
    "disks_from_xml",
    "get_domain",
    "iterate_disks",
    "list_all_disks",
    "list_disks",
    "list_domains",
    "list_volumes",
    "readable_size",
]
