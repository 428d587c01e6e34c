"""The scripts that make, grow and attach a VM's disks, run by sh; virsh and LVM are stand-ins.

Each stand-in writes down what it was called for. What they answer was seen of libvirt 11.3; that
libvirt itself takes the disk is shown by tests/cloud.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from solostack.engine.operations import Step
from solostack.machines.operations import machine_bundle
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site
from solostack.site.model import Role

pytestmark = pytest.mark.host

GIB = 2**30
SITE = """\
hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]
external: {block: 198.51.100.0/28}
storage:
  cinder: {size_gib: 3, volume_group: vg0}
  swift: {size_gib: 1, disks: 2}
  nfs: {size_gib: 2}
"""
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=220, kvm=True, openvswitch_module=True
)
# Of a VM that is off, domblklist tells the definition and domid a dash, as virsh does.
VIRSH = """#!/bin/sh
cd "$(dirname "$0")"
shift 3
echo "virsh $*" >>calls
state=$(cat state)
case $1 in
domstate) echo "$state" ;;
domid) if [ "$state" = "shut off" ]; then echo -; else echo 7; fi ;;
domblklist) awk '{ print " " $1 "   " $2 }' disks ;;
domblkinfo)
    capacity=$(awk -v path="$3" '$2 == path { print $3 }' disks)
    echo "Capacity:       $capacity"
    echo "Allocation:     0" ;;
blockresize)
    awk -v path="$3" -v size="${4%B}" '$2 == path { $3 = size } { print }' disks >new
    mv new disks ;;
attach-device)
    cat "$3" >attached.xml
    [ ! -e refuse ] || { echo "error: No more available PCI slots" >&2; exit 1; } ;;
