"""How public addresses arrive: what was heard, by value, under every method of the site."""

import contextlib
import dataclasses
import ipaddress
import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from solostack.doors.knock import Knocks
from solostack.doors.process import Completed
from solostack.errors import CommandError, HostError
from solostack.host.check import Severity, Subject
from solostack.host.check_method import method_rule
from solostack.host.check_model import Look
from solostack.host.method import (
    FilterProbe,
    Heard,
    MethodSeen,
    Sign,
    Way,
    foreign_mac,
    knock_targets,
    parse_method,
    probe_method,
)
from solostack.host.probe_observation import HostObservation, NetworkFile, UnitState
from solostack.site.model import ExternalMethod, Site
from tests.unit.host_observations import (
    CAME,
    GOOD,
    METHOD,
    NETWORK,
    SYSTEM,
    TARGET,
    about,
    chain,
    full,
    link,
    route,
    seen,
    site,
)

A, B = TARGET, TARGET + 1
BLOCK = "198.51.100.0/28"
ASKED = Sign(mac="52:54:00:00:00:fe", ip="203.0.113.1", to="", count=3)
PASSED = dataclasses.replace(CAME, to="0a:00:00:00:00:99")
KNOCKS = Knocks(addresses=(A,), sent=6)
GATEWAY = ipaddress.IPv4Address("203.0.113.1")


def method_site(method: str, **external: Any) -> Site:
    return site(external={"method": method, **(external or {"block": BLOCK})})


def heard(*found: Heard, knocks: Knocks | None = KNOCKS, **changes: Any) -> MethodSeen:
    targets = tuple(item.address for item in found) or (A,)
    return MethodSeen(nic="eno1", targets=targets, heard=found, knocks=knocks, **changes)


def judged(method: str, what: MethodSeen | None) -> list[tuple[str, str]]:
    return about(Subject.METHOD, seen(method=what), method_site(method))


ROUTED = heard(Heard(address=A, came=CAME))
ON_WIRE = heard(Heard(address=A, asked=ASKED))
EITHER = heard(Heard(address=A, came=CAME, answered=True))
NOTHING = heard(Heard(address=A))
CAME_TEXT = (
    "a packet for 198.51.100.5 came from 52:54:00:00:00:fe to eno1's own MAC 52:54:00:00:00:01"
)
ASKED_TEXT = "203.0.113.1 (52:54:00:00:00:fe) asked with ARP who has 198.51.100.5"


@pytest.mark.parametrize(
    ("signs", "way"),
    [
        ([Heard(address=A)], Way.NOTHING),
        ([Heard(address=A, came=CAME)], Way.ROUTED),
        ([Heard(address=A, asked=ASKED)], Way.ON_WIRE),
        ([Heard(address=A, asked=ASKED, came=CAME, answered=True)], Way.ON_WIRE),
        ([Heard(address=A, came=CAME, answered=True)], Way.EITHER),
        # Somebody scans the wire with ARP, and the packets come all the same.
        ([Heard(address=A, asked=ASKED, came=CAME)], Way.ROUTED),
        # For another machine's MAC, or for the one behind our own bridge.
        ([Heard(address=A, passed=PASSED)], Way.NOTHING),
        ([Heard(address=A, passed=PASSED, answered=True)], Way.ON_WIRE),
        # The router has the MAC of one address still, and asks for the other.
        ([Heard(address=A, came=CAME), Heard(address=B, asked=ASKED)], Way.ON_WIRE),
        ([Heard(address=A), Heard(address=B, came=CAME)], Way.ROUTED),
        ([Heard(address=A, came=CAME, answered=True), Heard(address=B)], Way.EITHER),
    ],
)
def test_what_signs_prove(signs: list[Heard], way: Way) -> None:
    what = heard(*signs)
    assert what.way is way
    assert bool(what.evidence) is (way is not Way.NOTHING)


