"""Identities as functions of names: MACs, UUIDs and machine ids. Equal names, equal identities."""

from __future__ import annotations

import hashlib
import uuid

NAMESPACE = uuid.UUID("6f0f3c0e-2b0a-5d0e-9c1e-5f3a1d7b8e42")
"""Ours alone and never changed: another one would give every deployment new identities."""


def mac_address(site: str, owner: str, card: str) -> str:
    """Return the MAC of a network card (``eth0``) of owner (a node or host).

    52:54:00 is the locally administered prefix QEMU and libvirt use; 24 bits of a hash follow.
    """
    tail = hashlib.sha256(f"{site}/{owner}/{card}".encode()).digest()[:3]
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *tail))


def twin_mac(mac: str) -> str:
    """Return the other MAC where br-phy, the bridge of a userspace switch, is over a card.

    They must differ: the kernel sees all that comes to the card, too, and would take what is meant
    for the bridge there as well. Still locally administered (IEEE 802, bit 1 of octet 0).
    """
    first, rest = mac.split(":", 1)
    return f"{int(first, 16) ^ 0x04:02x}:{rest}"


def node_uuid(site: str, owner: str) -> uuid.UUID:
    """Return the UUIDv5 (RFC 9562, section 5.5) of a node: its domain's UUID in libvirt."""
    return uuid.uuid5(NAMESPACE, f"{site}/{owner}")


def machine_id(site: str, owner: str) -> str:
    """Return the content of a node's /etc/machine-id, 32 hexadecimal digits (machine-id(5)).

    Not its UUID: what the machine id is shown to should not learn the domain's UUID from it.
    """
    return uuid.uuid5(NAMESPACE, f"{site}/{owner}/machine-id").hex
