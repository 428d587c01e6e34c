"""The tiny test image: kernel, initramfs and an empty root disk, from parts a node already has.

The module is also a program of its own (standard library only), so that it can be made wherever a
node's tree is, by streaming this very file: ``python3 -I - KERNEL_TREE BUSYBOX OUTDIR``. It must
therefore import nothing of this package. Equal parts give equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import re
import stat
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

COMMAND_LINE = "console=ttyS0 quiet no_timer_check nokaslr panic=5"
"""Kernel arguments. no_timer_check: the IO-APIC timer check can fail on a busy machine without KVM
(Documentation/admin-guide/kernel-parameters.txt); nokaslr: 128 MiB have no room to place the kernel
at random ("Physical KASLR disabled: no suitable memory region!"), and every boot is to be like the
last; panic=5: a boot that failed is tried again."""

DISK_BYTES = 1024 * 1024
WANTED_MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "button", "evdev")
"""Network, disks, and the power button, so that Nova's soft shutdown is heard; with what they
need."""

BOOT_SCRIPT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
case " $(cat /proc/cmdline) " in *" solostack.disks "*) exec sh /etc/disks ;; esac
ip link set lo up
until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done

# Nova's soft shutdown presses the power button.
acpid -d >/dev/null 2>&1 &

# Goes to the background with the lease, which it keeps, or after ten tries, to try on there.
udhcpc -b -i eth0 -s /etc/lease -t 10 -T 2 -A 5 -O mtu -O staticroutes >/dev/null 2>&1
[ -e /run/leased ] || echo "SOLOSTACK DHCP none"

echo "solostack starting" >/www/index.html
httpd -p 80 -h /www
httpd -p 8080 -h /www

metadata() { wget -q -T 5 -O - "http://169.254.169.254/latest/$1"; }
instance= name=
for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
	instance=$(metadata meta-data/instance-id 2>/dev/null) && break
	sleep 1
done
[ -n "$instance" ] && name=$(metadata meta-data/hostname 2>/dev/null)
name=${name%%.*}
hostname "${name:-tiny}"
echo "solostack ${name:-tiny} ${instance:-none}" >/www/new && mv /www/new /www/index.html
echo "SOLOSTACK METADATA ${instance:-none}"
echo "SOLOSTACK READY"

if [ -n "$instance" ]; then
	for try in 1 2 3 4 5; do
		metadata user-data >/run/user-data 2>/run/user-data.error && break
		grep -q 404 /run/user-data.error && break
		sleep 1
	done
	[ -s /run/user-data ] && sh /run/user-data 2>&1 |
		while IFS= read -r line; do echo "user-data: $line"; done
fi
while :; do sleep 3600; done
"""

LEASE_SCRIPT = r"""#!/bin/sh
# Called by udhcpc with the lease in variables; mask is the prefix length.
case "$1" in
deconfig)
	ip link set "$interface" up
	;;
bound | renew)
	ip addr show dev "$interface" | grep -q " $ip/$mask " || {
		ip addr flush dev "$interface"
		ip addr add "$ip/$mask" dev "$interface"
	}
	[ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
	# RFC 3442: with classless routes given, the router option does not count.
	set -- ${staticroutes:-${router:+0.0.0.0/0 ${router%% *}}}
	while [ $# -ge 2 ]; do
		case "$2" in
		0.0.0.0) ip route replace "$1" dev "$interface" ;;
		*) ip route replace "$1" via "$2" dev "$interface" ;;
		esac
		shift 2
	done
	[ -e /run/leased ] || echo "SOLOSTACK DHCP $ip" >/dev/console
	: >/run/leased
	;;
esac
exit 0
"""

DISKS_ARGUMENT = "solostack.disks"
"""Kernel argument (an image's os_command_line): the instance does nothing but DISKS_SCRIPT."""

