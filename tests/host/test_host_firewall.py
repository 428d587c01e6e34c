"""The firewall on a real kernel: real nft, real packets between network namespaces.

provider --- eth0 [ host ] br-external --- instance (router's address and floating IPs)
                           br-data     --- node (the controller)
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.doors.progress import Progress
from solostack.errors import UsageError
from solostack.flows import firewall as flow
from solostack.flows.deployment import site_state
from solostack.flows.facts import save_facts
from solostack.host.firewall import script_text
from solostack.host.firewall_text import FAMILIES, removal, rules_text
from solostack.site.document import parse_document
from solostack.site.loader import LoadedSite
from solostack.site.model import Site
from tests.host.firewall_world import (
    ALLOWED,
    CLOSED,
    FACTS,
    FIREWALL,
    FLOATING,
    FLOATING_2,
    HOST,
    INTERNAL,
    MEMBER_MAC,
    METHODS,
    METRICS,
    OTHER,
    PUBLIC_PORT,
    SSH,
    WEB,
    World,
    make_plan,
    opened,
    text_of,
)

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    with (
        opened() as made,
        made.host.serving(SSH, WEB, METRICS, CLOSED, 5900, 6640, 16509),
        made.instance.serving(80, CLOSED),
        made.node.serving(3306, 5672),
    ):
        yield made


@pytest.fixture(params=[0, 1], ids=["plain", "bridge-nf"])
def world(made: World, request: pytest.FixtureRequest) -> World:
    made.bridge_netfilter(request.param)
    made.load(text_of("routed"))
    return made


@pytest.fixture(scope="module")
def made_bridged() -> Iterator[World]:
    with opened("b") as made:
        made.bridge()
        with made.host.serving(SSH, CLOSED), made.instance.serving(80, CLOSED):
            yield made


@pytest.fixture(params=[0, 1], ids=["plain", "bridge-nf"])
def bridged(made_bridged: World, request: pytest.FixtureRequest) -> World:
    made_bridged.bridge_netfilter(request.param)
    made_bridged.load(text_of("bridge"))
    return made_bridged


@pytest.fixture
def plain(made: World) -> World:
    """Where bridge netfilter makes no difference, or is set by the test."""
    made.load(text_of("routed"))
    return made


def test_ssh_from_where_the_site_says_only(plain: World) -> None:
    assert plain.provider.connect("203.0.113.2", SSH, ALLOWED) == f"open {ALLOWED}"
    assert plain.provider.connect("203.0.113.2", SSH, OTHER) == "silent"
    plain.load(text_of("routed", ""))
    assert plain.provider.connect("203.0.113.2", SSH, OTHER) == f"open {OTHER}"
    assert plain.provider.connect("2001:db8::2", SSH) == "open 2001:db8::1"


def test_other_ports_are_closed_unless_the_site_opens_them(plain: World) -> None:
    before = plain.counted("everything else to the host")
    found = plain.provider.connects(
        ("203.0.113.2", CLOSED, ALLOWED),
        ("2001:db8::2", CLOSED, ""),
        ("203.0.113.2", METRICS, OTHER),
        ("203.0.113.2", METRICS, ALLOWED),
        ("203.0.113.2", WEB, OTHER),
        ("2001:db8::2", WEB, ""),
    )
    assert found[:3] == ["silent"] * 3
    assert found[3:] == [f"open {ALLOWED}", f"open {OTHER}", "open 2001:db8::1"]
    assert plain.counted("everything else to the host") >= before + 3


def test_the_hosts_own_way_out_and_ping_work(plain: World) -> None:
    with plain.provider.serving(80):
        assert plain.host.connect("203.0.113.1", 80) == "open 203.0.113.2"
        assert plain.host.connect("2001:db8::1", 80) == "open 2001:db8::2"
    assert plain.provider.ping("203.0.113.2")
    assert plain.provider.ping("-6 2001:db8::2")


def test_a_session_that_is_open_survives_the_first_load_from_a_source_not_allowed(
    plain: World,
) -> None:
    for family in FAMILIES:
        plain.load(removal(family))
    plain.host("conntrack", "-F", check=False)
    script = (
        "import socket, subprocess, sys\n"
        "door = socket.create_server(('203.0.113.2', 2200)); print('ready', flush=True)\n"
        "talk, _ = door.accept()\n"
        "while data := talk.recv(100): talk.sendall(data)\n"
    )
    asks = (
        "import socket, sys\n"
        f"talk = socket.create_connection(('203.0.113.2', 2200), source_address=('{OTHER}', 0))\n"
        "talk.settimeout(3)\n"
        "for line in sys.stdin:\n"
        "    talk.sendall(line.encode()); print(talk.recv(100).decode(), end='', flush=True)\n"
    )
    argv = ("ip", "netns", "exec")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        (*argv, plain.host.name, "python3", "-c", script), stdout=pipe, text=True
    ) as server:
        assert server.stdout and server.stdout.readline() == "ready\n"
        with subprocess.Popen(
            (*argv, plain.provider.name, "python3", "-c", asks), stdin=pipe, stdout=pipe, text=True
        ) as client:
            assert client.stdin and client.stdout
            for word in ("before", "after", "later"):
                if word == "after":
                    plain.load(text_of("routed").replace("dport 2222", "dport 2200"))
                client.stdin.write(f"{word}\n")
                client.stdin.flush()
                assert client.stdout.readline() == f"{word}\n"
            client.stdin.close()
        server.kill()
    assert plain.provider.connect("203.0.113.2", 2200, OTHER) == "silent"


def test_instances_reach_no_port_of_the_host(world: World) -> None:
    addresses = ("203.0.113.2", "10.99.0.1", "172.16.0.1", "172.17.0.1")
    found = world.instance.connects(
        *(
            (address, port, source)
            for address in addresses
            for port in (SSH, WEB, 6640, 16509)
            for source in (FLOATING, "10.99.0.130")
        )
    )
    assert set(found) == {"silent"}


def test_instances_can_ping_their_gateway_and_the_host(world: World) -> None:
    assert world.instance.ping("10.99.0.1")
    assert world.instance.ping(f"-I {FLOATING} 203.0.113.2")
    assert not world.instance.ping("172.16.0.1")


def test_instances_reach_no_control_node(world: World) -> None:
    before = world.counted("to the control nodes")
    targets = (("172.16.0.11", port, source) for port in (3306, 5672) for source in (FLOATING, ""))
    assert set(world.instance.connects(*targets)) == {"silent"}
    assert world.counted("to the control nodes") > before
    assert world.host.connect("172.16.0.11", 3306) == "open 172.16.0.1"


def test_instances_and_floating_ips_work_both_ways(world: World) -> None:
    assert world.provider.connect(FLOATING, 80, OTHER) == f"open {OTHER}"
    assert world.host.connect(FLOATING, 80) == "open 10.99.0.1"
    with world.provider.serving(80):
        assert world.instance.connect("203.0.113.1", 80, FLOATING) == f"open {FLOATING}"
        assert world.instance.connect("203.0.113.1", 80, "10.99.0.130") == "open 203.0.113.2"
        assert world.node.connect("203.0.113.1", 80) == "open 203.0.113.2"


def errors_of_a_router(world: World) -> str:
    """Let the instance refuse to forward for a floating IP; return who told the provider."""
    world.instance("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
    world.instance.ip("route replace unreachable 198.51.100.9")
    mac = world.instance.mac("eth0")
    world.host.ip(f"neigh replace 198.51.100.9 lladdr {mac} dev br-external nud permanent")
    world.provider.ip(f"neigh replace 198.51.100.9 lladdr {mac} dev wire nud permanent")
    told = world.provider("sh", "-c", "ping -nc2 -i0.2 -W1 198.51.100.9 || true")
    world.instance("sysctl", "-qw", "net.ipv4.ip_forward=0")
    return told


def test_errors_of_routers_reach_the_outside_from_the_hosts_address(world: World) -> None:
    told = errors_of_a_router(world)
    assert "From 203.0.113.2" in told, told
    assert "10.99.0" not in told
    assert world.counted("errors from routers") >= 1


def test_control_nodes_get_out_by_whichever_of_the_hosts_macs_they_know(world: World) -> None:
    # Both answer for the host's address: the bridge has none of its own, but arp_ignore is 0.
    with world.provider.serving(80):
        for mac in (world.host.mac("br-data"), MEMBER_MAC):
            world.node_talks_to(mac)
            found = world.node.connects(*[("203.0.113.1", 80, "")] * 5, ("172.16.0.1", 5900, ""))
            assert found == ["open 203.0.113.2"] * 5 + ["open 172.16.0.11"]
    assert world.counted("consoles") == 2
    assert world.counted("internal sources") == 0


def test_the_provider_reaches_nothing_inside(world: World) -> None:
    addresses = ("172.16.0.11", "172.16.0.1", "10.99.0.1", "10.99.0.130")
    targets = ((address, port, ALLOWED) for address in addresses for port in (3306, SSH, 80))
    assert set(world.provider.connects(*targets)) == {"silent"}
    assert not any(world.provider.ping(address) for address in ("172.16.0.11", "10.99.0.1"))


def test_control_nodes_reach_of_the_host_only_what_they_need(world: World) -> None:
    console, *others = world.node.connects(
        *(("172.16.0.1", port, "") for port in (5900, SSH, 6640, 16509))
    )
    assert console == "open 172.16.0.11"
    assert set(others) == {"silent"}
    assert world.node.ping("172.16.0.1")


def test_packets_to_addresses_that_are_not_ours_are_dropped_and_counted(plain: World) -> None:
    before = plain.counted("packets to addresses that are not ours")
    to = plain.host.mac("eth0")
    for target in ("198.51.100.16", "8.8.8.8", "10.99.0.1", "172.16.0.1", "172.17.0.1"):
        plain.provider.talk("send", "wire", to, "192.0.2.9", target, "2")
    assert plain.counted("packets to addresses that are not ours") == before + 10


def test_spoofed_sources_are_dropped_and_counted_both_ways(world: World) -> None:
    to = world.host.mac("eth0")
    words = "spoofed: sources that are inside"
    before = world.counted(words)
    for source in (FLOATING, "10.99.0.130", "172.16.0.11"):
        world.provider.talk("send", "wire", to, source, "203.0.113.2", "2")
    assert world.counted(words) == before + 6
    to = world.host.mac("br-external")
    words = "spoofed: sources that are neither"
    before = world.counted(words)
    for source in ("8.8.8.8", "203.0.113.2", "172.16.0.11", "192.168.1.1", "198.51.100.16"):
        world.instance.talk("send", "eth0", to, source, "203.0.113.1", "2")
    assert world.counted(words) == before + 10


def test_nobody_is_answered_about_internal_addresses(plain: World) -> None:
    # The worst the host's own settings can say: answer for whatever is routed or configured.
    settings = ("net.ipv4.conf.eth0.proxy_arp=1", "net.ipv4.conf.eth0.arp_ignore=0")
    plain.host("sysctl", "-qw", *settings, "net.ipv4.neigh.eth0.proxy_delay=0")
    try:
        wrong = (*INTERNAL, "172.17.0.1", FLOATING, "10.77.0.1")
        own, *others = plain.provider.arp("wire", "203.0.113.2", *wrong)
        assert own == plain.host.mac("eth0")
        assert set(others) == {"silent"}
        assert plain.counted("requests for internal") >= len(INTERNAL)
        assert plain.counted("from any other address") >= 2
        for family in FAMILIES:
            plain.load(removal(family))
        # Without the tables it does: what was silent above was silent because of them.
        assert plain.provider.arp("wire", "10.99.0.1", FLOATING) == [plain.host.mac("eth0")] * 2
    finally:
        plain.host("sysctl", "-qw", *(each[:-1] + "0" for each in settings))


def test_proxied_addresses_are_answered(plain: World) -> None:
    plain.load(text_of("proxy"))
    plain.host("sysctl", "-qw", "net.ipv4.neigh.eth0.proxy_delay=0")
    plain.host.ip(f"neigh add proxy {FLOATING} dev eth0", "neigh add proxy 10.99.0.130 dev eth0")
    try:
        found = plain.provider.arp("wire", FLOATING, "10.99.0.130")
        assert found == [plain.host.mac("eth0"), "silent"]
        assert plain.provider.connect(FLOATING, 80, OTHER) == f"open {OTHER}"
    finally:
        plain.host.ip(
            f"neigh del proxy {FLOATING} dev eth0", "neigh del proxy 10.99.0.130 dev eth0"
        )


def test_internal_addresses_are_never_announced(plain: World) -> None:
    before = plain.counted("from any other address")
    # With its default setting (arp_announce 0) the kernel asks from whatever source a packet has.
    script = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('172.17.0.1', 0)); s.sendto(b'x', ('203.0.113.200', 9))\n"
    )
    plain.host("python3", "-c", script)
    assert plain.counted("from any other address") > before


def test_a_router_that_moves_to_another_card_is_followed(plain: World) -> None:
    assert plain.host.ping("203.0.113.1")
    moved = "02:00:00:00:00:99"
    plain.host("sleep", "1.1")  # the kernel keeps a fresh entry for its locktime
    plain.provider.talk("tell", "wire", "203.0.113.1", moved)
    neighbours = json.loads(plain.host("ip", "-j", "neigh", "show", "dev", "eth0"))
    known = {each["dst"]: each.get("lladdr") for each in neighbours}
    plain.host.ip("neigh flush dev eth0")
    assert known["203.0.113.1"] == moved


@pytest.mark.parametrize("method", ["routed", "private"])
def test_published_ports(plain: World, method: str) -> None:
    plain.load(text_of(method))
    for value in (1, 0):
        plain.bridge_netfilter(value)
        assert plain.provider.connect("203.0.113.2", PUBLIC_PORT, OTHER) == f"open {OTHER}"
        assert plain.host.connect("203.0.113.2", PUBLIC_PORT) == "open 203.0.113.2"
    # With bridge netfilter the rewritten packet is sent back to the port it came from, and lost.
    found = plain.instance.connect("203.0.113.2", PUBLIC_PORT, FLOATING_2)
    assert found == "open 10.99.0.1"


def test_private_floating_ips_leave_as_the_host_and_answer_as_themselves(world: World) -> None:
    world.load(text_of("private"))
    with world.provider.serving(80):
        assert world.instance.connect("203.0.113.1", 80, FLOATING) == "open 203.0.113.2"
    assert world.provider.connect(FLOATING, 80, ALLOWED) == f"open {ALLOWED}"


def test_a_reload_after_flush_brings_it_back_and_twice_is_the_same(plain: World) -> None:
    plan = make_plan("routed")
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.nft"
        rules.write_text(rules_text(plan, plan.hosts[0]))
        script = script_text(plan, plan.hosts[0])
        script = script.replace("/etc/solostack/firewall.nft", str(rules))
        plain.host.ip("address add 203.0.113.50/24 dev eth0")
        plain.host("sh", "-s", "load", stdin=script)
        first = plain.host("nft", "-s", "list", "ruleset")
        assert "203.0.113.50" in first
        plain.host("nft", "flush", "ruleset")
        plain.host("sh", "-s", "load", stdin=script)
        plain.host("sh", "-s", "load", stdin=script)
        assert plain.host("nft", "-s", "list", "ruleset") == first
        assert plain.provider.arp("wire", "203.0.113.50") == [plain.host.mac("eth0")]
        plain.host("sh", "-s", "remove", stdin=script)
        plain.host("sh", "-s", "remove", stdin=script)
        assert plain.host("nft", "list", "tables") == ""
        plain.host.ip("address del 203.0.113.50/24 dev eth0")


def test_the_tables_of_others_are_not_touched(plain: World) -> None:
    theirs = (
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; "
        "policy accept;\n\t\tcounter packets 5 bytes 6\n\t}\n}\n"
    )
    plain.load(theirs)
    try:
        before = plain.host("nft", "list", "table", "ip", "filter")
        plain.load(text_of("bridge"))
        plain.load(text_of("routed"))
        for family in FAMILIES:
            plain.load(removal(family))
        assert plain.host("nft", "list", "table", "ip", "filter") == before
    finally:
        plain.host("nft", "delete", "table", "ip", "filter")


def test_every_rule_counts_and_tells(plain: World) -> None:
    for method in METHODS:
        plain.load(text_of(method))
        listed = json.loads(plain.host("nft", "-j", "list", "ruleset"))["nftables"]
        rules = [entry["rule"] for entry in listed if "rule" in entry]
        assert len(rules) == len(plain.rules())
        assert all(any("counter" in each for each in rule["expr"]) for rule in rules)


def test_a_bridged_card_shows_the_wire_the_floating_ips_and_the_host_only(bridged: World) -> None:
    before = bridged.counted("from the host by the way of the block")
    bridged.host.ip("neigh flush dev br-external")
    assert bridged.host.ping("10.99.0.130")
    assert bridged.counted("from the host by the way of the block") > before
    own, floating, *others = bridged.provider.arp("wire", "203.0.113.2", FLOATING, *INTERNAL)
    assert own == bridged.host.mac("eth0")
    assert floating == bridged.instance.mac("eth0")
    assert set(others) == {"silent"}
    assert bridged.provider.arp("wire", "10.99.0.130") == ["silent"]


def test_a_bridged_card_lets_floating_ips_and_the_host_work(bridged: World) -> None:
    assert bridged.provider.connect(FLOATING, 80, OTHER) == f"open {OTHER}"
    assert bridged.provider.connect("203.0.113.2", SSH, ALLOWED) == f"open {ALLOWED}"
    assert bridged.host.connect(FLOATING, 80) == "open 10.99.0.1"
    with bridged.provider.serving(80):
        assert bridged.instance.connect("203.0.113.1", 80, FLOATING) == f"open {FLOATING}"
        assert bridged.instance.connect("203.0.113.1", 80, "10.99.0.130") == "open 203.0.113.2"
        assert bridged.host.connect("203.0.113.1", 80) == "open 203.0.113.2"


def test_a_bridged_card_lets_errors_of_routers_out_as_the_host(bridged: World) -> None:
    told = errors_of_a_router(bridged)
    assert "From 203.0.113.2" in told, told
    assert "10.99.0" not in told


def test_a_bridged_card_keeps_the_same_out(bridged: World) -> None:
    found = bridged.provider.connects(
        ("203.0.113.2", SSH, OTHER), ("203.0.113.2", CLOSED, OTHER), ("10.99.0.1", SSH, ALLOWED)
    )
    assert set(found) == {"silent"}
    targets = (
        (address, port, source)
        for address in ("203.0.113.2", "10.99.0.1", "172.16.0.1")
        for port in (SSH, CLOSED)
        for source in (FLOATING, "10.99.0.130")
    )
    assert set(bridged.instance.connects(*targets)) == {"silent"}
    before = bridged.counted("spoofed")
    to = bridged.instance.mac("eth0")
    for source in (FLOATING_2, "10.99.0.1"):
        bridged.provider.talk("send", "wire", to, source, FLOATING, "2")
    to = bridged.host.mac("br-external")
    bridged.instance.talk("send", "eth0", to, "8.8.8.8", "203.0.113.1", "2")
    assert bridged.counted("spoofed") == before + 6


@pytest.fixture
def asked(plain: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoadedSite]:
    """The site whose host is the world's, reached in its namespace instead of by SSH."""
    document = parse_document(f"hosts:\n{HOST}{METHODS['routed']}{FIREWALL}")
    inside = ("ip", "netns", "exec", plain.host.name)
    executor = PrefixExecutor(LocalExecutor(), inside, "phys1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(flow, "host_executors", lambda _: {"phys1": executor})
    loaded = LoadedSite(
        site=Site.model_validate(document.data), path=Path("site.yaml"), text="", digest=""
    )
    save_facts(site_state(loaded), {"phys1": FACTS})
    return loaded


def test_what_is_loaded_is_told_and_compared_with_the_plan(plain: World, asked: LoadedSite) -> None:
    assert plain.provider.connect("203.0.113.2", SSH, ALLOWED) == f"open {ALLOWED}"
    [found] = flow.live_firewalls(asked, Progress())
    [planned] = flow.planned_firewalls(asked)
    assert found.loaded and not found.missing and not found.unknown and not found.advice
    assert [rule.identity for rule in found.rules] == [rule.identity for rule in planned.rules]
    ssh = next(rule for rule in found.rules if rule.words.startswith("SSH (TCP 2222) from"))
    assert (ssh.packets, bool(ssh.bytes)) == (1, True)
    plain.load(text_of("routed", ""))
    [found] = flow.live_firewalls(asked, Progress(), only="phys1")
    assert [rule.words for rule in found.unknown] == ["SSH (TCP 2222) from everybody"]
    assert "TCP port 443 from everybody" in [rule.words for rule in found.missing]
    assert found.advice == "solostack up -f site.yaml"
    for family in FAMILIES:
        plain.load(removal(family))
    [found] = flow.live_firewalls(asked, Progress())
    assert found.loaded is False
    assert "systemctl restart solostack-firewall.service" in found.advice


def test_a_host_that_the_site_does_not_have_is_refused(asked: LoadedSite) -> None:
    with pytest.raises(UsageError, match="no host called phys9"):
        flow.live_firewalls(asked, Progress(), only="phys9")
