"""The uplink script on real kernels' networking: every method, kills, link flaps, and back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from solostack.host import firewall, uplink
from tests.host.uplink_world import MAC, Method, World, make_plan, wait_for

pytestmark = pytest.mark.host

SCATTERED = {"addresses": ["198.51.100.9", "198.51.100.77", "203.0.113.200"]}
SCATTERED_ROUTES = ("198.51.100.9 dev lan", "198.51.100.77 dev lan", "203.0.113.200 dev lan")
ON_WIRE = {"block": "203.0.113.16/29"}
ROUTED = Method({"block": "198.51.100.0/28"}, "subnet", ("198.51.100.0/28 via 203.0.113.2",))
PROXY_SUBNET = Method({"method": "proxy", **ON_WIRE}, "subnet", ())
PROXY_SCATTERED = Method({"method": "proxy", **SCATTERED}, "pointopoint", SCATTERED_ROUTES)
BRIDGE_SUBNET = Method({"method": "bridge", **ON_WIRE}, "subnet", ())
BRIDGE_SCATTERED = Method({"method": "bridge", **SCATTERED}, "pointopoint", SCATTERED_ROUTES)
PRIVATE = Method(
    {"method": "private", "block": "192.168.100.0/28"},
    "subnet",
    ("192.168.100.0/28 via 203.0.113.2",),
)
METHODS = {
    "routed": ROUTED,
    "proxy-subnet": PROXY_SUBNET,
    "proxy-scattered": PROXY_SCATTERED,
    "bridge-subnet": BRIDGE_SUBNET,
    "bridge-scattered": BRIDGE_SCATTERED,
    "private": PRIVATE,
}
BRIDGED = ("bridge-subnet", "bridge-scattered")
STATE = uplink.STATE_PATH
HOST, HOST6 = "203.0.113.2", "2001:db8::2"
INTERNAL = ("10.99.0.1", "10.99.0.100", "203.0.113.99")
LIFETIME = re.compile(r'"(valid|preferred)_life_time": \d+')
# How often each verb is killed, at steps spread over all it does.
KILLS = {"subnet": {"up": 4, "down": 2}, "pointopoint": {"up": 9, "down": 5}}


@pytest.fixture(params=METHODS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from made(METHODS[request.param])


@pytest.fixture(params=BRIDGED)
def bridged(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from made(METHODS[request.param])


def made(method: Method) -> Iterator[World]:
    world = World(method)
    try:
        world.build()
        yield world
    finally:
        world.close()


def assert_works(world: World) -> None:
    first, *_, last = world.floating
    assert world.reaches(HOST, tries=2)
    assert world.reaches(HOST6, "2001:db8::1", tries=2)
    for address in (first, last):
        assert world.reaches(address, tries=2), address


def test_all_of_it_from_up_to_down(world: World) -> None:
    before = world.dump()
    assert world.reaches(HOST)
    world.up()
    assert_works(world)
    on = world.dump()
    assert world.uplink("up") + world.uplink("ensure") == ""
    assert world.dump() == on
    answers = world.ask(HOST, *INTERNAL, *world.floating)
    assert answers[HOST] == [MAC]
    assert [answers[address] for address in INTERNAL] == [[], [], []]
    if world.plan.external.method in ("proxy", "bridge"):
        assert len(answers[world.floating[0]]) == len(answers[world.floating[-1]]) == 1
    if world.plan.external.method == "proxy":
        assert {len(answers[address]) for address in world.floating} == {1}
    # Only with a bridge does OVN's own address leave the host.
    assert (world.foreign_frames() == 0) == (world.plan.external.method != "bridge")
    world.uplink("down")
    world.assert_is(before, but="files")
    assert [path.name for path in world.host.path("/var/lib/solostack").rglob("*")] == ["before"]
    assert world.uplink("down") == ""


def test_the_card_down_and_up_again(world: World) -> None:
    world.up()
    route = world.host.run("ip", "route", "show", "default").strip()
    with world.watch():
        world.host.shell("ip link set nic0 down; sleep 0.2; ip link set nic0 up")
        if "br-uplink" not in route:
            # It went with the link, and is the host's own tools' to restore.
            world.host.shell(f"ip route add {route}")
        wait_for(lambda: world.reaches(world.floating[-1]))
        assert world.reaches(world.floating[0], tries=2)
        if world.plan.external.method == "bridge":
            world.host.shell("ip link set br-uplink down; sleep 0.2; ip link set br-uplink up")
            wait_for(lambda: world.reaches(world.floating[-1]))
            wait_for(lambda: world.reaches(HOST6, "2001:db8::1"))


def test_a_flush_of_all_rules_is_mended_at_once(world: World) -> None:
    """Not only at the next look, up to 30 s later: until then nothing is masqueraded."""
    world.up()
    tables = world.host.run("nft", "list", "tables")
    assert "table arp solostack" in tables
    with world.watch():
        for command in ("flush ruleset", "delete table arp solostack"):
            time.sleep(1)
            world.host.run("nft", *command.split())
            wait_for(lambda: world.host.run("nft", "list", "tables") == tables)


def test_what_was_deleted_by_hand_comes_back(world: World) -> None:
    world.up()
    on = world.dump()
    host = world.host
    for route in host.run("ip", "route", "show", "proto", str(uplink.ROUTE_PROTOCOL)).splitlines():
        host.shell(f"ip route delete {route}")
    for proxy in host.run("ip", "neigh", "show", "proxy").splitlines():
        host.shell(f"ip neigh delete proxy {' '.join(proxy.split()[:3]).replace(' proxy', '')}")
    host.run("nft", "flush", "ruleset")
    host.shell(
        "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/all/send_redirects"
    )
    # As libvirtd does when it makes the network again.
    host.shell(
        "ip link delete br-external\n"
        "ip link add br-external address 52:54:00:00:00:03 type bridge\n"
        "ip link set br-external up; ip address add 10.99.0.1/24 dev br-external\n"
        "sysctl -qw net.ipv6.conf.br-external.disable_ipv6=1; ip link set tap0 master br-external\n"
    )
    said = world.uplink("ensure")
    assert "loaded again" in said
    assert_works(world)
    assert world.uplink("ensure") == ""
    world.assert_is(on)


def test_a_move_killed_anywhere_goes_on(bridged: World) -> None:
    world = bridged
    before = world.dump()
    world.load_firewall()
    for verb, other in (("up", "down"), ("down", "up")):
        steps = world.killed(verb, 10**9)
        assert steps is not None
        done = world.dump()
        kills = KILLS[world.method.addressing][verb]
        for number in range(kills):
            world.uplink(other)
            assert world.killed(verb, (2 * number + 1) * steps // (2 * kills)) is None
            world.uplink(verb)
            world.assert_is(done)
            if verb == "up":
                assert_works(world)
    world.assert_is(before, but="files")


def test_the_move_loses_next_to_nothing(bridged: World) -> None:
    world = bridged
    argv = (*world.provider.enter, "ping", "-i", "0.02", "-c", "100", HOST)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as ping:
        world.uplink("up")
        world.uplink("down")
        assert ping.stdout is not None
        received = int(re.findall(r"(\d+) received", ping.stdout.read())[0])
    assert received >= 90


def test_what_routers_announced_and_the_cards_settings_move_too() -> None:
    for world in made(BRIDGE_SUBNET):
        world.host.shell(
            "echo 2 >/proc/sys/net/ipv6/conf/nic0/accept_ra\n"
            "ip -6 address add 2001:db8::77/64 valid_lft 3600 preferred_lft 1800 mngtmpaddr "
            "dev nic0\n"
            "ip -6 route add default via fe80::1 proto ra metric 1024 expires 1700 dev nic0\n"
        )
        for verb, device in (("up", "br-uplink"), ("down", "nic0")):
            world.uplink(verb)
            here = world.host.run("ip", "-o", "-6", "address", "show", "dev", device)
            assert re.search(r"2001:db8::77/64.* mngtmpaddr.* valid_lft 3[56]\d\dsec", here)
            ways = world.host.run("ip", "-6", "route", "show", "dev", device, "proto", "ra")
            assert re.search(r"default via fe80::1 metric 1025 expires 1[67]\d\dsec", ways)
            settings = world.host.shell(
                f"cd /proc/sys/net; cat ipv6/conf/{device}/accept_ra ipv4/conf/{device}/rp_filter"
            )
            assert settings == "2\n2\n"


LEASE = "valid_lft 3600 preferred_lft 3600"
# What is on the host, how it goes away again, and the reason given.
REFUSED = (
    (
        f"ip address change 203.0.113.2/24 dev nic0 {LEASE}",
        "ip address change 203.0.113.2/24 dev nic0",
        "leased by DHCP",
    ),
    (
        f"ip -6 address add 2001:db8::99/128 dev nic0 {LEASE}",
        "ip -6 address delete 2001:db8::99/128 dev nic0",
        "leased by DHCP",
    ),
    (
        "ip route add 198.18.5.0/24 nexthop via 203.0.113.1 dev nic0 "
        "nexthop via 10.99.0.100 dev br-external",
        "ip route delete 198.18.5.0/24",
        "several ways",
    ),
    ("ip rule add iif nic0 lookup 77", "ip rule delete iif nic0 lookup 77", "policy rules"),
    (
        "ip link add br0 type bridge && ip link set nic0 master br0",
        "ip link delete br0",
        "already a port of br0",
    ),
)


def test_what_cannot_be_moved_is_refused_for_good() -> None:
    for world in made(BRIDGE_SUBNET):
        for make, remove, reason in REFUSED:
            world.host.shell(make)
            before = world.dump()
            argv = (*world.host.enter, uplink.SCRIPT_PATH, "up")
            done = subprocess.run(argv, check=False, capture_output=True, text=True)
            assert (done.returncode, reason in done.stderr) == (78, True), done.stderr
            links = json.dumps(world.dump()["links"])
            assert LIFETIME.sub("", links) == LIFETIME.sub("", json.dumps(before["links"]))
            world.host.shell(remove)
        # What a router announced may go along.
        world.host.shell(f"ip -6 address add 2001:db8::98/64 dev nic0 mngtmpaddr {LEASE}")
        world.uplink("up")
        assert_works(world)


def test_the_largest_frames_pass_as_before() -> None:
    for world in made(BRIDGE_SUBNET):
        world.provider.shell("ip link set port0 mtu 9000")
        world.host.shell("ip link set nic0 mtu 9000")
        world.up()
        assert world.host.shell("cat /sys/class/net/{nic0,br-uplink}/mtu") == "9000\n9000\n"


def test_addresses_set_on_the_card_again_are_moved_again() -> None:
    for world in made(BRIDGE_SUBNET):
        world.up()
        on = world.dump()
        # As ifup does.
        world.host.shell(
            "ip address add 203.0.113.2/24 brd + dev nic0; ip link set nic0 nomaster\n"
            "ip route add default via 203.0.113.1 dev nic0 proto static\n"
        )
        world.uplink("ensure")
        assert_works(world)
        assert world.dump()["links"] == on["links"]
        assert " dev nic0" not in world.host.run("ip", "route")


def test_without_the_tables_the_wire_is_apart() -> None:
    for world in made(BRIDGE_SUBNET):
        world.up()
        world.host.run(firewall.SCRIPT_PATH, "remove")
        assert not world.reaches(world.floating[0])
        assert world.reaches(HOST)
        world.load_firewall()
        world.uplink("ensure")
        assert_works(world)


def test_a_route_set_on_the_card_again_is_moved_again() -> None:
    for world in made(BRIDGE_SCATTERED):
        world.up()
        # As systemd-networkd does when it starts again: no event of an address follows.
        world.host.shell("ip route replace default via 192.0.2.1 dev nic0 onlink")
        assert world.uplink("ensure") != ""
        assert_works(world)
        assert " dev nic0" not in world.host.run("ip", "route")
        assert world.uplink("ensure") == ""


def test_a_boot_that_is_half_way_is_waited_for() -> None:
    for world in made(BRIDGE_SUBNET):
        world.up()
        world.host.run("cp", STATE, "/run/state")
        world.uplink("down")
        # The next boot: the tools have set the address, not yet the default route.
        route = world.host.run("ip", "route", "show", "default").strip()
        world.host.shell(
            f"sed 's/^boot .*/boot another/' /run/state >{STATE}\n"
            "echo '20.5 1' >/run/uptime; mount --bind /run/uptime /proc/uptime\n"
            f"ip route delete {route}"
        )
        argv = (*world.host.enter, uplink.SCRIPT_PATH, "up")
        early = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert (early.returncode, "still lacks" in early.stderr) == (1, True), early.stderr
        assert "br-uplink" not in world.host.run("ip", "link")
        world.host.shell(f"ip route add {route}")
        world.up()
        assert_works(world)


def test_it_waits_for_what_is_configured_no_more_but_not_for_ever() -> None:
    for world in made(BRIDGE_SUBNET):
        world.host.shell(
            f"mkdir -p {STATE.rpartition('/')[0]}\n"
            f"printf 'boot another\\nnic nic0\\naddress4 198.18.0.1/24\\n' >{STATE}\n"
            "echo '180.1 1' >/run/uptime; mount --bind /run/uptime /proc/uptime"
        )
        world.up()
        assert_works(world)
        assert "198.18" not in world.host.run("ip", "address")


def test_a_move_that_is_told_to_stop_ends_whole(bridged: World) -> None:
    world = bridged
    before = world.dump()
    world.load_firewall()
    for verb, other in (("up", "down"), ("down", "up")):
        world.uplink(verb)
        done = world.dump()["links"]
        for number in range(6):
            world.uplink(other)
            begun = world.dump()["links"]
            argv = (*world.host.enter, uplink.SCRIPT_PATH, verb)
            with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL) as one:
                time.sleep(0.06 * number)
                # As the engine's agent does when its terminal is gone, to all of the step's.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGTERM)
            now = world.dump()["links"]
            assert [name for name in now if "uplink" not in name]
            assert has_way(now) in (has_way(begun), has_way(done)), now
            world.uplink(verb)
    world.assert_is(before, but="files")


def has_way(links: dict[str, list[object]]) -> list[str]:
    """Return the devices that have the host's address."""
    return [name for name, link in links.items() if HOST in json.dumps(link)]


