"""The storage node's disk program on real disks: XFS on loop devices, made, kept, grown, refused.

LVM needs a kernel with device mapper; it is proved in the storage node itself (tests/cloud).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import solostack.openstack.scripts
from solostack.doors.progress import Progress
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.site.model import Role
from tests.ties import TIED

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
mount --bind "$FOLDER" /mnt/media
mkdir -p /mnt/dev/disk/by-id
ln -s "$LOOP" /mnt/dev/disk/by-id/virtio-d1
echo "$LOOP"
exec sleep infinity >&-
"""


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

    def disks(self, size_gib: int = 0) -> str:
        path = self.folder / "disks.json"
        disk = {"name": "d1", "size_gib": size_gib, "kind": "xfs", "mount": self.mount,
                "owner": "nobody", "group": "nogroup", "mode": "0750"}  # fmt: skip
        path.write_text(json.dumps([disk]))
        return "/media/disks.json"

    def ensure(self) -> subprocess.CompletedProcess[str]:
        return self.run("python3", "-I", "/media/storage_disks.py", "ensure", self.disks())

    def report(self) -> dict[str, object]:
        done = self.run("python3", "-I", "/media/storage_disks.py", "report", self.disks())
        row: dict[str, object] = json.loads(done.stdout)[0]
        return row

    def resize(self, size_mib: int) -> None:
        os.truncate(self.folder / "disk.raw", size_mib * MIB)
        self.run("losetup", "-c", self.loop)


@pytest.fixture
def box(tmp_path: Path, tree: str) -> Iterator[Box]:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(400 * MIB)
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