@pytest.mark.parametrize(
    ("method", "what", "expected"),
    [
        ("routed", ROUTED, ("ok", f"routed fits: {CAME_TEXT}, nobody asked for it with ARP")),
        (
            "routed",
            ON_WIRE,
            ("error", "the site says routed, but the provider looks for 198.51.100.5 with ARP"),
        ),
        (
            "routed",
            EITHER,
            (
                "info",
                "packets for 198.51.100.5 arrive, but this host answers ARP for that address",
            ),
        ),
        ("proxy", ON_WIRE, ("ok", f"proxy fits: {ASKED_TEXT}")),
        ("bridge", ON_WIRE, ("ok", f"bridge fits: {ASKED_TEXT}")),
        ("proxy", EITHER, ("ok", f"proxy works: {CAME_TEXT}, which this host answers for")),
        (
            "proxy",
            ROUTED,
            (
                "warning",
                "the site says proxy, but packets for 198.51.100.5 are routed to this host",
            ),
        ),
        (
            "bridge",
            ROUTED,
            (
                "warning",
                "the site says bridge, but packets for 198.51.100.5 are routed to this host",
            ),
        ),
        *(
            (
                method,
                NOTHING,
                (
                    "warning",
                    f"nothing of {BLOCK} reaches this host: neither a packet nor an ARP request",
                ),
            )
            for method in ("routed", "proxy", "bridge")
        ),
        (
            "private",
            NOTHING,
            (
                "ok",
                "private needs nothing of the provider; who is to reach floating IPs adds a route: "
                f"ip route add {BLOCK} via 203.0.113.2",
            ),
        ),
        (
            "private",
            ROUTED,
            (
                "ok",
                f"private, with a route to this host: {CAME_TEXT}, nobody asked for it with ARP",
            ),
        ),
        ("private", ON_WIRE, ("warning", f"the private block {BLOCK} is looked for on the wire")),
        (
            "routed",
            heard(Heard(address=A), knocks=None),
            ("info", "method routed cannot be proven from the host itself"),
        ),
        (
            "proxy",
            heard(Heard(address=A), knocks=Knocks(addresses=(A,), sent=0, error="No route")),
            ("info", "method proxy could not be tried from here: No route"),
        ),
        (
            "proxy",
            heard(error="Operation not permitted"),
            (
                "info",
                "how public addresses arrive was not tried: Operation not permitted",
            ),
        ),
        (
            "routed",
            None,
            (
                "info",
                "how public addresses arrive was not tried: there was nothing to listen for",
            ),
        ),
    ],
)
def test_what_was_heard_against_the_site(
    method: str, what: MethodSeen | None, expected: tuple[str, str]
) -> None:
    assert judged(method, what) == [expected]


def test_findings_say_how_they_know_and_what_to_do() -> None:
    [finding] = full(Subject.METHOD, seen(method=ON_WIRE), method_site("routed"))
    assert ASKED_TEXT in finding.why
    assert "set external.method: proxy" in finding.todo
    [finding] = full(Subject.METHOD, seen(method=NOTHING), method_site("routed"))
    assert "UDP 33434 and TCP 443 to 198.51.100.5, 3 times each were sent" in finding.why
    assert "private works without a public block" in finding.todo
    [finding] = full(
        Subject.METHOD, seen(method=heard(Heard(address=A), knocks=None)), method_site("proxy")
    )
    assert finding.todo.startswith("run solostack check on another machine")


@pytest.mark.parametrize("method", list(ExternalMethod))
def test_passive_listening_may_prove_it_too(method: ExternalMethod) -> None:
    what = dataclasses.replace(ON_WIRE, knocks=None)
    assert judged(str(method), what)[0][0] == {
        ExternalMethod.ROUTED: "error",
        ExternalMethod.PROXY: "ok",
        ExternalMethod.BRIDGE: "ok",
        ExternalMethod.PRIVATE: "warning",
    }[method]  # fmt: skip


def test_another_host_is_not_asked() -> None:
    two = site(
        hosts=[
            {"name": "phys0", "address": "203.0.113.9", "nic": "eno1"},
            {"name": "phys1", "address": "203.0.113.2", "nic": "eno1"},
        ]
    )
    assert about(Subject.METHOD, seen(method=None), two) == [
        ("ok", "public addresses arrive at phys0, not here")
    ]