def test_ipv6_comes_back_without_the_state_file() -> None:
    for world in made(BRIDGE_SUBNET):
        before = world.dump()
        world.up()
        world.host.run("rm", STATE)
        world.uplink("down")
        world.host.run("nft", "flush", "ruleset")
        world.assert_is(before, but="files")


def test_another_method_leaves_nothing_of_the_one_before() -> None:
    for world in made(PROXY_SUBNET):
        fresh = {}
        plans = {name: make_plan(METHODS[name].external) for name in ("routed", "bridge-subnet")}
        plans["proxy-subnet"] = world.plan
        for name, plan in plans.items():
            world.install(plan)
            world.up()
            fresh[name] = world.dump()
            world.uplink("down")
        for name in ("proxy-subnet", "bridge-subnet", "routed", "proxy-subnet", "bridge-subnet"):
            world.install(plans[name])
            world.up()
            world.assert_is(fresh[name])


def test_routes_of_earlier_releases_become_ours() -> None:
    for world in made(ROUTED):
        world.host.shell(
            "ip route add 198.51.100.0/28 dev br-external\n"
            "ip route add blackhole 198.51.100.0/28 metric 4000\n"
            "ip route add 198.51.100.64/28 dev br-external\n"
            "ip route add blackhole 198.51.100.64/28 metric 4000\n"
            "ip route add blackhole 198.18.0.0/15\n"
        )
        world.up()
        found = sorted(
            (route["dst"], route["type"], route["protocol"])
            for route in world.host.json("-N", "-d", "route")
            if route["dst"].startswith("198.")
        )
        assert found == [
            ("198.18.0.0/15", "6", "3"),
            ("198.51.100.0/28", "1", "157"),
            ("198.51.100.0/28", "6", "157"),
        ]


def test_the_proxy_of_another_stays_theirs() -> None:
    for world in made(PROXY_SUBNET):
        world.host.shell("ip neigh add proxy 203.0.113.17 dev nic0")
        before = world.dump()
        world.up()
        world.uplink("down")
        assert world.dump()["proxies"] == before["proxies"]
