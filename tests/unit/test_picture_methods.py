"""The picture of each external method: what it says, and how what is there is marked."""

from __future__ import annotations

import dataclasses

import pytest

from solostack.flows import picture
from solostack.flows.status import HOST_UNITS, Status
from solostack.picture.layout import lay_out
from solostack.picture.sheet import Box, Line, Look, Text
from solostack.picture.svg import render_svg
from solostack.plan.model import Plan
from tests.unit.picture_plans import PLANS, marked, server, status_of


def texts(plan: Plan, status: Status | None = None) -> list[str]:
    shapes = lay_out(picture.build_site_topology(plan, status)).shapes
    return [shape.text for shape in shapes if isinstance(shape, Text)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "routed-firewall",
            "198.51.100.0/28 via 203.0.113.2|the block is routed to phys1"
            "|public addresses, all usable|198.51.100.0/28 → br-external"
            "|198.51.100.0/28 blackhole, backup|answers on enp1s0 for 203.0.113.2 only"
            "|in: SSH from 192.0.2.0/24|in: TCP 9100 from 192.0.2.10"
            "|only the MAC of enp1s0; no ARP for the block",
        ),
        (
            "proxy-subnet",
            "asks for each address with ARP|of 8 public addresses usable|subnet .8|not ours .9"
            "|host .10|broadcast .15|198.51.100.12/31 → br-external|in: SSH from everybody"
            "|answers for 4 addresses on enp1s0 (neighbour proxies)|and for its own, 198.51.100.10"
            "|only the MAC of enp1s0, for every address",
        ),
        (
            "proxy-singles",
            "198.51.100.17|198.51.100.83|192.0.2.200|single public addresses|all usable"
            "|public 192.0.2.200 and 2 more",
        ),
        ("proxy-many", "16 more|28 more networks → br-externalbrid|in: everything to 10.5.0.0/16"),
        (
            "bridge",
            "port of br-uplink|br-uplink|has the MAC, address and routes of its port enp1s0"
            "|OVN answers for 4 addresses|masquerade → br-uplink from"
            "|frames of OVN's MACs on the wire, beside those of enp1s0",
        ),
        (
            "private",
            "192.168.1.20|knows only the host's address|private addresses, all usable"
            "|192.168.1.20:8080 → 10.98.1.0:80|192.168.1.20:2222 → 10.98.1.1:22"
            "|others reach them by a route via 192.168.1.20|private 10.98.1.0/24",
        ),
        ("private-many", "4 more ports|203.0.113.100:8004 → 10.98.1.4:8004 udp"),
    ],
)
def test_each_way_in_is_said_as_it_is(name: str, said: str) -> None:
    assert not set(said.split("|")) - set(texts(PLANS[name]))


def test_what_another_method_does_is_not_said() -> None:
    words = {name: "\n".join(texts(plan)) for name, plan in PLANS.items()}

    assert [name for name in words if "br-uplink" in words[name]] == [
        name for name in words if name.startswith("bridge")
    ]
    assert [name for name in words if "(neighbour" in words[name]] == [
        name for name in words if name.startswith("proxy")
    ]
    assert "public" not in words["private"]


def test_there_is_a_cell_for_each_address_and_its_tip_says_why() -> None:
    shapes = lay_out(picture.build_site_topology(PLANS["proxy-subnet"])).shapes
    cells = {
        box.name.split("/")[-1]: box
        for box in shapes
        if isinstance(box, Box) and box.inside == "block" and box.tip and box.width > 20
    }

    spent = [name for name, box in cells.items() if box.look is Look.SPENT]
    free = [name for name, box in cells.items() if box.look is Look.FREE]
    assert spent == [f"198.51.100.{n}" for n in (8, 9, 10, 15)]
    assert free == [f"198.51.100.{n}" for n in (11, 12, 13, 14)]
    assert cells["198.51.100.9"].tip == ("198.51.100.9: not ours; listed under external.not_ours")


def test_only_a_private_block_is_quiet_and_not_joined_to_the_provider() -> None:
    for name, joined in (("bridge", 1), ("private", 0)):
        drawn = lay_out(picture.build_site_topology(PLANS[name]))
        lines = [s for s in drawn.shapes if isinstance(s, Line) and s.look is Look.PUBLIC]

        assert drawn.calm is not bool(joined)
        assert sum(line.dashed for line in lines) - joined == 0
    plain, calm = (dataclasses.replace(drawn, calm=calm) for calm in (False, True))
    assert render_svg(plain) != render_svg(calm)


def test_the_external_bridge_and_the_uplink_are_joined_beside_the_hosts_own_network() -> None:
    drawn = lay_out(picture.build_site_topology(PLANS["bridge"]))
    boxes = {shape.name: shape for shape in drawn.shapes if isinstance(shape, Box)}
    lines = [shape for shape in drawn.shapes if isinstance(shape, Line)]
    uplink, external = boxes["phys1/uplink"], boxes["phys1/external"]

    (pair,) = [
        line
        for line in lines
        if line.points[0][1] == uplink.bottom and line.points[-1][1] == external.y
    ]
    assert uplink.x < pair.points[0][0] < boxes["phys1/stack"].x


@pytest.mark.parametrize(
    ("unit", "said"),
    [("solostack-uplink.service", "failed"), ("solostack-watch.service", "watch failed")],
)
def test_an_uplink_that_is_not_as_planned_is_marked(unit: str, said: str) -> None:
    plan = PLANS["bridge"]
    whole = status_of(plan)
    services = dict.fromkeys(HOST_UNITS, "active") | {unit: "failed"}
    host = dataclasses.replace(whole.hosts[0], services=services)

    found = marked(picture.build_site_topology(plan, dataclasses.replace(whole, hosts=(host,))))

    assert {"uplink", f"Host routes: {said}", f"ARP: {said}"} <= found
    assert not {"external", "data", "gateway"} & found


def test_single_addresses_in_use_are_filled() -> None:
    plan = PLANS["proxy-singles"]
    status = status_of(plan, (server("web", "phys1", 83),))
    shapes = lay_out(picture.build_site_topology(plan, status)).shapes

    used = [box.name for box in shapes if isinstance(box, Box) and box.look is Look.USED]
    assert used == ["block/198.51.100.83"]
    assert "1 in use" in texts(plan, status)
