"""Whose a domain is: read from its metadata, where every owner has an XML namespace of its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from solostack.doors.hypervisor import NODE_XML_NAMESPACE
from solostack.inventory.model import Owner, OwnerKind
from solostack.inventory.parsing import element_text

NODE_TAG = f"{{{NODE_XML_NAMESPACE}}}node"
# nova/virt/libvirt/config.py, NOVA_NS: 1.0 until Victoria, 1.1 since Wallaby, which added ports.
_NOVA_TAG = re.compile(r"\{(http://openstack\.org/xmlns/libvirt/nova/[^}]*)\}instance")


def read_owner(domain: ET.Element) -> Owner:
    """Return the owner that a domain's metadata names, OTHER when it names none that we know.

    Nova does not write the instance's UUID into its metadata: the domain's own UUID is the
    instance's (nova/virt/libvirt/driver.py, guest.uuid = instance.uuid).
    """
    node = domain.find(f"./metadata/{NODE_TAG}")
    if node is not None:
        return Owner(
            kind=OwnerKind.SOLOSTACK,
            name=node.get("name"),
            uuid=element_text(domain, "uuid"),
            site=node.get("site"),
            role=node.get("role"),
        )
    instance, namespace = find_nova_instance(domain)
    if instance is None:
        return Owner()
    flavor = instance.find(f"{{{namespace}}}flavor")
    return Owner(
        kind=OwnerKind.NOVA,
        name=element_text(instance, f"{{{namespace}}}name"),
        uuid=element_text(domain, "uuid"),
        project=element_text(instance, f"{{{namespace}}}owner/{{{namespace}}}project"),
        flavor=None if flavor is None else flavor.get("name"),
    )


def find_nova_instance(domain: ET.Element) -> tuple[ET.Element | None, str]:
    """Return Nova's element in the metadata and its namespace, whichever version that has."""
    for child in domain.findall("./metadata/*"):
        match = _NOVA_TAG.fullmatch(child.tag)
        if match:
            return child, match[1]
    return None, ""
