"""A host's state on real parts: a network namespace, a throwaway root, and the way of `down`."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.clock import FakeClock
from solostack.doors.process import Executor, LocalExecutor, PrefixExecutor
from solostack.doors.progress import Progress
from solostack.engine.operations import Bundle, File, phase
from solostack.errors import HostError
from solostack.flows import owner
from solostack.flows.deployment import Deployment
from solostack.flows.down import Down, Undone
from solostack.flows.state import State
from solostack.host.snapshot import compare
from solostack.host.snapshot_model import Comparison, Difference, Kind, Snapshot
from solostack.host.snapshot_take import (
    NOT_KEPT,
    compare_with_before,
    keep_before,
    take_snapshot,
)
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site
from tests.host.engine_box import Box, open_box

pytestmark = pytest.mark.host
NETWORK = ("nft", "links", "addresses", "routes", "rules", "neighbours", "sysctl")
BEFORE = "/var/lib/solostack/before/state.json"
SITE = parse_site(
    "name: demo\nhosts: [{name: phys1, address: 203.0.113.2, nic: eno1}]\n"
    "external: {block: 198.51.100.0/28}\n",
    Path("site.yaml"),
)
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=400, kvm=True, openvswitch_module=True
)


# --- the network, in a namespace -----------------------------------------------------------------


class Space:
    """A network namespace that stands for a host's network."""

    def __init__(self, name: str) -> None:
        prefix = ("ip", "netns", "exec", name)
        self.executor: Executor = PrefixExecutor(LocalExecutor(), prefix, "phys1")

    def shell(self, script: str) -> None:
        self.executor.run(("sh", "-eu", "-c", script))

    def look(self) -> Snapshot:
        whole = take_snapshot(self.executor, name="phys1")
        # The rest is this machine's, where others work.
        return Snapshot(sections={name: whole.sections[name] for name in NETWORK})


@pytest.fixture
def space() -> Iterator[Space]:
    """A NIC with address and default route, a neighbour's own rules, and a proxied address."""
    name = f"solo-snap-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        space = Space(name)
        space.shell(
            "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6\n"
            "ip link set lo up\n"
            "ip link add nic0 type veth peer name wire\n"
            "ip link set wire up; ip link set nic0 up\n"
            "ip address add 203.0.113.2/24 dev nic0\n"
            "ip route add default via 203.0.113.1\n"
            "ip neighbour add proxy 203.0.113.77 dev nic0\n"
            "nft add table ip others; nft add chain ip others web\n"
            "nft add rule ip others web tcp dport 80 counter accept\n"
        )
        yield space
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


