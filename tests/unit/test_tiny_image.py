import gzip
import lzma
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.images import tiny

DEPENDENCIES = """\
kernel/net/core/failover.ko.xz:
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/acpi/button.ko.xz:
kernel/drivers/char/virtio-rng.ko.xz:
"""  # noqa: E501


def unpack_cpio(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    members, offset = {}, 0
    while True:
        assert archive[offset : offset + 6] == b"070701"
        fields = [int(archive[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        name_at = offset + 110
        name = archive[name_at : name_at + fields[11] - 1].decode()
        data_at = (name_at + fields[11] + 3) & ~3
        offset = (data_at + fields[6] + 3) & ~3
        if name == "TRAILER!!!":
            return members
        members[name] = (fields[1], archive[data_at : data_at + fields[6]], (fields[9], fields[10]))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for release in ("6.9.1+deb13-cloud-amd64", "6.12.117+deb13-cloud-amd64"):
        modules = tmp_path / "usr/lib/modules" / release
        for line in DEPENDENCIES.splitlines():
            path = modules / line.partition(":")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lzma.compress(path.name.encode()))
        (modules / "modules.dep").write_text(DEPENDENCIES)
        (tmp_path / "boot").mkdir(exist_ok=True)
        (tmp_path / "boot" / f"vmlinuz-{release}").write_bytes(release.encode())
    (tmp_path / "boot" / "vmlinuz-7.0.0-without-modules").write_bytes(b"")
    (tmp_path / "busybox").write_bytes(b"\x7fELF static")
    return tmp_path


def test_modules_come_after_what_they_need() -> None:
    order = tiny.module_closure(DEPENDENCIES, ("virtio_pci", "virtio_net", "button", "virtio_rng"))
    assert [Path(path).name for path in order] == [
        "failover.ko.xz",
        "net_failover.ko.xz",
        "virtio_net.ko.xz",
        "button.ko.xz",
        "virtio-rng.ko.xz",
    ]


def test_the_newest_kernel_with_modules_is_taken(tree: Path) -> None:
    path, release = tiny.find_kernel(tree)
    assert release == "6.12.117+deb13-cloud-amd64"
    assert path.name == f"vmlinuz-{release}"


def test_the_initramfs_holds_what_boots(tree: Path) -> None:
    members = unpack_cpio(gzip.decompress(tiny.build_initramfs(tree, tree / "busybox")))
    assert members["init"] == (stat.S_IFREG | 0o755, tiny.BOOT_SCRIPT.encode(), (0, 0))
    assert members["bin/busybox"][1] == b"\x7fELF static"
    assert members["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert members["modules/02-virtio_net.ko"][1] == b"virtio_net.ko.xz"
    for name in members:
        parent = str(Path(name).parent)
        assert parent == "." or stat.S_ISDIR(members[parent][0])


def test_equal_parts_give_equal_bytes(tree: Path) -> None:
    first = tiny.build_tiny_image(tree, tree / "busybox")
    assert first == tiny.build_tiny_image(tree, tree / "busybox")
    assert first.initramfs[4:8] == bytes(4), "no time in the gzip header"
    assert len(first.disk) == 1024 * 1024
    assert first.kernel == b"6.12.117+deb13-cloud-amd64"


def test_a_dynamic_busybox_is_refused(tree: Path) -> None:
    (tree / "busybox").write_bytes(b"\x7fELF /lib64/ld-linux-x86-64.so.2")
    with pytest.raises(tiny.TinyImageError, match="busybox-static"):
        tiny.build_initramfs(tree, tree / "busybox")


def test_a_tree_without_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tiny.TinyImageError, match="vmlinuz"):
        tiny.find_kernel(tmp_path)


def test_an_unknown_compression_is_refused(tree: Path) -> None:
    modules = next((tree / "usr/lib/modules").glob("6.12*"))
    (modules / "modules.dep").write_text("kernel/virtio_net.ko.zst:\n")
    (modules / "kernel/virtio_net.ko.zst").write_bytes(b"")
    with pytest.raises(tiny.TinyImageError, match="zst"):
        tiny.build_initramfs(tree, tree / "busybox")


def test_main_tells_what_it_wrote(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.main([str(tree), str(tree / "busybox"), str(tree / "out")]) == 0
    assert '"path": "' in capsys.readouterr().out
    assert (tree / "out" / "initramfs").stat().st_size > 0


@pytest.mark.parametrize("arguments", [["only-one"], ["/nowhere", "/nothing", "/never"]])
def test_main_says_what_is_wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.main(arguments) != 0
    assert capsys.readouterr().err


@given(st.dictionaries(st.text("abc/.-", min_size=1, max_size=30), st.binary(max_size=70)))
def test_cpio_keeps_every_member(contents: dict[str, bytes]) -> None:
    entries = [
        tiny.Entry(path=path, mode=stat.S_IFREG | 0o644, content=content)
        for path, content in contents.items()
    ]
    packed = tiny.pack_cpio(entries)
    assert len(packed) % 512 == 0
    assert {name: member[1] for name, member in unpack_cpio(packed).items()} == contents


@given(st.binary(max_size=5000))
def test_compressed_data_comes_back(data: bytes) -> None:
    packed = tiny.compress(data)
    assert gzip.decompress(packed) == data
    assert struct.unpack("<I", packed[-4:])[0] == len(data)
