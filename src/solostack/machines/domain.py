"""A control node as a libvirt domain: pure rendering of its XML (libvirt formatdomain)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from solostack.plan.model import (
    NODE_XML_NAMESPACE,
    DiskPlan,
    HostPlan,
    Interface,
    NodePlan,
    Plan,
)
from solostack.site.model import Role

VIRSH = "virsh -q -c qemu:///system"
LIBVIRT_NETWORKS = {"data": "data", "external": "external"}
TRANSLATION_CACHE_MIB = 128
KERNEL_ARGUMENTS = "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet"
DISK_TARGETS = tuple(f"vd{letter}" for letter in "bcdefghijkl")
STORAGE_PORTS = 16
"""PCI Express ports of a storage node: for each disk that a site may have (cinder, eight of swift,
nfs), the root disk, card, USB, random numbers and balloon, and one to spare.

A running VM gets no further port, and libvirt itself leaves it one (libvirt.org/pci-hotplug.html).
"""


def node_directory(name: str) -> str:
    """Return the folder on the host that holds everything of a node."""
    return f"/var/lib/solostack/nodes/{name}"


def disk_source(site: str, node: NodePlan, disk: DiskPlan) -> str:
    """Return the path on the host of a disk besides the root disk: a raw file or an LVM volume."""
    if disk.volume_group is not None:
        return f"/dev/{disk.volume_group}/{volume_name(site, node, disk)}"
    return f"{node_directory(node.name)}/{disk.name}.raw"


def volume_name(site: str, node: NodePlan, disk: DiskPlan) -> str:
    """Return the name of a disk's logical volume."""
    return f"solostack-{site}-{node.name}-{disk.name}"


def domain_xml(plan: Plan, node: NodePlan) -> str:
    """Render the domain. KVM where the host really runs it, else emulation.

    The disk has cache=none so that it can be migrated; the kernel is the tree's own, booted
    directly, so there is no boot loader to keep.
    """
    host = plan.host(node.host)
    ET.register_namespace("solostack", NODE_XML_NAMESPACE)
    domain = ET.Element("domain", type="kvm" if host.kvm else "qemu")
    _text(domain, "name", node.name)
    _text(domain, "uuid", str(node.uuid))
    _text(domain, "title", f"solostack {plan.site}: {node.role} node")
    metadata = ET.SubElement(domain, "metadata")
    ET.SubElement(
        metadata,
        f"{{{NODE_XML_NAMESPACE}}}node",
        {"site": plan.site, "name": node.name, "role": node.role},
    )
    _text(domain, "memory", str(node.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(node.vcpus))
    _boot(domain, node, kvm=host.kvm)
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if not host.kvm:
        # QEMU keeps up to 1 GiB of translated code per guest unless told (libvirt formatdomain).
        emulator = ET.SubElement(features, "tcg")
        _text(emulator, "tb-cache", str(TRANSLATION_CACHE_MIB), unit="MiB")
    _cpu(domain, host)
    ET.SubElement(domain, "clock", offset="utc")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "restart")
    _devices(domain, plan, node)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def disk_xml(plan: Plan, node: NodePlan, disk: DiskPlan, *, target: str) -> str:
    """Render one disk besides the root disk, as it is in the domain, at another target."""
    element = _disk(plan, node, disk, target=target)
    ET.indent(element)
    return ET.tostring(element, encoding="unicode") + "\n"


def _boot(domain: ET.Element, node: NodePlan, *, kvm: bool) -> None:
    directory = node_directory(node.name)
    boot = ET.SubElement(domain, "os")
    _text(boot, "type", "hvm", arch="x86_64", machine="q35")
    _text(boot, "kernel", f"{directory}/vmlinuz")
    _text(boot, "initrd", f"{directory}/initrd.img")
    # An emulated timer on a busy machine can fail the kernel's check of it.
    extra = "" if kvm else " no_timer_check"
    _text(boot, "cmdline", KERNEL_ARGUMENTS + extra)


def _cpu(domain: ET.Element, host: HostPlan) -> None:
    if host.kvm:
        ET.SubElement(domain, "cpu", mode="host-model")
        return
    ET.SubElement(domain, "cpu", mode="maximum")


def _devices(domain: ET.Element, plan: Plan, node: NodePlan) -> None:
    devices = ET.SubElement(domain, "devices")
    if node.role is Role.STORAGE:
        ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(STORAGE_PORTS):
            ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", cache="none", discard="unmap")
    ET.SubElement(disk, "source", file=f"{node_directory(node.name)}/disk.qcow2")
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    ET.SubElement(disk, "serial").text = f"{node.name}-root"
    for each, target in zip(node.disks, DISK_TARGETS, strict=False):
        devices.append(_disk(plan, node, each, target=target))
    for interface in node.interfaces:
        _interface(devices, interface, offload=plan.host(node.host).kernel_datapath)
    console = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(console, "log", file=f"/var/log/libvirt/qemu/{node.name}-console.log")
    ET.SubElement(console, "target", port="0")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", model="virtio")


def _disk(plan: Plan, node: NodePlan, disk: DiskPlan, *, target: str) -> ET.Element:
    block = disk.volume_group is not None
    source = disk_source(plan.site, node, disk)
    element = ET.Element("disk", type="block" if block else "file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type="raw", cache="none", discard="unmap")
    ET.SubElement(element, "source", {"dev" if block else "file": source})
    ET.SubElement(element, "target", dev=target, bus="virtio")
    _text(element, "serial", disk.name)
    return element


def _interface(devices: ET.Element, interface: Interface, *, offload: bool) -> None:
    card = ET.SubElement(devices, "interface", type="network")
    ET.SubElement(card, "mac", address=interface.mac)
    ET.SubElement(card, "source", network=LIBVIRT_NETWORKS[interface.network])
    ET.SubElement(card, "model", type="virtio")
    if not offload:
        # A userspace Open vSwitch on the host drops frames whose checksum was left to a NIC.
        driver = ET.SubElement(card, "driver", name="qemu")
        off = {"csum": "off", "tso4": "off", "tso6": "off", "ecn": "off", "ufo": "off"}
        ET.SubElement(driver, "host", {"gso": "off", **off})
        ET.SubElement(driver, "guest", off)
    ET.SubElement(card, "mtu", size=str(interface.mtu))


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
