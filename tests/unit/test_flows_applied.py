"""What of a site may change under a running cloud, and `down` with the plan as it was made."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

import pytest

from solostack.errors import SiteError, StateError
from solostack.flows.applied import (
    applied_plan,
    impossible_changes,
    keep_applied_plan,
    require_possible,
)
from solostack.flows.down import open_down
from solostack.flows.facts import load_facts, prove_facts, save_facts
from solostack.flows.state import State
from solostack.flows.up import open_up
from solostack.plan.build import build_plan
from solostack.plan.diff import diff
from solostack.plan.model import HostFacts, Plan
from solostack.plan.serial import to_data
from solostack.site.loader import LoadedSite, parse_site

ONE = """name: one
hosts:
  - {name: phys1, address: 203.0.113.2, nic: eno1}
external: {block: 198.51.100.0/28}
"""
TWO = ONE.replace("external:", "  - {name: phys2, address: 203.0.113.3, nic: eno1}\nexternal:")


def facts(name: str) -> HostFacts:
    return HostFacts(
        name=name, cores=8, memory_mib=32000, disk_gib=400, kvm=True, openvswitch_module=True
    )


FACTS = {name: facts(name) for name in ("phys1", "phys2")}


def site(text: str) -> LoadedSite:
    return parse_site(text, Path("site.yaml"))


def plan(text: str) -> Plan:
    return build_plan(site(text).site, FACTS)


def impossible(old: str, new: str) -> list[str]:
    before, after = to_data(plan(old)), to_data(plan(new))
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    return [change.path for change in impossible_changes(diff(before, after))]


def test_storage_and_directory_nodes_may_come_later_and_do_not_go() -> None:
    more = ONE + "storage: {nfs: {}}\ndirectory: {}\n"
    assert impossible(ONE, more) == []
    assert impossible(more, ONE) == ["nodes[directory]", "nodes[storage]"]


@pytest.mark.parametrize(
    "more",
    [
        "workers: 3\n",
        "egress: false\n",
        "nodes: {controller: {memory_mib: 6000, vcpus: 3}}\n",
        "flavors: [{name: m9.huge, vcpus: 4, memory_mib: 512, disk_gib: 3}]\n",
        "demo: {project: other, network: 10.77.0.0/24}\n",
        "data: {bridge: eth1}\n",
    ],
)
def test_what_may_change(more: str) -> None:
    assert plan(ONE) != plan(ONE + more)
    assert impossible(ONE, ONE + more) == []


PROXY = ONE.replace("{block: 198.51.100.0/28}", "{method: proxy, addresses: [198.51.100.7]}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ONE, ONE + "firewall: {ssh_from: [192.0.2.0/24], open: [{port: 80}]}\n"),
        (ONE, ONE.replace("/28}", "/28, published: [{port: 80, to: 198.51.100.1}]}")),
        (PROXY, PROXY.replace("100.7]", "100.7, 198.51.100.9]")),
        (PROXY, PROXY.replace("addresses: [198.51.100.7]", "block: 198.51.100.0/29")),
    ],
)
def test_addresses_published_ports_and_the_firewall_may_change(old: str, new: str) -> None:
    assert plan(old) != plan(new)
    assert impossible(old, new) == []


def test_the_block_may_change_and_a_host_may_come() -> None:
    assert impossible(ONE, ONE.replace("100.0/28", "100.32/28")) == []
    assert impossible(ONE, TWO) == []


@pytest.mark.parametrize(
    ("old", "new", "paths"),
    [
        (ONE, ONE + "nodes: {network: {runtime: container}}\n", ["nodes[network].runtime"]),
        (ONE, ONE + "nodes: {network: {disk_gib: 77}}\n", ["nodes[network].disk_gib"]),
        (TWO, TWO + "nodes: {network: {host: phys2}}\n", ["nodes[network].host"]),
        (TWO, ONE, ["hosts[phys2]"]),
        (ONE, ONE.replace("phys1", "phys2"), ["hosts[phys1]"]),
        (ONE, ONE + "data: {cidr: 172.17.0.0/24}\n", ["data.network"]),
        (ONE, ONE.replace("/28}", "/28, bridge: br-other}"), ["external.bridge"]),
        (ONE, ONE.replace("/28}", "/28, method: proxy}"), ["external.method"]),
        (ONE, ONE.replace("/28}", "/28, transit: 10.98.0.0/24}"), ["external.transit"]),
    ],
)
def test_what_cannot_change(old: str, new: str, paths: list[str]) -> None:
    assert set(paths) <= set(impossible(old, new))


def test_every_interface_and_every_identity_stays() -> None:
    before = plan(ONE)
    network = before.nodes[1]
    card = dataclasses.replace(
        network.interfaces[0], address=ipaddress.IPv4Interface("172.16.0.99/24")
    )
    moved = dataclasses.replace(network, interfaces=(card, *network.interfaces[1:]))
    after = dataclasses.replace(before, region="other", nodes=(before.nodes[0], moved))
    old, new = to_data(before), to_data(after)
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    assert [change.path for change in impossible_changes(diff(old, new))] == [
        "nodes[network].interfaces[eth0].address",
        "region",
    ]


def test_the_error_lists_each_change_and_the_way_out(tmp_path: Path) -> None:
    state = State(tmp_path)
    require_possible(state, plan(ONE))
    keep_applied_plan(state, plan(ONE))
    require_possible(state, plan(ONE + "workers: 3\n"))
    with pytest.raises(SiteError) as caught:
        require_possible(state, plan(ONE + "nodes: {network: {disk_gib: 77}}\n"))
    assert caught.value.details == (
        "nodes[network].disk_gib: 8 -> 77: cannot change on a running cloud",
    )
    assert caught.value.hint == "solostack down first, or put the old value back"


def test_a_kept_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert applied_plan(state) is None
    keep_applied_plan(state, plan(TWO))
    assert applied_plan(state) == plan(TWO)
    state.write_json("plan.json", {"site": "one"})
    with pytest.raises(StateError):
        applied_plan(state)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = State(tmp_path / "solostack" / "sites" / "one")
    save_facts(made, FACTS)
    return made


def test_up_refuses_the_change_before_it_asks_a_host(state: State) -> None:
    keep_applied_plan(state, plan(ONE))
    with (
        pytest.raises(SiteError, match="1 change"),
        open_up(site(ONE + "nodes: {network: {disk_gib: 77}}\n")),
    ):
        pass


def test_down_takes_the_plan_as_it_was_made(state: State) -> None:
    keep_applied_plan(state, plan(ONE))
    too_large = ONE + "nodes: {controller: {memory_mib: 900000}}\n"
    with open_down(site(too_large)) as run:
        assert run.deployment.plan == plan(ONE)
    save_facts(state, {"phys1": dataclasses.replace(facts("phys1"), memory_mib=100)})
    with open_down(site(ONE)) as run:
        assert run.deployment.plan == plan(ONE)


def test_down_plans_anew_what_another_version_kept(state: State) -> None:
    state.write_json("plan.json", {"site": "one", "moons": 2})
    with open_down(site(ONE)) as run:
        assert run.deployment.plan == plan(ONE)


def test_down_reaches_hosts_that_came_after_the_plan(state: State) -> None:
    keep_applied_plan(state, plan(ONE))
    with open_down(site(TWO)) as run:
        assert set(run.deployment.executors) == {"phys1", "phys2"}


def test_down_wants_all_hosts_of_the_cloud_in_the_site(state: State) -> None:
    keep_applied_plan(state, plan(TWO))
    with pytest.raises(SiteError) as caught, open_down(site(ONE)):
        pass
    assert "phys2" in caught.value.message
    assert caught.value.details == ("phys2 had address 203.0.113.3, nic eno1",)
    assert caught.value.hint == "put phys2 back under hosts, then: solostack down -f site.yaml"


def test_facts_of_hosts_that_are_gone_are_left_alone(tmp_path: Path) -> None:
    state = State(tmp_path)
    guessed = dataclasses.replace(facts("phys2"), kvm_proven=False)
    save_facts(state, {"phys1": facts("phys1"), "phys2": guessed})
    assert prove_facts(state, {}) == ()
    assert load_facts(state)["phys2"] == guessed
