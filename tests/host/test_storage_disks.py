"""The storage node's disk program on real disks: XFS on loop devices, made, kept, grown, refused.

Bad sectors are QEMU's: it serves the disk's file by FUSE, below a loop device, and refuses to read
there.
LVM's logical volumes need a kernel with device mapper; they are proved in the storage node itself
(tests/cloud). Here LVM knows of them, and cannot make them active.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import solostack.openstack.scripts
from solostack.doors.progress import Progress
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.site.model import Role
from tests.ties import TIED, afterwards

pytestmark = pytest.mark.host

PROGRAM = Path(solostack.openstack.scripts.__path__[0]) / "storage_disks.py"
MIB = 1 << 20
# The disk is detached at once: the kernel does so when nobody has it open any more (losetup(8)),
# and this shell, then sleep, has it open. Its name is told when all is there.
# A read-only view of the storage node's tree, which has the tools; /dev is its own, as machines
# without udev have no /dev/disk, and all mounts are gone with the namespace.
INSIDE = """
set -e
LOOP=$(losetup --show -f "$FOLDER/disk.raw")
exec 9<"$LOOP"
losetup -d "$LOOP"
mount --bind "$TREE" /mnt
mount -o remount,ro,bind /mnt
mount -t proc none /mnt/proc
mount -t tmpfs none /mnt/run
mount -t tmpfs none /mnt/dev
for device in /dev/null /dev/zero /dev/urandom "$LOOP"; do
    touch "/mnt$device"
    mount --bind "$device" "/mnt$device"
