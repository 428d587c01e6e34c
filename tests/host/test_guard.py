"""Harmful changes of the network on a real kernel: each is taken back and the host reached again.

docs/guard.md has the same table. Every change runs in two namespaces of its own (tests/host/
guard_box.py), with real ip, nft and sysctl.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.guard_box import CLIENT, HOST, LONELY, NIC, PORT, SHARED, GuardBox

pytestmark = pytest.mark.host

# Name: (provider's shape, what is done on the host, whether it shuts the host off).
HARM = {
    "address flushed": (LONELY, f"ip address flush dev {NIC}"),
    "wrong address": (
        SHARED,
        f"ip address del {HOST}/24 dev {NIC}; ip address add 203.0.113.22/24 dev {NIC}",
    ),
    "default route deleted": (SHARED, "ip route del default"),
    "wrong gateway": (SHARED, f"ip route replace default via 203.0.113.99 dev {NIC}"),
    "gateway without onlink": (
        LONELY,
        f"ip route del default; ip route add default via 192.0.2.1 dev {NIC} || true",
    ),
    "NIC down": (LONELY, f"ip link set {NIC} down"),
    "NIC renamed": (SHARED, f"ip link set {NIC} down; ip link set {NIC} name lan7"),
    "NIC into a bridge without the address": (
        SHARED,
        f"ip link add br7 type bridge; ip link set br7 up; ip link set {NIC} master br7\n"
        "sysctl -qw net.ipv4.conf.all.arp_ignore=1",
    ),
    "NIC into a bridge with the address and another MAC": (
        LONELY,
        "ip link add br7 address 52:54:00:99:99:99 type bridge; ip link set br7 up\n"
        f"ip link set {NIC} master br7; ip address flush dev {NIC}; "
        f"ip address add {HOST}/32 dev br7; ip route add default via 192.0.2.9 dev br7 onlink",
    ),
    "MAC changed behind a filter": (
        SHARED,
        f"ip link set {NIC} down; ip link set {NIC} address 52:54:00:77:77:77; "
        f"ip link set {NIC} up; ip route replace default via 203.0.113.1",
    ),
    "ARP off": (LONELY, f"ip link set {NIC} arp off"),
    "arp_ignore=2 with a /32": (LONELY, f"sysctl -qw net.ipv4.conf.{NIC}.arp_ignore=2"),
    "arp_ignore=8": (SHARED, "sysctl -qw net.ipv4.conf.all.arp_ignore=8"),
    "input drops all": (
        SHARED,
        "nft 'add table inet bad; add chain inet bad input "
        "{ type filter hook input priority 0; policy drop; }'",
    ),
    "raw drops all on the NIC": (
        LONELY,
        "nft 'add table netdev bad; add chain netdev bad in "
        f'{{ type filter hook ingress device "{NIC}" priority -500; policy drop; }}\'',
    ),
    "ARP dropped": (
        LONELY,
        "nft 'add table arp bad; add chain arp bad in "
        "{ type filter hook input priority 0; policy drop; }'",
    ),
    "ruleset flushed, then all dropped": (
        SHARED,
        "nft flush ruleset; nft 'add table inet own; add chain inet own input "
        "{ type filter hook input priority 0; policy drop; }'",
    ),
    "rule that sends all into a black hole": (LONELY, f"ip rule add pref 5 to {CLIENT} blackhole"),
    "default route into a black hole": (
        SHARED,
        "ip route del default; ip route add default via 203.0.113.1 metric 50; "
        "ip route add blackhole default metric 1",
    ),
    "strict rp_filter with another way back": (
        LONELY,
        f"sysctl -qw net.ipv4.conf.{NIC}.rp_filter=1; ip route add {CLIENT} dev br0",
    ),
    "MTU 68": (
        SHARED,
        f"ip link set {NIC} mtu 68; nft insert rule inet own input tcp dport {PORT} drop",
    ),
    "our own set without the address": (
        LONELY,
        "nft 'add table inet solostack; add set inet solostack owned { type ipv4_addr; }; "
        "add chain inet solostack raw { type filter hook prerouting priority -300; }; "
        f'add rule inet solostack raw iifname "{NIC}" ip daddr != @owned drop\'',
    ),
    "another interface takes the network": (
        SHARED,
        "ip link add thief type bridge; ip link set thief up\n"
        "ip address add 203.0.113.3/25 dev thief; ip route add 198.51.100.128/25 dev thief",
    ),
}
# These do not shut this simple host off, but others; they must be taken back all the same.
UNHELPFUL = {
    "proxy_arp=1": (LONELY, f"sysctl -qw net.ipv4.conf.{NIC}.proxy_arp=1"),
    "forwarding off": (SHARED, "sysctl -qw net.ipv4.ip_forward=0"),
    "neighbour proxy lost": (LONELY, f"ip neigh del proxy 198.51.100.7 dev {NIC}"),
    "routes of another table lost": (SHARED, "ip route flush table 77; ip rule del lookup 77"),
}
TIMEOUT_S = 5.0
# The machine has few processors, and most of each case is waiting.
TOGETHER = 8
ALL = {**HARM, **UNHELPFUL}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[GuardBox]:
    with GuardBox(tmp_path / "box", LONELY) as made:
        yield made


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, concurrent.futures.Future[dict[str, Any]]]]:
    """Every harmful change, some at a time; a test waits for its own."""
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        yield {
            name: pool.submit(harm, tmp_path_factory.mktemp("box") / "box", *case)
            for name, case in ALL.items()
        }


def harm(folder: Path, shape: tuple[str, str], script: str) -> dict[str, Any]:
    with GuardBox(folder, shape) as box:
        before = box.state()
        box.arm(TIMEOUT_S)
        box.sh(script)
        changed = box.state() != before
        # What the provider remembers would hide for minutes that nobody answers it.
        box.provider_sh("ip neigh flush all")
        reached = box.reached(0.5)
        last = box.wait_ended()
        box.wait_reached(20)
        after = box.wait_state(before)
        return {
            "before": before,
            "changed": changed,
            "reached": reached,
            "last": last,
            "after": after,
        }


@pytest.mark.parametrize("name", ALL)
def test_a_harmful_change_is_taken_back(
    outcomes: dict[str, concurrent.futures.Future[dict[str, Any]]], name: str
) -> None:
    seen = outcomes[name].result()

    assert seen["changed"], "the change did nothing"
    assert seen["reached"] is (name in UNHELPFUL), "the change is not what it is said to be"
    assert seen["last"]["result"] == "taken back", seen["last"]
    assert seen["last"]["differs"] == [], seen["last"]
    for part, lines in seen["before"].items():
        # A link made meanwhile that never held the NIC may be anybody's; it loses its addresses.
        assert [line for line in seen["after"][part] if "thief" not in line] == lines, part


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=30)
    value: dict[str, Any] = json.loads(out)
    return value


def test_a_watcher_that_is_killed_comes_back_and_takes_the_change_back(box: GuardBox) -> None:
    before = box.state()
    box.arm(TIMEOUT_S)
    box.sh(f"ip link set {NIC} down")
    for _ in range(3):
        time.sleep(0.4)
        box.kill_watcher()

    last = box.wait_ended()

    assert (last["result"], last["differs"]) == ("taken back", [])
    box.wait_reached(10)
    assert box.wait_state(before) == before


def test_a_watcher_that_is_killed_on_the_way_back_goes_on(box: GuardBox) -> None:
    before = box.state()
    box.arm(1.0)
    box.sh(f"ip address flush dev {NIC}; nft flush ruleset; ip link set {NIC} mtu 900")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:  # some of these hit it in the middle
        time.sleep(0.3)
        box.kill_watcher()

    assert box.wait_ended()["differs"] == []
    assert box.wait_state(before) == before


def test_after_a_reboot_in_the_middle_files_come_back_at_once_and_the_way_in_too(
    box: GuardBox,
) -> None:
    changed, new = box.files / "interfaces", box.files / "solostack.conf"
    changed.write_text("before\n")
    box.arm(300, changed, new)
    changed.write_text("after\n")
    new.write_text("net.ipv4.conf.all.arp_ignore = 8\n")
    # What a boot with half of the new files would have brought.
    box.sh(f"ip address flush dev {NIC}; ip link set {NIC} down")
    box.reboot()
    box.kill_watcher()

    last = box.wait_ended()

    assert (last["result"], last["why"]) == ("taken back", "the host was rebooted")
    assert (changed.read_text(), new.exists()) == ("before\n", False)
    box.wait_reached(10)


def test_after_a_reboot_the_way_in_is_left_as_the_boot_made_it(box: GuardBox) -> None:
    # The NIC is a port of a bridge that comes later in the boot than the guard.
    box.sh(
        "ip link add br7 address 52:54:00:00:00:01 type bridge; ip link set br7 up\n"
        f"ip link set {NIC} master br7; ip address flush dev {NIC}\n"
        f"ip address add {HOST}/32 dev br7; ip route add default via 192.0.2.1 dev br7 onlink"
    )
    box.arm(300)
    box.sh(
        f"ip link delete br7; ip address add {HOST}/32 dev {NIC}\n"
        f"ip route add default via 192.0.2.1 dev {NIC} onlink"
    )
    booted = box.state()
    box.reboot()
    box.kill_watcher()

    last = box.wait_ended()

    assert (last["result"], last["failed"], last["done"]) == ("taken back", [], [])
    box.wait_reached(10)
    assert box.wait_state(booted) == booted


def test_after_a_reboot_without_the_bridge_it_is_made_again(box: GuardBox) -> None:
    box.sh(
        "ip link add br7 address 52:54:00:00:00:01 type bridge; ip link set br7 up\n"
        f"ip link set {NIC} master br7; ip address flush dev {NIC}\n"
        f"ip address add {HOST}/32 dev br7; ip route add default via 192.0.2.1 dev br7 onlink"
    )
    box.arm(300)
    box.sh("ip link delete br7")
    box.reboot()
    box.kill_watcher()

    # Coming up, the bridge gets its link-local address by itself, maybe while we look.
    assert [line for line in box.wait_ended()["failed"] if "already assigned" not in line] == []
    box.wait_reached(10)


def test_files_come_back_with_content_mode_owner_and_absence(box: GuardBox) -> None:
    kept, link, gone, new = (box.files / name for name in ("kept", "link", "gone", "new"))
    kept.write_text("a\n")
    kept.chmod(0o640)
    os.chown(kept, 12, 34)
    link.symlink_to("kept")
    gone.write_bytes(b"\xff\0")
    box.arm(300, kept, link, gone, new)
    kept.write_text("b\n")
    kept.chmod(0o777)
    os.chown(kept, 0, 0)
    link.unlink()
    link.write_text("no link")
    gone.unlink()
    new.write_text("new")

    box.guard("rollback")

    seen = kept.stat()
    assert (kept.read_text(), seen.st_mode & 0o7777) == ("a\n", 0o640)
    assert (seen.st_uid, seen.st_gid) == (12, 34)
    assert (str(link.readlink()), gone.read_bytes(), new.exists()) == ("kept", b"\xff\0", False)
    assert sorted(path.name for path in box.files.iterdir()) == ["gone", "kept", "link"]


def test_a_change_is_kept_by_a_new_session_through_the_nic(box: GuardBox) -> None:
    box.arm(300)
    box.sh(f"ip address add 203.0.113.9/32 dev {NIC}")
    assert "not wholly made" in answer(box.confirm())["refused"]
    box.applied()

    seen = answer(box.confirm())

    assert (seen["armed"], seen["last"]["result"]) == (False, "kept")
    assert seen["last"]["why"] == f"new session from {CLIENT}"
    assert "203.0.113.9" in box.sh("ip address")
    assert "refused" in box.guard("rollback")


def test_an_old_session_proves_nothing(box: GuardBox) -> None:
    box.arm(300)
    old = box.confirm(wait_s=1.5)
    time.sleep(0.3)
    box.applied()

    assert "began before the change" in answer(old)["refused"]
    assert box.guard("status")["armed"]


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ("", "no SSH session"),
        (f"{CLIENT} 4000 10.99.0.1 22", "not an address of nic0"),
        (f"10.99.0.9 4000 {HOST} 22", "leave through br0"),
        (f"{HOST} 4000 {HOST} 22", "leave through lo"),
    ],
)
def test_a_connection_that_does_not_come_through_the_nic_is_no_proof(
    box: GuardBox, connection: str, reason: str
) -> None:
    box.arm(300)
    box.applied()

    assert reason in answer(box.confirm(connection=connection))["refused"]


def test_the_variable_alone_is_no_proof(box: GuardBox) -> None:
    box.arm(300)
    box.applied()
    pretended = {"SSH_CONNECTION": f"{CLIENT} 1 {HOST} 22"}

    assert "no sshd is above" in box.guard("confirm", "one", environment=pretended)["refused"]


def test_on_the_console_the_gateway_has_to_answer(box: GuardBox) -> None:
    box.arm(300)
    box.applied()
    box.provider_sh("ip link set wire down")
    assert "does not answer" in box.guard("confirm", "one", "--console")["refused"]
    box.provider_sh(
        f"ip link set wire up; ip route replace {HOST}/32 dev wire src {CLIENT}\n"
        "sysctl -qw net.ipv4.icmp_echo_ignore_all=1"
    )
    # The carrier's way back takes the kernel a moment.
    time.sleep(1)

    seen = box.guard("confirm", "one", "--console")

    assert seen["last"]["why"] == "gateway 192.0.2.1 answered"


def test_only_one_change_is_armed_at_a_time(box: GuardBox) -> None:
    assert box.arm(300)["seconds_left"] > 290

    assert "armed already" in box.arm(300, identity="two")["refused"]
    assert "not armed any more" in box.guard("applied", "two")["refused"]


def test_what_did_not_change_is_not_touched(box: GuardBox) -> None:
    box.arm(300)

    last = box.guard("rollback")["last"]

    assert (last["done"], last["failed"], last["differs"]) == ([], [], [])


def test_what_cannot_be_restored_is_told(box: GuardBox) -> None:
    box.sh("ip link add other type bridge; ip address add 10.77.0.1/24 dev other")
    box.arm(300)
    box.sh("ip link set br0 down; ip link delete br0; ip address flush dev other")

    last = box.guard("rollback")["last"]

    assert "10.77.0.1" in box.sh("ip address show dev other")
    assert last["result"] == "taken back"
