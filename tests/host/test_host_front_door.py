"""The front door through the host's firewall: real nft, real packets between namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.host.firewall_world import (
    ALLOWED,
    CLOSED,
    FLOATING,
    OTHER,
    SSH,
    World,
    opened,
    text_of,
)

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]
OWN = "front_door: {port: 8443, http_port: 8081}\n"
PUBLIC_ADDRESS = "198.51.100.5"
PUBLIC = f"front_door: {{address: {PUBLIC_ADDRESS}}}\n"
HOST = "203.0.113.2"
NODE = "172.16.0.11"
NOT_REWRITTEN = "internal sources that were not rewritten"


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    with (
        opened("d") as made,
        made.host.serving(SSH, CLOSED),
        made.instance.serving(80, 443),
        made.node.serving(80, 443, 3306, 5000),
    ):
        yield made


@pytest.fixture(params=[0, 1], ids=["plain", "bridge-nf"])
def world(made: World, request: pytest.FixtureRequest) -> World:
    made.bridge_netfilter(request.param)
    return made


@pytest.fixture(scope="module")
def bridged() -> Iterator[World]:
    with opened("e") as made:
        made.bridge()
        with made.host.serving(SSH), made.node.serving(80, 443, 3306), made.instance.serving(80):
            yield made


@pytest.mark.parametrize("method", ["routed", "proxy", "private"])
def test_the_hosts_own_address_leads_to_the_controller_with_the_clients_address(
    world: World, method: str
) -> None:
    world.load(text_of(method, OWN))
    found = world.provider.connects(
        (HOST, 8443, ALLOWED), (HOST, 8081, OTHER), (HOST, SSH, OTHER), (HOST, 443, OTHER)
    )
    assert found == [f"open {ALLOWED}", f"open {OTHER}", f"open {OTHER}", "silent"]
    assert world.host.connect(HOST, 8443).startswith("open ")
    assert world.instance.connect(HOST, 8443, FLOATING) == f"open {FLOATING}"
    assert world.instance.connect(HOST, 8443, "10.99.0.130") == "open 10.99.0.130"
    assert world.node.connect(HOST, 8443) == "open 172.16.0.1"
    assert world.counted("front door: HTTPS (TCP port 8443)") >= 4


@pytest.mark.parametrize("method", ["routed", "proxy", "private"])
def test_a_public_address_leads_to_the_controller(world: World, method: str) -> None:
    world.load(text_of(method, PUBLIC))
    found = world.provider.connects(
        (PUBLIC_ADDRESS, 443, ALLOWED), (PUBLIC_ADDRESS, 80, OTHER), (HOST, 443, OTHER)
    )
    assert found == [f"open {ALLOWED}", f"open {OTHER}", "silent"]
    assert world.provider.ping(PUBLIC_ADDRESS)
    assert world.host.connect(PUBLIC_ADDRESS, 443).startswith("open ")
    assert world.instance.connect(PUBLIC_ADDRESS, 443, FLOATING) == f"open {FLOATING}"
    assert world.node.connect(PUBLIC_ADDRESS, 443) == "open 172.16.0.1"


@pytest.mark.parametrize("extra", [OWN, PUBLIC], ids=["own", "public"])
def test_nothing_else_of_the_controller_is_reached(world: World, extra: str) -> None:
    world.load(text_of("routed", extra))
    ports = (80, 443, 3306, 5000)
    targets = [(NODE, port, "") for port in ports]
    assert set(world.provider.connects(*targets)) == {"silent"}
    assert set(world.instance.connects(*targets)) == {"silent"}
    address = PUBLIC_ADDRESS if extra is PUBLIC else HOST
    for box in (world.provider, world.instance):
        others = box.connects(*((address, port, "") for port in (3306, 5000, CLOSED)))
        assert set(others) == {"silent"}
    assert world.host.connect(NODE, 3306) == "open 172.16.0.1"


def test_an_instance_cannot_pretend_to_be_the_door(world: World) -> None:
    world.load(text_of("routed", PUBLIC))
    world.instance.ip(f"address add {PUBLIC_ADDRESS}/32 dev lo")
    try:
        with world.provider.serving(80):
            assert world.instance.connect("203.0.113.1", 80, PUBLIC_ADDRESS) == "silent"
            assert world.instance.connect("203.0.113.1", 80, FLOATING) == f"open {FLOATING}"
    finally:
        world.instance.ip(f"address delete {PUBLIC_ADDRESS}/32 dev lo")
    assert world.counted("spoofed: the front door's address") > 0


def test_outside_nobody_sees_the_controllers_address(world: World) -> None:
    """Answers leave as the door, what the controller begins itself leaves as the host."""
    world.load(text_of("routed", PUBLIC))
    assert world.provider.connect(PUBLIC_ADDRESS, 443, ALLOWED) == f"open {ALLOWED}"
    with world.provider.serving(9):
        assert world.node.connect("203.0.113.1", 9) == f"open {HOST}"
    assert world.counted(NOT_REWRITTEN) == 0


@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
def test_answers_of_a_connection_that_the_host_forgot_do_not_leave(known: bool) -> None:
    """Without conntrack's entry nothing rewrites them: they would tell the controller's address."""
    with opened("f") as world:
        world.load(text_of("routed", PUBLIC))
        # An idle connection is forgotten after a second, and not taken up again in its middle.
        forget = () if known else ("net.netfilter.nf_conntrack_tcp_timeout_established=1",)
        world.host("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0", *forget)
        with world.node.serving_late(443, wait_s=3):
            heard = world.provider.stay(PUBLIC_ADDRESS, 443, ALLOWED, limit_s=6)
        assert heard == [f"open {ALLOWED}", "late" if known else "silent"]
        assert (world.counted(NOT_REWRITTEN) == 0) is known


def test_with_bridge_the_host_answers_for_the_door_and_for_no_other(bridged: World) -> None:
    """What the uplink script keeps (host.uplink): a route and a neighbour proxy for the door."""
    bridged.bridge_netfilter(0)
    bridged.load(text_of("bridge", PUBLIC))
    bridged.host.ip(f"neigh replace proxy {PUBLIC_ADDRESS} dev br-uplink")
    bridged.host("sysctl", "-qw", "net.ipv4.neigh.br-uplink.proxy_delay=0")
    door, beside = bridged.provider.arp("wire", PUBLIC_ADDRESS, "198.51.100.6")
    assert (door, beside) == (bridged.host.mac("br-uplink"), "silent")
    assert bridged.provider.connect(PUBLIC_ADDRESS, 443, ALLOWED) == f"open {ALLOWED}"
    assert bridged.provider.connect(PUBLIC_ADDRESS, 3306, ALLOWED) == "silent"
    assert bridged.provider.ping(PUBLIC_ADDRESS)
    assert bridged.instance.connect(PUBLIC_ADDRESS, 443, FLOATING) == f"open {FLOATING}"
