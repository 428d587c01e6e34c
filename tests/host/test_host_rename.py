"""The data bridge is renamed under ports that carry traffic, with real bridges and veths.

No libvirtd runs where these tests do, so three functions of sh stand in for virsh: what libvirt
does to bridges (delete and create) they do for real, what it remembers is in files. Whether
libvirt itself takes it is shown by tests/cloud.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.host import rename
from solostack.host.network import network_xml
from solostack.machines.container import NETWORK_SCRIPT

pytestmark = pytest.mark.host

# net-dumpxml tells of the live definition, net-start takes the persistent one, as libvirt does.
# update-device puts the tap into the network's bridge and fails where it is in one, as libvirt does
# (SIOCBRADDIF: EBUSY).
VIRSH = """
mock={folder}
virsh() {{
    shift 3
    [ ! -e "$mock/kill-$1" ] || {{ rm "$mock/kill-$1"; kill -9 $$; }}
    case $1 in
    net-list) [ ! -e "$mock/live.xml" ] || echo data ;;
    net-dumpxml) cat "$mock/live.xml" ;;
    net-define) cp "$2" "$mock/defined.xml" ;;
    net-autostart) : ;;
    net-destroy) ip link delete "$(bridge_of <"$mock/live.xml")" && rm "$mock/live.xml" ;;
    net-start)
        ip link add "$(bridge_of <"$mock/defined.xml")" type bridge || return 1
        ip link set "$(bridge_of <"$mock/defined.xml")" up
        cp "$mock/defined.xml" "$mock/live.xml" ;;
    list) [ ! -e "$mock/tap.xml" ] || echo network ;;
    domiflist) echo " tap network data virtio 52:54:00:00:00:01" ;;
    dumpxml) cat "$mock/tap.xml" ;;
    update-device)
        bridge=$(bridge_of <"$mock/live.xml")
        [ ! -e /sys/class/net/tap/master ] && ip link set tap master "$bridge" || return 1
        sed -i "s/bridge='[^']*'/bridge='$bridge'/" "$mock/tap.xml" ;;
    esac
}}
"""
TAP_XML = """<domain><devices><interface type='network'><mac address='52:54:00:00:00:01'/>
<source network='data' portid='1' bridge='br-data'/></interface></devices></domain>
"""
# "tap" stands for a VM's, "sn1" for a container's veth, "solo-data-br" for the host's member.
SET_UP = """set -eu
ip link set lo up
ip link add br-data type bridge
ip link set br-data up
number=1
for port in tap sn1 solo-data-br; do
    ip link add $port type veth peer name eth0 netns {space}-$number
    ip link set $port master br-data up
    ip -n {space}-$number address add 172.16.0.$number/24 dev eth0
    ip -n {space}-$number link set eth0 up
    number=$((number + 1))
