"""The guard on a whole host: real systemd, real sshd, a provider that drops foreign MACs.

Each harm is done over the host's console, as whatever goes wrong would do it, with a change armed
that nobody confirms. From the provider's side SSH must work again within 120 s, and the guard must
find nothing that is not as it was before.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.doors.ssh import SshExecutor, SshTarget
from solostack.engine.apply import apply_bundle, undo_ledger
from solostack.engine.operations import Bundle, phase
from solostack.errors import CommandError, ConnectError, HostError
from solostack.flows import guarded
from solostack.flows.bake import bake_trees, cache_home, lab_host_recipe
from solostack.host import guard
from solostack.lab.lab import Lab, Wanted
from solostack.lab.spec import GATEWAY, NIC

pytestmark = pytest.mark.cloud

HOST = "phys1"
TIMEOUT_S = 12.0
LIMIT_S = 120.0
DROP_ALL = (
    "nft 'add table inet bad; add chain inet bad input "
    "{ type filter hook input priority -200; policy drop; }'"
)
HARM = {
    "nothing, only nobody confirms": "true",
    "sshd killed": "pkill -KILL sshd || true; systemctl stop ssh.service ssh.socket; ",
    "ssh.service stopped and disabled": "systemctl disable --now ssh.service",
    "sshd's configuration broken": "echo 'Port 2' >/etc/ssh/sshd_config.d/x.conf; "
    "echo nonsense >>/etc/ssh/sshd_config; systemctl restart ssh.service || true",
    "all dropped": DROP_ALL,
    "nftables.service stopped, then all dropped": f"systemctl stop nftables.service; {DROP_ALL}",
    "wrong gateway": f"ip route replace default via {GATEWAY + 98} dev {NIC}",
    "address flushed": f"ip address flush dev {NIC}",
    "NIC down": f"ip link set {NIC} down",
    "NIC in a bridge": f"ip link add br7 type bridge; ip link set br7 up; "
    f"ip link set {NIC} master br7; ip address flush dev {NIC}",
    "arp_ignore=8": "sysctl -qw net.ipv4.conf.all.arp_ignore=8; ip neigh flush all",
    "networkd's file wrong and read": f"sed -i 's/^Address=.*/Address=10.9.9.9\\/24/' "
    f"/etc/systemd/network/10-{NIC}.network; networkctl reload; networkctl reconfigure {NIC}",
    "networkd stopped": f"systemctl stop systemd-networkd.socket systemd-networkd.service; "
    f"ip link set {NIC} down",
    "forwarding and settings": "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.ip_forward=1",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OneHost:
    """A lab's host: its console, SSH to it from upstream, and new connections."""

    lab: Lab
    console: Executor
    folder: Path

    @property
    def ssh(self) -> Executor:
        return self.lab.ssh_executor(HOST)

    def new(self) -> Executor:
        target = dataclasses.replace(self.lab.ssh_target(HOST), shared=False)
        return SshExecutor(target, local=self.lab.upstream_executor())

    def door(self) -> guarded.Door:
        return guarded.Door(name=HOST, nic=NIC, executor=self.ssh, new=self.new)

    def sh(self, script: str) -> str:
        return self.console.run(("sh", "-c", script), timeout_s=60).text

    def arm(self, identity: str, timeout_s: float = TIMEOUT_S) -> None:
        touched = guard.Watched(files=("/etc/solostack-test",))
        guard.arm(self.ssh, identity, what="test", nic=NIC, timeout_s=timeout_s, touched=touched)

    def wait_reached(self) -> guard.GuardStatus:
        """Wait until a new SSH connection works and nothing is armed."""
        end = time.monotonic() + LIMIT_S
        while True:
            try:
                seen = guard.status(self.new())
                if not seen.armed:
                    return seen
            except (ConnectError, CommandError):
                pass
            assert time.monotonic() < end, self.console.run(
                ("journalctl", "-u", guard.UNIT, "-n", "40", "--no-pager")
            ).text
            time.sleep(1)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneHost]:
    lab = Lab(f"guard{os.getpid()}")
    try:
        recipe = lab_host_recipe()
        tree = Path(bake_trees((recipe,), Progress())[recipe.name])
        lab.up(Wanted(host_tree=tree, cache=cache_home()))
        one = OneHost(
            lab=lab, console=lab.host_executor(HOST), folder=tmp_path_factory.mktemp("guard")
        )
        with Progress().step("install") as step:
            bundle = Bundle(target=HOST, phases=(phase("guard", *guard.guard_operations()),))
            apply_bundle(one.ssh, bundle, {}, step=step, ledger=True)
        yield one
    finally:
        lab.down()


@pytest.mark.parametrize("name", HARM)
def test_the_host_is_reached_again_and_as_before(host: OneHost, name: str) -> None:
    identity = f"harm-{list(HARM).index(name)}"
    host.arm(identity)
    host.sh(f"echo after >/etc/solostack-test; {HARM[name]}")

    seen = host.wait_reached()

    assert seen.last is not None
    assert (seen.last.id, seen.last.result) == (identity, "taken back")
    assert seen.last.differs == (), seen.last
    assert not host.sh("cat /etc/solostack-test 2>/dev/null || true")


