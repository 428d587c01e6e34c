"""The owner's mark on a real file system, and `down` that leaves what is not its own alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.doors.progress import Progress
from solostack.errors import StateError
from solostack.flows import owner
from solostack.flows.deployment import Deployment
from solostack.flows.down import Down
from solostack.flows.state import State
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site
from tests.host.engine_box import Box, open_box

pytestmark = pytest.mark.host
MARK = "/var/lib/solostack/owner"
SITE = parse_site(
    "name: demo\nhosts: [{name: phys1, address: 203.0.113.2, nic: eno1}]\n"
    "external: {block: 198.51.100.0/28}\n",
    Path("site.yaml"),
)
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=400, kvm=True, openvswitch_module=True
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with open_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def box(shared: Box) -> Box:
    shared.clear()
    shared.shell("rm -rf /etc/solostack")
    return shared


def down(box: Box, state: State, *, take_over: bool = False) -> Down:
    executors = {"phys1": PrefixExecutor(LocalExecutor(), box.prefix, "phys1")}
    plan = build_plan(SITE.site, {"phys1": FACTS})
    deployment = Deployment(loaded=SITE, state=state, executors=executors, plan=plan)
    return Down(deployment, take_over=take_over)


def test_one_claim_wins_and_is_private(box: Box, tmp_path: Path) -> None:
    one, two = State(tmp_path / "one"), State(tmp_path / "two")
    for _ in range(2):
        owner.claim(box.executor, "phys1", "demo", one)
    assert box.path(MARK).read_text() == f"demo {one.owner()}\n"
    assert stat.S_IMODE(box.path(MARK).stat().st_mode) == 0o600
    assert stat.S_IMODE(box.path(MARK).parent.stat().st_mode) == 0o711
    with pytest.raises(StateError, match="another machine"):
        owner.claim(box.executor, "phys1", "demo", two)
    with pytest.raises(StateError, match="belongs to another deployment: demo"):
        owner.claim(box.executor, "phys1", "other", one)
    assert [path.name for path in box.path(MARK).parent.iterdir()] == ["owner"]
    (holding,) = owner.look({"phys1": box.executor})
    assert holding == owner.Holding(host="phys1", begun=True, owner=one.owner(), sites=("demo",))
    owner.release(box.executor, "phys1")
    assert owner.look({"phys1": box.executor}) == (owner.Holding(host="phys1"),)


def test_down_touches_nothing_of_another_deployment(box: Box, tmp_path: Path) -> None:
    description = json.dumps({"site": "other", "name": "controller"}, indent=1)
    box.shell(
        "mkdir -p /etc/solostack/nodes /var/lib/solostack/ledger /var/lib/nova/instances\n"
        "touch /var/lib/nova/instances/disk\n"
        'echo \'{"id": 1, "kind": "packages", "names": ["x"]}\' '
        ">/var/lib/solostack/ledger/journal.jsonl\n"
        f"echo '{description}' >/etc/solostack/nodes/controller.json\n"
    )
    before = box.fingerprint("/var/lib/solostack")
    state = State(tmp_path)
    state.write_json("facts.json", {})
    for take_over in (False, True):
        with pytest.raises(StateError, match="phys1 belongs to another deployment: other"):
            down(box, state, take_over=take_over).work(Progress(), remove_packages=True)
    assert box.fingerprint("/var/lib/solostack") == before
    assert box.path("/var/lib/nova/instances/disk").exists()
    assert state.read_json("facts.json") == {}


def test_down_has_nothing_to_do_where_nothing_is(box: Box, tmp_path: Path) -> None:
    box.shell("mkdir -p /var/lib/nova/instances; touch /var/lib/nova/instances/disk")
    state = State(tmp_path)
    state.write_json("facts.json", {})
    assert down(box, state).look(Progress()) == ()
    assert down(box, state).work(Progress(), remove_packages=False) == []
    assert box.path("/var/lib/nova/instances/disk").exists()
    assert state.read_json("facts.json") is None


def test_down_with_a_lost_state_needs_a_word(box: Box, tmp_path: Path) -> None:
    owner.claim(box.executor, "phys1", "demo", State(tmp_path / "lost"))
    with pytest.raises(StateError, match="its state is lost"):
        down(box, State(tmp_path / "new")).look(Progress())
    assert down(box, State(tmp_path / "new"), take_over=True).look(Progress()) == ("phys1",)