done
ip link add other type bridge
ip link add stranger type veth peer name stranger-peer
ip link set stranger master other
"""


class Host:
    """A network namespace as the host, three more as the machines on its data bridge."""

    def __init__(self, space: str, folder: Path) -> None:
        self.space, self.folder = space, folder
        self.xml = folder / "data.xml"
        self.kept = folder / "rename-data"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ("ip", "netns", "exec", self.space, *command), capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def rename(self, bridge: str) -> subprocess.CompletedProcess[str]:
        self.xml.write_text(network_xml("one", "data", bridge, 1500))
        text = rename.network_text("data", bridge, str(self.xml))
        text = text.replace(rename.kept_path("data"), str(self.kept))
        script = f"set -eu\n{VIRSH.format(folder=self.folder)}{text}"
        return subprocess.run(
            ("ip", "netns", "exec", self.space, "sh"), input=script, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def ports(self, bridge: str) -> set[str]:
        return set(self.run("ls", f"/sys/class/net/{bridge}/brif").stdout.split())

    def reach_each_other(self) -> bool:
        return all(
            subprocess.run(
                ("ip", "netns", "exec", f"{self.space}-{number}", "ping", "-q", "-c1", "-W2",
                 f"172.16.0.{number % 3 + 1}"), capture_output=True, check=False,
            ).returncode == 0
            for number in (1, 2, 3)
        )  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    space = f"solostack-rename-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        for name in (space, *(f"{space}-{number}" for number in (1, 2, 3))):
            stack.callback(
                subprocess.run, ("ip", "netns", "delete", name), capture_output=True, check=False
            )
            subprocess.run(("ip", "netns", "add", name), check=True)
        made = Host(space, tmp_path)
        done = made.run("sh", "-c", SET_UP.format(space=space))
        assert done.returncode == 0, done.stderr
        (tmp_path / "live.xml").write_text(network_xml("one", "data", "br-data", 1500))
        (tmp_path / "tap.xml").write_text(TAP_XML)
        yield made


PORTS = {"tap", "sn1", "solo-data-br"}


def test_every_port_moves_and_back(host: Host) -> None:
    assert host.reach_each_other()
    for old, new in (("br-data", "eth1"), ("eth1", "br-data")):
        done = host.rename(new)
        assert done.returncode == 0, done.stderr
        assert host.ports(new) == PORTS
        assert not host.run("ip", "link", "show", old).stdout
        assert host.reach_each_other()
        assert f"bridge='{new}'" in (host.folder / "tap.xml").read_text()
        assert host.ports("other") == {"stranger"}
        assert not host.kept.exists()


def test_nothing_is_touched_when_the_name_is_the_same(host: Host) -> None:
    before = host.run("cat", "/sys/class/net/br-data/ifindex").stdout
    assert host.rename("br-data").returncode == 0
    assert host.run("cat", "/sys/class/net/br-data/ifindex").stdout == before
    assert host.ports("br-data") == PORTS


@pytest.mark.parametrize(
    "where", ["net-define", "net-destroy", "net-autostart", "net-start", "list", "update-device"]
)
def test_killed_anywhere_and_run_again_it_ends_right(host: Host, where: str) -> None:
    (host.folder / f"kill-{where}").touch()
    assert host.rename("eth1").returncode != 0
    assert host.kept.exists()
    assert host.rename("eth1").returncode == 0
    assert host.ports("eth1") == PORTS
    assert host.reach_each_other()
    assert "bridge='eth1'" in (host.folder / "tap.xml").read_text()
    assert not host.kept.exists()


@pytest.mark.parametrize("where", ["net-start", "list"])
def test_killed_and_then_told_to_go_back_it_goes_back(host: Host, where: str) -> None:
    (host.folder / f"kill-{where}").touch()
    assert host.rename("eth1").returncode != 0
    assert host.rename("br-data").returncode == 0
    assert host.ports("br-data") == PORTS
    assert host.reach_each_other()


def test_a_name_that_another_device_has_is_refused_before_anything_stops(host: Host) -> None:
    assert host.run("ip", "link", "add", "eth1", "type", "veth").returncode == 0
    done = host.rename("eth1")
    assert done.returncode == 1
    assert "there is an interface eth1 on this host already" in done.stderr
    assert host.ports("br-data") == PORTS
    assert "bridge name='br-data'" in host.xml.read_text()
    assert not host.kept.exists()


def test_where_the_new_bridge_cannot_be_made_the_old_one_comes_back(host: Host) -> None:
    # Longer than the kernel takes (IFNAMSIZ), so that making it fails after the old one went.
    done = host.rename("a-name-far-too-long")
    assert done.returncode == 1
    assert host.ports("br-data") == PORTS
    assert host.reach_each_other()
    assert "bridge name='br-data'" in host.xml.read_text()


def test_what_was_written_before_a_reboot_is_not_believed(host: Host) -> None:
    host.kept.mkdir()
    (host.kept / "boot").write_text("another\n")
    (host.kept / "ports").write_text("stranger-peer\n")
    assert host.rename("eth1").returncode == 0
    assert host.ports("eth1") == PORTS


def test_a_container_that_starts_later_finds_the_new_bridge(host: Host) -> None:
    assert host.rename("eth1").returncode == 0
    node = f"rename{os.getpid()}"
    (host.folder / f"{node}.nics").write_text("eth0 52:54:00:ab:cd:ef data 1500 on\n")
    text = NETWORK_SCRIPT.replace("/etc/solostack/nodes", str(host.folder))
    script = host.folder / "node-network"
    script.write_text(text.replace("/etc/solostack/networks", str(host.folder)))
    ports = "ls /sys/class/net/eth1/brif; echo"
    # In one go: the node's namespace has its name, and its life, where this command runs.
    steps = f"sh {script} up {node}; {ports}; sh {script} down {node}; {ports}"
    try:
        done = host.run("sh", "-euc", steps)
        assert done.returncode == 0, done.stderr
        up, down = (set(part.split()) for part in done.stdout.split("\n\n")[:2])
        assert up == PORTS | {"sn400abcdef"}
        assert down == PORTS
    finally:
        # The name is a file in /run/netns of this machine, made from a namespace of the test's.
        Path(f"/run/netns/solostack-{node}").unlink(missing_ok=True)
