"""Disks for VMs: a seeded tree as ext4 in a qcow2 file, with kernel and initrd beside it."""

from __future__ import annotations

from solostack.doors.process import Executor
from solostack.errors import CommandError, ImageError

DISK_TIMEOUT_S = 1800

# mke2fs -d copies the tree in without a mount; the raw file is sparse and gone afterwards.
_SCRIPT = """set -eu
umask 077
root=$1 directory=$2 disk_gib=$3
command -v mke2fs qemu-img >/dev/null
mkdir -p "$directory"
exec 9>"$directory/.lock"
flock 9
[ ! -e "$directory/disk.qcow2" ] || exit 0
raw=$directory/.disk.raw
rm -f "$raw"
truncate -s "${disk_gib}G" "$raw"
mke2fs -q -t ext4 -L solostack -d "$root" "$raw"
qemu-img convert -f raw -O qcow2 "$raw" "$directory/.disk.qcow2"
rm -f "$raw"
cp "$(ls "$root"/boot/vmlinuz-* | sort -V | tail -n 1)" "$directory/vmlinuz"
cp "$(ls "$root"/boot/initrd.img-* | sort -V | tail -n 1)" "$directory/initrd.img"
sync -f "$directory/.disk.qcow2"
mv "$directory/.disk.qcow2" "$directory/disk.qcow2"
# libvirt gives the files to QEMU's user, who must only pass through.
chmod 0711 "$directory"
"""


def make_disk(executor: Executor, *, root: str, directory: str, disk_gib: int) -> None:
    """Make directory/disk.qcow2, vmlinuz and initrd.img from the tree at root.

    disk.qcow2 gets its name last: where it exists it is whole. Raises ImageError.
    """
    try:
        executor.run(
            ("sh", "-s", "--", root, directory, str(disk_gib)),
            stdin=_SCRIPT.encode(),
            timeout_s=DISK_TIMEOUT_S,
        )
    except CommandError as error:
        raise ImageError(
            f"no disk could be made from {root} on {executor.name}",
            details=error.details,
            hint="see that the host has room (df -h), then run the same command again",
        ) from error
