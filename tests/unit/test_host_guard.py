"""The guard's decisions by value: the commands of the way back, what is watched, what was said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.process import Completed, OnLine
from solostack.engine.bundle import check_bundle
from solostack.engine.operations import Bundle, File, Step, Unit, phase
from solostack.errors import HostError
from solostack.flows import guarded
from solostack.host import guard
from solostack.host.bundle import base_bundle
from solostack.host.guard_agent import look, machine, network, tables, way_back
from tests.unit.test_host_bundle import make_plan


def link(**changes: Any) -> dict[str, Any]:
    values = {
        "index": 2,
        "kind": "",
        "mac": "52:54:00:00:00:01",
        "mtu": 1500,
        "master": "",
        "parent": "",
        "up": True,
        "arp": True,
    }
    return values | changes


def address(local: str, prefix: int = 24, **changes: Any) -> dict[str, Any]:
    values = {
        "family": "6" if ":" in local else "4",
        "local": local,
        "prefix": prefix,
        "peer": "",
        "broadcast": "",
        "scope": "global",
        "label": "",
        "noprefixroute": False,
        "metric": 0,
        "lifetimes": None,
    }
    return values | changes


def picture(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "links": {"eno1": link()},
        "addresses": {"eno1": [address("203.0.113.2")]},
        "routes": {"4": [], "6": []},
        "rules": {"4": [], "6": []},
        "neighbours": {"4": [], "6": []},
        "settings": {},
    }
    return values | changes


def texts(commands: Any) -> list[str]:
    return [" ".join(command) for command in commands]


def test_equal_pictures_need_nothing() -> None:
    same = picture()
    assert not texts(way_back.link_commands(same, same, "eno1"))
    assert not texts(way_back.address_commands(same, same))
    assert not texts(way_back.route_commands(same, same, "4"))


def test_the_nic_leaves_a_bridge_that_was_made_meanwhile() -> None:
    bridge = link(kind="bridge", index=7)
    now = picture(links={"eno1": link(master="br7"), "br7": bridge})

    assert texts(way_back.link_commands(picture(), now, "eno1")) == [
        "ip link set eno1 nomaster",
        "ip link delete br7",
    ]


def test_a_bridge_that_was_there_comes_back_with_its_port() -> None:
    before = picture(links={"eno1": link(master="br7"), "br7": link(kind="bridge", index=7)})

    commands = texts(way_back.link_commands(before, picture(), "eno1"))

    assert "ip link set eno1 master br7" in commands
    assert commands[-1] == "ip link set br7 up"


def test_a_bridge_is_made_before_the_nic_joins_it() -> None:
    before = picture(links={"eno1": link(master="br7"), "br7": link(kind="bridge", index=7)})

    assert texts(way_back.link_commands(before, picture(), "eno1")) == [
        "ip link add br7 type bridge",
        "ip link set eno1 master br7",
        "ip link set br7 address 52:54:00:00:00:01",
        "ip link set br7 mtu 1500",
        "ip link set br7 up",
    ]


def test_what_no_tool_showed_is_no_picture_to_go_back_to() -> None:
    rules = {"4": ["0: from all lookup local"], "6": []}

    assert "no rules" in network.unreadable(picture())
    assert "no routes" in network.unreadable(picture(rules=rules))


@pytest.mark.parametrize(
    ("old", "now", "early", "stops"),
    [
        (("inactive", ""), ("active", "enabled"), False, True),
        (("active", "enabled"), ("active", "enabled"), False, False),
        # In the queue of the boot: a unit of the change, and one of the host that had failed.
        (("inactive", ""), ("inactive", "enabled"), True, True),
        (("failed", "enabled"), ("inactive", "enabled"), True, False),
    ],
)
def test_a_boot_keeps_the_units_it_had(
    old: tuple[str, str], now: tuple[str, str], early: bool, stops: bool
) -> None:
    was, are = ({"active": each[0], "enabled": each[1]} for each in (old, now))

    assert machine.is_to_stop(was, are, wait=not early) is stops


def test_only_a_bridge_that_took_the_nic_is_removed() -> None:
    now = picture(links={"eno1": link(), "docker0": link(kind="bridge", index=9)})

    assert not texts(way_back.link_commands(picture(), now, "eno1"))


def test_addresses_come_back_in_their_order() -> None:
    first, second = address("203.0.113.2"), address("203.0.113.3")
    before = picture(addresses={"eno1": [first, second]})
    now = picture(addresses={"eno1": [second]})

    assert texts(way_back.address_commands(before, now)) == [
        "ip -4 address del 203.0.113.3/24 dev eno1",
        "ip -4 address add 203.0.113.2/24 scope global dev eno1",
        "ip -4 address add 203.0.113.3/24 scope global dev eno1",
    ]


def test_a_leased_address_comes_back_with_its_lifetime_and_a_peer_with_its_name() -> None:
    leased = address("203.0.113.2", 32, peer="192.0.2.1", lifetimes=[600, 300])
    before = picture(addresses={"eno1": [leased]})

    assert texts(way_back.address_commands(before, picture(addresses={"eno1": []}))) == [
        "ip -4 address add 203.0.113.2 peer 192.0.2.1/32 scope global "
        "valid_lft 600 preferred_lft 300 dev eno1"
    ]


def test_a_new_link_loses_only_addresses_of_our_networks() -> None:
    now = picture(
        links={"eno1": link(), "docker0": link(kind="bridge")},
        addresses={
            "eno1": [address("203.0.113.2")],
            "docker0": [address("172.17.0.1", 16), address("203.0.113.77", 25)],
        },
    )

    assert texts(way_back.address_commands(picture(), now)) == [
        "ip -4 address del 203.0.113.77/25 dev docker0"
    ]


def test_routes_to_gateways_come_after_the_way_to_them() -> None:
    before = picture(
        routes={
            "4": ["default via 192.0.2.1 dev eno1 onlink", "192.0.2.0/24 dev eno1 scope link"],
            "6": [],
        }
    )
    now = picture(routes={"4": ["blackhole default metric 1"], "6": []})

    assert texts(way_back.route_commands(before, now, "4")) == [
        "ip -4 route del blackhole default metric 1",
        "ip -4 route append 192.0.2.0/24 dev eno1 scope link",
        "ip -4 route append default via 192.0.2.1 dev eno1 onlink",
    ]


def test_routes_that_came_with_a_new_link_are_left_to_it() -> None:
    routes = {"4": ["10.0.3.0/24 dev vnet9 proto kernel scope link src 10.0.3.1"], "6": []}

    assert not texts(way_back.route_commands(picture(), picture(routes=routes), "4"))


def test_rules_come_before_wrong_ones_go() -> None:
    before = picture(rules={"4": ["0: from all lookup local"], "6": []})
    now = picture(rules={"4": ["5: from all blackhole"], "6": []})

    assert texts(way_back.rule_commands(before, now, "4")) == [
        "ip -4 rule add pref 0 from all lookup local",
        "ip -4 rule del pref 5 from all blackhole",
    ]


def test_switches_that_write_through_come_first() -> None:
    wanted = {
        "ipv4/conf/eno1/forwarding": "0",
        "ipv4/conf/all/forwarding": "1",
        "ipv4/ip_forward": "1",
    }
    before, now = picture(settings=wanted), picture(settings=dict.fromkeys(wanted, "0"))

    assert [path for path, _ in way_back.setting_changes(before, now)] == [
        "ipv4/ip_forward",
        "ipv4/conf/all/forwarding",
        "ipv4/conf/eno1/forwarding",
    ]


@pytest.mark.parametrize(
    ("line", "normal"),
    [
        (
            "default via 192.0.2.1 dev eno1 onlink linkdown ",
            "default via 192.0.2.1 dev eno1 onlink",
        ),
        (
            "default proto ra metric 1024 expires 1798sec hoplimit 64 pref medium",
            "default proto ra metric 1024 hoplimit 64 pref medium",
        ),
        (
            "default \\\tnexthop via 10.0.0.1 dev a weight 1 \\\tnexthop via 10.0.1.1 dev b",
            "default nexthop via 10.0.0.1 dev a weight 1 nexthop via 10.0.1.1 dev b",
        ),
    ],
)
def test_what_moves_by_itself_is_no_part_of_a_route(line: str, normal: str) -> None:
    assert look.normal_route(line) == normal


RULESET = """table inet one {
	set seen {
		type ipv4_addr
		flags dynamic,timeout
		elements = { 192.0.2.1 timeout 1h expires 59m,
				192.0.2.2 }
	}
	set owned {
		type ipv4_addr
		elements = { 203.0.113.2 }
	}
}
# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
	chain INPUT {
	}
}
"""


def test_a_ruleset_is_split_into_tables() -> None:
    parts = dict(tables.split(RULESET))

    assert list(parts) == ["inet one", "ip filter"]
    assert parts["ip filter"] == "table ip filter {\n\tchain INPUT {\n\t}\n}\n"


def test_only_sets_that_packets_fill_are_compared_without_elements() -> None:
    text = tables.comparable(dict(tables.split(RULESET))["inet one"])

    assert "192.0.2" not in text
    assert "elements = { 203.0.113.2 }" in text


def test_a_table_is_replaced_in_one_transaction() -> None:
    assert tables.transaction("inet one", "table inet one {\n}\n") == (
        "table inet one {\n}\ndelete table inet one\ntable inet one {\n}\n"
    )


def test_the_guard_is_there_before_anything_of_the_network() -> None:
    plan = make_plan()
    names = [part.name for part in base_bundle(plan, plan.hosts[0], ()).phases]

    assert names.index("guard") < names.index("network")
    assert names.index("guard") < min(names.index(name) for name in guarded.GUARDED_PHASES)


def test_the_unit_is_on_disk_before_the_network_and_never_gives_up() -> None:
    (unit,) = (
        one.content
        for one in guard.guard_operations()
        if isinstance(one, File) and one.path == guard.UNIT_PATH
    )
    assert "Before=network-pre.target" in unit
    assert "Restart=always" in unit
    assert "StartLimitIntervalSec=0" in unit
    assert f"ConditionPathExists={guard.STATE_FOLDER}/armed.json" in unit


def test_a_bundle_is_split_so_that_no_watch_crosses_the_cuts() -> None:
    """A unit that watches a file of another part would not be restarted for it."""
    for kvm in (True, False):
        plan = make_plan(kvm=kvm, module=kvm)
        for host in plan.hosts:
            parts = guarded.split(base_bundle(plan, host, ()))
            assert [part.name for part in parts[1].phases] == ["uplink", "firewall"]
            for part in parts:
                check_bundle(part)
                inside = {getattr(one, "path", "") for one in part.operations()}
                outside = {
                    getattr(one, "path", "")
                    for other in parts
                    if other is not part
                    for one in other.operations()
                }
                for one in part.operations():
                    paths = getattr(one, "restart_on", getattr(one, "when_changed", ()))
                    assert not (set(paths) - inside) & outside


def test_files_and_units_of_a_change_are_watched() -> None:
    touched = guard.watched(
        (
            phase(
                "uplink",
                File(path="/a", content=""),
                Step(name="s", run="true"),
                Unit(name="u.service", restart_on=("/a",)),
            ),
        )
    )
    assert touched == guard.Watched(
        files=("/a",), units=("u.service",), restart_on=(("u.service", ("/a",)),)
    )


def test_undo_of_the_guarded_steps_works_where_the_guard_took_their_files_away() -> None:
    plan = make_plan()
    _, middle, _ = guarded.split(base_bundle(plan, plan.hosts[0], ()))
    for one in middle.operations():
        if isinstance(one, Step):
            for line in one.undo.splitlines():
                assert not line.startswith("/"), line


class Host:
    """An executor that gives one answer."""

    name = "phys1"

    def __init__(self, answer: str, status: int = 0) -> None:
        self._answer, self._status = answer, status
        self.asked: list[tuple[str, ...]] = []

    def run(
        self,
        argv: Any,
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        self.asked.append(tuple(argv))
        return Completed(tuple(argv), self._status, self._answer.encode(), b"")


def test_a_refusal_is_told_with_its_hint() -> None:
    host = Host(json.dumps({"refused": "too old", "hint": "a new one"}), 3)

    with pytest.raises(HostError, match="refuses to confirm: too old") as caught:
        guard.confirm(host, "x")

    assert caught.value.hint == "a new one"


def test_a_host_without_guard_has_nothing_armed() -> None:
    assert guard.status(Host("")) == guard.GuardStatus(installed=False)


def test_what_the_guard_says_is_read() -> None:
    last = {"id": "a", "what": "w", "nic": "eno1", "result": "taken back", "at": 5, "done": ["x"]}
    answer = {"armed": True, "id": "b", "what": "v", "nic": "eno1", "timeout_s": 90.0,
              "seconds_left": 12.5, "applied": True, "last": last}  # fmt: skip

    seen = guard.rollback(Host(json.dumps(answer)))

    assert (seen.id, seen.seconds_left, seen.applied) == ("b", 12.5, True)
    assert seen.last == guard.Ended(
        id="a", what="w", nic="eno1", result="taken back", at_s=5, done=("x",)
    )


def test_an_empty_bundle_has_no_guarded_part() -> None:
    one = Bundle(target="x", phases=(phase("packages"),))

    assert guarded.split(one)[1].phases == ()


def test_the_page_has_every_key_of_the_status() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guard.md").read_text()
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])["hosts"]["phys1"]
    assert list(shown) == [each.name for each in dataclasses.fields(guard.GuardStatus)]
    assert list(shown["last"]) == [each.name for each in dataclasses.fields(guard.Ended)]