*) exit 9 ;;
esac
"""
LVM = """#!/bin/sh
cd "$(dirname "$0")"
echo "$(basename "$0") $*" >>calls
case $(basename "$0") in
lvs) echo "  $(cat volume-size)" ;;
lvcreate) while [ "$1" != -L ]; do shift; done; echo "${2%b}" >volume-size ;;
lvextend) while [ "$1" != -L ]; do shift; done; echo "${2%b}" >volume-size ;;
esac
"""
# All that the scripts may find beside them: never the virsh or iscsiadm of this machine.
TOOLS = "awk basename cat dirname grep mkdir mv stat tr truncate"


class Host:
    """A folder with the files of disks, and programs that answer for libvirt and LVM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = folder / "nodes"
        self.group = folder / "vg0"
        for name in ("virsh", "lvs", "lvcreate", "lvextend"):
            (folder / name).write_text(VIRSH if name == "virsh" else LVM)
            (folder / name).chmod(0o755)
        for each in (self.nodes / "storage", self.group):
            each.mkdir(parents=True)
        for name in TOOLS.split():
            (folder / name).symlink_to(shutil.which(name) or name)
        self.is_("running")
        self.has()
        plan = build_plan(parse_site(SITE, Path("site.yaml")).site, {"phys1": FACTS})
        self.steps = [
            each
            for each in machine_bundle(plan, plan.node(Role.STORAGE)).operations()
            if isinstance(each, Step)
        ]

    def is_(self, state: str) -> None:
        (self.folder / "state").write_text(state + "\n")

    def has(self, *disks: tuple[Path, int]) -> None:
        """Say which disks the VM has, and how large QEMU shows them."""
        rows = [f"vd{'bcdef'[number]} {path} {size}\n" for number, (path, size) in enumerate(disks)]
        (self.folder / "disks").write_text("vda /root.qcow2 1\n" + "".join(rows))

    def file(self, name: str, size: int) -> Path:
        path = self.nodes / "storage" / f"{name}.raw"
        path.touch()
        os.truncate(path, size)
        return path

    def volume(self, size: int) -> Path:
        path = self.group / "solostack-cloud-storage-cinder"
        path.touch()
        (self.folder / "volume-size").write_text(str(size))
        return path

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script as the agent does, with paths of this folder."""
        script = script.replace("/var/lib/solostack/nodes", str(self.nodes))
        script = script.replace("/dev/vg0", str(self.group))
        return subprocess.run(
            ("/bin/sh", "-eu"),
            input=f"{{\n:\n{script}\n}} </dev/null\n",
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": str(self.folder)},
            timeout=60,
        )

    def apply(self, name: str) -> tuple[bool, subprocess.CompletedProcess[str]]:
        """Do a step as the agent does: whether it was due, and how it ended."""
        (step,) = (each for each in self.steps if each.name == name)
        guard = self.sh(step.unless)
        if guard.returncode == 0:
            return False, guard
        return True, self.sh(step.run)

    def ensure(self, name: str) -> list[str]:
        """Do a step, which must then be done, and return what was changed by it."""
        (self.folder / "calls").write_text("")
        done = self.apply(name)[1]
        assert done.returncode == 0, done.stderr
        calls = (self.folder / "calls").read_text().splitlines()
        verbs = ("virsh attach-device", "virsh blockresize", "lvcreate", "lvextend")
        return [each for each in calls if each.startswith(verbs)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


ATTACH = "attach disk swift2 to storage"


def test_a_new_disk_is_attached_to_a_vm_that_runs(host: Host) -> None:
    host.has((host.file("swift1", GIB), GIB), (host.file("nfs", 2 * GIB), 2 * GIB))
    made = host.ensure("disk swift2 of storage")
    assert made == [], "QEMU has nothing to grow yet"
    path = host.nodes / "storage/swift2.raw"
    assert path.stat().st_size == GIB
    assert host.ensure(ATTACH) == ["virsh attach-device storage /dev/stdin --live"]
    xml = (host.folder / "attached.xml").read_text()
    assert f'<source file="{path}"' in xml
    assert "<serial>swift2</serial>" in xml
    assert '<target dev="vdd"' in xml, "the definition's own name, vdc or vdd, may be another's"


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_disk_that_the_vm_has_is_left(host: Host, state: str) -> None:
    path = host.file("swift2", GIB)
    host.is_(state)
    host.has((path, GIB))
    assert host.ensure(ATTACH) == []
    assert host.ensure("disk swift2 of storage") == []


def test_a_vm_that_is_off_gets_its_disks_when_it_starts(host: Host) -> None:
    host.is_("shut off")
    assert host.ensure("disk swift2 of storage") == []
    assert (host.nodes / "storage/swift2.raw").stat().st_size == GIB
    assert host.ensure(ATTACH) == []


def test_before_libvirt_is_there_nothing_is_to_be_attached(host: Host) -> None:
    (host.folder / "virsh").unlink()
    assert host.apply(ATTACH)[0] is False


def test_a_volume_is_attached_as_a_block_device(host: Host) -> None:
    path = host.volume(3 * GIB)
    made = host.ensure("attach disk cinder to storage")
    assert made == ["virsh attach-device storage /dev/stdin --live"]
    xml = (host.folder / "attached.xml").read_text()
    assert 'type="block"' in xml
    assert f'<source dev="{path}"' in xml


def test_a_disk_that_cannot_be_attached_says_what_to_do(host: Host) -> None:
    (host.folder / "refuse").touch()
    due, done = host.apply(ATTACH)
    assert due
    assert done.returncode == 1
    assert "No more available PCI slots" in done.stderr
    assert done.stdout.splitlines() == [
        "disk swift2 cannot be attached while storage runs; a new start attaches it.",
        "on phys1: virsh -q -c qemu:///system shutdown storage; until virsh -q -c qemu:///system "
        'domstate storage | grep -q "shut off"; do sleep 1; done',
        "then: solostack up",
    ]


RESIZE = "virsh blockresize storage {} " + f"{2 * GIB}B"


@pytest.mark.parametrize("state", ["running", "paused"])
@pytest.mark.parametrize("of_file", [1, 2])
def test_a_file_grows_and_so_does_what_qemu_shows(host: Host, state: str, of_file: int) -> None:
    """Also where the file has its size already and an earlier run did not come to QEMU."""
    path = host.file("nfs", of_file * GIB)
    host.is_(state)
    host.has((path, GIB))
    assert host.ensure("disk nfs of storage") == [RESIZE.format(path)]
    os.truncate(path, 2 * GIB)
    assert host.ensure("disk nfs of storage") == []


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_volume_that_was_extended_is_shown_to_the_guest(host: Host, state: str) -> None:
    path = host.volume(2 * GIB)
    host.is_(state)
    host.has((path, 2 * GIB))
    resize = f"virsh blockresize storage {path} {3 * GIB}B"
    assert host.ensure("disk cinder of storage") == [
        f"lvextend -q -L {3 * GIB}b {path}", resize,
    ]  # fmt: skip
    host.has((path, 2 * GIB))
    assert host.ensure("disk cinder of storage") == [resize]
    assert host.ensure("disk cinder of storage") == []


def test_a_disk_of_a_vm_that_is_off_grows_as_a_file_alone(host: Host) -> None:
    path = host.file("nfs", GIB)
    host.is_("shut off")
    host.has((path, GIB))
    assert host.ensure("disk nfs of storage") == []
    assert path.stat().st_size == 2 * GIB
