"""The guard under a real systemd and a real sshd: its unit, units that come back, SSH sessions.

In a booted Debian of its own (tests/host/engine_container.py), with a provider's namespace inside.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.process import PrefixExecutor
from solostack.doors.ssh import SshExecutor, SshTarget
from solostack.engine.operations import Bundle, File, Line, Unit, phase
from solostack.errors import CommandError, ConnectError, HostError
from solostack.host import guard
from tests.host.engine_box import Box
from tests.host.engine_container import open_container

pytestmark = pytest.mark.host
NIC = "nic0"
HOST = "203.0.113.2"
SETUP = f"""
ip netns add provider
ip link add {NIC} type veth peer name wire netns provider
ip address add {HOST}/24 dev {NIC}; ip link set {NIC} up
ip route add default via 203.0.113.1
ip -n provider address add 203.0.113.1/24 dev wire; ip -n provider link set wire up
ssh-keygen -A
mkdir -p /root/.ssh /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /root/key
cp /root/key.pub /root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys
echo "{HOST} $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)" >/root/known
# Since the boot it may have failed for want of those keys, up to systemd's limit of starts.
systemctl stop ssh.service
systemctl reset-failed ssh.service
systemctl start ssh.service
printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' \\
    >/etc/systemd/system/mine.service
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_container(tmp_path_factory.mktemp("guard")) as made:
        made.shell(SETUP)
        made.apply(Bundle(target="box", phases=(phase("guard", *guard.guard_operations()),)))
        yield made


def new(box: Box) -> SshExecutor:
    """A new SSH connection from the provider, each time."""
    target = SshTarget(
        name="box",
        address=HOST,
        key=Path("/root/key"),
        known_hosts=Path("/root/known"),
        shared=False,
        connect_timeout_s=3,
    )
    provider = PrefixExecutor(box.executor, ("ip", "netns", "exec", "provider"), "provider")
    return SshExecutor(target, local=provider)


def arm(box: Box, identity: str, timeout_s: float = 300, *files: str, units: bool = False) -> None:
    touched = guard.Watched(
        files=files,
        units=("mine.service",) if units else (),
        restart_on=(("mine.service", files),) if units else (),
    )
    guard.arm(box.executor, identity, what="test", nic=NIC, timeout_s=timeout_s, touched=touched)


def wait_back(box: Box, limit_s: float = 60) -> guard.Ended:
    end = time.monotonic() + limit_s
    while True:
        try:
            seen = guard.status(new(box))
        except (ConnectError, CommandError):
            seen = None
        if seen is not None and not seen.armed and seen.last is not None:
            return seen.last
        assert time.monotonic() < end, box.shell(f"journalctl -u {guard.UNIT} --no-pager -n 30")
        time.sleep(0.3)


def test_the_unit_is_sound_enabled_and_idle(box: Box) -> None:
    assert not box.shell(f"systemd-analyze verify {guard.UNIT_PATH} 2>&1 | grep guard || true")
    assert box.shell(f"systemctl is-enabled {guard.UNIT}").strip() == "enabled"
    assert box.shell(f"systemctl is-active {guard.UNIT} || true").strip() == "inactive"


def test_a_new_session_keeps_the_change_and_the_unit_ends(box: Box) -> None:
    arm(box, "kept")
    assert box.shell(f"systemctl is-active {guard.UNIT}").strip() == "active"
    guard.applied(new(box), "kept")

    seen = guard.confirm(new(box), "kept")

    assert seen.last is not None
    assert (seen.last.result, seen.last.why) == ("kept", "new session from 203.0.113.1")
    time.sleep(1.5)
    assert box.shell(f"systemctl is-active {guard.UNIT} || true").strip() == "inactive"


def test_a_session_that_was_there_before_is_refused(box: Box) -> None:
    arm(box, "old")
    script = f"{guard.SCRIPT_PATH} applied old; {guard.SCRIPT_PATH} confirm old"

    done = new(box).run(("sh", "-c", script), check=False)

    answer = json.loads(done.text.splitlines()[1])
    assert "began before the change was made" in answer["refused"]
    guard.rollback(box.executor)


def test_the_console_is_no_session(box: Box) -> None:
    arm(box, "console")
    guard.applied(box.executor, "console")

    with pytest.raises(HostError, match="no SSH session"):
        guard.confirm(box.executor, "console")
    assert guard.confirm(box.executor, "console", console=True).armed is False


