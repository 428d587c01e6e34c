"""Volumes of storage pools: pure reading of their XML (libvirt formatstorage)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from solostack.inventory.model import VolumeInfo
from solostack.inventory.parsing import attribute, element_text, size_bytes


def build_volume(pool: str, volume: ET.Element) -> VolumeInfo:
    """Return a volume's values; sizes are in bytes unless the XML says otherwise."""
    return VolumeInfo(
        pool=pool,
        name=element_text(volume, "name"),
        path=element_text(volume, "./target/path"),
        type=volume.get("type"),
        format=attribute(volume, "./target/format", "type"),
        capacity_bytes=size_bytes(volume.find("capacity"), default_unit="bytes"),
        allocation_bytes=size_bytes(volume.find("allocation"), default_unit="bytes"),
        physical_bytes=size_bytes(volume.find("physical"), default_unit="bytes"),
        backing=element_text(volume, "./backingStore/path"),
    )
