"""What the firewall will close: services, SSH, networks behind the host; by value, both ways."""

import ipaddress
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from ruamel.yaml import YAML

from solostack.host.check import Subject
from solostack.host.probe_observation import HostObservation, LibvirtNetwork, Listener, Session
from solostack.host.probe_parse import parse_session
from tests.unit.host_observations import (
    KERNEL,
    NETWORK,
    about,
    full,
    link,
    listener,
    route,
    seen,
    site,
)

OURS = {"sites": ("cloud",), "ledger": True}
SSHD = NETWORK.listeners[0]
YOU = Session(client="192.0.2.50", server="203.0.113.2", port=22)


def listening(*found: Listener, **changes: Any) -> HostObservation:
    return seen(network={"listeners": (SSHD, *found)}, **changes)


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (listener("tcp", "0.0.0.0", 443, "nginx"), "tcp 443 (nginx)"),
        (listener("tcp", "*", 25, "master"), "tcp 25 (master)"),
        (listener("tcp", "::", 80, "nginx"), "tcp 80 (nginx)"),
        (listener("tcp", "203.0.113.2", 8443, "caddy"), "tcp 8443 (caddy)"),
        (listener("tcp", "2001:db8::2", 8443, "caddy"), "tcp 8443 (caddy)"),
        (listener("udp", "0.0.0.0", 53, "named"), "udp 53 (named)"),
        (listener("udp", "0.0.0.0", 51820, ""), "udp 51820"),
        (listener("tcp", "0.0.0.0", 2222, "sshd"), "tcp 2222 (sshd)"),
    ],
)
def test_service_that_will_be_closed(found: Listener, what: str) -> None:
    before = about(Subject.OPEN_PORTS, listening(found))
    assert before == [("warning", f"{what} will be closed to the outside")]
    after = about(Subject.OPEN_PORTS, listening(found, traces=OURS))
    assert after == [("info", f"{what} is closed to the outside")]


@pytest.mark.parametrize(
    "found",
    [
        listener("tcp", "127.0.0.1", 5432, "postgres"),
        listener("tcp", "::1", 5432, "postgres"),
        listener("tcp", "::ffff:127.0.0.1", 5432, "java"),
        listener("tcp", "192.168.122.1", 53, "dnsmasq"),
        Listener(protocol="udp", address="0.0.0.0", device="virbr0", port=67, process="dnsmasq"),
        listener("udp", "0.0.0.0", 68, "dhclient"),
        listener("udp", "fe80::1", 546, "systemd-network"),
        listener("udp", "0.0.0.0", 41234, "named"),
        listener("tcp", "0.0.0.0", 8080, "docker-proxy"),
        listener("udp", "0.0.0.0", 6081, ""),
        listener("tcp", "0.0.0.0", 16509, "libvirtd"),
        listener("tcp", "172.16.0.1", 5900, "qemu-system-x86"),
        listener("tcp", "not-an-address", 1, "x"),
    ],
)
def test_what_stays_as_it_is(found: Listener) -> None:
    assert about(Subject.OPEN_PORTS, listening(found)) == [
        ("ok", "the firewall closes no service of this host")
    ]


@pytest.mark.parametrize(
    ("entry", "protocol", "port"),
    [
        ("- {port: 443}", "tcp", 443),
        ("- {port: 53, protocol: udp}", "udp", 53),
    ],
)
def test_the_words_to_add_keep_it_open(entry: str, protocol: str, port: int) -> None:
    observation = listening(listener(protocol, "0.0.0.0", port, "x"))
    [finding] = full(Subject.OPEN_PORTS, observation)
    assert finding.todo == f"to keep it open add to firewall.open in the site: {entry}"
    wanted = site(firewall={"open": YAML(typ="safe").load(entry)})
    assert about(Subject.OPEN_PORTS, observation, wanted)[0][0] == "ok"


def test_open_for_the_other_protocol_is_not_open() -> None:
    wanted = site(firewall={"open": [{"port": 53}]})
    found = about(Subject.OPEN_PORTS, listening(listener("udp", "0.0.0.0", 53, "named")), wanted)
    assert [severity for severity, _ in found] == ["warning"]


