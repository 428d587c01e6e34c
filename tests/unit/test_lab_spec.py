"""Names and addresses of a lab, and the text its spec is kept in."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.errors import LabError
from solostack.lab import spec
from solostack.lab.spec import LabSpec, Provider

names = st.from_regex(r"\A[a-z][a-z0-9-]{0,19}\Z")


def make(name: str = "demo", hosts: int = 1, provider: Provider = Provider.ROUTED) -> LabSpec:
    empty = LabSpec(name=name, provider=provider, cache=Path("/cache"), hosts=())
    return empty.with_hosts(hosts, Path("/tree"))


@given(names, st.integers(0, spec.MOST_HOSTS), st.sampled_from(Provider))
def test_a_spec_survives_being_written_and_read(name: str, hosts: int, provider: Provider) -> None:
    wanted = make(name, hosts, provider)
    assert spec.load(spec.dump(wanted)) == wanted


@given(names, st.integers(1, spec.MOST_HOSTS))
def test_hosts_have_addresses_and_macs_of_their_own(name: str, count: int) -> None:
    hosts = make(name, count).hosts
    assert len({host.address for host in hosts}) == len({host.mac for host in hosts}) == count
    assert all(host.address in spec.WIRE and host.address != spec.GATEWAY for host in hosts)
    # Bit 0 of the first octet is group, bit 1 is locally administered (IEEE 802).
    assert all(int(host.mac[:2], 16) & 3 == 2 for host in hosts)


def test_the_first_host_has_the_documented_address() -> None:
    assert make().hosts[0].address == ipaddress.IPv4Address("203.0.113.2")


@given(names, names)
def test_a_lab_owns_its_resources_and_no_other_labs(mine: str, other: str) -> None:
    for made_by in {mine, other}:
        for resource in (
            spec.upstream_namespace(made_by),
            *(spec.host_namespace(made_by, host.name) for host in make(made_by, 3).hosts),
        ):
            assert spec.is_of_lab(resource, mine) == (made_by == mine)


@pytest.mark.parametrize("other", ["a-phys1", "a-upstream", "b-a", "ab"])
def test_labs_with_similar_names_are_told_apart(other: str) -> None:
    assert not spec.is_of_lab(spec.upstream_namespace(other), "a")
    assert not spec.is_of_lab(spec.host_namespace(other, "phys1"), "a")


def test_growing_keeps_the_hosts_there_are() -> None:
    one = make()
    three = one.with_hosts(3, Path("/newer"))
    assert three.hosts[0] == one.hosts[0]
    assert [str(host.tree) for host in three.hosts] == ["/tree", "/newer", "/newer"]
    assert three.with_hosts(1, Path("/other")) == three


def test_too_many_hosts_are_refused() -> None:
    with pytest.raises(LabError, match="at most 20"):
        make(hosts=spec.MOST_HOSTS + 1)


@pytest.mark.parametrize("name", ["", "Demo", "1st", "a" * 21, "a/b", "a b", "../a", "a\n"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot be a lab's name"):
        spec.check_name(name)


def test_an_unknown_host_is_answered_with_those_there_are() -> None:
    with pytest.raises(LabError, match="no host phys9") as caught:
        make(hosts=2).host("phys9")
    assert caught.value.hint == "use one of: phys1, phys2"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "name": "x"}', "null"])
def test_damaged_state_is_a_lab_error_with_a_way_out(text: str) -> None:
    with pytest.raises(LabError, match="cannot be read") as caught:
        spec.load(text)
    assert "lab down" in caught.value.hint
