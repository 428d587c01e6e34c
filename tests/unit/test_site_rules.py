"""Every clash inside a well-typed site is found, at its line, with a way out."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.errors import SiteError
from solostack.site.loader import parse_site
from solostack.site.networks import assign_data_addresses, supernet

MINIMAL = """\
hosts:
  - name: phys1
    address: 203.0.113.2
    nic: eth0
external:
  block: 198.51.100.0/28
"""
TWO_HOSTS = MINIMAL.replace(
    "external:",
    """\
  - name: phys2
    address: 203.0.113.3
    nic: eth0
external:""",
)


def problems(text: str) -> list[str]:
    with pytest.raises(SiteError) as caught:
        parse_site(text, Path("site.yaml"))
    return list(caught.value.details)


def only_problem(text: str) -> str:
    [line] = problems(text)
    return line


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        (
            "release: 2025.2",
            "site.yaml:7: release: expected one of 2025.1, found '2025.2'",
            "did you mean '2025.1'?",
        ),
        (
            "data: {cidr: 198.51.100.0/24}",
            "site.yaml:7: data.cidr: expected a network apart from the public block "
            "(198.51.100.0/28), found 198.51.100.0/24",
            "did you mean '172.16.0.0/24'?",
        ),
        (
            "demo: {network: 172.16.0.128/25}",
            "site.yaml:7: demo.network: expected a network apart from the data network "
            "(172.16.0.0/24), found 172.16.0.128/25",
            "did you mean '10.10.0.0/25'?",
        ),
        (
            "data: {cidr: 10.10.0.0/16}",
            "site.yaml:7: demo.network: expected a network apart from the data network "
            "(10.10.0.0/16), found 10.10.0.0/24",
            "did you mean '172.31.10.0/24'?",
        ),
        (
            "demo: {network: 198.51.103.0/24}",
            "site.yaml:7: demo.network: expected a network apart from 198.51.96.0/21, "
            "the wider subnet Neutron needs so that 198.51.100.0/28 is usable whole, "
            "found 198.51.103.0/24",
            "did you mean '10.10.0.0/24'?",
        ),
        (
            "demo: {network: 10.10.0.0/30}",
            "site.yaml:7: demo.network: expected a network of /29 or larger, found 10.10.0.0/30",
            "did you mean '10.10.0.0/29'?",
        ),
        (
            "demo: {network: 127.1.0.0/16}",
            "site.yaml:7: demo.network: expected addresses machines can have, found 127.1.0.0/16",
            "did you mean '10.10.0.0/24'?",
        ),
        (
            "data: {cidr: 172.16.0.0/29}",
            "site.yaml:7: data.cidr: expected room for every host and node",
            "none left for controller, network; did you mean '172.16.0.0/24'?",
        ),
        (
            "data: {cidr: 203.0.113.0/24}",
            "site.yaml:3: hosts[0].address: expected an address outside the data network "
            "(203.0.113.0/24), found 203.0.113.2",
            "give data.cidr another network",
        ),
        (
            "data: {bridge: eth0}",
            "site.yaml:7: data.bridge: expected a bridge name that is not a network card's",
            "did you mean 'br-data'?",
        ),
        (
            "data: {bridge: br-external}",
            "site.yaml:7: external.bridge: expected another bridge than data.bridge",
            "did you mean 'br-external0'?",
        ),
        (
            "data: {bridge: br-int}",
            "site.yaml:7: data.bridge: expected a bridge name other than br-int",
            "did you mean 'br-data'?",
        ),
        (
            "nodes: {network: {host: fys1}}",
            "site.yaml:7: nodes.network.host: expected the name of a host (phys1), found 'fys1'",
            "did you mean 'phys1'?",
        ),
        (
            "nodes: {controller: {memory_mib: 1024}}",
            "site.yaml:7: nodes.controller.memory_mib: expected at least 2048 MiB for a "
            "controller node, found 1024",
            "did you mean '2048'?",
        ),
        (
            "nodes: {controller: {address: 172.17.0.5}}",
            "site.yaml:7: nodes.controller.address: expected an address in the data network "
            "172.16.0.0/24",
            "found 172.17.0.5",
        ),
        (
            "nodes: {controller: {address: 172.16.0.255}}",
            "site.yaml:7: nodes.controller.address: expected an address inside 172.16.0.0/24",
            "its network or broadcast address",
        ),
        (
            "nodes: {controller: {address: 172.16.0.9}, network: {address: 172.16.0.9}}",
            "site.yaml:7: nodes.network.address: expected a data address of its own",
            "found '172.16.0.9', which nodes.controller.address has already",
        ),
        (
            "flavors: [{name: a, vcpus: 1, memory_mib: 64, disk_gib: 1}, "
            "{name: a, vcpus: 2, memory_mib: 64, disk_gib: 1}]",
            "site.yaml:7: flavors[1].name: expected a flavor name of its own",
            "found 'a', which flavors[0].name has already",
        ),
        (
            f"images: [{{name: a, source: a.img, sha256: '{64 * '0'}'}}]",
            "site.yaml:7: images[0].source: expected an absolute path or an http(s) URL",
            "found 'a.img'",
        ),
    ],
)
def test_clash_is_found_at_its_line(text: str, start: str, end: str) -> None:
    line = only_problem(MINIMAL + text + "\n")
    assert line.startswith(start)
    assert line.endswith(end)


def test_two_images_of_one_name() -> None:
    image = f"{{name: a, source: /a, sha256: '{64 * '0'}'}}"
    assert only_problem(f"{MINIMAL}images:\n  - {image}\n  - {image}\n").startswith(
        "site.yaml:9: images[1].name: expected an image name of its own"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("phys2", "phys1", "site.yaml:5: hosts[1].name: expected a host name of its own"),
        ("203.0.113.3", "203.0.113.2", "site.yaml:6: hosts[1].address: expected an address of its"),
        ("phys2", "network", "site.yaml:5: hosts[1].name: expected a name that is no role's"),
        (
            "203.0.113.3",
            "198.51.100.3",
            "site.yaml:6: hosts[1].address: expected an address outside the public block",
        ),
        (
            "203.0.113.3",
            "10.99.0.7",
            "site.yaml:6: hosts[1].address: expected an address outside the transit network",
        ),
        ("203.0.113.3", "127.0.0.1", "site.yaml:6: hosts[1].address: expected an address a mach"),
        ("nic: eth0", "nic: br-data", "site.yaml:4: data.bridge: expected a bridge name that is"),
    ],
)
def test_hosts_that_clash(old: str, new: str, expected: str) -> None:
    assert problems(TWO_HOSTS.replace(old, new))[0].startswith(expected)


def test_only_one_host_is_local_and_only_root_logs_in() -> None:
    text = TWO_HOSTS.replace("nic: eth0", "nic: eth0\n    local: true\n    ssh: {user: me}")
    assert [line.split(", ")[0] for line in problems(text)] == [
        "site.yaml:6: hosts[0].ssh.user: expected root (solostack changes the host's network)",
        "site.yaml:10: hosts[1].local: expected at most one host with local: true",
        "site.yaml:11: hosts[1].ssh.user: expected root (solostack changes the host's network)",
    ]


def test_host_and_node_do_not_share_a_data_address() -> None:
    text = MINIMAL.replace("nic: eth0", "nic: eth0\n    data_address: 172.16.0.11")
    assert only_problem(f"{text}nodes: {{controller: {{address: 172.16.0.11}}}}\n").startswith(
        "site.yaml:8: nodes.controller.address: expected a data address of its own, "
        "found '172.16.0.11', which hosts[0].data_address has already"
    )


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            "198.51.0.0/16",
            "expected a block between /22 and /32, found 198.51.0.0/16; did you mean",
        ),
        ("0.0.0.0/28", "expected addresses machines can have, found 0.0.0.0/28"),
        ("255.255.255.0/24", "expected addresses machines can have, found 255.255.255.0/24"),
        ("169.254.1.0/28", "expected addresses machines can have, found 169.254.1.0/28"),
    ],
)
def test_block_that_cannot_be(block: str, expected: str) -> None:
    text = MINIMAL.replace("198.51.100.0/28", block)
    assert problems(text)[0].startswith(f"site.yaml:6: external.block: {expected}")


def test_transit_must_hold_a_gateway_and_a_router() -> None:
    assert only_problem(f"{MINIMAL}  transit: 10.99.0.0/31\n") == (
        "site.yaml:7: external.transit: expected a network of /30 or larger, "
        "found 10.99.0.0/31; did you mean '10.99.0.0/30'?"
    )


def test_default_that_clashes_is_shown_at_the_line_of_what_it_clashes_with() -> None:
    lines = problems(MINIMAL.replace("198.51.100.0/28", "10.0.0.0/28"))
    assert lines == [
        "site.yaml:6: demo.network: expected a network apart from 8.0.0.0/6, the wider subnet "
        "Neutron needs so that 10.0.0.0/28 is usable whole, found 10.10.0.0/24; "
        "did you mean '172.31.10.0/24'?",
        "site.yaml:6: external.transit: expected a network apart from 8.0.0.0/6, the wider subnet "
        "Neutron needs so that 10.0.0.0/28 is usable whole, found 10.99.0.0/24; "
        "did you mean '172.31.99.0/24'?",
    ]


@pytest.mark.parametrize("block", ["192.168.0.0/24", "198.51.100.7/32", "100.64.4.0/22"])
def test_private_and_small_blocks_are_fine(block: str) -> None:
    site = parse_site(MINIMAL.replace("198.51.100.0/28", block), Path("site.yaml")).site
    assert str(site.external.block) == block


def test_more_hosts_than_a_small_data_network_holds() -> None:
    hosts = "".join(
        f"  - {{name: h{index}, address: 203.0.113.{index}, nic: eth0}}\n" for index in range(1, 13)
    )
    text = f"hosts:\n{hosts}external:\n  block: 198.51.100.0/28\ndata:\n  cidr: 172.16.0.0/27\n"
    assert only_problem(text).startswith("site.yaml:17: data.cidr: expected room")
    site = parse_site(text.replace("/27", "/24"), Path("site.yaml")).site
    assigned = {name: str(address) for name, address in assign_data_addresses(site).items()}
    assert assigned["h1"] == "172.16.0.1"
    assert assigned["h10"] == "172.16.0.10"
    assert assigned["h11"] == "172.16.0.31"
    assert assigned["controller"] == "172.16.0.11"
    assert assigned["network"] == "172.16.0.12"


def networks(shortest: int, longest: int) -> st.SearchStrategy[ipaddress.IPv4Network]:
    """Networks outside 0/8 and 224/3, as the rules demand."""

    def build(address: int, prefix: int) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((address, prefix), strict=False)

    return st.builds(build, st.integers(1 << 24, (224 << 24) - 1), st.integers(shortest, longest))


@given(networks(22, 32))
def test_supernet_is_the_smallest_that_has_neither_end_of_the_block(
    block: ipaddress.IPv4Network,
) -> None:
    wider = supernet(block)
    assert block.subnet_of(wider)
    assert block[0] not in (wider[0], wider[-1])
    assert block[-1] not in (wider[0], wider[-1])
    halves = list(wider.subnets(prefixlen_diff=1))
    narrower = next(half for half in halves if block.subnet_of(half))
    assert block[0] == narrower[0] or block[-1] == narrower[-1]


@pytest.mark.parametrize("block", ["0.0.0.0/28", "255.255.255.240/28"])
def test_no_supernet_at_the_ends_of_the_address_space(block: str) -> None:
    with pytest.raises(ValueError, match="end of the address space"):
        supernet(ipaddress.IPv4Network(block))


@given(networks(8, 32), networks(8, 32), networks(8, 32))
def test_rules_never_fail_on_any_networks(
    block: ipaddress.IPv4Network, data: ipaddress.IPv4Network, transit: ipaddress.IPv4Network
) -> None:
    text = MINIMAL.replace("198.51.100.0/28", str(block))
    text += f"  transit: {transit}\ndata:\n  cidr: {data}\n"
    try:
        site = parse_site(text, Path("site.yaml")).site
    except SiteError as error:
        assert error.details
    else:
        assert not site.external.transit.overlaps(supernet(block))
        assert None not in assign_data_addresses(site).values()


EXTERNAL_DIRECTORY = """\
directory:
  provider: external
  external:
    url: ldaps://ds.example.org
    bind_dn: cn=reader,dc=example,dc=org
    bind_password_file: password
    user_tree: ou=people,dc=example,dc=org
"""


@pytest.mark.parametrize(
    ("more", "line", "says"),
    [
        ("  users: [{name: ada}]\n", 14, "whoever runs it makes them"),
        ("  groups: [{name: makers, members: [ada]}]\n", 14, "who is in it is said there"),
    ],
)
def test_an_external_directory_is_only_read(more: str, line: int, says: str) -> None:
    problem = only_problem(MINIMAL + EXTERNAL_DIRECTORY + more)
    assert problem.startswith(f"site.yaml:{line}: directory.")
    assert says in problem


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("url: ldaps://ds.example.org", "url: http://ds.example.org"),
        ("user_tree: ou=people,dc=example,dc=org", "user_tree: people"),
        ("bind_dn: cn=reader,dc=example,dc=org", "bind_dn: reader$"),
        ("user_tree:", "user_filter: uid=*\n    user_tree:"),
    ],
)
def test_what_is_no_url_dn_or_filter_is_refused_at_its_line(wrong: str, right: str) -> None:
    text = MINIMAL + EXTERNAL_DIRECTORY
    assert wrong in text
    assert "directory.external." in only_problem(text.replace(wrong, right))