@pytest.mark.parametrize(
    "harm",
    [
        "systemctl disable --now ssh.service",
        "systemctl mask --now ssh.service",
        "systemctl kill -s KILL --kill-whom=all ssh.service; systemctl stop ssh.service",
        "echo nonsense >>/etc/ssh/sshd_config; systemctl restart ssh.service || true",
        f"ip link set {NIC} down; nft 'add table inet bad; add chain inet bad input "
        "{ type filter hook input priority 0; policy drop; }'",
    ],
)
def test_sshd_and_the_way_to_it_come_back(box: Box, harm: str) -> None:
    arm(box, "harm", 3)
    box.shell(harm)

    last = wait_back(box)

    assert (last.id, last.result, last.differs) == ("harm", "taken back", ())
    assert box.shell("systemctl is-enabled ssh.service").strip() == "enabled"


def test_units_of_the_change_stop_and_those_of_before_run_on_their_old_files(box: Box) -> None:
    path = "/etc/systemd/system/mine.service"
    arm(box, "unit", 300, path, units=True)
    box.shell("systemctl enable --now mine.service")

    last = guard.rollback(box.executor).last

    assert last is not None
    assert last.differs == (), last
    assert box.shell("systemctl is-active mine.service || true").strip() == "inactive"
    assert box.shell("systemctl is-enabled mine.service || true").strip() == "disabled"

    box.shell("systemctl start mine.service")
    arm(box, "unit2", 300, path, units=True)
    box.shell(f"sed -i 's/infinity/99999/' {path}; systemctl daemon-reload; "
              "systemctl restart mine.service")  # fmt: skip
    last = guard.rollback(box.executor).last
    assert last is not None
    assert last.differs == (), last
    assert "infinity" in box.shell("ps -C sleep -o args=")


def test_the_watcher_is_started_again_whatever_kills_it(box: Box) -> None:
    arm(box, "killed", 5)
    box.shell(f"ip link set {NIC} down")
    for _ in range(5):
        box.shell(f"systemctl kill -s KILL {guard.UNIT} || true")
        time.sleep(0.5)

    assert wait_back(box).differs == ()


def test_another_boot_takes_the_files_back_before_it_goes_on(box: Box) -> None:
    box.shell("echo before >/etc/interfaces-of-test")
    arm(box, "boot", 300, "/etc/interfaces-of-test")
    box.shell(
        "echo after >/etc/interfaces-of-test\n"
        f"ip address flush dev {NIC}; systemctl stop {guard.UNIT}\n"
        """sed -i 's/"boot_id": "[^"]*"/"boot_id": "another"/' """
        f"{guard.STATE_FOLDER}/armed.json"
    )
    # With the unit's start, which the network's services wait for at boot, the files are back.
    box.shell(f"systemctl restart {guard.UNIT}")
    assert box.shell("cat /etc/interfaces-of-test") == "before\n"

    last = wait_back(box, 90)

    assert (last.why, last.differs) == ("the host was rebooted", ())


def test_an_unknown_nic_is_refused(box: Box) -> None:
    with pytest.raises(HostError, match="no interface nic9"):
        guard.arm(box.executor, "x", what="", nic="nic9", timeout_s=9, touched=guard.Watched())


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after the next up"])
def test_down_is_right_after_a_change_was_taken_back(box: Box, *, again: bool) -> None:
    """The guard restores behind the ledger's back; what the ledger holds stays true."""
    unit = "/etc/systemd/system/ours.service"
    wanted = phase(
        "uplink",
        File(path="/etc/ours", content="ours\n", mode=0o600),
        File(path="/etc/ours.new", content="new\n"),
        Line(path="/etc/ours.line", line="ours", match="^ours$"),
        File(
            path=unit,
            content="[Service]\nExecStart=sleep 77777\n[Install]\nWantedBy=multi-user.target\n",
        ),
        Unit(name="ours.service", restart_on=(unit,)),
    )
    bundle = Bundle(target="box", phases=(wanted,))
    box.shell("echo theirs >/etc/ours; echo line >/etc/ours.line; chmod 640 /etc/ours")
    look = "stat -c '%a %u %y %n' /etc/ours*; cat /etc/ours*; systemctl is-active ours.service || :"
    before = box.shell(look)
    guard.arm(box.executor, "led", what="", nic=NIC, timeout_s=300, touched=guard.watched([wanted]))
    box.apply(bundle, ledger=True)
    assert box.shell("systemctl is-active ours.service") == "active\n"

    last = guard.rollback(box.executor).last

    assert last is not None
    assert last.differs == (), last
    assert box.shell(look) == before
    if again:
        assert len(box.apply(bundle, ledger=True, dry_run=True).changed) == 5
        box.apply(bundle, ledger=True)
        assert not box.apply(bundle, ledger=True, dry_run=True).changed
    box.undo()
    assert box.shell(look) == before
    assert box.shell("ls /etc/systemd/system/*/ours.service 2>/dev/null || true") == ""
