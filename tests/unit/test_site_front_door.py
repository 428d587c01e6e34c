"""What the site says of its front door: whose address and ports, at its line, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from solostack.errors import SiteError
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import parse_site
from solostack.site.model import Site
from solostack.site.networks import floating_addresses

HOST = "hosts:\n  - {name: phys1, address: 203.0.113.2, nic: eth0, ssh: {port: 2200}}\n"
BLOCK = "block: 198.51.100.0/28"
FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32768, disk_gib=500, kvm=True, openvswitch_module=True
)


def load(door: str, external: str = BLOCK, more: str = "") -> Site:
    text = f"{HOST}external: {{{external}}}\nfront_door: {{{door}}}\n{more}"
    return parse_site(text, Path("site.yaml")).site


def plan(door: str, external: str = BLOCK) -> Plan:
    return build_plan(load(door, external), {"phys1": FACTS})


@pytest.mark.parametrize(
    ("door", "external"),
    [
        ("", BLOCK),
        ("address: 203.0.113.2", BLOCK),
        ("address: 198.51.100.0", BLOCK),
        ("address: 198.51.100.15", BLOCK),
        ("address: 198.51.100.9, port: 22", BLOCK),
        ("address: 198.51.100.7", "method: proxy, addresses: [198.51.100.7, 198.51.100.9]"),
        ("address: 203.0.113.5", "method: bridge, block: 203.0.113.0/29"),
        ("address: 10.98.1.9", "method: private"),
        ("hostname: cloud.example.org, port: 8443, http_port: 8080", BLOCK),
    ],
)
def test_what_is_right(door: str, external: str) -> None:
    load(door, external)


@pytest.mark.parametrize(
    ("door", "external", "more", "start", "end"),
    [
        (
            "address: 192.0.2.1",
            BLOCK,
            "",
            "site.yaml:4: front_door.address: expected the host's own address 203.0.113.2 or one",
            "found 192.0.2.1, which is neither; did you mean '198.51.100.0'?",
        ),
        (
            "address: 203.0.113.1",
            "method: proxy, block: 203.0.113.0/29, not_ours: [203.0.113.1]",
            "",
            "site.yaml:4: front_door.address: expected the host's own address",
            "listed under external.not_ours; did you mean '203.0.113.3'?",
        ),
        (
            "address: 203.0.113.7",
            "method: bridge, block: 203.0.113.0/29",
            "",
            "site.yaml:4: front_door.address:",
            "reaches no single machine on a wire; did you mean '203.0.113.1'?",
        ),
        (
            "port: 2200",
            BLOCK,
            "",
            "site.yaml:4: front_door.port: expected a port of the host that SSH does not have",
            "found 2200; did you mean '443'?",
        ),
        ("http_port: 22", BLOCK, "", "site.yaml:4: front_door.http_port:", "did you mean '80'?"),
        (
            "",
            BLOCK,
            "firewall: {open: [{port: 443}]}\n",
            "site.yaml:5: front_door.port: expected a port of the host that firewall.open[0], a",
            "found 443; did you mean '8443'?",
        ),
        (
            "",
            f"{BLOCK}, published: [{{port: 80, to: 198.51.100.1}}]",
            "",
            "site.yaml:3: front_door.http_port: expected a port of the host that "
            "external.published[0] does not have",
            "found 80; did you mean '8080'?",
        ),
        (
            "address: 198.51.100.3",
            f"{BLOCK}, published: [{{port: 8080, to: 198.51.100.3}}]",
            "",
            "site.yaml:3: external.published[0].to: expected an address that can be a floating IP",
            "so no instance can have it; did you mean '198.51.100.2'?",
        ),
        (
            "address: 198.51.100.7",
            "method: proxy, addresses: [198.51.100.7, 198.51.100.9], "
            "published: [{port: 8080, to: 198.51.100.7}]",
            "",
            "site.yaml:3: external.published[0].to:",
            "so no instance can have it; did you mean '198.51.100.9'?",
        ),
        (
            "hostname: 203.0.113.2",
            BLOCK,
            "",
            "site.yaml:4: front_door.hostname: expected a DNS name",
            "if it is not the host's own",
        ),
    ],
)
def test_what_is_wrong(door: str, external: str, more: str, start: str, end: str) -> None:
    with pytest.raises(SiteError) as caught:
        load(door, external, more)
    (line,) = caught.value.details
    assert line.startswith(start)
    assert line.endswith(end)


def test_a_udp_port_of_the_same_number_is_another() -> None:
    load("", BLOCK, "firewall: {open: [{port: 443, protocol: udp}]}\n")


@pytest.mark.parametrize(
    ("external", "address"),
    [
        (BLOCK, "198.51.100.3"),
        ("method: proxy, addresses: [198.51.100.7, 198.51.100.9]", "198.51.100.7"),
        ("method: proxy, block: 203.0.113.0/29", "203.0.113.5"),
        ("method: bridge, block: 203.0.113.0/29", "203.0.113.5"),
        ("method: private", "10.98.1.9"),
    ],
)
def test_the_doors_address_is_no_floating_ip_and_still_ours(external: str, address: str) -> None:
    before = load("", external)
    site = load(f"address: {address}", external)
    made = plan(f"address: {address}", external)

    assert {str(one) for one in floating_addresses(before)} - {
        str(one) for one in floating_addresses(site)
    } == {address}
    assert address not in map(str, made.external.floating_addresses)
    assert any(made.front_door.address in each for each in made.external.networks)  # type: ignore[union-attr]
    (row,) = [each for each in made.addresses if str(each.address) == address]
    assert (row.use, row.usable) == ("front door", False)
    assert "no instance can have it" in row.why


def test_with_the_hosts_own_address_every_public_one_stays_a_floating_ip() -> None:
    assert len(plan("").external.floating_addresses) == 16
    assert plan("").front_door is not None
    assert plan("").front_door.own_address  # type: ignore[union-attr]