done
mount -t tmpfs none /mnt/srv
mount -t tmpfs none /mnt/var/lib
mount -t tmpfs none /mnt/etc/lvm
mount -t sysfs -o ro none /mnt/sys
mount --bind "$FOLDER" /mnt/media
mkdir -p /mnt/dev/disk/by-id
ln -s "$LOOP" /mnt/dev/disk/by-id/virtio-d1
echo "$LOOP"
exec sleep infinity >&-
"""
SIZE_MIB = 400
READY_S = 20.0
SECTORS = SIZE_MIB * 2048
# Of QEMU's block driver blkdebug: reading this sector fails, always.
BAD_SECTOR = """
[inject-error]
event = "none"
iotype = "read"
errno = "5"
once = "off"
sector = "{sector}"
"""
# A volume group with a thin pool, as vgcfgbackup(8) would write it.
INACTIVE_POOL = """
contents = "Text Format Volume Group"
version = 1
{group} {{
id = "aaaaaa-0000-0000-0000-0000-0000-aaaaaa"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 8192
max_lv = 0
max_pv = 0
physical_volumes {{ pv0 {{
id = "bbbbbb-0000-0000-0000-0000-0000-bbbbbb"
device = "{device}"
status = ["ALLOCATABLE"]
dev_size = 819200
pe_start = 2048
pe_count = 99
}} }}
logical_volumes {{
{group}-pool {{
id = "cccccc-0000-0000-0000-0000-0000-cccccc"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {{
start_extent = 0
extent_count = 20
type = "thin-pool"
metadata = "{group}-pool_tmeta"
pool = "{group}-pool_tdata"
transaction_id = 0
chunk_size = 128
discards = "passdown"
zero_new_blocks = 1
}} }}
{group}-pool_tmeta {{
id = "cccccc-0000-0000-0000-0000-0000-cccccd"
status = ["READ", "WRITE"]
segment_count = 1
segment1 {{
start_extent = 0
extent_count = 4
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}} }}
{group}-pool_tdata {{
id = "cccccc-0000-0000-0000-0000-0000-ccccce"
status = ["READ", "WRITE"]
segment_count = 1
segment1 {{
start_extent = 0
extent_count = 20
type = "striped"
stripe_count = 1
stripes = ["pv0", 4]
}} }}
}} }}
"""
RESTORE_POOL = """
pvcreate -q -u bbbbbb-0000-0000-0000-0000-0000-bbbbbb --restorefile /media/group "$0"
vgcfgrestore -q --yes --force -f /media/group "$1"
"""
# Where btrfs would be: one of the places that blkid reads.
BTRFS_SECTOR = 128
NOTE = "/var/lib/solostack/disks/d1"


@pytest.fixture(scope="module")
def tree() -> str:
    recipe = role_recipe(Role.STORAGE, DEFAULT_RELEASE)
    return str(bake_trees((recipe,), Progress())[recipe.name])


class Box:
    """A disk called d1 in a mount namespace that stays while the test lasts."""

    def __init__(self, folder: Path, loop: str, keeper: int) -> None:
        self.folder = folder
        self.loop = loop
        self.mount = "/srv/d1"
        self._keeper = keeper

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        enter = ("nsenter", "--mount", "-t", str(self._keeper), "chroot", "/mnt", *command)
        return subprocess.run(enter, capture_output=True, text=True, check=False, timeout=timeout_s)

    def disks(self, **changes: object) -> str:
        path = self.folder / "disks.json"
        disk = {"name": "d1", "size_gib": 0, "kind": "xfs", "mount": self.mount,
                "owner": "nobody", "group": "nogroup", "mode": "0750"}  # fmt: skip
        path.write_text(json.dumps([disk | changes]))
        return "/media/disks.json"

    def ensure(self, **changes: object) -> subprocess.CompletedProcess[str]:
        disks = self.disks(**changes)
        return self.run("python3", "-I", "/media/storage_disks.py", "ensure", disks)

    def report(self, **changes: object) -> dict[str, object]:
        disks = self.disks(**changes)
        done = self.run("python3", "-I", "/media/storage_disks.py", "report", disks)
        row: dict[str, object] = json.loads(done.stdout)[0]
        return row

    def root(self) -> list[str]:
        return self.run("stat", "-c", "%U %G %a", self.mount).stdout.split()

    def fill(self) -> None:
        """Make the disk as a run would, with a file on it, and take it away again."""
        self.run("mkfs.xfs", "-q", self.loop)
        self.run("mkdir", "-p", self.mount)
        self.run("mount", self.loop, self.mount)
        self.run("sh", "-c", f"echo kept >{self.mount}/file")
        self.run("umount", self.mount)

    @contextmanager
    def bad_sector(self, sector: int) -> Iterator[None]:
        """Have the node see its disk through one that cannot read a sector."""
        rules, served = self.folder / "rules", self.folder / "served.raw"
        rules.write_text(BAD_SECTOR.format(sector=sector))
        served.touch()
        blocks = (f"driver=file,node-name=file,filename={self.folder}/disk.raw",
                  f"driver=blkdebug,node-name=bad,image=file,config={rules}",
                  "driver=raw,node-name=top,file=bad")  # fmt: skip
        export = f"type=fuse,id=served,node-name=top,mountpoint={served},writable=on"
        arguments = [word for block in blocks for word in ("--blockdev", block)]
        left = 'losetup -j "$1" -O NAME -n | xargs -r losetup -d\numount -q -l "$1"\nexit 0\n'
        argv = (*TIED, "qemu-storage-daemon", *arguments, "--export", export)
        with afterwards(left, str(served)), subprocess.Popen(argv) as server:
            try:
                end_s = time.monotonic() + READY_S
                while served.stat().st_size == 0:
                    assert server.poll() is None, "qemu-storage-daemon has ended"
                    assert time.monotonic() < end_s, "qemu-storage-daemon serves nothing"
                    time.sleep(0.05)
                loop = attach(served)
                self._see(loop)
                try:
                    yield
                finally:
                    self._see(self.loop)
                    subprocess.run(("losetup", "-d", loop), check=True)
            finally:
                server.terminate()

    def _see(self, loop: str) -> None:
        script = 'touch "/mnt$0" && mount --bind "$0" "/mnt$0" && ' \
                 'ln -sf "$0" /mnt/dev/disk/by-id/virtio-d1'  # fmt: skip
        enter = ("nsenter", "--mount", "-t", str(self._keeper))
        subprocess.run((*enter, "sh", "-c", script, loop), check=True)

    def resize(self, size_mib: int) -> None:
        os.truncate(self.folder / "disk.raw", size_mib * MIB)
        self.run("losetup", "-c", self.loop)


def attach(raw: Path) -> str:
    """Return a new loop device of a file."""
    losetup = ("losetup", "--show", "-f", str(raw))
    return subprocess.run(losetup, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def box(tmp_path: Path, tree: str) -> Iterator[Box]:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE_MIB * MIB)
    shutil.copy(PROGRAM, tmp_path)
    with subprocess.Popen(
        (*TIED, "unshare", "--mount", "sh", "-c", INSIDE),
        env={**os.environ, "TREE": tree, "FOLDER": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        try:
            assert keeper.stdout is not None
            loop = keeper.stdout.readline().strip()
            assert loop, "the mount namespace could not be made"
            yield Box(tmp_path, loop, keeper.pid)
        finally:
            keeper.kill()


def test_a_disk_is_made_once_and_grows(box: Box) -> None:
    first = box.ensure()
    assert first.returncode == 0, first.stderr
    assert box.run("stat", "-c", "%U %a", box.mount).stdout.split() == ["nobody", "750"]
    box.run("sh", "-c", f"echo kept >{box.mount}/file")
    small = box.report()
    assert small["error"] == ""
    assert small["device_bytes"] == 400 * MIB
    box.resize(600)
    second = box.ensure()
    assert second.returncode == 0, second.stderr
    large = box.report()
    assert large["device_bytes"] == 600 * MIB
    assert int(str(large["total_bytes"])) > int(str(small["total_bytes"])) + 150 * MIB
    box.run("umount", box.mount)
    assert box.report()["error"] == f"{box.mount} is not mounted"
    assert box.ensure().returncode == 0
    assert box.run("cat", f"{box.mount}/file").stdout == "kept\n"


def test_what_is_not_ours_is_left_alone(box: Box) -> None:
    box.run("mkfs.ext4", "-q", box.loop)
    before = box.run("sha256sum", box.loop).stdout
    done = box.ensure()
    assert done.returncode == 1
    assert "disk d1: holds ext4, which is not touched" in done.stderr
    assert box.run("sha256sum", box.loop).stdout == before


def test_a_mkfs_that_was_killed_is_made_again(box: Box) -> None:
    box.run("mkfs.xfs", "-q", box.loop)
    # sb_inprogress, which mkfs.xfs clears last.
    script = f"printf '\\001' | dd of={box.loop} bs=1 seek=126 conv=notrunc status=none"
    box.run("sh", "-c", script)
    box.run("mkdir", box.mount)
    assert box.run("mount", box.loop, box.mount).returncode != 0
    done = box.ensure()
    assert done.returncode == 0, done.stderr
    assert box.report()["error"] == ""


def test_a_disk_that_is_not_attached_is_said(box: Box) -> None:
    box.run("rm", "/dev/disk/by-id/virtio-d1")
    assert box.report()["error"] == "is not attached"


@pytest.mark.parametrize("sector", [BTRFS_SECTOR, SECTORS - 8], ids=["beginning", "end"])
def test_a_disk_that_cannot_be_read_is_not_taken_for_an_empty_one(box: Box, sector: int) -> None:
    box.fill()
    with box.bad_sector(sector):
        done = box.ensure()
        assert done.returncode == 1, "it was formatted"
        assert "disk d1: cannot read /dev/loop" in done.stderr
        assert "is not formatted" in done.stderr
        assert "systemctl restart solostack-disks" in done.stderr
    done = box.ensure()
    assert done.returncode == 0, done.stderr
    assert box.run("cat", f"{box.mount}/file").stdout == "kept\n"


@pytest.mark.parametrize("sector", [BTRFS_SECTOR, SECTORS - 8], ids=["beginning", "end"])
def test_a_disk_that_cannot_be_read_becomes_no_physical_volume(box: Box, sector: int) -> None:
    box.fill()
    with box.bad_sector(sector):
        done = box.ensure(kind="lvm", volume_group="vg-d1")
        assert done.returncode == 1
        assert "disk d1: cannot read /dev/loop" in done.stderr
    assert box.ensure().returncode == 0
    assert box.run("cat", f"{box.mount}/file").stdout == "kept\n"


def test_what_only_mkfs_recognizes_is_left_alone(box: Box) -> None:
    """blkid is replaced by one that finds nothing, as it does when it cannot read."""
    box.fill()
    box.run("sh", "-c", "printf '#!/bin/sh\\nexit 2\\n' >/run/blkid; chmod 755 /run/blkid")
    blind = f"PATH=/run:$PATH exec python3 -I /media/storage_disks.py ensure {box.disks()}"
    done = box.run("sh", "-c", blind)
    assert done.returncode == 1
    assert "mkfs.xfs failed" in done.stderr
    assert box.ensure().returncode == 0
    assert box.run("cat", f"{box.mount}/file").stdout == "kept\n"


@pytest.mark.parametrize("kind", ["xfs", "lvm"])
def test_a_disk_that_was_in_use_is_never_made_again(box: Box, kind: str) -> None:
    assert box.ensure().returncode == 0
    box.run("umount", box.mount)
    box.run("wipefs", "-q", "-a", box.loop)
    done = box.ensure(kind=kind, volume_group="vg-d1")
    assert done.returncode == 1
    assert "disk d1: was in use before" in done.stderr
    assert f"rm {NOTE}, then systemctl restart solostack-disks" in done.stderr
    assert box.run("blkid", "-p", box.loop).returncode == 2
    box.run("rm", NOTE)
    done = box.ensure()
    assert done.returncode == 0, done.stderr


def test_a_disk_of_before_there_were_notes_gets_one(box: Box) -> None:
    box.fill()
    assert box.ensure().returncode == 0
    assert box.run("cat", NOTE).stdout == "nobody nogroup 0750\n"


def test_clients_keep_what_they_made_of_the_shared_root(box: Box) -> None:
    assert box.ensure(shared_root=True).returncode == 0
    assert box.root() == ["nobody", "nogroup", "750"]
    box.run("sh", "-c", f"chown games:games {box.mount} && chmod 2775 {box.mount}")
    for _ in range(2):
        assert box.ensure(shared_root=True).returncode == 0
        assert box.root() == ["games", "games", "2775"]
        box.run("umount", box.mount)
    # The root disk was made anew, the disk was not.
    box.run("rm", NOTE)
    assert box.ensure(shared_root=True).returncode == 0
    assert box.root() == ["games", "games", "2775"]
    # squash is another one now.
    assert box.ensure(shared_root=True, owner="root", group="root", mode="1777").returncode == 0
    assert box.root() == ["root", "root", "1777"]


def test_a_root_that_is_not_shared_is_kept_as_it_should_be(box: Box) -> None:
    assert box.ensure().returncode == 0
    box.run("sh", "-c", f"chown games:games {box.mount} && chmod 0700 {box.mount}")
    assert box.ensure().returncode == 0
    assert box.root() == ["nobody", "nogroup", "750"]


def test_a_run_that_ended_between_mkfs_and_the_roots_owner_is_made_again(box: Box) -> None:
    box.fill()
    assert box.ensure(shared_root=True).returncode == 0
    assert box.root() == ["nobody", "nogroup", "750"]


def test_a_disk_that_is_smaller_than_it_should_be_is_said(box: Box) -> None:
    assert box.ensure().returncode == 0
    row = box.report(size_gib=1)
    assert row["error"] == "has 0.4 GiB, not 1: it is not grown yet"
    assert row["total_bytes"], "and how full it is, all the same"


def test_a_pool_that_is_not_active_is_said_and_hides_no_other_disk(box: Box) -> None:
    group = f"vg{os.getpid()}"
    text = INACTIVE_POOL.format(group=group, device=box.loop)
    (box.folder / "group").write_text(text)
    made = box.run("sh", "-euc", RESTORE_POOL, box.loop, group)
    assert made.returncode == 0, made.stderr
    pool = {"name": "d1", "size_gib": 0, "kind": "lvm", "volume_group": group}
    other = {"name": "d2", "size_gib": 0, "kind": "xfs", "mount": "/srv/d2"}
    (box.folder / "both.json").write_text(json.dumps([pool, other]))
    done = box.run("python3", "-I", "/media/storage_disks.py", "report", "/media/both.json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first["error"].startswith("its thin pool is not active; on the node: vgchange -ay vg")
    assert second["error"] == "is not attached"


def test_a_pool_that_was_there_is_not_made_again(box: Box) -> None:
    """Nor are the volumes beside it removed, which are leftovers only before the first pool."""
    group = f"vg{os.getpid()}"
    text = INACTIVE_POOL.format(group=group, device=box.loop).replace(f"{group}-pool", "users")
    (box.folder / "group").write_text(text)
    made = box.run("sh", "-euc", RESTORE_POOL, box.loop, group)
    assert made.returncode == 0, made.stderr
    box.run("sh", "-c", f"mkdir -p $(dirname {NOTE}) && echo x >{NOTE}")
    done = box.ensure(kind="lvm", volume_group=group)
    assert done.returncode == 1
    assert "disk d1: was in use before" in done.stderr
    assert "users" in box.run("lvs", "--noheadings", "-o", "lv_name", group).stdout


def test_an_empty_disk_becomes_a_physical_volume(box: Box) -> None:
    """As far as this kernel goes: the pool itself needs device mapper."""
    box.ensure(kind="lvm", volume_group=f"vg{os.getpid()}")
    assert "vg" in box.run("pvs", "--noheadings", "-o", "vg_name", box.loop).stdout
    assert box.run("test", "-e", NOTE).returncode == 1, "it is not in use yet"


def test_what_goes_wrong_with_a_disk_is_said_in_a_line(box: Box) -> None:
    done = box.ensure(owner="nosuchuser")
    assert done.returncode == 1
    assert done.stderr.startswith("disk d1: ")
    assert "Traceback" not in done.stderr
