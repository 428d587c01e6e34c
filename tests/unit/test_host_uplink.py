"""What a host's uplink must be, by value, and its script and units as text."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from solostack.engine.operations import File, Step, Unit
from solostack.host import network, uplink
from solostack.host.bundle import base_bundle
from solostack.host.uplink import uplink_device, uplink_of
from solostack.host.uplink_operations import (
    UNIT_PATH,
    WATCH_UNIT_PATH,
    uplink_operations,
    watch_operations,
)
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.model import Site

GOLDEN = Path(__file__).parents[1] / "golden/host"
SCATTERED = ["198.51.100.9", "198.51.100.77", "203.0.113.200"]
METHODS = {
    "routed": {"block": "198.51.100.0/28"},
    "proxy": {"method": "proxy", "block": "203.0.113.16/29", "not_ours": ["203.0.113.17"]},
    "proxy-scattered": {"method": "proxy", "addresses": SCATTERED},
    "bridge": {"method": "bridge", "addresses": SCATTERED},
    "private": {"method": "private", "block": "192.168.100.0/28"},
}


def make_plan(method: str) -> Plan:
    hosts = [
        {"name": "phys1", "address": "203.0.113.2", "nic": "enp1s0"},
        {"name": "phys2", "address": "203.0.113.3", "nic": "enp2s0"},
    ]
    site = Site.model_validate({"hosts": hosts, "external": METHODS[method]})
    facts = {
        host.name: HostFacts(
            name=host.name,
            cores=8,
            memory_mib=32768,
            disk_gib=500,
            kvm=True,
            openvswitch_module=True,
        )
        for host in site.hosts
    }
    return build_plan(site, facts)


def script(method: str, host: int = 0) -> str:
    plan = make_plan(method)
    return files(plan, host)[uplink.SCRIPT_PATH]


def files(plan: Plan, host: int = 0) -> dict[str, str]:
    operations = (*uplink_operations(plan, plan.hosts[host]), *watch_operations())
    return {one.path: one.content for one in operations if isinstance(one, File)}


@pytest.mark.parametrize("method", METHODS)
def test_the_script_is_as_expected(method: str, pytestconfig: pytest.Config) -> None:
    path = GOLDEN / f"uplink-{method}.sh"
    text = script(method)
    if pytestconfig.getoption("--regenerate"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("method", METHODS)
def test_only_the_gateway_host_joins_the_bridge(method: str) -> None:
    plan = make_plan(method)
    first, second = (uplink_device(plan, host) for host in plan.hosts)
    assert first == ("br-uplink" if method == "bridge" else "enp1s0")
    assert second == "enp2s0"


def test_the_block_is_routed_whole_and_nothing_is_proxied() -> None:
    plan = make_plan("routed")
    found = uplink_of(plan, plan.hosts[0])
    assert found.networks == ("198.51.100.0/28",)
    assert found.proxied == ()


def test_on_the_wire_only_usable_addresses_are_routed_and_proxied() -> None:
    plan = make_plan("proxy")
    found = uplink_of(plan, plan.hosts[0])
    assert found.proxied == tuple(f"203.0.113.{last}" for last in range(18, 23))
    assert found.networks == ("203.0.113.18/31", "203.0.113.20/31", "203.0.113.22")
    assert ("ipv4/neigh/enp1s0/proxy_delay", "0") in found.sysctls


def test_with_a_bridge_ovn_answers_and_the_kernel_does_not() -> None:
    plan = make_plan("bridge")
    found = uplink_of(plan, plan.hosts[0])
    assert found.proxied == ()
    assert found.networks == tuple(SCATTERED)
    assert not any("enp1s0" in path for path, _ in found.sysctls)


def test_a_host_without_the_block_has_no_routes_but_clean_arp() -> None:
    plan = make_plan("proxy")
    found = uplink_of(plan, plan.hosts[1])
    assert (found.external, found.networks, found.proxied) == ("", (), ())
    assert ("ipv4/conf/enp2s0/arp_ignore", "1") in found.sysctls


@pytest.mark.parametrize("method", METHODS)
def test_no_setting_that_locks_out_or_answers_for_everything(method: str) -> None:
    plan = make_plan(method)
    for host in plan.hosts:
        values = dict(uplink_of(plan, host).sysctls)
        assert {values[path] for path in values if path.endswith("/arp_ignore")} == {"1"}
        assert {values[path] for path in values if path.endswith("/proxy_arp")} == {"0"}


def test_nothing_of_the_block_is_left_to_the_script_of_the_networks() -> None:
    plan = make_plan("routed")
    text = network.script_text(plan, plan.hosts[0])
    assert "198.51.100" not in text
    assert "ip address replace 10.99.0.1/24 dev br-external" in text


def test_units_start_in_order_and_follow_the_networks() -> None:
    texts = files(make_plan("routed"))
    after = "After=network.target solostack-network.service solostack-firewall.service\n"
    assert after in texts[UNIT_PATH]
    assert "ReloadPropagatedFrom=solostack-network.service\n" in texts[UNIT_PATH]
    assert "ExecStop" not in texts[UNIT_PATH]
    assert "After=solostack-uplink.service" in texts[WATCH_UNIT_PATH]
    assert "Restart=always\n" in texts[WATCH_UNIT_PATH]


def test_phases_put_the_card_after_the_networks_and_the_watch_last() -> None:
    plan = make_plan("proxy")
    bundle = base_bundle(plan, plan.hosts[0], ())
    names = [phase.name for phase in bundle.phases]
    assert [name for name in names if name in ("network", "uplink", "firewall")] == [
        "network",
        "uplink",
        "firewall",
    ]
    units = [one.name for one in bundle.operations() if isinstance(one, Unit)]
    assert units[-3:] == [
        "solostack-uplink.service",
        "solostack-firewall.service",
        "solostack-watch.service",
    ]


def test_undo_stops_the_units_before_it_gives_the_card_back() -> None:
    plan = make_plan("bridge")
    kinds = [type(one) for one in uplink_operations(plan, plan.hosts[0])]
    assert kinds == [File, Step, File, Unit]
    step = uplink_operations(plan, plan.hosts[0])[1]
    assert isinstance(step, Step)
    assert f"{uplink.SCRIPT_PATH} down\n" in step.undo


@pytest.mark.parametrize(
    ("external", "address", "proxied"),
    [
        ({"block": "198.51.100.0/28"}, "198.51.100.3", ()),
        (
            {"method": "proxy", "addresses": SCATTERED},
            "198.51.100.77",
            ("198.51.100.9", "198.51.100.77", "203.0.113.200"),
        ),
        ({"method": "bridge", "addresses": SCATTERED}, "198.51.100.77", ("198.51.100.77",)),
        ({"method": "bridge", "addresses": SCATTERED}, "203.0.113.2", ()),
        ({"method": "private", "block": "192.168.100.0/28"}, "192.168.100.3", ()),
    ],
)
def test_the_host_answers_for_the_front_door_as_the_method_needs(
    external: dict[str, object], address: str, proxied: tuple[str, ...]
) -> None:
    hosts = [{"name": "phys1", "address": "203.0.113.2", "nic": "enp1s0"}]
    door = {"address": address}
    site = Site.model_validate({"hosts": hosts, "external": external, "front_door": door})
    facts = HostFacts(
        name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
    )
    plan = build_plan(site, {"phys1": facts})
    found = uplink_of(plan, plan.hosts[0])
    assert found.proxied == proxied
    if address != "203.0.113.2":
        inside = [ipaddress.IPv4Network(each) for each in found.networks]
        assert any(ipaddress.IPv4Address(address) in each for each in inside)
