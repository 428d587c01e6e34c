"""The test image boots for real: DHCP, metadata, pages, user data and the power button."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from solostack.doors.process import LocalExecutor
from solostack.doors.progress import Progress
from solostack.flows.bake import DEFAULT_RELEASE, bake_trees
from solostack.flows.deployment import role_recipe
from solostack.images import tiny
from solostack.site.model import Role

pytestmark = pytest.mark.host

BOOT_S = 60.0
ADDRESS = "169.254.0.15"
USER_DATA = """#!/bin/sh
echo "user data runs on $(hostname)"
wget -q -O - http://127.0.0.1:8080/
"""
# Serves one HTTP request on standard input and output; QEMU starts it per connection.
METADATA = """
import json, os, sys
request = b""
while b"\\r\\n\\r\\n" not in request:
    request += os.read(0, 4096)
pages = json.loads(open(sys.argv[1]).read())
page = pages.get(request.split()[1].decode())
status = "200 OK" if page is not None else "404 Not Found"
body = (page or "").encode()
head = f"HTTP/1.0 {status}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
os.write(1, head.encode() + body)
"""


@pytest.fixture(scope="module")
def tree() -> Path:
    given = os.environ.get("SOLOSTACK_NODE_TREE")
    if given:
        return Path(given)
    recipe = role_recipe(Role.NETWORK, DEFAULT_RELEASE)
    return Path(bake_trees((recipe,), Progress())[recipe.name])


@pytest.fixture(scope="module")
def image(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a node does it: the module itself streamed to Python."""
    directory = tmp_path_factory.mktemp("tiny")
    command = ("python3", "-I", "-", str(tree), str(tree / "usr/bin/busybox"), str(directory))
    done = LocalExecutor().run(command, stdin=Path(tiny.__file__))
    report = json.loads(done.text)
    assert set(report) == {"kernel", "initramfs", "disk"}
    return directory


class Guest:
    """A running virtual machine."""

    def __init__(self, image: Path, directory: Path, pages: dict[str, str]) -> None:
        (directory / "metadata.py").write_text(METADATA)
        (directory / "pages.json").write_text(json.dumps(pages))
        self._console = directory / "console"
        self._monitor = directory / "monitor"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        served = f"{sys.executable} -I {directory}/metadata.py {directory}/pages.json"
        network = (
            "user,id=net,net=169.254.0.0/16,host=169.254.0.2,dhcpstart=169.254.0.15,"
            f"guestfwd=tcp:169.254.169.254:80-cmd:{served},hostfwd=tcp:127.0.0.1:{self.port}-:80"
        )
        self.process = subprocess.Popen(
            (
                *("qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-display", "none"),
                *("-no-reboot", "-nodefaults", "-vga", "none"),
                *("-kernel", image / "kernel", "-initrd", image / "initramfs"),
                *("-append", tiny.COMMAND_LINE, "-serial", f"file:{self._console}"),
                *("-monitor", f"unix:{self._monitor},server=on,wait=off"),
                *("-drive", f"file={image / 'disk'},format=raw,if=virtio,snapshot=on"),
                *("-netdev", network, "-device", "virtio-net-pci,netdev=net"),
            )
        )

    def console(self) -> str:
        if not self._console.exists():
            return ""
        return self._console.read_text(errors="replace").replace("\r", "")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.console(), lambda: f"no {text!r} in:\n{self.console()}")

    def press_power(self) -> int:
        """Press until it is off; return QEMU's exit status."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            for _ in range(int(BOOT_S)):
                monitor.sendall(b"system_powerdown\n")
                try:
                    return self.process.wait(1)
                except subprocess.TimeoutExpired:
                    continue
        raise AssertionError(self.console())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_until(happened: Callable[[], bool], told: Callable[[], str]) -> None:
    end_s = time.monotonic() + BOOT_S
    while not happened():
        assert time.monotonic() < end_s, told()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def guest(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("QEMU is not installed")
    pages = {
        "/latest/meta-data/instance-id": "i-0000002a",
        "/latest/meta-data/hostname": "one.novalocal",
        "/latest/user-data": USER_DATA,
    }
    guest = Guest(image, tmp_path_factory.mktemp("guest"), pages)
    yield guest
    guest.stop()


def test_it_gets_an_address_and_its_metadata_and_is_ready(guest: Guest) -> None:
    guest.wait_for("SOLOSTACK READY\n")
    console = guest.console()
    assert f"SOLOSTACK DHCP {ADDRESS}\n" in console
    assert "SOLOSTACK METADATA i-0000002a\n" in console


def test_it_serves_a_page_with_its_name_and_id(guest: Guest) -> None:
    guest.wait_for("SOLOSTACK READY\n")
    with urllib.request.urlopen(f"http://127.0.0.1:{guest.port}/", timeout=10) as answer:
        assert answer.read() == b"solostack one i-0000002a\n"


def test_user_data_runs_and_shows_on_the_console(guest: Guest) -> None:
    guest.wait_for("user-data: user data runs on one\n")
    guest.wait_for("user-data: solostack one i-0000002a\n")


def test_the_power_button_turns_it_off(guest: Guest) -> None:
    guest.wait_for("SOLOSTACK READY\n")
    assert guest.press_power() == 0


def test_the_build_on_a_node_gives_the_same_bytes(tree: Path, image: Path) -> None:
    built = tiny.build_tiny_image(tree, tree / "usr/bin/busybox")
    assert (image / "initramfs").read_bytes() == built.initramfs
    assert (image / "kernel").read_bytes() == built.kernel


def test_a_lease_of_ovn_sets_mtu_and_routes(tree: Path, tmp_path: Path) -> None:
    """OVN sends classless routes (RFC 3442): the metadata address goes by the DHCP port."""
    lease = tmp_path / "lease"
    lease.write_text(tiny.LEASE_SCRIPT)
    shutil.copy(tree / "usr/bin/busybox", tmp_path / "ip")
    script = f"""
        mount -t tmpfs run /run && : >/run/leased
        ip link add eth0 type veth peer name far
        ip link set eth0 up
        ip link set far up
        export PATH={tmp_path}:$PATH interface=eth0 ip=10.10.0.5 mask=24 mtu=1442 router=10.10.0.9
        export staticroutes='169.254.169.254/32 10.10.0.2 0.0.0.0/0 10.10.0.1'
        for event in deconfig bound renew; do sh {lease} $event; done
        ip addr show dev eth0; ip route
    """
    shown = LocalExecutor().run(("unshare", "-n", "-m", "sh", "-e"), stdin=script.encode()).text
    assert "mtu 1442" in shown
    assert shown.count("inet 10.10.0.5/24") == 1
    assert "default via 10.10.0.1 dev eth0" in shown
    assert "169.254.169.254 via 10.10.0.2 dev eth0" in shown
