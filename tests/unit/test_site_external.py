"""What each external method needs and refuses, at its line, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from solostack.errors import SiteError
from solostack.site.loader import parse_site
from solostack.site.model import DEFAULT_PRIVATE_BLOCK

HOST = "hosts:\n  - {name: phys1, address: 203.0.113.2, nic: eth0, ssh: {port: 2200}}\n"
ROUTED = "external: {block: 198.51.100.0/28}\n"


def problems(external: str, more: str = "") -> list[str]:
    with pytest.raises(SiteError) as caught:
        parse_site(f"{HOST}external: {{{external}}}\n{more}", Path("site.yaml"))
    return list(caught.value.details)


@pytest.mark.parametrize(
    "external",
    [
        "{method: private}",
        "{method: private, block: null}",
        "{method: private, block: 192.168.7.0/24}",
        "{method: proxy, addresses: [198.51.100.7]}",
        "{method: proxy, block: 203.0.113.0/29, not_ours: [203.0.113.1]}",
        "{method: bridge, block: 203.0.113.0/29, addresses: [198.51.100.7]}",
        "{method: proxy, block: 198.51.100.0/29, addresses: [198.51.100.0]}",
        "{method: proxy, block: 198.51.100.7/32}",
        "{block: 198.51.100.0/28, published: [{port: 53, to: 198.51.100.0},"
        " {port: 53, to: 198.51.100.0, protocol: udp}, {port: 22, to: 198.51.100.1,"
        " protocol: udp}]}",
    ],
)
def test_what_is_right(external: str) -> None:
    parse_site(f"{HOST}external: {external}\n", Path("site.yaml"))


def test_private_alone_has_a_block_that_clashes_with_no_default() -> None:
    site = parse_site(HOST + "external: {method: private}\n", Path("site.yaml")).site
    assert str(site.external.block) == DEFAULT_PRIVATE_BLOCK
    assert type(site).model_validate(site.model_dump()) == site


@pytest.mark.parametrize(
    ("external", "start", "end"),
    [
        (
            "method: routed",
            "external.block: expected the public block with method routed, as 198.51.100.0/28",
            "are for method proxy or bridge",
        ),
        (
            "block: 198.51.100.0/28, addresses: [192.0.2.1]",
            "external.addresses: expected none with method routed: single addresses are for",
            "found 192.0.2.1; take them out, or give the method that fits",
        ),
        (
            "block: 198.51.100.0/28, not_ours: [198.51.100.1]",
            "external.not_ours: expected none with method routed: the whole block leads to the",
            "give the method that fits",
        ),
        (
            "method: private, addresses: [192.0.2.1]",
            "external.addresses: expected none with method private: floating IPs come from block",
            "give the method that fits",
        ),
        (
            "method: private, block: 198.51.100.0/28",
            "external.block: expected a private block with method private, in 10.0.0.0/8",
            "public addresses are for the methods routed, proxy and bridge",
        ),
        ("method: proxy", "external.block: expected block or addresses with method", "neither"),
        ("method: bridge", "external.block: expected block or addresses with method", "neither"),
        (
            "method: proxy, block: 203.0.113.2/32",
            "external.block: expected at least one address that can be a floating IP",
            "none in 203.0.113.2/32: they are hosts', others', or the subnet's ends",
        ),
        (
            "method: proxy, block: 198.51.100.0/29, not_ours: [198.51.101.1]",
            "external.not_ours[0]: expected an address in external.block 198.51.100.0/29",
            "what is outside the block need not be listed",
        ),
        (
            "method: proxy, addresses: [198.51.100.7, 198.51.100.7]",
            "external.addresses[1]: expected each address once",
            "which external.addresses[0] has already",
        ),
        (
            "method: proxy, addresses: [203.0.113.2]",
            "external.addresses[0]: expected an address for floating IPs",
            "the own address of host phys1",
        ),
        (
            "method: bridge, block: 198.51.100.0/29, addresses: [198.51.100.3]",
            "external.addresses[0]: expected an address outside external.block 198.51.100.0/29",
            "which is usable already",
        ),
        (
            "method: proxy, block: 198.51.100.0/29, not_ours: [198.51.100.1],"
            " addresses: [198.51.100.1]",
            "external.addresses[0]: expected an address for floating IPs",
            "which external.not_ours lists too",
        ),
        (
            "method: proxy, addresses: [255.255.255.255]",
            "external.addresses[0]: expected addresses machines can have",
            "(this-host, loopback, link-local or multicast)",
        ),
        (
            "method: private, block: 10.98.0.0/24",
            "external.transit: expected a network apart from 10.96.0.0/14, the wider subnet",
            "did you mean '172.31.99.0/24'?",
        ),
        (
            "method: proxy, addresses: [10.99.1.7], transit: 10.99.1.4/30",
            "external.transit: expected a network apart from the public address (10.99.1.7/32)",
            "did you mean '10.99.0.0/29'?",
        ),
        (
            "block: 198.51.100.0/28, published: [{port: 2200, to: 198.51.100.1}]",
            "external.published[0].port: expected a port other than SSH's",
            "did you mean '12200'?",
        ),
        (
            "block: 198.51.100.0/28, published: [{port: 22, to: 198.51.100.1}]",
            "external.published[0].port: expected a port other than SSH's",
            "did you mean '10022'?",
        ),
        (
            "block: 198.51.100.0/28, published: [{port: 80, to: 198.51.100.1},"
            " {port: 80, to: 198.51.100.2}]",
            "external.published[1].port: expected each port of the host once per protocol",
            "found 'tcp 80', which external.published[0].port has already",
        ),
        (
            "block: 198.51.100.0/28, published: [{port: 80, to: 198.51.100.16}]",
            "external.published[0].to: expected an address that can be a floating IP",
            "did you mean '198.51.100.15'?",
        ),
        (
            "method: proxy, block: 198.51.100.0/29, published: [{port: 80, to: 198.51.100.7}]",
            "external.published[0].to: expected an address that can be a floating IP, found "
            "198.51.100.7, the subnet's broadcast address",
            "did you mean '198.51.100.6'?",
        ),
        (
            "block: 198.51.100.0/28, bridge: br-uplink",
            "external.bridge: expected a bridge name other than br-int, br-ex, br-phy, br-uplink",
            "did you mean 'br-external'?",
        ),
    ],
)
def test_mistake_of_a_method(external: str, start: str, end: str) -> None:
    [line] = problems(external)
    assert line.startswith(f"site.yaml:3: {start}"), line
    assert line.endswith(end), line


@pytest.mark.parametrize("method", ["routed", "private"])
def test_the_hosts_address_lies_outside_a_block_that_is_all_the_clouds(method: str) -> None:
    text = HOST.replace("203.0.113.2", "10.98.1.7")
    text += f"external: {{method: {method}, block: 10.98.1.0/24}}\n"
    with pytest.raises(SiteError) as caught:
        parse_site(text, Path("site.yaml"))
    [line] = caught.value.details
    kind = "private" if method == "private" else "public"
    assert f"hosts[0].address: expected an address outside the {kind} block" in line


@pytest.mark.parametrize("method", ["routed", "private"])
def test_published_ports_lead_to_addresses_of_the_block(method: str) -> None:
    text = f"external: {{method: {method}, block: 10.98.1.0/24, "
    text += "published: [{port: 80, to: 10.98.2.1}]}\n"
    with pytest.raises(SiteError) as caught:
        parse_site(HOST + text, Path("site.yaml"))
    [line] = caught.value.details
    kind = "private" if method == "private" else "public"
    assert f"which is not among the {kind} addresses" in line


@pytest.mark.parametrize(
    ("firewall", "start"),
    [
        (
            "{ssh_from: [10.99.0.0/25, 172.16.0.0/24]}",
            "firewall.ssh_from: expected a network outside the cloud",
        ),
        (
            "{open: [{port: 80}, {port: 80}]}",
            "firewall.open[1].port: expected each port once per protocol",
        ),
        (
            "{ssh_from: [192.0.2.0/24], open: [{port: 2200}]}",
            "firewall.open[0].port: expected a port other than SSH's",
        ),
        (
            "{networks: [172.16.0.0/16]}",
            "firewall.networks[0]: expected a network apart from the data network",
        ),
    ],
)
def test_mistakes_of_the_firewall(firewall: str, start: str) -> None:
    [line] = problems("block: 198.51.100.0/28", f"firewall: {firewall}\n")
    assert line.startswith(f"site.yaml:4: {start}"), line


def test_a_port_is_published_or_open_not_both() -> None:
    [line] = problems(
        "block: 198.51.100.0/28, published: [{port: 80, to: 198.51.100.1}]",
        "firewall: {open: [{port: 80}]}\n",
    )
    assert "that firewall.open[0].port does not keep for the host" in line


def test_verify_keeps_a_network() -> None:
    lines = problems(
        "method: proxy, addresses: [10.254.254.1, 192.168.254.1, 172.31.254.1, 100.127.254.1]"
    )
    assert any("left free for solostack verify" in line for line in lines), lines
