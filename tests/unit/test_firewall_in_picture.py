"""What the picture says that the firewall lets in is what its rules let in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

import pytest

from solostack.host.firewall_model import ARP_OUTPUT, INPUT, PREROUTING, PUBLISH
from solostack.host.firewall_rules import firewall_rules
from solostack.picture.outside import arp_words, let_in_words, published_words
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.document import parse_document
from solostack.site.model import Site

FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)
EVERYBODY = frozenset({ipaddress.IPv4Network("0.0.0.0/0")})
Sources = frozenset[ipaddress.IPv4Network]
ROUTED = "{block: 198.51.100.0/28}"
SINGLE = "{method: proxy, addresses: [203.0.113.10, 203.0.113.77]}"
# Said by no words: answers, pings, and sessions or neighbours that ssh_from lets in besides.
UNSAID = (
    "meta l4proto { icmp, ipv6-icmp }",
    "udp sport 67 udp dport 68",
    "udp sport 547 udp dport 546",
)
BESIDES = ("ip6 saddr fe80::/10", "tcp flags & (syn | ack) != syn")


def make_plan(external: str, firewall: str = "{}", ssh: str = "{}") -> Plan:
    text = f"hosts: [{{name: phys1, address: 203.0.113.2, nic: enp1s0, ssh: {ssh}}}]\n"
    text += f"external: {external}\nfirewall: {firewall}\n"
    return build_plan(Site.model_validate(parse_document(text).data), {"phys1": FACTS})


def sources(texts: Sequence[str]) -> Sources:
    return frozenset(ipaddress.IPv4Network(text) for text in texts) or EVERYBODY


def networks(text: str) -> list[str]:
    return re.findall(r"\d+\.\d+\.\d+\.\d+(?:/\d+)?", text)


def ruled(plan: Plan) -> set[tuple[str, int, Sources]]:
    """What the rules let in from the uplink: protocol, port, from where."""
    found = set()
    for rule in firewall_rules(plan, plan.hosts[0]):
        if rule.chain != INPUT or 'iifname "enp1s0"' not in rule.match or rule.verdict != "accept":
            continue
        match = rule.match.removeprefix('iifname "enp1s0" ')
        if match in UNSAID or any(each in match for each in BESIDES):
            continue
        words = re.fullmatch(r"(?:ip saddr (.+) )?(tcp|udp) dport (\d+)", match)
        assert words is not None, f"the picture has no words for: {match}"
        found.add((words[2], int(words[3]), sources(networks(words[1] or ""))))
    return found


def pictured(plan: Plan) -> set[tuple[str, int, Sources]]:
    found = set()
    for line in let_in_words(plan, plan.hosts[0]):
        words = re.fullmatch(r"(?:SSH(?: \(TCP (\d+)\))?|(TCP|UDP) (\d+)) from (.+)", line)
        if words is not None:
            port = int(words[3] or words[1] or 22)
            found.add(((words[2] or "TCP").lower(), port, sources(networks(words[4]))))
    return found


@pytest.mark.parametrize(
    ("firewall", "ssh"),
    [
        ("{}", "{}"),
        ("{}", "{port: 2222}"),
        ("{ssh_from: [192.0.2.0/28]}", "{}"),
        ("{ssh_from: [192.0.2.0/28, 192.0.2.77]}", "{port: 2222}"),
        ("{open: [{port: 443}, {port: 53, protocol: udp}]}", "{}"),
        ("{open: [{port: 443, sources: [192.0.2.0/28, 198.18.0.0/15]}]}", "{}"),
        ("{networks: [192.168.50.0/24]}", "{}"),
    ],
)
def test_what_is_let_in(firewall: str, ssh: str) -> None:
    plan = make_plan(ROUTED, firewall, ssh)
    assert pictured(plan) == ruled(plan) != set()


def test_networks_behind_the_host() -> None:
    plan = make_plan(ROUTED, "{networks: [192.168.50.0/24, 192.168.60.0/24]}")
    behind = [
        networks(rule.match)
        for rule in firewall_rules(plan, plan.hosts[0])
        if rule.chain == PREROUTING and rule.words.startswith("networks behind the host")
    ]
    said = [networks(line) for line in let_in_words(plan, plan.hosts[0]) if "everything" in line]
    assert said == behind == [["192.168.50.0/24", "192.168.60.0/24"]]


def test_published_ports() -> None:
    entries = "[{port: 80, to: 10.50.0.5}, {port: 53, to: 10.50.0.6, to_port: 5353, protocol: udp}]"
    plan = make_plan(f"{{method: private, block: 10.50.0.0/24, published: {entries}}}")
    rules = [
        re.fullmatch(r"ip daddr (\S+) (tcp|udp) dport (\d+) dnat ip to (\S+)", text)
        for rule in firewall_rules(plan, plan.hosts[0])
        if rule.chain == PUBLISH
        for text in [f"{rule.match} {rule.verdict}"]
    ]
    assert published_words(plan, plan.hosts[0]) == tuple(
        f"{each[1]}:{each[3]} → {each[4]}" + " udp" * (each[2] == "udp") for each in rules if each
    )
    assert len(rules) == 2
    assert all(rules)


@pytest.mark.parametrize(("external", "answers"), [(SINGLE, 2), (ROUTED, 0)])
def test_addresses_that_the_host_answers_for(external: str, answers: int) -> None:
    plan = make_plan(external)
    host = plan.hosts[0]
    answered = [
        address
        for rule in firewall_rules(plan, host)
        if rule.chain == ARP_OUTPUT and rule.words.startswith("answers for floating IPs")
        for address in networks(rule.match)
    ]
    assert len(answered) == answers
    said = re.search(r"answers for (\d+) addresses", arp_words(plan, host)[0])
    assert (int(said[1]) if said else 0) == answers