DISKS_SCRIPT = r"""#!/bin/sh
# Writes every disk once, with a mark of what it wrote, and reads it again and again, never from
# memory. Needs no network.
acpid -d >/dev/null 2>&1 &
echo "SOLOSTACK READY"
digest() { dd if="$1" bs=64k skip=1 count=4 2>/dev/null | sha256sum | cut -d' ' -f1; }
round=0
while :; do
	round=$((round + 1))
	for disk in /sys/block/vd*; do
		[ -e "$disk/size" ] && [ "$(cat "$disk/size")" -ge 4096 ] || continue
		device=/dev/${disk##*/}
		echo 3 >/proc/sys/vm/drop_caches
		mark=$(dd if="$device" bs=512 count=1 2>/dev/null | tr -d '\0')
		case "$mark" in
		"solostack $(digest "$device")") found=kept ;;
		"solostack "*) found=lost ;;
		*)
			dd if=/dev/urandom of="$device" bs=64k seek=1 count=4 conv=fsync 2>/dev/null
			printf 'solostack %s' "$(digest "$device")" |
				dd of="$device" bs=512 conv=sync,fsync 2>/dev/null
			found=written
			;;
		esac
		echo "SOLOSTACK DISK ${disk##*/} $found $(cat "$disk/size") $round"
	done
	sleep 5
done
"""

POWER_SCRIPT = "#!/bin/sh\nexec poweroff -f\n"


class TinyImageError(Exception):
    """The parts do not make an image; the text says which part and why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TinyImage:
    """The three files of the image; disk is the raw root, which nothing reads."""

    kernel: bytes
    initramfs: bytes
    disk: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A member of a cpio archive. mode is the full st_mode; device is major and minor."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def find_kernel(kernel_tree: Path) -> tuple[Path, str]:
    """Return the newest kernel of a tree that has its modules there too, and its release."""
    found = [
        (path, path.name.removeprefix("vmlinuz-"))
        for path in (kernel_tree / "boot").glob("vmlinuz-*")
    ]
    usable = [(path, release) for path, release in found if _modules(kernel_tree, release)]
    if not usable:
        message = f"{kernel_tree}: no boot/vmlinuz-* that has its lib/modules"
        raise TinyImageError(message)
    return max(usable, key=lambda pair: [int(part) for part in re.findall(r"\d+", pair[1])])


def module_closure(dependencies: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """Order modules so that each comes after what it needs.

    Args:
        dependencies: the text of modules.dep, which lists for each file all the files it needs,
            the first to load last (depmod(8), modules.dep(5)).
        wanted: module names; those built into the kernel are not in modules.dep and are left out.

    Returns:
        Paths relative to the directory of modules.dep.
    """
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        by_name[Path(path).name.partition(".")[0].replace("-", "_")] = path
    ordered: dict[str, None] = {}
    for name in wanted:
        if name in by_name:
            for path in (*reversed(needs[by_name[name]]), by_name[name]):
                ordered.setdefault(path)
    return tuple(ordered)


def build_initramfs(kernel_tree: Path, busybox: Path) -> bytes:
    """Build the gzip-compressed initramfs for the newest kernel of a tree.

    Raises TinyImageError when the tree has no such kernel, busybox is not static, or a module is
    compressed in a way the standard library cannot read.
    """
    _, release = find_kernel(kernel_tree)
    return compress(pack_cpio(_entries(kernel_tree, release, busybox)))


def build_tiny_image(kernel_tree: Path, busybox: Path) -> TinyImage:
    """Build the whole image; errors as of build_initramfs."""
    kernel, _ = find_kernel(kernel_tree)
    return TinyImage(
        kernel=kernel.read_bytes(),
        initramfs=build_initramfs(kernel_tree, busybox),
        disk=bytes(DISK_BYTES),
    )


def pack_cpio(entries: Sequence[Entry]) -> bytes:
    """Pack entries as a cpio archive of the format the kernel reads.

    The format is "newc": Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
    Owner is root, all times are 0.
    """
    archive = bytearray()
    for number, entry in enumerate((*entries, Entry(path="TRAILER!!!", mode=0)), start=1):
        name = entry.path.encode() + b"\0"
        fields = (
            number, entry.mode, 0, 0, 2 if stat.S_ISDIR(entry.mode) else 1, 0, len(entry.content),
            0, 0, *entry.device, len(name), 0,
        )  # fmt: skip
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        archive += bytes(-len(archive) % 4)
        archive += entry.content
        archive += bytes(-len(archive) % 4)
    archive += bytes(-len(archive) % 512)
    return bytes(archive)


def compress(data: bytes) -> bytes:
    """Compress to gzip with a header that is the same on every Python (RFC 1952, time 0)."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    body = deflate.compress(data) + deflate.flush()
    return header + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def write_tiny_image(image: TinyImage, directory: Path) -> dict[str, dict[str, str | int]]:
    """Write kernel, initramfs and disk into directory; return path, size and sha256 of each."""
    directory.mkdir(parents=True, exist_ok=True)
    report: dict[str, dict[str, str | int]] = {}
    for name in ("kernel", "initramfs", "disk"):
        content: bytes = getattr(image, name)
        path = directory / name
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        report[name] = {"path": str(path), "bytes": len(content), "sha256": digest}
    return report


