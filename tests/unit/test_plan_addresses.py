"""The address plan wastes nothing and says why, for any block a provider may give."""

from __future__ import annotations

import collections
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from solostack.plan.addresses import address_rows, data_addresses, external_plan
from solostack.plan.model import AddressRow
from solostack.site.model import Site


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
    assert int(plan.supernet[0]) < pooled[0]
    assert pooled[-1] < int(plan.supernet[-1])


def test_all_sixteen_of_a_28_first_and_last_included() -> None:
    site = site_with()
    plan = external_plan(site)
    assert str(plan.supernet) == "198.51.96.0/21"
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
