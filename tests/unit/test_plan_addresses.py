"""The address plan wastes nothing and says why, for any block a provider may give."""

from __future__ import annotations

import collections
import ipaddress
import itertools

from hypothesis import given
from hypothesis import strategies as st

from solostack.plan.addresses import address_rows, data_addresses, external_plan, usable_text
from solostack.plan.model import AddressRow
from solostack.site.model import ExternalMethod, Site
from solostack.site.networks import floating_addresses, floating_subnets


def site_with(block: str = "198.51.100.0/28", **parts: object) -> Site:
    host = {"name": "phys1", "address": "203.0.113.2", "nic": "eth0"}
    return Site.model_validate({"hosts": [host], "external": {"block": block}} | parts)


def rows_of(site: Site, network: str) -> list[AddressRow]:
    return [row for row in address_rows(site, site.hosts[0]) if row.network == network]


def blocks() -> st.SearchStrategy[ipaddress.IPv4Network]:
    def build(address: int, prefix: int) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((address, prefix), strict=False)

    return st.builds(build, st.integers(1 << 24, (224 << 24) - 1), st.integers(22, 32))


@given(blocks())
def test_every_address_of_the_block_is_a_floating_ip_exactly_once(
    block: ipaddress.IPv4Network,
) -> None:
    site = site_with(str(block))
    rows = rows_of(site, "external")
    assert [row.address for row in rows] == list(block)
    assert all(row.usable and row.use == "floating IP" and row.why for row in rows)


@given(blocks())
def test_pools_are_the_block_and_inside_the_supernet_without_its_ends(
    block: ipaddress.IPv4Network,
) -> None:
    plan = external_plan(site_with(str(block)))
    pooled = [
        int(first) + offset
        for first, last in plan.pools
        for offset in range(int(last) - int(first) + 1)
    ]
    assert pooled == [int(address) for address in block]
    [subnet] = plan.subnets
    assert int(subnet.cidr[0]) < pooled[0]
    assert pooled[-1] < int(subnet.cidr[-1])


def test_all_sixteen_of_a_28_first_and_last_included() -> None:
    site = site_with()
    plan = external_plan(site)
    assert [str(subnet.cidr) for subnet in plan.subnets] == ["198.51.96.0/21"]
    assert [(str(first), str(last)) for first, last in plan.pools] == [
        ("198.51.100.0", "198.51.100.15")
    ]
    rows = rows_of(site, "external")
    assert len(rows) == 16
    assert "first address is usable too" in rows[0].why
    assert "routed to phys1" in rows[1].why
    assert "last address is usable too" in rows[-1].why


def test_transit_gives_the_host_its_first_address_and_routers_the_rest() -> None:
    plan = external_plan(site_with())
    assert str(plan.transit_gateway) == "10.99.0.1/24"
    assert [str(each) for each in plan.transit_pool] == ["10.99.0.2", "10.99.0.254"]
    smallest = site_with(external={"block": "198.51.100.0/28", "transit": "10.99.0.0/30"})
    plan = external_plan(smallest)
    assert str(plan.transit_gateway) == "10.99.0.1/30"
    assert [str(each) for each in plan.transit_pool] == ["10.99.0.2", "10.99.0.2"]
    assert [row.use for row in rows_of(smallest, "transit")] == [
        "phys1 on br-external",
        "router gateways, up to 10.99.0.2",
    ]


def test_data_addresses_hosts_from_1_nodes_from_11_explicit_ones_kept() -> None:
    hosts = [
        {"name": f"phys{number}", "address": f"203.0.113.{number}", "nic": "eth0"}
        for number in (1, 2, 3)
    ]
    hosts[0] |= {"data_address": "172.16.0.2"}
    site = site_with(hosts=hosts, nodes={"controller": {"address": "172.16.0.12"}})
    assert {name: str(each) for name, each in data_addresses(site).items()} == {
        "phys1": "172.16.0.2/24",
        "phys2": "172.16.0.1/24",
        "phys3": "172.16.0.3/24",
        "controller": "172.16.0.12/24",
        "network": "172.16.0.11/24",
    }
    assert [row.why.split(";")[0] for row in rows_of(site, "data")] == [
        "data_address in the site",
        "first free of .1 to .10",
        "first free of .1 to .10",
        "address in the site",
        "first free from .11",
    ]


def test_addresses_in_use_are_distinct_and_those_of_hosts_are_listed() -> None:
    site = site_with()
    rows = address_rows(site, site.hosts[0])
    counts = collections.Counter(row.address for row in rows)
    assert set(counts.values()) == {1}
    assert [row.use for row in rows_of(site, "host")] == ["host phys1 on eth0"]


@given(st.integers(1, 30), st.integers(24, 28))
def test_a_host_put_at_the_end_moves_nobody(count: int, prefix: int) -> None:
    def assigned(hosts: int) -> dict[str, str]:
        listed = [
            {"name": f"h{number}", "address": f"203.0.113.{number}", "nic": "eth0"}
            for number in range(1, hosts + 1)
        ]
        site = site_with(hosts=listed, data={"cidr": f"172.16.0.0/{prefix}"})
        try:
            return {name: str(each) for name, each in data_addresses(site).items()}
        except ValueError:
            return {}

    before, after = assigned(count), assigned(count + 1)
    if after:
        assert before.items() <= after.items()
        assert len(set(after.values())) == len(after)


