"""A plan is a value: the same for equal input, to the byte; the golden files show all of it.

``pytest tests/unit/test_plan_build.py --regenerate`` rewrites the golden files; review the diff.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.errors import StateError
from solostack.plan import identity
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Interface, Plan
from solostack.plan.serial import digest, from_json, to_data, to_json, to_pretty_json
from solostack.site.loader import load_site, parse_site
from solostack.site.model import Role, Site
from solostack.site.releases import RELEASES

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
FACTS = {
    "phys1": HostFacts(
        name="phys1", cores=4, memory_mib=7900, disk_gib=220, kvm=True, openvswitch_module=True
    ),
    "phys2": HostFacts(
        name="phys2", cores=16, memory_mib=64000, disk_gib=900, kvm=True, openvswitch_module=True
    ),
}
LARGE_FIRST = FACTS | {"phys1": FACTS["phys2"]}
LARGE = {"phys1": dataclasses.replace(FACTS["phys2"], name="phys1")}
WITHOUT_KVM = {
    "phys1": HostFacts(
        name="phys1", cores=2, memory_mib=24105, disk_gib=74, kvm=False, openvswitch_module=False
    )
}


def minimal_plan() -> Plan:
    return build_plan(load_site(ROOT / "examples" / "minimal.yaml").site, FACTS)


@pytest.mark.parametrize(
    ("golden", "example", "facts"),
    [
        ("plan-minimal.json", "minimal", FACTS),
        ("plan-minimal-without-kvm.json", "minimal", WITHOUT_KVM),
        ("plan-every-key.json", "every-key", LARGE_FIRST),
        ("plan-full.json", "full", LARGE),
        ("plan-proxy.json", "proxy-single-addresses", FACTS),
        ("plan-bridge.json", "bridge", FACTS),
        ("plan-private.json", "private", FACTS),
    ],
)
def test_golden_plan(
    golden: str, example: str, facts: dict[str, HostFacts], pytestconfig: pytest.Config
) -> None:
    path = GOLDEN / golden
    plan = build_plan(load_site(ROOT / "examples" / f"{example}.yaml").site, facts)
    if pytestconfig.getoption("--regenerate", default=False):
        path.write_text(to_pretty_json(plan))
    assert to_pretty_json(plan) == path.read_text()


def test_equal_sites_equal_bytes_however_they_are_written() -> None:
    text = (ROOT / "examples" / "minimal.yaml").read_text()
    other = '{"external": {"block": "198.51.100.0/28"}, "name": "cloud", "hosts": [{"nic":'
    other += ' "enp1s0", "name": "phys1", "address": "203.0.113.2"}]}'
    plans = [build_plan(parse_site(each, Path("s")).site, FACTS) for each in (text, other)]
    assert to_json(plans[0]) == to_json(plans[1])
    assert digest(plans[0]) == digest(plans[1])
    assert digest(plans[0]) != digest(build_plan(site_named("other"), FACTS))


def site_named(name: str) -> Site:
    host = {"name": "phys1", "address": "203.0.113.2", "nic": "enp1s0"}
    return Site.model_validate(
        {"name": name, "hosts": [host], "external": {"block": "198.51.100.0/28"}}
    )


@given(st.permutations(list(FACTS)))
def test_order_of_facts_is_of_no_matter(order: list[str]) -> None:
    facts = {name: FACTS[name] for name in order}
    assert to_json(build_plan(site_named("cloud"), facts)) == to_json(
        build_plan(site_named("cloud"), FACTS)
    )


def test_network_node_has_a_second_card_without_an_address() -> None:
    plan = minimal_plan()
    [data] = plan.node(Role.CONTROLLER).interfaces
    first, second = plan.node(Role.NETWORK).interfaces
    assert (data.name, data.network, str(data.address)) == ("eth0", "data", "172.16.0.11/24")
    assert (first.name, str(first.gateway)) == ("eth0", "172.16.0.1")
    assert second == Interface(
        name="eth1",
        network="external",
        bridge="br-external",
        mac=identity.mac_address("cloud", "network", "eth1"),
        mtu=1500,
        address=None,
        gateway=None,
    )


def test_release_decides_the_region_and_data_mtu_the_tenants() -> None:
    plan = minimal_plan()
    assert plan.region == RELEASES[plan.release].region == "regionOne"
    assert (plan.data.mtu, plan.data.tenant_mtu) == (1500, 1442)


def test_no_demo_when_the_site_wants_none() -> None:
    site = parse_site(
        (ROOT / "examples" / "minimal.yaml").read_text() + "demo: null\n", Path("s")
    ).site
    assert build_plan(site, FACTS).demo is None


@given(st.text(min_size=1), st.text(min_size=1))
def test_identities_are_well_formed_and_functions_of_names(site: str, owner: str) -> None:
    mac = identity.mac_address(site, owner, "eth0")
    first = int(mac[:2], 16)
    assert mac.startswith("52:54:00:")
    assert first & 0b10, "locally administered"
    assert not first & 0b1, "unicast"
    assert identity.twin_mac(mac) == mac.replace("52:", "56:", 1)
    assert identity.node_uuid(site, owner).version == 5
    machine_id = identity.machine_id(site, owner)
    assert len(machine_id) == 32
    assert int(machine_id, 16) != 0
    assert uuid.UUID(machine_id) != identity.node_uuid(site, owner)
    assert identity.mac_address(site, owner, "eth0") == mac


def test_identities_stay_for_ever() -> None:
    assert identity.mac_address("cloud", "network", "eth1") == "52:54:00:6c:da:2d"
    assert identity.twin_mac("52:54:00:6c:da:2d") == "56:54:00:6c:da:2d"
    assert str(identity.node_uuid("cloud", "network")) == "1c44e948-37f5-5a39-9250-67b9010fec6f"
    assert identity.machine_id("cloud", "network") == "19d23618810d5b4c82f7765b39be054d"


def test_macs_of_a_deployment_are_distinct() -> None:
    plan = build_plan(load_site(ROOT / "examples" / "every-key.yaml").site, LARGE_FIRST)
    macs = [card.mac for node in plan.nodes for card in node.interfaces]
    macs += [host.data_mac for host in plan.hosts]
    assert len(set(macs)) == len(macs) == 7


def test_plan_and_facts_survive_their_json() -> None:
    plan = minimal_plan()
    assert from_json(Plan, to_json(plan)) == plan
    assert from_json(Plan, to_pretty_json(plan)) == plan
    assert from_json(HostFacts, to_json(FACTS["phys1"])) == FACTS["phys1"]


def test_a_plan_kept_by_a_version_that_knew_less_is_read() -> None:
    plan = minimal_plan()
    stored = json.loads(to_json(plan))
    for name in ("storage", "directory", "front_door", "dashboard"):
        del stored[name]
    for node in stored["nodes"]:
        del node["disks"]
    assert from_json(Plan, json.dumps(stored)) == plan


def test_canonical_json_is_sorted_compact_and_ascii() -> None:
    assert to_json({"b": (1, None), "a": "é"}) == '{"a":"\\u00e9","b":[1,null]}'
    assert to_json(FACTS["phys1"]) == (
        '{"cores":4,"disk_gib":220,"kvm":true,"kvm_proven":true,"memory_mib":7900,"name":"phys1",'
        '"openvswitch_module":true}'
    )
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value", [{1}, b"x", {1: 2}, object()])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        to_data(value)


@pytest.mark.parametrize(
    "change",
    [
        {"cores": "4"},
        {"cores": "many"},
        {"kvm": None},
        {"colour": "red"},
    ],
)
def test_stored_facts_of_another_shape_are_refused(change: dict[str, object]) -> None:
    data = json.loads(to_json(FACTS["phys1"])) | change
    with pytest.raises(StateError, match="the stored HostFacts"):
        from_json(HostFacts, json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_stored_facts_that_are_no_json_are_refused(text: str) -> None:
    with pytest.raises(StateError, match="the stored HostFacts cannot be read"):
        from_json(HostFacts, text)
