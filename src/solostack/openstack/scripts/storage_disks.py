"""Makes the storage node's disks usable: an LVM thin pool, and XFS file systems that are mounted.

Runs at every boot and after a change of FILE; what is done already is found done, a run that was
killed is simply made again, and a disk that got larger is grown into. A disk that holds something
else is left alone, with an error; so is one that cannot be read, and one that is empty although it
was in use before: of each disk that was, there is a note on the root disk.

Usage: storage_disks.py ensure FILE     make them so; status 1 when one could not be
       storage_disks.py report FILE     print as JSON how full they are
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BY_ID = Path("/dev/disk/by-id")
LOCK = Path("/run/solostack-disks.lock")
NOTES = Path("/var/lib/solostack/disks")
WAIT_S = 60.0
GIB = 1 << 30
LEAST_METADATA_BYTES = 16 << 20
MOST_METADATA_BYTES = 15 << 30
# One 64 KiB chunk costs 64 bytes of metadata (lvmthin(7)): a thousandth, and as much for snapshots.
METADATA_SHARE = 500
# struct xfs_dsb: sb_inprogress is 1 from the first write of mkfs.xfs until its last.
XFS_IN_PROGRESS = 126
# blkid looks for signatures in the first and last MiB, and for few just behind the first.
PROBED_BYTES = 2 << 20
AGAIN = "systemctl restart solostack-disks"

Disk = dict[str, Any]


class DiskError(Exception):
    """A disk cannot be used; the text says why."""


# What can go wrong with one disk: tools and their words, its file system's own errors, its owner.
TROUBLES = (DiskError, OSError, ValueError, LookupError)


def main(arguments: list[str]) -> int:
    """Do what the command line says; return an exit status."""
    if len(arguments) != 2 or arguments[0] not in {"ensure", "report"}:
        sys.stderr.write(__doc__ or "")
        return 2
    disks: list[Disk] = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    if arguments[0] == "report":
        sys.stdout.write(json.dumps([report(disk) for disk in disks]) + "\n")
        return 0
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return ensure(disks)


def ensure(disks: list[Disk]) -> int:
    """Make every disk usable; one that fails does not keep the others from it."""
    status = 0
    for disk in disks:
        try:
            device = wait_for(disk)
            if disk["kind"] == "lvm":
                ensure_pool(disk, device)
            else:
                ensure_file_system(disk, device)
        except TROUBLES as trouble:
            sys.stderr.write(f"disk {disk['name']}: {trouble}\n")
            status = 1
    return status


def wait_for(disk: Disk) -> str:
    """Return the device of a disk once it is there and as large as it should be."""
    path, wanted = BY_ID / f"virtio-{disk['name']}", int(disk["size_gib"]) * GIB
    end_s = time.monotonic() + WAIT_S
    size = None
    while size is None or size < wanted:
        if time.monotonic() > end_s:
            break
        if size is not None or not path.exists():
            time.sleep(0.5)
        if path.exists():
            size = size_of(str(path))
    if size is None:
        raise DiskError(f"{path} is not there: the host has not attached it")
    if size < wanted:
        sys.stderr.write(f"disk {disk['name']}: {size} bytes, not {wanted}: not grown yet\n")
    return os.path.realpath(path)


def size_of(device: str) -> int:
    """Return the size of a block device in bytes."""
    return int(run("blockdev", "--getsize64", device))


def signature(device: str) -> str:
    """Return what a device holds, in blkid's words; empty when it was read and holds nothing."""
    # To blkid a read that fails is the same as nothing found. After the reads here it finds what
    # it looks at in memory, so that an error which came and went does not count as nothing either.
    found = probe(device)
    if not found:
        require_readable(device)
        found = probe(device)
    return found


def probe(device: str) -> str:
    """Return what blkid finds on a device; empty when it finds nothing, or cannot read it."""
    done = call("blkid", "-p", "-o", "export", device)
    if done.returncode == 2 and not done.stdout:
        return ""
    if done.returncode != 0:
        raise DiskError(f"cannot tell what {device} holds: {done.stderr.strip() or 'ambivalent'}")
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    return found.get("TYPE") or found.get("PTTYPE") or "something unknown"


def require_readable(device: str) -> None:
    """Raise DiskError unless the two ends of a device, where signatures are, can be read."""
    size = size_of(device)
    with Path(device).open("rb", buffering=0) as source:
        for start in (0, max(0, size - PROBED_BYTES)):
            source.seek(start)
            position, end = start, min(size, start + PROBED_BYTES)
            while position < end:
                try:
                    piece = source.read(end - position)
                except OSError as error:
                    raise unreadable(device, position, str(error.strerror)) from error
                if not piece:
                    raise unreadable(device, position, "it ends there")
                position += len(piece)


