"""Control nodes as domains and as containers, by value."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from solostack.engine.operations import File, Step, Unit
from solostack.machines import container, domain
from solostack.machines.operations import description_json, machine_bundle
from solostack.plan.model import NODE_XML_NAMESPACE
from solostack.site.model import Role, Runtime
from tests.unit.test_host_bundle import SITE, make_plan

CONTAINERS = SITE + "nodes: {controller: {runtime: container}, network: {runtime: vm}}\n"


def parsed(plan, role=Role.NETWORK):
    return ET.fromstring(domain.domain_xml(plan, plan.node(role)))


def test_the_domain_has_the_planned_size_identity_and_owner():
    plan = make_plan()
    node = plan.node(Role.NETWORK)
    root = parsed(plan)
    assert root.get("type") == "kvm"
    assert root.findtext("uuid") == str(node.uuid)
    assert root.findtext("memory") == str(node.memory_mib)
    assert root.findtext("vcpu") == str(node.vcpus)
    owner = root.find(f"metadata/{{{NODE_XML_NAMESPACE}}}node")
    assert owner is not None
    assert owner.attrib == {"site": "cloud", "name": "network", "role": "network"}


def test_the_domain_name_is_never_one_that_nova_may_touch():
    plan = make_plan()
    for node in plan.nodes:
        root = ET.fromstring(domain.domain_xml(plan, node))
        assert not root.findtext("name").startswith("instance-")


def test_nics_have_the_planned_macs_in_order():
    plan = make_plan()
    node = plan.node(Role.NETWORK)
    macs = [mac.get("address") for mac in parsed(plan).iterfind("devices/interface/mac")]
    networks = [
        source.get("network") for source in parsed(plan).iterfind("devices/interface/source")
    ]
    assert macs == [nic.mac for nic in node.interfaces]
    assert networks == ["data", "external"]


def test_checksum_offload_is_off_only_beside_a_userspace_switch():
    kernel = parsed(make_plan())
    userspace = parsed(make_plan(module=False))
    assert kernel.find("devices/interface/driver") is None
    host = userspace.find("devices/interface/driver/host")
    assert host.get("csum") == "off"
    assert host.get("tso4") == "off"


def test_without_kvm_the_domain_is_emulated():
    plan = make_plan(kvm=False, text=CONTAINERS)
    root = parsed(plan)
    assert root.get("type") == "qemu"
    assert root.find("cpu").get("mode") == "maximum"
    assert root.findtext("features/tcg/tb-cache") == "128"
    assert "no_timer_check" in root.findtext("os/cmdline")


def test_the_disk_can_be_migrated():
    driver = parsed(make_plan()).find("devices/disk/driver")
    assert driver.get("type") == "qcow2"
    assert driver.get("cache") == "none"


def test_a_vm_is_defined_started_with_its_host_and_can_be_undone():
    plan = make_plan()
    operations = machine_bundle(plan, plan.node(Role.NETWORK)).operations()
    steps = {one.name: one for one in operations if isinstance(one, Step)}
    define = steps["define VM network"]
    assert "autostart network" in define.run
    assert "undefine network" in define.undo
    assert define.when_changed == ("/etc/solostack/nodes/network.xml",)


def test_a_vm_of_another_size_is_restarted_and_a_paused_one_resumed():
    plan = make_plan()
    node = plan.node(Role.NETWORK)
    steps = {
        one.name: one for one in machine_bundle(plan, node).operations() if isinstance(one, Step)
    }
    start = steps["start VM network"]
    assert f"cpus == {node.vcpus}" in start.unless
    assert f'"{node.memory_mib * 1024} KiB"' in start.unless
    assert "resume network" in start.run
    assert "shutdown network" in start.run


def test_a_container_gets_a_unit_its_nics_and_its_limits():
    plan = make_plan(text=CONTAINERS)
    node = plan.node(Role.CONTROLLER)
    assert node.runtime is Runtime.CONTAINER
    operations = machine_bundle(plan, node).operations()
    files = {one.path: one for one in operations if isinstance(one, File)}
    unit = next(one for one in operations if isinstance(one, Unit))
    assert unit.name == "solostack-node@controller.service"
    nic = node.interfaces[0]
    assert files["/etc/solostack/nodes/controller.nics"].content == (
        f"eth0 {nic.mac} data 1500 on\n"
    )
    limits = files["/etc/systemd/system/solostack-node@controller.service.d/limits.conf"]
    assert f"MemoryMax={node.memory_mib}M" in limits.content
    assert files[container.NETWORK_SCRIPT_PATH].mode == 0o755


def test_a_gateway_leaves_its_cards_to_a_userspace_switch():
    text = CONTAINERS.replace("network: {runtime: vm}", "network: {runtime: container}")
    plan = make_plan(module=False, text=text)
    host = plan.hosts[0]
    lines = container.nics_text(host, plan.node(Role.NETWORK)).splitlines()
    assert [line.split()[4:] for line in lines] == [["off", "switched"], ["off", "switched"]]
    (line,) = container.nics_text(host, plan.node(Role.CONTROLLER)).splitlines()
    assert line.split()[4:] == ["off"]
    kernels = make_plan(text=text)
    assert "switched" not in container.nics_text(kernels.hosts[0], kernels.node(Role.NETWORK))


def test_the_description_tells_the_inventory_what_the_node_is():
    plan = make_plan()
    value = json.loads(description_json(plan, plan.node(Role.NETWORK)))
    assert value["role"] == "network"
    assert value["interfaces"][0]["address"] == "172.16.0.12/24"
    assert value["interfaces"][1]["address"] is None


def test_data_disks_are_files_or_volumes_that_the_guest_knows_by_name():
    text = SITE + "storage: {cinder: {size_gib: 3}, nfs: {size_gib: 2, volume_group: vg0}}\n"
    plan = make_plan(text=text)
    disks = parsed(plan, Role.STORAGE).findall("devices/disk")
    seen = [
        (
            disk.get("type"),
            disk.findtext("serial"),
            disk.find("source").attrib,
            disk.find("target").get("dev"),
        )
        for disk in disks[1:]
    ]
    folder = "/var/lib/solostack/nodes/storage"
    assert seen == [
        ("file", "cinder", {"file": f"{folder}/cinder.raw"}, "vdb"),
        ("block", "nfs", {"dev": "/dev/vg0/solostack-cloud-storage-nfs"}, "vdc"),
    ]
    steps = [
        each
        for each in machine_bundle(plan, plan.node(Role.STORAGE)).operations()
        if isinstance(each, Step) and each.name.startswith("disk ")
    ]
    assert [step.name for step in steps] == ["disk cinder of storage", "disk nfs of storage"]
    assert str(3 * 2**30) in steps[0].run
    assert "lvcreate" in steps[1].run
    assert "lvremove" in steps[1].undo


STORAGE = SITE + (
    "storage: {cinder: {size_gib: 3, volume_group: vg0}, swift: {disks: 2}, nfs: {size_gib: 2}}\n"
)


def test_disks_are_attached_once_the_vm_runs():
    """A VM that had to start anew has them by its definition; nothing is attached twice."""
    plan = make_plan(text=STORAGE)
    names = [
        one.name
        for one in machine_bundle(plan, plan.node(Role.STORAGE)).operations()
        if isinstance(one, Step)
    ]
    disks = ["cinder", "swift1", "swift2", "nfs"]
    assert names == [
        *(f"disk {disk} of storage" for disk in disks),
        "define VM storage",
        "start VM storage",
        *(f"attach disk {disk} to storage" for disk in disks),
    ]


def test_a_volume_that_was_attached_is_let_go_before_it_is_removed():
    plan = make_plan(text=STORAGE)
    undo = {
        one.name: one.undo
        for one in machine_bundle(plan, plan.node(Role.STORAGE)).operations()
        if isinstance(one, Step)
    }
    assert "destroy storage" in undo["attach disk cinder to storage"]
    assert undo["attach disk nfs to storage"] == "", "files need none"


def test_what_is_attached_is_the_disk_of_the_definition():
    plan = make_plan(text=STORAGE)
    node = plan.node(Role.STORAGE)
    defined = parsed(plan, Role.STORAGE).findall("devices/disk")[1:]
    for disk, element in zip(node.disks, defined, strict=True):
        text = domain.disk_xml(plan, node, disk, target=element.find("target").get("dev"))
        assert ET.canonicalize(text, strip_text=True) == ET.canonicalize(
            ET.tostring(element, encoding="unicode"), strip_text=True
        )


def test_a_storage_node_has_ports_for_every_disk_it_may_get():
    """A controller for pcie-root itself makes libvirt take the number of ports as it is given."""
    plan = make_plan(text=STORAGE.replace("disks: 2", "disks: 8"))
    root = parsed(plan, Role.STORAGE)
    models = [each.get("model") for each in root.findall("devices/controller")]
    assert models == ["pcie-root", *["pcie-root-port"] * domain.STORAGE_PORTS]
    devices = root.find("devices")
    virtio = [each for each in devices if each.tag in {"disk", "interface", "rng", "memballoon"}]
    usb, spare = 1, 1
    assert len(virtio) + usb + spare == domain.STORAGE_PORTS
    assert parsed(plan).find("devices/controller") is None, "other nodes stay as they are"