def test_a_port_is_told_once() -> None:
    both = (listener("tcp", "0.0.0.0", 80, "nginx"), listener("tcp", "::", 80, "nginx"))
    assert len(about(Subject.OPEN_PORTS, listening(*both))) == 1


def published(port: int) -> Any:
    entry = {"port": port, "to": "198.51.100.5", "to_port": 80}
    return site(external={"block": "198.51.100.0/28", "published": [entry]})


def test_published_ports_of_services() -> None:
    web = listening(listener("tcp", "0.0.0.0", 80, "nginx"))
    assert about(Subject.OPEN_PORTS, web, published(80)) == [
        ("warning", "tcp 80 is in use by nginx, and published to 198.51.100.5")
    ]
    assert about(Subject.OPEN_PORTS, seen(), published(22)) == [
        ("error", "tcp 22 is in use by sshd, and published to 198.51.100.5")
    ]
    assert about(Subject.OPEN_PORTS, seen(), published(80))[0][0] == "ok"


def ssh_site(*sources: str, **firewall: Any) -> Any:
    return site(firewall={"ssh_from": sources, **firewall})


@pytest.mark.parametrize(
    ("session", "sources", "expected"),
    [
        (None, (), ("ok", "tcp 22 stays open to everybody")),
        (YOU, (), ("ok", "tcp 22 stays open to everybody; you come from 192.0.2.50")),
        (
            YOU,
            ("192.0.2.0/24",),
            ("ok", "tcp 22 stays open to 192.0.2.0/24; you come from 192.0.2.50"),
        ),
        (
            YOU,
            ("198.18.0.0/15", "192.0.2.51/32"),
            ("error", "you come from 192.0.2.50, which is not in firewall.ssh_from"),
        ),
        (
            None,
            ("192.0.2.0/24",),
            ("info", "whether firewall.ssh_from lets you in is not known"),
        ),
        (
            Session(client="2001:db8::5", server="2001:db8::2", port=22),
            ("0.0.0.0/0",),
            (
                "error",
                "you come from 2001:db8::5, and with firewall.ssh_from nobody gets in over IPv6",
            ),
        ),
        (
            Session(client="fe80::5", server="fe80::2", port=22),
            ("192.0.2.0/24",),
            ("ok", "tcp 22 stays open to 192.0.2.0/24; you come from fe80::5"),
        ),
    ],
)
def test_ssh_sources(
    session: Session | None, sources: tuple[str, ...], expected: tuple[str, str]
) -> None:
    assert about(Subject.SSH, seen(session=session), ssh_site(*sources)) == [expected]


VPN = {"routes": (*NETWORK.routes, route("10.8.0.0/24", "wg0"))}
BY_VPN = Session(client="10.8.0.6", server="10.8.0.1", port=22)