ADDRESSES = st.integers(1 << 24, (224 << 24) - 1).map(ipaddress.IPv4Address)


@st.composite
def external_sites(draw: st.DrawFn) -> Site:
    """Any method with any block, addresses near and far, and others' addresses inside."""
    method = draw(st.sampled_from(ExternalMethod))
    on_wire = method in {ExternalMethod.PROXY, ExternalMethod.BRIDGE}
    block = draw(blocks() | st.none()) if on_wire else draw(blocks())
    external: dict[str, object] = {"method": method, "block": block}
    if on_wire:
        near = st.integers(203 << 24, (203 << 24) + 300).map(ipaddress.IPv4Address)
        listed = draw(st.lists(near | ADDRESSES, max_size=12, unique=True))
        external["addresses"] = [one for one in listed if block is None or one not in block]
        if block is not None:
            inside = st.integers(int(block[0]), int(block[-1])).map(ipaddress.IPv4Address)
            external["not_ours"] = draw(st.lists(inside, max_size=3, unique=True))
    return site_with(external=external)


@given(external_sites())
def test_subnets_lie_apart_and_hold_every_floating_ip_once(site: Site) -> None:
    subnets = floating_subnets(site)
    for one, two in itertools.combinations(subnets, 2):
        assert not one.cidr.overlaps(two.cidr)
    pooled = []
    for subnet in subnets:
        for first, last in subnet.pools:
            assert subnet.cidr[0] < first <= last < subnet.cidr[-1]
            pooled += [ipaddress.IPv4Address(one) for one in range(int(first), int(last) + 1)]
    assert tuple(sorted(pooled)) == floating_addresses(site)
    assert external_plan(site).floating_addresses == floating_addresses(site)


@given(external_sites())
def test_networks_are_the_block_or_exactly_the_floating_ips(site: Site) -> None:
    networks = external_plan(site).networks
    held = sorted(itertools.chain.from_iterable(networks))
    if site.external.on_wire:
        assert tuple(held) == floating_addresses(site)
    else:
        assert networks == (site.external.block,)
    assert len(held) == len(set(held))


@given(external_sites())
def test_rows_have_each_address_once_and_a_reason(site: Site) -> None:
    rows = rows_of(site, "external")
    listed = [row.address for row in rows]
    assert listed == sorted({*(site.external.block or ()), *site.external.addresses})
    assert tuple(row.address for row in rows if row.usable) == floating_addresses(site)
    assert all(row.use and row.why for row in rows)


def test_an_address_more_leaves_the_subnets_of_others_alone() -> None:
    def subnets(*addresses: str) -> set[str]:
        site = site_with(external={"method": "proxy", "addresses": addresses})
        return {str(each.cidr) for each in floating_subnets(site)}

    assert subnets("192.0.2.1") < subnets("192.0.2.1", "192.0.2.5")


def test_a_block_of_one_address_has_no_ends_to_explain() -> None:
    (row,) = rows_of(site_with(external={"block": "198.51.100.0/32"}), "external")
    assert row.usable
    assert row.why.startswith("the block is routed to")


def test_every_address_of_a_subnet_on_the_wire_says_what_it_is() -> None:
    external = {
        "method": "proxy",
        "block": "203.0.113.0/29",
        "not_ours": ["203.0.113.1"],
        "addresses": ["198.51.100.7"],
        "published": [{"port": 80, "to": "203.0.113.3"}],
    }
    site = site_with(external=external)
    rows = address_rows(site, site.hosts[0])
    assert len({row.address for row in rows}) == len(rows)
    assert [(str(row.address), row.use) for row in rows if row.network == "external"] == [
        ("198.51.100.7", "floating IP"),
        ("203.0.113.0", "subnet"),
        ("203.0.113.1", "not ours"),
        ("203.0.113.2", "host phys1 on eth0"),
        ("203.0.113.3", "floating IP, tcp port 80 of phys1 leads to it"),
        ("203.0.113.4", "floating IP"),
        ("203.0.113.5", "floating IP"),
        ("203.0.113.6", "floating IP"),
        ("203.0.113.7", "broadcast"),
    ]
    assert usable_text(rows, site.external.method) == (
        "5 of 9 usable (proxy; not: 203.0.113.0 subnet, 203.0.113.1 not ours, "
        "203.0.113.2 host phys1 on eth0, 203.0.113.7 broadcast)"
    )


def test_the_usable_number_of_each_method() -> None:
    def text(external: dict[str, object]) -> str:
        site = site_with(external=external)
        return usable_text(address_rows(site, site.hosts[0]), site.external.method)

    assert text({"block": "198.51.100.0/28"}) == "16 of 16 usable (routed)"
    assert text({"method": "private"}) == "256 of 256 usable (private)"
    assert text({"method": "bridge", "addresses": ["198.51.100.7"]}) == "1 of 1 usable (bridge)"