@pytest.mark.parametrize(
    ("external", "expected"),
    [
        ({"block": BLOCK}, ["198.51.100.4", "198.51.100.8", "198.51.100.11"]),
        (
            {"block": "198.51.100.0/29", "method": "proxy", "not_ours": ["198.51.100.1"]},
            ["198.51.100.3", "198.51.100.4", "198.51.100.5"],
        ),
        ({"block": "198.51.100.7/32"}, ["198.51.100.7"]),
        (
            {"method": "proxy", "addresses": ["198.51.100.3", "203.0.113.201"]},
            ["198.51.100.3", "203.0.113.201"],
        ),
        ({"method": "private"}, ["10.98.1.64", "10.98.1.128", "10.98.1.191"]),
    ],
)
def test_where_to_knock(external: dict[str, Any], expected: list[str]) -> None:
    assert [str(address) for address in knock_targets(site(external=external))] == expected


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(20, 32))
def test_knocks_stay_in_the_block_and_off_its_ends(number: int, length: int) -> None:
    block = ipaddress.IPv4Network((number, length), strict=False)
    targets = knock_targets(method_site("routed", block=str(block)))
    assert 1 <= len(targets) <= 3
    assert len(set(targets)) == len(targets)
    assert all(target in block for target in targets)
    if block.num_addresses > 3:
        assert not {block[0], block[-1]} & set(targets)


@hypothesis.given(st.binary(min_size=6, max_size=6))
def test_foreign_mac_is_another_local_unicast_one(raw: bytes) -> None:
    foreign = bytes.fromhex(foreign_mac(raw.hex(":")).replace(":", ""))
    assert foreign != raw
    assert foreign[0] & 3 == 2


BRIDGE = method_site("bridge")
FILTER = FilterProbe(gateway=GATEWAY, own="52:54:00:00:00:fe", foreign="")
LO = NETWORK.links[0]


def bridged(**changes: Any) -> HostObservation:
    return seen(**({"method": ON_WIRE, "system": {"units": {}}} | changes))


def with_card(*addresses: str, **changes: Any) -> HostObservation:
    card = link("eno1", *(addresses or ("203.0.113.2/26",)), **changes)
    return bridged(network={"links": (LO, card)})


ACTIVE = UnitState(active=True, enabled=True)


@pytest.mark.parametrize(
    ("observation", "severity", "what"),
    [
        (with_card(master="br0"), "error", "eno1 is a port of br0 already"),
        (with_card(kind="bridge"), "error", "eno1 is a bridge itself"),
        (
            with_card(kind="macvlan"),
            "error",
            "eno1 is of kind macvlan, which passes on no frames of other MACs",
        ),
        (with_card(kind="bond"), "info", "eno1 is a bond, not a card"),
        (with_card(dynamic=True), "error", "203.0.113.2/26 on eno1 is leased (DHCP)"),
        (
            bridged(system={"units": {"NetworkManager.service": ACTIVE}}),
            "warning",
            "NetworkManager may manage eno1",
        ),
        (
            bridged(
                system={"units": {"systemd-networkd.service": ACTIVE}},
                network={
                    "networkd_files": (
                        NetworkFile(
                            path="/etc/systemd/network/1.network", names=("en*",), kinds=()
                        ),
                    )
                },
            ),
            "info",
            "systemd-networkd manages eno1 (/etc/systemd/network/1.network)",
        ),
        (
            bridged(method=dataclasses.replace(ON_WIRE, filter_probe=FILTER)),
            "error",
            "the provider drops frames from other MACs: bridge cannot work here",
        ),
        (
            bridged(
                method=dataclasses.replace(
                    ON_WIRE, filter_probe=dataclasses.replace(FILTER, foreign=FILTER.own)
                )
            ),
            "ok",
            "frames from other MACs get through (ARP for 203.0.113.1 from eno1's MAC and from "
            "another one: both answered)",
        ),
        (
            bridged(
                method=dataclasses.replace(
                    ON_WIRE, filter_probe=dataclasses.replace(FILTER, own="")
                )
            ),
            "info",
            "whether the provider drops frames from other MACs is not known (ARP for 203.0.113.1 "
            "from eno1's MAC and from another one: the gateway answered neither)",
        ),
    ],
)
def test_bridge(observation: HostObservation, severity: str, what: str) -> None:
    assert (severity, what) in about(Subject.BRIDGE, observation, BRIDGE)
    # Who asks for no bridge hears nothing of it.
    assert about(Subject.BRIDGE, observation, method_site("proxy")) == [
        ("ok", "eno1 joins none (method proxy)")
    ]