def test_sources_are_not_judged_for_who_comes_by_another_way() -> None:
    found = about(Subject.SSH, seen(session=BY_VPN, network=VPN), ssh_site("192.0.2.0/24"))
    assert not [what for _, what in found if "ssh_from" in what]
    assert "add to firewall.ssh_from in the site: - 192.0.2.50/32" in {
        finding.todo for finding in full(Subject.SSH, seen(session=YOU), ssh_site("10.0.0.0/8"))
    }


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (BY_VPN, "you reach this host at 10.8.0.1, which is no address of eno1"),
        (
            Session(client="10.8.0.6", server="203.0.113.2", port=22),
            "answers to you (10.8.0.6) do not leave by eno1",
        ),
        (
            Session(client="127.0.0.1", server="127.0.0.1", port=22),
            "you reach this host at 127.0.0.1, which is no address of eno1",
        ),
        (YOU, ""),
        (None, ""),
        (Session(client="2001:db8::5", server="2001:db8::2", port=22), ""),
    ],
)
def test_a_session_that_the_guard_takes_for_no_proof(
    session: Session | None, expected: str
) -> None:
    observation = seen(session=session, network=VPN)
    found = [item for item in about(Subject.SSH, observation) if item[0] != "ok"]
    assert found == ([("error", expected)] if expected else [])
    ours = about(Subject.SSH, seen(session=session, network=VPN, traces=OURS))
    assert [item for item in ours if item[0] != "ok"] == (
        [("warning", expected)] if expected else []
    )
    hosts = [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1", "local": True}]
    assert [severity for severity, _ in about(Subject.SSH, observation, site(hosts=hosts))] == [
        "ok"
    ]


def test_a_session_to_the_bridge_that_has_the_card_is_a_proof() -> None:
    links = (
        NETWORK.links[0],
        link("eno1", master="br0"),
        link("br0", "203.0.113.2/26", kind="bridge"),
    )
    routes = (route("0.0.0.0/0", "br0", "203.0.113.1"), route("203.0.113.0/26", "br0"))
    observation = seen(session=YOU, network={"links": links, "routes": routes})
    assert about(Subject.SSH, observation)[0][0] == "ok"


@pytest.mark.parametrize(
    ("session", "sockets", "severity"),
    [
        # Seen from outside it is 2222, a router in between makes 22 of it.
        (YOU, (SSHD,), "error"),
        (Session(client="192.0.2.50", server="203.0.113.2", port=2222), (SSHD,), "ok"),
        (None, (SSHD,), "error"),
        (None, (SSHD, listener("tcp", "::", 2222, "sshd")), "ok"),
        # Socket activation: whose it is cannot be told.
        (None, (listener("tcp", "::", 22, "systemd"),), "ok"),
    ],
)
def test_ssh_port(session: Session | None, sockets: Any, severity: str) -> None:
    hosts = [{"name": "phys1", "address": "203.0.113.2", "nic": "eno1", "ssh": {"port": 2222}}]
    observation = seen(session=session, network={"listeners": sockets})
    assert [found for found, _ in about(Subject.SSH, observation, site(hosts=hosts))] == [severity]
    opened = site(hosts=hosts, firewall={"open": [{"port": 22}]})
    assert about(Subject.SSH, observation, opened)[0][0] == "ok"


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_lock_out_exactly_when_no_network_holds_you(client: int, base: int, length: int) -> None:
    network = ipaddress.IPv4Network((base, length), strict=False)
    address = ipaddress.IPv4Address(client)
    session = Session(client=str(address), server="203.0.113.2", port=22)
    found = about(Subject.SSH, seen(session=session), ssh_site(str(network)))
    assert (found[0][0] == "ok") is (address in network)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.50 51234 203.0.113.2 22", YOU),
        ("::ffff:192.0.2.50 51234 203.0.113.2 22", YOU),
        (
            "fe80::5%eth0 51234 fe80::2%eth0 2222",
            Session(client="fe80::5", server="fe80::2", port=2222),
        ),
        ("", None),
        ("192.0.2.50 51234 203.0.113.2", None),
        ("UNKNOWN 65535 UNKNOWN 65535", None),
        ("192.0.2.50 51234 203.0.113.2 ssh", None),
    ],
)
def test_session(text: str, expected: Session | None) -> None:
    assert parse_session(text) == expected


@hypothesis.given(st.text())
def test_any_session_is_read(text: str) -> None:
    parse_session(text)


def behind(*routes: Any, links: Any = (), forwards: int = 1, **changes: Any) -> HostObservation:
    return seen(
        network={"routes": (*NETWORK.routes, *routes), "links": (*NETWORK.links, *links)},
        kernel={"sysctls": {**KERNEL.sysctls, "ipv4.ip_forward": forwards}},
        **changes,
    )