def unreadable(device: str, position: int, why: str) -> DiskError:
    """Return the error for a device that cannot be read from a byte onward."""
    return DiskError(
        f"cannot read {device} at or after byte {position} ({why}): what it holds is not known, so "
        "it is not formatted. Look at dmesg here, and on the host at the storage below the disk's "
        f"file or volume; when it can be read: {AGAIN}"
    )


def read_note(disk: Disk) -> str | None:
    """Return what was noted of a disk when it was made usable; None when it never was."""
    path = NOTES / disk["name"]
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def keep_note(disk: Disk, text: str) -> None:
    """Note on the root disk that a disk is in use, whole or not at all."""
    if read_note(disk) == text:
        return
    NOTES.mkdir(parents=True, exist_ok=True)
    beside = NOTES / f".{disk['name']}.new"
    with beside.open("w", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(NOTES / disk["name"])


def require_new(disk: Disk) -> None:
    """Raise DiskError for a disk that was made usable before: what it held is lost or hidden."""
    note = NOTES / disk["name"]
    if note.exists():
        raise DiskError(
            "was in use before, but what was made on it is not there now; it is not made again. "
            "Look on the host whether the right file or volume is attached, and bring back what "
            f"it held; if it may begin empty: rm {note}, then {AGAIN}"
        )


def ensure_pool(disk: Disk, device: str) -> None:
    """Make a volume group on the device, with one thin pool that takes all of it."""
    group = disk["volume_group"]
    kind = signature(device)
    if kind not in {"", "LVM2_member"}:
        raise DiskError(f"holds {kind}, which is not touched")
    if not kind:
        require_new(disk)
        # Without --yes it leaves alone what it knows and blkid does not.
        run("pvcreate", "-q", device)
    owner = run("pvs", "--noheadings", "-o", "vg_name", device)
    if not owner:
        run("vgcreate", "-q", "--yes", group, device)
    elif owner != group:
        raise DiskError(f"is part of volume group {owner}, not {group}")
    run("pvresize", "-q", device)
    pool = f"{group}-pool"
    volumes = logical_volumes(group)
    known = pool in volumes
    if not known:
        require_new(disk)
        # What a creation that was killed left behind; volumes need the pool, so there are none.
        for name in volumes:
            run("lvremove", "-q", "--yes", f"{group}/{name}")
        create_pool(group, pool)
    keep_note(disk, f"volume group {group}")
    if known:
        grow_pool(group, pool, volumes[pool])
    run("vgchange", "-q", "-ay", group)


def logical_volumes(group: str) -> dict[str, int]:
    """Return the names of a group's logical volumes, with the size of their metadata in bytes."""
    columns = ("-o", "lv_name,lv_metadata_size", "--separator", "|", "--units", "b", "--nosuffix")
    rows = run("lvs", "--noheadings", *columns, group).splitlines()
    pairs = (row.strip().split("|") for row in rows if row.strip())
    return {name: int(size or 0) for name, size in pairs}


def extents(group: str) -> tuple[int, int, int]:
    """Return a group's extent size in bytes, all its extents, and its free ones."""
    columns = "vg_extent_size,vg_extent_count,vg_free_count"
    row = run("vgs", "--noheadings", "-o", columns, "--units", "b", "--nosuffix", group)
    size, total, free = (int(word) for word in row.split())
    return size, total, free


def metadata_extents(extent: int, total: int) -> int:
    """Return how many extents the pool's metadata should have in a group of total extents."""
    wanted = max(LEAST_METADATA_BYTES, min(MOST_METADATA_BYTES, extent * total // METADATA_SHARE))
    return -(-wanted // extent)


def create_pool(group: str, pool: str) -> None:
    """Make the pool; metadata counts twice, for LVM keeps a spare to repair it with."""
    extent, total, free = extents(group)
    metadata = metadata_extents(extent, total)
    data = free - 2 * metadata
    if data < 1:
        raise DiskError(f"is too small for a thin pool: {free * extent} bytes")
    size = ("-l", str(data), "--poolmetadatasize", f"{metadata * extent}b")
    run("lvcreate", "-q", "--yes", "--type", "thin-pool", "-n", pool, *size, group)


def grow_pool(group: str, pool: str, metadata_bytes: int) -> None:
    """Give the pool what the group has got, its metadata first."""
    extent, total, free = extents(group)
    if not free:
        return
    missing = metadata_extents(extent, total) * extent - metadata_bytes
    if missing > 0 and free * extent > 2 * missing:
        run("lvextend", "-q", "--poolmetadatasize", f"+{missing}b", f"{group}/{pool}")
        _, _, free = extents(group)
    if free:
        run("lvextend", "-q", "-l", f"+{free}", f"{group}/{pool}")


def ensure_file_system(disk: Disk, device: str) -> None:
    """Make an XFS file system on the device, mount it and let it fill the device."""
    mount = disk["mount"]
    if not os.path.ismount(mount):
        make_file_system(disk, device)
        Path(mount).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "xfs", "-o", "noatime", device, mount)
    run("xfs_growfs", "-d", mount)
    ensure_root(disk)


def make_file_system(disk: Disk, device: str) -> None:
    """Make an XFS file system on a device that holds none, or one that was never finished."""
    kind = signature(device)
    if kind == "xfs" and not is_unfinished(device):
        return
    if kind not in {"", "xfs"}:
        raise DiskError(f"holds {kind}, which is not touched")
    require_new(disk)
    force = ("-f",) if kind else ()
    run("mkfs.xfs", "-q", *force, "-L", disk["name"], device)


def ensure_root(disk: Disk) -> None:
    """Give the file system's root its owner and mode.

    Where clients own the root (shared_root), that is done once, and again when others are wanted:
    what they make of it meanwhile is theirs.
    """
    root = Path(disk["mount"])
    owner, group = disk.get("owner", "root"), disk.get("group", "root")
    mode = disk.get("mode", "0755")
    wanted, noted = f"{owner} {group} {mode}", read_note(disk)
    # A note may be lost with the root disk; the disk itself is older then.
    done = noted == wanted or (noted is None and not is_untouched(root))
    if not (done and disk.get("shared_root", False)):
        shutil.chown(root, owner, group)
        if stat.S_IMODE(root.stat().st_mode) != int(mode, 8):
            root.chmod(int(mode, 8))
    keep_note(disk, wanted)


def is_untouched(root: Path) -> bool:
    """Say whether a file system's root has the owner and mode that mkfs.xfs gives it."""
    found = root.stat()
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o755)


def is_unfinished(device: str) -> bool:
    """Say whether mkfs.xfs was killed before its end."""
    with Path(device).open("rb") as source:
        return source.read(XFS_IN_PROGRESS + 1)[XFS_IN_PROGRESS] != 0


def report(disk: Disk) -> Disk:
    """Return a disk's size, and how much of it is in use, in bytes; error says what is wrong."""
    row: Disk = {"name": disk["name"], "kind": disk["kind"], "error": ""}
    row |= dict.fromkeys(("device_bytes", "total_bytes", "used_bytes"))
    path = BY_ID / f"virtio-{disk['name']}"
    try:
        if not path.exists():
            raise DiskError("is not attached")
        row["device_bytes"] = size_of(str(path))
        row |= pool_use(disk) if disk["kind"] == "lvm" else mount_use(disk)
        require_grown(disk, row["device_bytes"])
    except TROUBLES as trouble:
        row["error"] = str(trouble)
    return row


def require_grown(disk: Disk, size: int) -> None:
    """Raise DiskError when a disk is smaller than it should be."""
    if size < int(disk["size_gib"]) * GIB:
        raise DiskError(f"has {size / GIB:.1f} GiB, not {disk['size_gib']}: it is not grown yet")


def pool_use(disk: Disk) -> Disk:
    """Return the size of a pool and what of it is in use."""
    group = disk["volume_group"]
    columns = ("-o", "lv_size,data_percent", "--units", "b", "--nosuffix")
    words = run("lvs", "--noheadings", *columns, f"{group}/{group}-pool").split()
    if len(words) != 2:
        raise DiskError(
            f"its thin pool is not active; on the node: vgchange -ay {group}, which says why when "
            f"it cannot (lvmthin(7): lvconvert --repair), then {AGAIN}"
        )
    size, share = words
    return {"total_bytes": int(size), "used_bytes": int(int(size) * float(share) / 100)}


def mount_use(disk: Disk) -> Disk:
    """Return the size of a mounted file system and what of it is in use."""
    if not os.path.ismount(disk["mount"]):
        raise DiskError(f"{disk['mount']} is not mounted")
    use = shutil.disk_usage(disk["mount"])
    return {"total_bytes": use.total, "used_bytes": use.used}


def run(*command: str) -> str:
    """Run a command and return its output; DiskError with its words when it fails."""
    done = call(*command)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise DiskError(f"{command[0]} failed: {said}")
    return done.stdout.strip()


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever it comes to."""
    return subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
