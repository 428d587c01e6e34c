"""The program that makes Swift's rings, with the real Swift of the storage node's tree."""

from __future__ import annotations

import array
import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from solostack.doors.progress import Progress
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.openstack import swift
from solostack.site.model import Role
from solostack.site.services import Swift

pytestmark = pytest.mark.host

KINDS = ("account", "container", "object")
# The tree stays as it is: what the program writes lands in an overlay that ends with it.
IN_TREE = """set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount --bind "$3" "$2/root/mnt"
cd "$2/root"
exec chroot . env PYTHONHASHSEED="$4" python3 -I /mnt/swift_rings.py /mnt/wanted.json /mnt
"""


@pytest.fixture(scope="module")
def tree() -> Path:
    recipe = role_recipe(Role.STORAGE, DEFAULT_RELEASE)
    return Path(bake_trees((recipe,), Progress())[recipe.name])


def make_rings(tree: Path, folder: Path, settings: Swift, seed: str = "1") -> Path:
    """Make rings in a new folder, with this seed of Python's hashes."""
    folder.mkdir()
    (folder / "swift_rings.py").write_text(swift.RINGS.content)
    (folder / "wanted.json").write_text(swift.render_rings(settings))
    scratch = folder / "scratch"
    scratch.mkdir()
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", IN_TREE, "sh", tree, scratch, folder, seed],
        check=True,
        capture_output=True,
        text=True,
    )
    return folder


def places(folder: Path, kind: str = "object") -> list[set[str]]:
    """Return for each partition the disks that hold it (swift.common.ring.ring.RingData)."""
    data = gzip.decompress((folder / f"{kind}.ring.gz").read_bytes())
    magic, version, length = struct.unpack_from(">4sHI", data)
    assert (magic, version) == (b"R1NG", 1)
    head = json.loads(data[10 : 10 + length])
    names = {device["id"]: device["device"] for device in head["devs"] if device}
    count = 1 << (32 - head["part_shift"])
    numbers = array.array("H", data[10 + length :])
    if head["byteorder"] != sys.byteorder:
        numbers.byteswap()
    assert len(numbers) == head["replica_count"] * count
    return [{names[number] for number in numbers[part::count]} for part in range(count)]


def test_equal_sites_have_equal_rings(tree: Path, tmp_path: Path) -> None:
    wanted = Swift(disks=3, replicas=2)
    one = make_rings(tree, tmp_path / "one", wanted, seed="1")
    other = make_rings(tree, tmp_path / "other", wanted, seed="2")
    for kind in KINDS:
        name = f"{kind}.ring.gz"
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert len(places(one)) == 1024
    ports = {
        kind: gzip.decompress((one / f"{kind}.ring.gz").read_bytes()).count(b'"port": 620')
        for kind in KINDS
    }
    assert ports == dict.fromkeys(KINDS, 3)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_new_disk_takes_its_share_and_nothing_else_moves(
    tree: Path, tmp_path: Path, replicas: int
) -> None:
    last: list[set[str]] = []
    for disks in range(replicas, 7):
        settings = Swift(disks=disks, replicas=replicas)
        now = places(make_rings(tree, tmp_path / f"of-{disks}", settings))
        assert {len(disks_of) for disks_of in now} == {replicas}, "each copy is on another disk"
        share = 1024 * replicas / disks
        for number in range(1, disks + 1):
            held = sum(f"swift{number}" in disks_of for disks_of in now)
            assert share - 2 <= held <= share + 2, (number, held)
        for before, after in zip(last, now, strict=False):
            assert after - before <= {f"swift{disks}"}, "only to the new disk"
            assert replicas == 1 or before & after, "a copy stays where it was"
        last = now