def test_a_watcher_that_is_killed_again_and_again(host: OneHost) -> None:
    host.arm("killed")
    host.sh(f"ip link set {NIC} down")
    end = time.monotonic() + TIMEOUT_S + 3
    while time.monotonic() < end:
        host.sh(f"systemctl kill -s KILL {guard.UNIT} || true")
        time.sleep(0.7)

    seen = host.wait_reached()

    assert seen.last is not None
    assert (seen.last.id, seen.last.result, seen.last.differs) == ("killed", "taken back", ())


def test_solostack_is_killed_in_the_middle(host: OneHost) -> None:
    program = f"""
import pathlib, sys, time
from solostack.doors.progress import Progress
from solostack.doors.ssh import SshExecutor, SshTarget
from solostack.flows import guarded
from solostack.host import guard
PosixPath = pathlib.PosixPath
target = {host.lab.ssh_target(HOST)!r}
door = guarded.Door(name="{HOST}", nic="{NIC}", executor=SshExecutor(target), new=None)
with Progress().step("x") as step:
    with guarded.guarded(door, what="killed", touched=guard.Watched(), step=step, timeout_s=15):
        SshExecutor(target).run(("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=8"))
        print("made", flush=True)
        time.sleep(600)
"""
    argv = host.lab.upstream_argv((sys.executable, "-c", program))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        process.kill()

    seen = host.wait_reached()

    assert seen.last is not None
    assert (seen.last.what, seen.last.result, seen.last.differs) == ("killed", "taken back", ())
    assert host.sh("sysctl -n net.ipv4.conf.all.arp_ignore").strip() != "8"


def test_a_reboot_in_the_middle(host: OneHost) -> None:
    path = f"/etc/systemd/network/10-{NIC}.network"
    before = host.sh(f"cat {path}")
    host.arm("reboot", timeout_s=600)
    host.sh(f"sed -i 's/^Address=.*/Address=10.9.9.9\\/24/' {path}; "
            "echo after >/etc/solostack-test; sync")  # fmt: skip
    host.lab.kill(HOST)
    host.lab.start(HOST)

    seen = host.wait_reached()

    assert seen.last is not None
    assert (seen.last.id, seen.last.result) == ("reboot", "taken back")
    assert seen.last.why == "the host was rebooted"
    assert host.sh(f"cat {path}") == before
    assert host.sh("systemctl is-system-running --wait || true").strip() != "maintenance"


def test_a_confirmed_change_stays_and_the_watcher_ends(host: OneHost) -> None:
    touched = guard.Watched()
    with (
        Progress().step("x") as step,
        guarded.guarded(host.door(), what="kept", touched=touched, step=step, timeout_s=30),
    ):
        host.sh("sysctl -qw net.ipv4.conf.all.log_martians=1")
    time.sleep(3)

    seen = guard.status(host.new())

    assert seen.last is not None
    assert (seen.armed, seen.last.result) == (False, "kept")
    assert host.sh("sysctl -n net.ipv4.conf.all.log_martians").strip() == "1"
    assert "inactive" in host.sh(f"systemctl is-active {guard.UNIT} || true")


def test_a_change_that_shuts_new_connections_out_is_taken_back_and_told(host: OneHost) -> None:
    """The connection of before goes on working; only a new one can tell."""
    with (
        Progress().step("x") as step,
        pytest.raises(HostError, match="was taken back on phys1"),
        guarded.guarded(host.door(), what="cut", touched=guard.Watched(), step=step, timeout_s=25),
    ):
        host.sh(
            "nft 'add table inet bad; add chain inet bad input { type filter hook input "
            "priority 0; policy drop; }; add rule inet bad input ct state established accept'"
        )

    assert "inet bad" not in host.sh("nft list tables")


def test_an_old_connection_is_refused(host: OneHost) -> None:
    host.arm("old", timeout_s=60)
    host.ssh.run(("true",))  # the shared connection is there
    guard.applied(host.ssh, "old")

    with pytest.raises(HostError, match="began before the change was made"):
        guard.confirm(host.ssh, "old")

    assert guard.confirm(host.new(), "old").last is not None


def test_what_is_installed_goes_without_a_trace(host: OneHost) -> None:
    with Progress().step("undo") as step:
        undo_ledger(host.ssh, step=step)

    left = host.sh(
        "ls -d /usr/local/lib/solostack 2>/dev/null || true; ls /var/lib/solostack/guard"
    )
    assert left.split() == ["aside"], "the operator's file that broke sshd, to be looked at"
    assert "not-found" in host.sh(f"systemctl show -p LoadState {guard.UNIT}")


def test_the_target_is_shared_unless_asked_otherwise() -> None:
    assert SshTarget(name="a", address="b").shared