LAN = route("192.168.50.0/24", "eno2")
NAT = LibvirtNetwork(name="n", active=True, bridge="virbr0", mode="nat", prefixes=())


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (behind(LAN), ["192.168.50.0/24 lies behind this host (eno2)"]),
        (
            behind(route("10.20.0.0/16", "wg0", "10.8.0.2")),
            ["10.20.0.0/16 lies behind this host (wg0)"],
        ),
        (behind(LAN, forwards=0), []),
        (behind(route("10.0.0.0/8", "eno1", "203.0.113.1")), []),
        (behind(route("172.17.0.0/16", "docker0"), route("172.18.0.0/16", "br-0123456789ab")), []),
        (behind(route("10.5.0.0/24", "br-lan")), ["10.5.0.0/24 lies behind this host (br-lan)"]),
        (
            behind(
                route("192.168.122.0/24", "virbr0"), libvirt={"installed": True, "networks": (NAT,)}
            ),
            [],
        ),
        (behind(route("192.168.122.0/24", "virbr0")),
         ["192.168.122.0/24 lies behind this host (virbr0)"]),
        (behind(route("169.254.0.0/16", "eno2"), route("10.9.0.0/16", "")), []),
        (behind(route("172.16.0.0/24", "br-data")), []),
        # Its own address elsewhere, reached by the card.
        (
            behind(links=(link("lo", "127.0.0.1/8", "192.0.2.9/32"),), forwards=0),
            ["192.0.2.9/32 lies behind this host (lo)"],
        ),
        (behind(links=(link("eno1", "203.0.113.9/32"),)), []),
    ],
)  # fmt: skip
def test_networks_behind(observation: HostObservation, expected: list[str]) -> None:
    found = about(Subject.NETWORKS, observation)
    if expected:
        assert found == [("warning", what) for what in expected]
    else:
        assert found == [("ok", "the firewall cuts off no network behind this host")]


def test_networks_that_are_listed() -> None:
    listed = site(firewall={"networks": ["192.168.0.0/16"]})
    assert about(Subject.NETWORKS, behind(LAN), listed)[0][0] == "ok"
    [finding] = full(Subject.NETWORKS, behind(LAN))
    assert finding.todo.endswith("add to firewall.networks in the site: - 192.168.50.0/24")
    assert about(Subject.NETWORKS, behind(LAN, traces=OURS))[0][0] == "info"


def ignoring(value: int, address: str = "203.0.113.2/32", where: str = "eno1") -> HostObservation:
    return seen(
        kernel={"sysctls": {"ipv4.ip_forward": 1, f"ipv4.conf.{where}.arp_ignore": value}},
        network={"links": (NETWORK.links[0], link("eno1", address))},
    )


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (ignoring(2), ["arp_ignore is 2 on eno1, whose address is a /32"]),
        (ignoring(2, where="all"), ["arp_ignore is 2 on eno1, whose address is a /32"]),
        (ignoring(2, "203.0.113.2/26"), []),
        (ignoring(1), []),
        (ignoring(8), ["arp_ignore is 8 on eno1: the host answers no ARP at all"]),
        (
            ignoring(8, "203.0.113.2/26"),
            ["arp_ignore is 8 on eno1: the host answers no ARP at all"],
        ),
    ],
)
def test_arp_ignore(observation: HostObservation, expected: list[str]) -> None:
    found = about(Subject.SYSCTL, observation)
    assert [what for severity, what in found if severity == "error"] == expected


@pytest.mark.parametrize(
    ("door", "found", "key"),
    [
        ({}, listener("tcp", "0.0.0.0", 443, "nginx"), "port"),
        ({}, listener("tcp", "*", 80, "nginx"), "http_port"),
        ({"port": 8443}, listener("tcp", "203.0.113.2", 8443, ""), "port"),
    ],
)
def test_a_service_at_the_front_doors_ports_is_not_taken_over_silently(
    door: dict[str, object], found: Listener, key: str
) -> None:
    [finding] = full(Subject.OPEN_PORTS, listening(found), site(front_door=door))
    assert str(finding.severity) == "error"
    assert f"tcp {found.port} is in use" in finding.what
    assert f"front_door.{key}" in finding.todo


@pytest.mark.parametrize(
    ("door", "found"),
    [
        ({"address": "198.51.100.3"}, listener("tcp", "0.0.0.0", 443, "nginx")),
        ({"port": 8443}, listener("tcp", "0.0.0.0", 443, "nginx")),
        ({}, listener("udp", "0.0.0.0", 443, "nginx")),
    ],
)
def test_a_service_that_is_not_in_the_front_doors_way(
    door: dict[str, object], found: Listener
) -> None:
    [finding] = full(Subject.OPEN_PORTS, listening(found), site(front_door=door))
    assert "front door" not in finding.what
    [here] = full(
        Subject.OPEN_PORTS,
        listening(listener("tcp", "127.0.0.1", 443, "nginx")),
        site(front_door={}),
    )
    assert str(here.severity) == "ok"