@pytest.mark.parametrize(
    ("names", "macs", "warned"),
    [
        ((), ("52:54:00:00:00:01",), True),
        (("*",), ("52:54:00:00:00:02", "52:54:00:00:00:01"), True),
        (("eno1",), ("52:54:00:00:00:01",), False),
        ((), ("52:54:00:00:00:02",), False),
        ((), (), False),
    ],
)
def test_networkd_file_by_the_mac_that_the_bridge_will_have(
    names: tuple[str, ...], macs: tuple[str, ...], *, warned: bool
) -> None:
    file = NetworkFile(path="/etc/systemd/network/1.network", names=names, kinds=(), macs=macs)
    observation = bridged(
        system={"units": {"systemd-networkd.service": ACTIVE}}, network={"networkd_files": (file,)}
    )
    what = f"{file.path} takes whatever has the MAC 52:54:00:00:00:01, and br-uplink will"
    assert (("warning", what) in about(Subject.BRIDGE, observation, BRIDGE)) is warned


def test_good_card_can_join_a_bridge() -> None:
    assert about(Subject.BRIDGE, bridged(), BRIDGE) == [("ok", "eno1 can join a bridge")]


def test_running_bridge_has_nothing_against_it() -> None:
    """The address and the default route are on our bridge now; no rule must mind."""
    running = seen(
        traces={"sites": ("cloud",), "ledger": True},
        method=ON_WIRE,
        network={
            "links": (
                LO,
                link("eno1", master="br-uplink"),
                link("br-uplink", "203.0.113.2/26", kind="bridge"),
                link("solo-uplink", kind="veth", master="br-uplink"),
            ),
            "routes": (
                route("0.0.0.0/0", "br-uplink", "203.0.113.1"),
                route("203.0.113.0/26", "br-uplink"),
            ),
        },
    )
    for subject in (
        Subject.ADDRESS,
        Subject.BLOCK,
        Subject.BRIDGE,
        Subject.GATEWAY,
        Subject.METHOD,
        Subject.NETWORKS,
        Subject.NIC,
        Subject.OPEN_PORTS,
        Subject.PREFIXES,
        Subject.SSH,
        Subject.SYSCTL,
    ):
        assert {s for s, _ in about(subject, running, BRIDGE)} == {"ok"}, subject
        # Nor when the site says proxy from now on, and the next up is to take the bridge away.
        assert {s for s, _ in about(subject, running, method_site("proxy"))} == {"ok"}, subject
    alien = dataclasses.replace(running, traces=GOOD.traces)
    assert about(Subject.ADDRESS, alien, method_site("proxy"))[0][0] == "error"


@pytest.mark.parametrize(
    ("method", "network", "expected"),
    [
        # The provider's subnet, with the host's own address and the gateway in it.
        ("proxy", {}, ["ok"]),
        (
            "proxy",
            {"links": (LO, link("eno1", "203.0.113.2/29", "203.0.113.3/29"))},
            ["203.0.113.3/29 on eno1 lies in the public block 203.0.113.3/32"],
        ),
        (
            "bridge",
            {"routes": (*NETWORK.routes, route("203.0.113.4/32", "wg0"))},
            ["203.0.113.4/32 of the public block is routed to wg0"],
        ),
        ("bridge", {"routes": (route("203.0.113.4/32", "eno1"),)}, ["ok"]),
    ],
)
def test_block_on_the_wire(method: str, network: dict[str, Any], expected: list[str]) -> None:
    wanted = method_site(method, block="203.0.113.0/29", not_ours=["203.0.113.1"])
    default = {"links": (LO, link("eno1", "203.0.113.2/29"))}
    found = about(Subject.BLOCK, seen(network=default | network, method=ON_WIRE), wanted)
    assert [what if severity == "error" else severity for severity, what in found] == expected


def test_chain_that_drops_bridged_packets_must_know_every_bridge() -> None:
    def found(*names: str) -> list[str]:
        kernel = {"sysctls": {"bridge.bridge-nf-call-iptables": 1}}
        chains = (chain("forward", "drop", names=frozenset(names)),)
        here = bridged(kernel=kernel, network={"chains": chains})
        return [severity for severity, _ in about(Subject.BRIDGE_NETFILTER, here, BRIDGE)]

    assert found("br-data") == ["error"]
    assert found("br-data", "br-external", "br-uplink") == ["info"]


def test_firewall_advice_names_the_bridge_the_card_will_be_in() -> None:
    here = bridged(network={"chains": (chain("forward", "drop"),)})
    [finding] = full(Subject.FIREWALL, here, BRIDGE)
    assert "iifname br-uplink oifname br-external accept" in finding.todo


