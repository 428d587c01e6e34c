"""Growing a disk: the one number changed in the site's text, sizes read, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solostack.cli.storage_commands import parse_size
from solostack.doors.process import Completed, OnLine
from solostack.errors import ConfigureError, SiteError, UsageError
from solostack.flows.applied import changes_since_applied as changes_of
from solostack.flows.applied import keep_applied_plan, only_growth, require_possible
from solostack.flows.state import State
from solostack.flows.storage import require_grown
from solostack.openstack import storage_disks
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.edit import with_number
from solostack.site.loader import parse_site

FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=220, kvm=True, openvswitch_module=True
)
HEAD = """\
# A site with remarks.
hosts: [{name: phys1, address: 203.0.113.2, nic: eth0}]   # one host
external: {block: 198.51.100.0/28}
"""
FORMS = (
    "storage:   # all\n  cinder:\n    # how much\n    size_gib: 20   # keep\n    backend: lvm\n",
    "storage: {cinder: {size_gib: 20}, nfs: {size_gib: 3}}  # flow\n",
    "storage:\n  cinder: {size_gib: '20'}\n  nfs:\n    size_gib: 3\n",
    "storage:\n  cinder: {}\n",
    "storage: {cinder: {}}\n",
    "storage:\n    cinder:\n        backend: lvm   # the size is the default\n",
    "storage:\n  cinder: {backend: lvm}\n",
)
CINDER = ("storage", "cinder", "size_gib")


def plan_of(storage: str) -> Plan:
    return build_plan(parse_site(HEAD + storage, Path("site.yaml")).site, {"phys1": FACTS})


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20)
@given(size=st.integers(2, 10**6))
def test_only_the_number_changes(form: str, size: int) -> None:
    text = with_number(HEAD + form, CINDER, size)
    before, after = (parse_site(each, Path("s")).site for each in (HEAD + form, text))
    assert after.storage is not None
    assert after.storage.cinder is not None
    assert before.storage is not None
    assert before.storage.cinder is not None
    assert after.storage.cinder.size_gib == size
    cinder = before.storage.cinder.model_copy(update={"size_gib": size})
    wanted = before.model_copy(
        update={"storage": before.storage.model_copy(update={"cinder": cinder})}
    )
    assert after == wanted
    remarks = [line.partition("#")[2] for line in (HEAD + form).splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in text.splitlines() if "#" in line] == remarks


def test_a_number_that_has_no_mapping_around_it_is_not_made_up() -> None:
    with pytest.raises(KeyError):
        with_number(HEAD + FORMS[0], ("storage", "swift", "size_gib"), 4)


@pytest.mark.parametrize(
    ("text", "gib"), [("40", 40), ("40G", 40), ("40 GiB", 40), ("2T", 2048), ("2tib", 2048)]
)
def test_sizes_are_read(text: str, gib: int) -> None:
    assert parse_size(text) == gib


@pytest.mark.parametrize("text", ["", "0", "-4", "4.5", "40M", "+10", "big"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        parse_size(text)


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state")
    state.create()
    keep_applied_plan(state, plan_of("storage: {cinder: {size_gib: 20}, nfs: {size_gib: 3}}\n"))
    return state


def test_a_larger_disk_and_a_further_one_are_possible(state: State) -> None:
    plan = plan_of("storage: {cinder: {size_gib: 30}, nfs: {size_gib: 3}}\n")
    require_possible(state, plan)
    assert only_growth(changes_of(state, plan) or ())
    more = plan_of("storage: {cinder: {size_gib: 20}, nfs: {size_gib: 3}, swift: {}}\n")
    require_possible(state, more)
    assert not only_growth(changes_of(state, more) or ())


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("{cinder: {size_gib: 10}, nfs: {size_gib: 3}}", "size_gib: 20 -> 10"),
        ("{cinder: {size_gib: 20}}", "nodes[storage].disks[nfs] is gone"),
        ("{cinder: {size_gib: 20, volume_group: vg0}, nfs: {size_gib: 3}}", "volume_group"),
        ("{cinder: {backend: rbd, rbd: {conf: a, keyring: b}}, nfs: {size_gib: 3}}", "backend"),
    ],
)
def test_what_would_lose_data_is_refused(state: State, storage: str, said: str) -> None:
    with pytest.raises(SiteError) as caught:
        require_possible(state, plan_of(f"storage: {storage}\n"))
    assert any(said in line for line in caught.value.details)


def test_growth_beside_another_change_is_not_only_growth(state: State) -> None:
    plan = plan_of("storage: {cinder: {size_gib: 30}, nfs: {size_gib: 3}}\n")
    other = dataclasses.replace(plan, workers=plan.workers + 1)
    assert not only_growth(changes_of(state, other) or ())


@dataclasses.dataclass
class Node:
    """A storage node whose disk program says what it is told to."""

    report: str
    status: int = 0
    said: str = ""
    name: str = "storage"
    asked: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        """Answer as the program would."""
        command = tuple(argv)
        self.asked.append(command)
        if command == storage_disks.ENSURE:
            return Completed(command, self.status, b"", self.said.encode())
        return Completed(command, 0, self.report.encode(), b"")


def rows(**errors: str) -> str:
    return json.dumps([{"name": name, "error": error} for name, error in errors.items()])


def test_growth_is_looked_at_inside_the_node() -> None:
    node = Node(rows(cinder="", nfs="/srv/nfs is not mounted"))
    require_grown(node, ("cinder",))
    assert node.asked == [storage_disks.ENSURE, storage_disks.REPORT]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (Node(rows(cinder="has 20.0 GiB, not 40: it is not grown yet")), "cinder: has 20.0 GiB"),
        (Node(rows(nfs="")), "cinder: the node does not know it yet"),
        (Node("no JSON"), "storage does not know its disks yet"),
        (Node(rows(cinder=""), status=1, said="disk cinder: lvextend failed"), "lvextend failed"),
    ],
)
def test_a_disk_that_did_not_grow_in_the_guest_is_no_success(node: Node, said: str) -> None:
    with pytest.raises(
        ConfigureError, match="storage: not grown inside the node: cinder"
    ) as caught:
        require_grown(node, ("cinder",))
    assert any(said in line for line in caught.value.details)
    assert "run the same command again" in caught.value.hint
    assert "virsh shutdown storage" in caught.value.hint