CHANGES = {
    "nft add table inet solostack; nft add chain inet solostack input": (
        "nft delete table inet solostack",
        {
            ("nft", "inet solostack", Kind.ADDED),
            ("nft", "inet solostack chain input", Kind.ADDED),
        },
    ),
    "nft add rule ip others web tcp dport 81 accept": (
        "nft flush chain ip others web; nft add rule ip others web tcp dport 80 counter accept",
        {("nft", "ip others chain web", Kind.CHANGED)},
    ),
    "ip address add 198.51.100.1/32 dev nic0": (
        "ip address delete 198.51.100.1/32 dev nic0",
        {("addresses", "nic0 198.51.100.1/32", Kind.ADDED)},
    ),
    "ip route add blackhole 198.51.100.0/28 metric 4000": (
        "ip route delete blackhole 198.51.100.0/28 metric 4000",
        {("routes", "inet blackhole 198.51.100.0/28 metric 4000", Kind.ADDED)},
    ),
    "ip route add 10.9.0.0/16 dev nic0 table 77": (
        "ip route delete 10.9.0.0/16 dev nic0 table 77",
        {("routes", "inet 10.9.0.0/16 dev nic0 table 77 scope link", Kind.ADDED)},
    ),
    "ip rule add from 10.9.0.0/16 table 77 priority 500": (
        "ip rule delete priority 500",
        {("rules", "inet 500: from 10.9.0.0/16 lookup 77", Kind.ADDED)},
    ),
    "ip neighbour add proxy 203.0.113.78 dev nic0": (
        "ip neighbour delete proxy 203.0.113.78 dev nic0",
        {("neighbours", "inet 203.0.113.78 dev nic0 proxy", Kind.ADDED)},
    ),
    "ip neighbour delete proxy 203.0.113.77 dev nic0": (
        "ip neighbour add proxy 203.0.113.77 dev nic0",
        {("neighbours", "inet 203.0.113.77 dev nic0 proxy", Kind.REMOVED)},
    ),
    "ip neighbour add 203.0.113.9 lladdr 02:00:00:00:00:09 dev nic0 nud permanent": (
        "ip neighbour delete 203.0.113.9 dev nic0",
        {("neighbours", "inet 203.0.113.9 dev nic0 lladdr 02:00:00:00:00:09 PERMANENT",
          Kind.ADDED)},
    ),
    "echo 1 >/proc/sys/net/ipv4/conf/nic0/arp_ignore": (
        "echo 0 >/proc/sys/net/ipv4/conf/nic0/arp_ignore",
        {("sysctl", "net.ipv4.conf.nic0.arp_ignore", Kind.CHANGED)},
    ),
    "ip link add br0 type bridge": (
        "ip link delete br0",
        {("links", "br0", Kind.ADDED)},
    ),
    "ip link set nic0 mtu 1400": (
        "ip link set nic0 mtu 1500",
        {("links", "nic0", Kind.CHANGED)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_network_is_told_and_its_undo_leaves_none(
    space: Space, change: str
) -> None:
    undo, expected = CHANGES[change]
    before = space.look()
    assert not [name for name in NETWORK if before.sections[name].unknown]
    space.shell(change)
    found = compare(before, space.look())
    assert {(one.section, one.name, one.kind) for one in found} == expected, found
    space.shell(undo)
    assert compare(before, space.look()) == ()


def test_traffic_and_time_change_nothing(space: Space) -> None:
    space.shell(
        "nft 'add set ip others seen { type ipv4_addr; flags dynamic,timeout; }'\n"
        "nft add rule ip others web 'update @seen { ip saddr timeout 1m }'\n"
    )
    before = space.look()
    space.shell(
        "nft 'add element ip others seen { 192.0.2.1 timeout 1m }'\n"
        "ip link set wire down\n"  # nic0's routes become linkdown
        "ip neighbour add 203.0.113.8 lladdr 02:00:00:00:00:08 dev nic0 nud stale\n"
    )
    found = compare(before, space.look())
    assert {(one.section, one.name) for one in found} == {("links", "wire")}, found


def test_no_secret_of_the_kernel_is_kept(space: Space) -> None:
    key = "00112233-44556677-8899aabb-ccddeeff"
    space.shell(f"echo {key} >/proc/sys/net/ipv4/tcp_fastopen_key")
    sysctl = space.look().items("sysctl")
    assert "net.ipv4.ip_forward" in sysctl
    assert not [name for name, value in sysctl.items() if value == key or "secret" in name]


def test_a_look_is_quick(space: Space) -> None:
    started = time.monotonic()
    space.look()
    # Below 3 s on a quiet machine; the machine of the tests may be busy.
    assert time.monotonic() - started < 15


def test_without_python_it_is_a_host_error() -> None:
    with pytest.raises(HostError, match="phys1: the host's state could not be written down"):
        keep_before(PrefixExecutor(LocalExecutor(), ("false",), "phys1"), name="phys1")
    with pytest.raises(HostError, match="not JSON"):
        keep_before(PrefixExecutor(LocalExecutor(), ("echo", "motd"), "phys1"), name="phys1")


# --- the whole way, in a throwaway root ----------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Iterator[Box]:
    shared.clear()
    yield shared
    shared.shell("rm -rf /etc/solo-test /etc/solo-other")


def compared(box: Box) -> Comparison:
    return compare_with_before(box.executor, name="phys1", clock=FakeClock())


def of_files(differences: tuple[Difference, ...]) -> dict[str, Kind]:
    """Return those of files below /etc/solo-*: of this machine's network others make changes."""
    return {one.name: one.kind for one in differences if one.name.startswith("/etc/solo-")}


def run_down(box: Box, state: State, clock: FakeClock) -> list[Undone]:
    plan = build_plan(SITE.site, {"phys1": FACTS})
    deployment = Deployment(loaded=SITE, state=state, executors={"phys1": box.executor}, plan=plan)
    return Down(deployment, clock=clock).work(Progress(), remove_packages=False)


def test_the_state_of_before_is_kept_once_whole_and_private(box: Box) -> None:
    box.shell("mkdir /etc/solo-test; echo before >/etc/solo-test/own; chmod 640 /etc/solo-test/own")
    assert keep_before(box.executor, name="phys1")
    kept = box.path(BEFORE)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert [path.name for path in kept.parent.iterdir()] == ["state.json"]
    text = kept.read_bytes()
    box.shell("echo after >/etc/solo-test/own; ln -s own /etc/solo-test/link")
    assert keep_before(box.executor, name="phys1")
    assert kept.read_bytes() == text
    assert of_files(compared(box).differences) == {
        "/etc/solo-test/own": Kind.CHANGED,
        "/etc/solo-test/link": Kind.ADDED,
    }
    items = json.loads(text)["sections"]["files"]["items"]
    assert items["/etc/solo-test/own"].startswith("file 0640 0:0 sha256:")
    assert not [path for path in items if path.startswith("/var/lib/solostack")]


@pytest.mark.parametrize("trace", ["ledger/journal.jsonl", "nodes/controller"])
def test_it_is_never_kept_after_the_first_change(box: Box, trace: str) -> None:
    box.shell(f"mkdir -p $(dirname /var/lib/solostack/{trace}); touch /var/lib/solostack/{trace}")
    assert not keep_before(box.executor, name="phys1")
    assert not box.path(BEFORE).exists()
    assert compared(box) == Comparison(problem=NOT_KEPT)


def test_a_broken_state_of_before_is_told(box: Box) -> None:
    for content in ("{", "[]", '{"format": 99}', '{"format": 1, "sections": {"nft": 1}}'):
        box.shell(f"mkdir -p -m 700 $(dirname {BEFORE}); echo '{content}' >{BEFORE}")
        assert "cannot be used" in compared(box).problem


def test_what_the_ledgers_packages_brought_is_told_apart(box: Box) -> None:
    """A package of this machine stands for one of ours: the state of before is without it."""
    package, conffile, user = "openssh-client", "/etc/ssh/ssh_config", "_ssh"
    assert keep_before(box.executor, name="phys1")
    state = json.loads(box.path(BEFORE).read_text())
    sections = {name: one.get("items", {}) for name, one in state["sections"].items()}
    for section, name in (("packages", package), ("files", conffile), ("groups", user)):
        assert name in sections[section], "the test wants another package on this machine"
        del sections[section][name]
    del sections["files"]["/etc/hosts"]
    box.path(BEFORE).write_text(json.dumps(state))
    box.shell(
        "mkdir -p /var/lib/solostack/ledger/archive/x\n"
        f'echo \'{{"id": 1, "kind": "packages", "names": ["{package}"]}}\' '
        ">/var/lib/solostack/ledger/archive/x/journal.jsonl"
    )
    found = compared(box)
    kept = {(one.section, one.name, one.because) for one in found.kept_with_packages}
    why = f"kept package {package}"
    assert {("packages", package, why), ("files", conffile, why), ("groups", user, why)} <= kept
    assert ("files", "/etc/hosts") in {(one.section, one.name) for one in found.differences}
    box.shell(f"echo '# edited' >>{conffile}")
    assert conffile in {one.name for one in compared(box).differences}


def test_down_proves_the_host_is_as_before_and_tells_what_is_not(box: Box, tmp_path: Path) -> None:
    state, clock = State(tmp_path), FakeClock()
    box.shell("mkdir -p /etc/solo-test; echo mine >/etc/solo-test/conf")
    owner.claim(box.executor, "phys1", "demo", state)
    assert keep_before(box.executor, name="phys1")
    bundle = Bundle(
        target="phys1",
        phases=(
            phase("files", File(path="/etc/solo-test/conf", content="ours\n")),
            phase("more", File(path="/etc/solo-test/new", content="ours\n")),
        ),
    )
    box.apply(bundle, ledger=True)
    # What somebody else does meanwhile is neither undone nor kept quiet.
    box.shell("mkdir /etc/solo-other; echo x >/etc/solo-other/file")
    (undone,) = run_down(box, state, clock)
    assert undone.report.changed
    assert undone.comparison.problem == ""
    assert of_files(undone.comparison.differences) == {
        "/etc/solo-other": Kind.ADDED,
        "/etc/solo-other/file": Kind.ADDED,
    }
    assert undone.comparison.compared["files"] > 100
    assert box.path("/etc/solo-other/file").exists()
    left = sorted(path.name for path in box.path("/var/lib/solostack").iterdir())
    assert left == ["before", "ledger"]
    assert [path.name for path in box.path(BEFORE).parent.iterdir()] == ["last.json"]
    # Twice: nothing to do. And the next deployment keeps a state of its own.
    assert run_down(box, state, clock) == []
    owner.claim(box.executor, "phys1", "demo", state)
    assert keep_before(box.executor, name="phys1")
    box.shell("rm -r /etc/solo-other")
    (undone,) = run_down(box, state, clock)
    assert set(of_files(undone.comparison.differences).values()) == {Kind.REMOVED}


def test_down_that_was_killed_after_its_undo_still_compares(box: Box, tmp_path: Path) -> None:
    state = State(tmp_path)
    owner.claim(box.executor, "phys1", "demo", state)
    assert keep_before(box.executor, name="phys1")
    bundle = Bundle(
        target="phys1", phases=(phase("files", File(path="/etc/solo-test/x", content="x")),)
    )
    box.apply(bundle, ledger=True)
    box.undo()
    box.shell("mkdir -p /etc/solo-other")
    (undone,) = run_down(box, state, FakeClock())
    assert undone.comparison.problem == ""
    assert of_files(undone.comparison.differences) == {"/etc/solo-other": Kind.ADDED}


def test_down_of_a_cloud_made_by_an_older_version_says_so(box: Box, tmp_path: Path) -> None:
    state = State(tmp_path)
    owner.claim(box.executor, "phys1", "demo", state)
    bundle = Bundle(
        target="phys1", phases=(phase("files", File(path="/etc/solo-test/x", content="x")),)
    )
    box.apply(bundle, ledger=True)
    (undone,) = run_down(box, state, FakeClock())
    assert undone.comparison == Comparison(problem=NOT_KEPT)
    assert not box.path("/etc/solo-test/x").exists()


def test_what_settles_within_seconds_is_no_difference(box: Box) -> None:
    class Settling(FakeClock):
        def sleep(self, duration_s: float) -> None:
            super().sleep(duration_s)
            with contextlib.suppress(FileNotFoundError):
                box.path("/etc/solo-test/passing").unlink()

    box.shell("mkdir -p /etc/solo-test")
    assert keep_before(box.executor, name="phys1")
    box.shell("touch /etc/solo-test/passing")
    found = compare_with_before(box.executor, name="phys1", clock=Settling())
    assert of_files(found.differences) == {}