def test_private_block_must_be_free() -> None:
    wanted = method_site("private", block="192.168.7.0/24")
    lan = seen(network={"links": (*NETWORK.links, link("eno2", "192.168.7.9/24"))}, method=NOTHING)
    [finding] = full(Subject.BLOCK, lan, wanted)
    assert finding.severity is Severity.ERROR
    assert "another private external.block" in finding.todo


RESULT: dict[str, Any] = {
    "error": "",
    "heard": {
        "198.51.100.5": {
            "asked": {"count": 2, "mac": "52:54:00:00:00:fe", "ip": "203.0.113.1"},
            "came": {"count": 1, "mac": "52:54:00:00:00:fe", "ip": "192.0.2.1",
                     "to": "52:54:00:00:00:01"},
        }
    },
    "answered": ["198.51.100.5"],
    "probe": {"gateway": "203.0.113.1", "own": "52:54:00:00:00:fe", "foreign": ""},
}  # fmt: skip


def parsed(text: str) -> MethodSeen:
    return parse_method(text, name="phys1", nic="eno1", targets=(A, B))


def test_answer_of_the_script() -> None:
    found = parsed('{"listening": true}\n' + json.dumps({"result": RESULT}) + "\n")
    assert found.heard == (
        Heard(
            address=A,
            asked=dataclasses.replace(ASKED, count=2),
            came=dataclasses.replace(CAME, count=1),
            answered=True,
        ),
        Heard(address=B),
    )
    assert found.filter_probe == FILTER
    assert found.way is Way.ON_WIRE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*RESULT, "198.51.100.5", "asked", "came", "mac", "ip", "to", "count"])
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@hypothesis.given(JSON)
def test_any_answer_is_read_or_refused(value: object) -> None:
    for text in (json.dumps({"result": value}), json.dumps(value), repr(value)):
        with contextlib.suppress(HostError):
            parsed(text)


@hypothesis.given(st.sampled_from(sorted(RESULT)), JSON)
def test_any_part_of_an_answer_is_read_or_refused(key: str, value: object) -> None:
    text = json.dumps({"result": RESULT | {key: value}})
    try:
        found = parsed(text)
    except HostError as error:
        assert "cannot be read" in error.message
        assert error.hint
    else:
        look = Look(site=method_site("routed"), host=site().hosts[0], plan=None,
                    seen=dataclasses.replace(GOOD, method=found))  # fmt: skip
        assert len(list(method_rule(look))) == 1


@hypothesis.given(st.text())
def test_noise_is_refused(text: str) -> None:
    with pytest.raises(HostError, match="what was heard on eno1 cannot be read"):
        parsed(text)


class Says:
    """A host that writes these lines one after another, or fails."""

    name = "phys1"

    def __init__(self, *lines: str, error: str = "") -> None:
        self.lines, self.error = lines, error
        self.stdin = b""

    def run(self, argv: Any, *, stdin: Any = b"", on_line: Any = None, **_: Any) -> Completed:
        self.stdin = stdin
        if self.error:
            raise CommandError(self.error)
        for line in self.lines:
            on_line(line)
        return Completed(tuple(argv), 0, "\n".join(self.lines).encode(), b"")


def test_it_knocks_once_and_only_while_somebody_listens() -> None:
    knocked: list[Any] = []

    def knocker(addresses: Any) -> Knocks:
        knocked.append(tuple(addresses))
        return KNOCKS

    listening, result = '{"listening": true}', json.dumps({"result": RESULT})
    host = Says(listening, listening, result)
    found = probe_method(host, nic="eno1", targets=(A,), knocker=knocker)
    assert knocked == [(A,)]
    assert found.knocks is KNOCKS
    assert b'"gateway": ""' in host.stdin, "no frame of another MAC unless asked for"

    deaf = Says(json.dumps({"result": RESULT | {"error": "Operation not permitted"}}))
    found = probe_method(deaf, nic="eno1", targets=(A,), knocker=knocker)
    assert (knocked, found.knocks) == ([(A,)], None)


def test_listener_that_cannot_run_is_a_host_error() -> None:
    with pytest.raises(HostError, match="nobody could listen on eno1: no python3") as caught:
        probe_method(Says(error="no python3"), nic="eno1", targets=(A,), knocker=None)
    assert "apt install python3" in caught.value.hint


def test_good_host_is_one_that_is_routed() -> None:
    assert METHOD.way is Way.ROUTED
    assert SYSTEM.is_root
