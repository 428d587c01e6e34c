"""What would change is named by path, in the words of the plan, for host, nodes and cloud."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from solostack.plan.build import build_plan
from solostack.plan.diff import Change, ChangeKind, Scope, diff
from solostack.plan.model import HostFacts
from solostack.plan.serial import Json, to_data
from solostack.site.loader import parse_site

MINIMAL = """\
hosts:
  - name: phys1
    address: 203.0.113.2
    nic: eth0
external:
  block: 198.51.100.0/28
"""


def plan_data(text: str) -> dict[str, Json]:
    site = parse_site(text, Path("site.yaml")).site
    facts = {
        host.name: HostFacts(
            name=host.name,
            cores=4,
            memory_mib=15900,
            disk_gib=100,
            kvm=True,
            openvswitch_module=True,
        )
        for host in site.hosts
    }
    data = to_data(build_plan(site, facts))
    assert isinstance(data, dict)
    return data


def lines(new: str) -> list[str]:
    return [change.line() for change in diff(plan_data(MINIMAL), plan_data(MINIMAL + new))]


def test_equal_plans_have_no_difference() -> None:
    assert diff(plan_data(MINIMAL), plan_data(MINIMAL)) == ()


def test_a_nodes_memory_is_felt_by_node_and_host() -> None:
    changes = diff(
        plan_data(MINIMAL), plan_data(MINIMAL + "nodes: {controller: {memory_mib: 4096}}\n")
    )
    assert changes[-1] == Change(
        path="nodes[controller].memory_mib",
        kind=ChangeKind.CHANGED,
        scope=Scope.NODES,
        old=3072,
        new=4096,
    )
    assert {change.path: change.scope for change in changes} == {
        "hosts[phys1].control_memory_mib": Scope.HOST,
        "hosts[phys1].instance_memory_mib": Scope.HOST,
        "hosts[phys1].reserved_memory_mib": Scope.HOST,
        "nodes[controller].memory_mib": Scope.NODES,
    }


def test_lines_read_like_a_diff() -> None:
    assert lines("demo: {network: 10.20.0.0/24}\n") == [
        "~ demo.network: 10.10.0.0/24 -> 10.20.0.0/24"
    ]
    assert lines("demo: null\n") == [
        '~ demo: {"dns": [], "network": "10.10.0.0/24", "project": "demo"} -> null'
    ]
    assert lines("flavors: [{name: m1.nano, vcpus: 2, memory_mib: 128, disk_gib: 1}]\n") == [
        '- flavors[m1.medium]: {"disk_gib": 40, "memory_mib": 4096, "name": "m1.medium", '
        '"vcpus": 2}',
        "~ flavors[m1.nano].vcpus: 1 -> 2",
        '- flavors[m1.small]: {"disk_gib": 20, "memory_mib": 2048, "name": "m1.small", "vcpus": 1}',
        '- flavors[m1.tiny]: {"disk_gib": 5, "memory_mib": 512, "name": "m1.tiny", "vcpus": 1}',
    ]


def test_a_second_host_is_one_addition() -> None:
    both = MINIMAL.replace(
        "external:", "  - {name: phys2, address: 203.0.113.3, nic: eth0}\nexternal:"
    )
    [change] = diff(plan_data(MINIMAL), plan_data(both))
    assert (change.path, change.kind, change.scope) == (
        "hosts[phys2]",
        ChangeKind.ADDED,
        Scope.HOST,
    )
    assert isinstance(change.new, dict)
    assert change.new["data_address"] == "172.16.0.2/24"


def test_another_block_changes_host_routes_and_the_clouds_subnet() -> None:
    other = MINIMAL.replace("198.51.100.0/28", "192.0.2.64/28")
    changes = diff(plan_data(MINIMAL), plan_data(other))
    assert [(change.path, change.scope) for change in changes] == [
        ("external.block", Scope.HOST),
        ("external.networks", Scope.HOST),
        ("external.subnets", Scope.CLOUD),
    ]


def test_from_nothing_every_part_is_added() -> None:
    data = plan_data(MINIMAL)
    changes = diff({}, data)
    assert {change.kind for change in changes} == {ChangeKind.ADDED}
    assert {change.path for change in changes} == data.keys() - {"addresses"}


def test_order_of_named_things_is_no_difference() -> None:
    data = plan_data(MINIMAL)
    turned = copy.deepcopy(data)
    flavors = turned["flavors"]
    assert isinstance(flavors, list)
    flavors.reverse()
    assert diff(data, turned) == ()


def test_true_is_not_one() -> None:
    assert [change.line() for change in diff({"egress": True}, {"egress": 1})] == [
        "~ egress: true -> 1"
    ]


VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=8,
)
DATA = st.dictionaries(st.sampled_from(["hosts", "nodes", "demo", "x"]), VALUES)


@given(DATA, DATA)
def test_difference_is_empty_only_for_equal_data_and_has_a_mirror(
    old: dict[str, Json], new: dict[str, Json]
) -> None:
    forth, back = diff(old, new), diff(new, old)
    assert [change.path for change in forth] == [change.path for change in back]
    assert all(change.line() for change in forth)
    if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True):
        assert forth == ()
    assert diff(old, old) == ()
