"""The host's firewall by value: its whole text per method, and what must hold for every site."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.cli.main import main_inner
from solostack.engine.operations import File, Unit
from solostack.errors import HostError, UsageError
from solostack.host import firewall
from solostack.host.firewall_live import (
    Meaning,
    in_order,
    parse_tables,
    planned_rule,
)
from solostack.host.firewall_model import INPUT, Way
from solostack.host.firewall_rules import firewall_rules
from solostack.host.firewall_text import FAMILIES, rules_text
from solostack.host.uplink import UPLINK_BRIDGE
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.document import parse_document
from solostack.site.model import Site

GOLDEN = Path(__file__).parents[1] / "golden" / "host"
HOSTS = "hosts:\n  - {name: phys1, address: 203.0.113.2, nic: enp1s0}\n"
TWO_HOSTS = HOSTS + "  - {name: phys2, address: 203.0.113.3, nic: enp2s0, ssh: {port: 2222}}\n"
ROUTED = "external: {block: 198.51.100.0/28}\n"
SITES = {
    "routed": HOSTS + ROUTED,
    "proxy": HOSTS
    + "external: {method: proxy, addresses: [203.0.113.10, 203.0.113.11, 203.0.113.77]}\n"
    + "firewall: {ssh_from: [192.0.2.0/28], open: [{port: 443}]}\n",
    "bridge": HOSTS + "external: {method: bridge, block: 198.51.100.0/29}\n",
    "private": HOSTS
    + "external: {method: private, block: 10.50.0.0/24, "
    + "published: [{port: 8080, to: 10.50.0.5, to_port: 80}, "
    + "{port: 5353, to: 10.50.0.6, protocol: udp}]}\n",
    "front-door": HOSTS + ROUTED + "front_door: {port: 8443}\n",
    "front-door-public": HOSTS + ROUTED + "front_door: {address: 198.51.100.5}\n",
    "front-door-bridge": HOSTS
    + "external: {method: bridge, block: 198.51.100.0/29}\n"
    + "front_door: {address: 198.51.100.3}\n",
}
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)
HEADINGS = ("from outside in", "from instances", "from the data side", "outward", "ARP on the wire")
LONGEST_COMMENT = 128
"""In bytes; libnftnl, NFTNL_UDATA_COMMENT_MAXLEN."""


def make_plan(text: str, *, module: bool = True) -> Plan:
    """Plan a site without its rules: what is refused there is not the question here."""
    site = Site.model_validate(parse_document(text).data)
    facts = {
        host.name: dataclasses.replace(FACTS, name=host.name, openvswitch_module=module)
        for host in site.hosts
    }
    return build_plan(site, facts)


@pytest.mark.parametrize("method", SITES)
def test_the_whole_text(method: str, request: pytest.FixtureRequest) -> None:
    plan = make_plan(SITES[method])
    text = rules_text(plan, plan.hosts[0])
    path = GOLDEN / f"firewall-{method}.nft"
    if request.config.getoption("--regenerate"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


addresses = st.integers(0x0B000000, 0xDF000000)
networks = st.builds(
    lambda number, prefix: f"{(number >> 24) & 255}.{(number >> 16) & 255}.0.0/{prefix}",
    addresses,
    st.integers(16, 30),
)
ports = st.integers(1, 65535)
firewalls = st.fixed_dictionaries(
    {
        "ssh_from": st.lists(networks, max_size=30),
        "open": st.lists(
            st.fixed_dictionaries(
                {
                    "port": ports,
                    "protocol": st.sampled_from(["tcp", "udp"]),
                    "sources": st.lists(networks, max_size=30),
                }
            ),
            max_size=5,
        ),
        "networks": st.lists(networks, max_size=30),
    }
)


@given(
    method=st.sampled_from(list(SITES)),
    firewall=firewalls,
    egress=st.booleans(),
    module=st.booleans(),
    host=st.sampled_from([0, 1]),
)
def test_whatever_the_site_says(
    method: str, firewall: dict[str, object], egress: bool, module: bool, host: int
) -> None:
    text = SITES[method].replace(HOSTS, TWO_HOSTS).partition("firewall:")[0]
    text += f"egress: {str(egress).lower()}\nfirewall: {json.dumps(firewall)}\n"
    plan = make_plan(text, module=module)
    rules = firewall_rules(plan, plan.hosts[host])
    # Everything says what it is about, in what nftables can keep, and no two say the same.
    for rule in rules:
        assert len(rule.comment.encode()) <= LONGEST_COMMENT
        assert '"' not in rule.comment
        assert rule.words
    # What is open stays open: before it, only sources that cannot be true are refused.
    first = [rule.match for rule in rules if rule.chain == INPUT]
    opened = first.index("ct state established,related")
    assert all("ip saddr !=" in match for match in first[:opened])
    # A refusal always names an interface, so nothing else of the host is judged.
    for rule in rules:
        if rule.verdict == "drop":
            assert re.match(r"(iifname|oifname) ", rule.match), rule
    # Before any refusal by destination, the kernel's own list of addresses is asked.
    arriving = [rule for rule in rules if rule.chain.name == "prerouting"]
    fib = next(i for i, rule in enumerate(arriving) if "fib daddr . iif type" in rule.match)
    assert all("ip saddr" in rule.match for rule in arriving[:fib] if rule.verdict == "drop")
    rendered = rules_text(plan, plan.hosts[host])
    assert "flush" not in rendered
    assert rendered.count(" counter ") == rendered.count(' comment "') == len(rules)
    assert f"elements = {{ {plan.hosts[host].address} }}" in rendered


def test_only_the_gateway_host_knows_of_the_block() -> None:
    plan = make_plan(TWO_HOSTS + ROUTED)
    first, second = (rules_text(plan, host) for host in plan.hosts)
    assert "198.51.100.0/28" in first
    assert "br-external" in first
    for absent in ("198.51.100", "br-external", "10.99.0", "enp1s0"):
        assert absent not in second
    assert "tcp dport 2222" in second
    assert "ip saddr 172.16.0.2 tcp dport { 22, 16514, 49152-49215 }" in first
    assert "ip saddr 172.16.0.1 tcp dport { 22, 2222, 16514, 49152-49215 }" in second


def test_with_bridge_the_rules_are_about_the_bridge_the_card_joined() -> None:
    plan = make_plan(SITES["bridge"].replace(HOSTS, TWO_HOSTS))
    first, second = (rules_text(plan, host) for host in plan.hosts)
    assert f'"{UPLINK_BRIDGE}"' in first
    assert "enp1s0" not in first
    assert "table bridge solostack {\n" in first
    assert '"enp2s0"' in second
    assert "table bridge solostack {\n" not in second


def test_addresses_of_a_routed_block_that_others_have_may_speak_to_us() -> None:
    plan = make_plan(HOSTS + "external: {block: 198.51.100.0/28, not_ours: [198.51.100.1]}\n")
    spoofed = next(rule for rule in firewall_rules(plan, plan.hosts[0]) if "spoofed" in rule.words)
    assert "198.51.100.0," in spoofed.match
    assert "198.51.100.1," not in spoofed.match


def test_without_egress_control_nodes_do_not_leave() -> None:
    plan = make_plan(SITES["routed"] + "egress: false\n")
    words = {rule.words: rule.verdict for rule in firewall_rules(plan, plan.hosts[0])}
    assert words["control nodes to the outside (egress is off)"] == "drop"
    assert not [each for each in words if each.startswith("control nodes, ")]


def test_who_may_log_in() -> None:
    everybody, listed = (
        [rule.words for rule in firewall_rules(plan, plan.hosts[0]) if "SSH (TCP" in rule.words]
        for plan in (make_plan(SITES["routed"]), make_plan(SITES["proxy"]))
    )
    assert everybody == ["SSH (TCP 22) from everybody"]
    assert listed == [
        "SSH (TCP 22) from 192.0.2.0/28",
        "SSH (TCP 22) by IPv6 from the same wire",
        "SSH (TCP 22) sessions that were open before these rules",
    ]


def test_the_unit_follows_debians_own_and_loads_and_removes_with_one_script() -> None:
    plan = make_plan(SITES["routed"])
    operations = firewall.firewall_operations(plan, plan.hosts[0])
    texts = {one.path: one.content for one in operations if isinstance(one, File)}
    unit = texts[firewall.UNIT_PATH]
    assert "ReloadPropagatedFrom=nftables.service" in unit
    assert "PartOf=nftables.service" in unit
    assert "WantedBy=multi-user.target nftables.service" in unit
    script = texts[firewall.SCRIPT_PATH]
    for family in FAMILIES:
        assert f"delete table {family} solostack;" in script
    assert "address show dev enp1s0" in script
    (one,) = (one for one in operations if isinstance(one, Unit))
    assert one.reload
    assert set(one.restart_on) == set(texts)


def line(family: str, *rules: dict[str, object]) -> str:
    entries = [{"metainfo": {}}, {"table": {"family": family, "name": "solostack"}}]
    return json.dumps({"nftables": [*entries, *({"rule": rule} for rule in rules)]})


def entry(comment: str, verdict: str, packets: int = 0) -> dict[str, object]:
    expr = [{"match": {}}, {"counter": {"packets": packets, "bytes": 2 * packets}}, {verdict: None}]
    return {"family": "inet", "chain": "input", "comment": comment, "expr": expr}


def test_what_the_host_says_is_read_with_its_counters() -> None:
    listed = line(
        "inet",
        entry("outward: control nodes leave as the host", "masquerade"),
        entry("outside: SSH (TCP 22) from everybody", "accept", 3),
        entry("outside: everything else to the host", "drop", 7),
        entry("somebody's own rule", "accept"),
    )
    tables = parse_tables(f"{listed}\n{{}}\n{{}}\n")
    assert list(tables) == ["inet"]
    seen = in_order(tables["inet"])
    assert [(rule.way, rule.meaning, rule.words, rule.packets, rule.bytes) for rule in seen] == [
        (Way.OUTSIDE, Meaning.ALLOWED, "SSH (TCP 22) from everybody", 3, 6),
        (Way.OUTSIDE, Meaning.REFUSED, "everything else to the host", 7, 14),
        (Way.OUTWARD, Meaning.REWRITTEN, "control nodes leave as the host", 0, 0),
    ]


def test_a_table_that_is_not_there_is_none() -> None:
    assert parse_tables("{}\n{}\n{}\n") == {}


@pytest.mark.parametrize("text", ["", "{}\n", "x\ny\nz\n"])
def test_no_answer_is_an_error(text: str) -> None:
    with pytest.raises(HostError):
        parse_tables(text)


def test_planned_rules_have_no_counters() -> None:
    plan = make_plan(SITES["private"])
    shown = [planned_rule(rule) for rule in firewall_rules(plan, plan.hosts[0])]
    assert all(rule.packets is None for rule in shown)
    published = [rule.words for rule in shown if rule.meaning is Meaning.REWRITTEN]
    assert "published: TCP port 8080 leads to 10.50.0.5:80" in published
    assert "published: UDP port 5353 leads to 10.50.0.6:5353" in published
    assert len({rule.identity for rule in shown}) == len(shown)


def test_the_command_shows_the_plan_without_a_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITES["routed"])
    facts = tmp_path / "facts.json"
    known = dataclasses.asdict(FACTS)
    facts.write_text(json.dumps({"phys1": known}))
    argv = ("firewall", "-f", str(site), "--planned", "--facts", str(facts))
    assert main_inner(argv) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f" {words}") for words in HEADINGS]
    assert places == sorted(places)
    assert main_inner((*argv, "--host", "phys1", "--json")) == 0
    [host] = json.loads(capsys.readouterr().out)["hosts"]
    assert (host["host"], host["loaded"]) == ("phys1", None)
    assert host["rules"][0]["words"] == "spoofed: sources that are inside this host"
    with pytest.raises(UsageError):
        main_inner((*argv, "--host", "phys9"))
    with pytest.raises(UsageError):
        main_inner(("firewall", "-f", str(site), "--facts", str(facts)))


def test_the_front_door_is_all_that_passes_to_the_controller() -> None:
    for name in ("front-door", "front-door-public", "front-door-bridge"):
        plan = make_plan(SITES[name])
        rules = firewall_rules(plan, plan.hosts[0])
        forward = [rule for rule in rules if rule.chain.name == "forward"]
        accepted = [rule for rule in forward if rule.verdict == "accept"]
        for rule in accepted:
            if "172.16.0.11" in rule.match:
                assert "ct status dnat ct original ip daddr" in rule.match
        refused = next(
            index for index, rule in enumerate(forward) if rule.words.startswith("to the control")
        )
        assert all(forward.index(rule) < refused for rule in accepted if "front door" in rule.words)


def test_the_front_doors_address_is_no_instances() -> None:
    plan = make_plan(SITES["front-door-bridge"])
    text = rules_text(plan, plan.hosts[0])
    wire = [line for line in text.splitlines() if "solo-uplink" in line and "accept" in line]
    assert wire
    assert not [line for line in wire if "198.51.100.3" in line or "198.51.100.0/29" in line]
    assert "spoofed: the front door" in rules_text(
        make_plan(SITES["front-door-public"]), make_plan(SITES["front-door-public"]).hosts[0]
    )