def main(arguments: Sequence[str]) -> int:
    """Build into a directory and tell as JSON what was written: KERNEL_TREE BUSYBOX OUTDIR."""
    if len(arguments) != 3:
        sys.stderr.write("usage: KERNEL_TREE BUSYBOX OUTDIR\n")
        return 2
    kernel_tree, busybox, directory = (Path(argument) for argument in arguments)
    try:
        report = write_tiny_image(build_tiny_image(kernel_tree, busybox), directory)
    except (TinyImageError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def _modules(kernel_tree: Path, release: str) -> Path | None:
    # usr/lib first: a tree's lib may be a link that is absolute and so leads out of the tree.
    for place in ("usr/lib/modules", "lib/modules"):
        if (kernel_tree / place / release / "modules.dep").is_file():
            return kernel_tree / place / release
    return None


def _entries(kernel_tree: Path, release: str, busybox: Path) -> list[Entry]:
    directories = ("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "modules", "proc", "run",
                   "sys", "tmp", "www")  # fmt: skip
    entries = [Entry(path=path, mode=stat.S_IFDIR | 0o755) for path in directories]
    program = busybox.read_bytes()
    if not program.startswith(b"\x7fELF") or b"/ld-linux" in program:
        message = f"{busybox}: not a static program; install busybox-static"
        raise TinyImageError(message)
    entries += [
        Entry(path="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1)),
        _script("init", BOOT_SCRIPT.encode()),
        _script("bin/busybox", program),
        _script("etc/disks", DISKS_SCRIPT.encode()),
        _script("etc/lease", LEASE_SCRIPT.encode()),
        _script("etc/acpi/PWRF/00000080", POWER_SCRIPT.encode()),
    ]
    entries += _module_entries(kernel_tree, release)
    return entries


def _module_entries(kernel_tree: Path, release: str) -> Iterator[Entry]:
    modules = _modules(kernel_tree, release)
    if modules is None:
        message = f"{kernel_tree}: no modules of kernel {release}"
        raise TinyImageError(message)
    dependencies = (modules / "modules.dep").read_text(encoding="utf-8")
    for number, path in enumerate(module_closure(dependencies, WANTED_MODULES)):
        name = Path(path).name.partition(".")[0]
        content = _decompressed(modules / path)
        yield Entry(
            path=f"modules/{number:02}-{name}.ko", mode=stat.S_IFREG | 0o644, content=content
        )


def _decompressed(path: Path) -> bytes:
    content = path.read_bytes()
    match path.suffix:
        case ".ko":
            return content
        case ".xz":
            return lzma.decompress(content)
        case ".gz":
            return zlib.decompress(content, wbits=31)
        case _:
            pass
    message = f"{path}: modules compressed as {path.suffix} cannot be read"
    raise TinyImageError(message)


def _script(path: str, content: bytes) -> Entry:
    return Entry(path=path, mode=stat.S_IFREG | 0o755, content=content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
