"""`down` gives the way in back under the guard: real agent, guard, sshd, uplink and firewall.

In a booted Debian of its own, with a provider's namespace inside (tests/host/test_guard_units.py).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.engine.apply import Report
from solostack.engine.operations import Bundle, Directory, File, phase
from solostack.errors import ApplyError, ConnectError, HostError
from solostack.flows import guarded
from solostack.flows.deployment import Deployment
from solostack.flows.state import State
from solostack.host import guard
from solostack.host.bundle import base_bundle
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, HostPlan
from solostack.site.loader import parse_site
from tests.host.engine_box import Box
from tests.host.engine_container import open_container
from tests.host.test_guard_units import HOST, NIC, SETUP, new

pytestmark = pytest.mark.host
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=400, kvm=True, openvswitch_module=True
)
# What the phases before have made: here they stand for libvirt's networks and the compute host.
NETWORK = phase(
    "network",
    Directory(path="/etc/solostack/networks"),
    File(path="/etc/solostack/networks/data.xml", content="x"),
)
COMPUTE = phase("compute", File(path="/etc/nova-test/nova.conf", content="x"))
BRIDGE = (
    "ip link add br-external type bridge; ip link set br-external up\n"
    "ip link add tap0 type veth peer name tap1\n"
    "ip link set tap0 master br-external up; ip link set tap1 up\n"
    "ip address add 10.99.0.1/24 dev br-external; sysctl -qw net.ipv4.ip_forward=1\n"
)
UPLINK_NAMES = (
    "solostack-uplink.service", "solostack-firewall.service", "solostack-watch.service",
)  # fmt: skip
LOOK = f"""
ip -o link | sed 's/^[0-9]*: //; s/qlen.*//' | grep -v wire
ip -o -4 address | sed 's/^[0-9]*: //'; ip -4 route show table all | sort; ip neigh show proxy
ip -d neigh show nud permanent; nft list tables
sysctl -a 2>/dev/null | grep -E '^net.ipv4.(conf|neigh).({NIC}|all|default|br-external)[.]'
ls -d /usr/local/lib/solostack/* /etc/solostack* /etc/nova-test 2>/dev/null || true
ls /etc/systemd/system /etc/systemd/system/*.wants
"""


class Made(Deployment):
    """A deployment whose base is the guard, a stand-in for the networks, uplink and firewall."""

    def base_bundle(self, host: HostPlan) -> Bundle:
        whole = base_bundle(self.plan, host, ())
        named = {one.name: one for one in whole.phases}
        wanted = (named["guard"], NETWORK, named["uplink"], named["firewall"])
        return Bundle(target=host.name, phases=wanted)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_container(tmp_path_factory.mktemp("down")) as made:
        made.shell(SETUP + BRIDGE)
        yield made


@pytest.fixture(params=["proxy", "bridge"])
def deployment(shared: Box, request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    shared.shell("rm -rf /var/lib/solostack")
    loaded = parse_site(
        f"name: demo\nhosts: [{{name: phys1, address: {HOST}, nic: {NIC}}}]\n"
        f"external: {{method: {request.param}, block: 203.0.113.16/29}}\n",
        Path("site.yaml"),
    )
    plan = build_plan(loaded.site, {"phys1": FACTS})
    executors = {"phys1": shared.executor}
    return Made(loaded=loaded, state=State(tmp_path), executors=executors, plan=plan)


def make(box: Box, deployment: Made) -> None:
    base = deployment.base_bundle(deployment.plan.hosts[0])
    box.apply(base, ledger=True)
    box.apply(Bundle(target="phys1", phases=(COMPUTE,)), ledger=True)


def use_door(monkeypatch: pytest.MonkeyPatch, box: Box, *, closed: bool = False) -> None:
    """New connections come from the provider; closed: none works while something is armed."""

    def connect() -> Executor:
        if closed and guard.status(box.executor).armed:
            raise ConnectError("phys1: no SSH connection")
        return new(box)

    door = guarded.Door(name="phys1", nic=NIC, executor=box.executor, new=connect)
    monkeypatch.setattr(guarded, "_door", lambda *_: door)


def down(deployment: Made) -> tuple[Report, list[str]]:
    said: list[str] = []

    class Heard(Progress):
        def on_say(self, path: tuple[str, ...], text: str) -> None:
            said.append(text)

    with Heard().step("down") as step:
        report = guarded.undo_guarded(deployment, "phys1", step, packages="keep", disable=())
    return report, said


def look(box: Box) -> list[str]:
    return box.shell(LOOK).splitlines()


def states(box: Box) -> str:
    return box.shell(f"systemctl is-active {' '.join(UPLINK_NAMES)} || true")


def test_it_is_confirmed_and_nothing_is_left(
    shared: Box, deployment: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_door(monkeypatch, shared)
    before = look(shared)
    make(shared, deployment)
    assert states(shared).split() == ["active"] * 3

    report, said = down(deployment)

    assert look(shared) == before
    order = [
        "undo path /etc/nova-test/nova.conf",
        "undo unit solostack-watch.service",
        "undo step give the uplink back",
        "undo path /etc/solostack/networks/data.xml",
        f"undo path {guard.SCRIPT_PATH}",
    ]
    assert sorted(order, key=report.changed.index) == order
    assert len(set(report.changed)) == len(report.changed)
    assert any(text.startswith("taken back unless confirmed within") for text in said)
    assert not shared.path("/var/lib/solostack/ledger/journal.jsonl").exists()
    assert down(deployment)[0].changed == ()


def test_unconfirmed_it_is_taken_back_and_the_next_down_goes_on(
    shared: Box, deployment: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(shared)
    make(shared, deployment)
    made = look(shared)
    use_door(monkeypatch, shared, closed=True)
    with monkeypatch.context() as patch:
        patch.setattr(guarded, "guarded", functools.partial(guarded.guarded, timeout_s=20))
        with pytest.raises(HostError, match="was taken back on phys1") as caught:
            down(deployment)
    assert not [line for line in caught.value.details if "still not as before" in line]

    time.sleep(3)  # the watch puts its last things right
    assert sorted(look(shared)) == sorted(line for line in made if line != "/etc/nova-test")
    assert states(shared).split() == ["active"] * 3

    use_door(monkeypatch, shared)
    report, _ = down(deployment)

    assert "undo path /etc/nova-test/nova.conf" not in report.changed
    assert "undo step give the uplink back" in report.changed
    assert look(shared) == before


def test_killed_before_its_confirmation_the_next_down_begins_there(
    shared: Box, deployment: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(shared)
    make(shared, deployment)

    def die() -> Executor:
        raise KeyboardInterrupt

    door = guarded.Door(name="phys1", nic=NIC, executor=shared.executor, new=die)
    monkeypatch.setattr(guarded, "_door", lambda *_: door)
    with pytest.raises(KeyboardInterrupt):
        down(deployment)
    assert guard.status(shared.executor).armed

    use_door(monkeypatch, shared)
    with Progress().step("down") as step:
        guarded.settle(shared.executor, step)
    assert states(shared).split() == ["active"] * 3
    report, _ = down(deployment)

    assert "undo step give the uplink back" in report.changed
    assert look(shared) == before


def test_what_fails_is_taken_back_at_once(
    shared: Box, deployment: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(shared)
    make(shared, deployment)
    use_door(monkeypatch, shared)
    script = "/usr/local/lib/solostack/uplink"
    shared.shell(f"cp -a {script} /root/kept; sed -i 's/^down() {{/down() {{ exit 1/' {script}")
    made = look(shared)

    with pytest.raises(ApplyError, match="give the uplink back"):
        down(deployment)

    time.sleep(3)
    assert sorted(look(shared)) == sorted(line for line in made if line != "/etc/nova-test")
    last = guard.status(shared.executor).last
    assert last is not None
    assert last.result == "taken back"
    shared.shell(f"cp -a /root/kept {script}")
    down(deployment)
    assert look(shared) == before


def test_without_a_guard_it_is_undone_at_once(
    shared: Box, deployment: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(shared)
    use_door(monkeypatch, shared)
    make(shared, deployment)
    shared.shell(f"rm {guard.SCRIPT_PATH}")

    _, said = down(deployment)

    assert not [text for text in said if text.startswith("taken back unless")]
    assert look(shared) == before
