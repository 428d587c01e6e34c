"""How public addresses arrive: real providers (routers, switches) in network namespaces."""

import contextlib
import dataclasses
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.knock import Knocks
from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.host import check, facts
from solostack.host.check import Finding, Subject
from solostack.host.method import MethodSeen, Way, knock_targets, probe_method
from solostack.site.model import Site

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

GATEWAY = ipaddress.IPv4Address("203.0.113.1")
MAC = "52:54:00:ab:cd:ef"
PROVIDER_MAC = "52:54:00:00:00:fe"
BLOCK = "198.51.100.0/28"
LISTEN_S = 2.6
KNOCK = """
import dataclasses, ipaddress, json, sys
from solostack.doors.knock import knock
done = knock([ipaddress.IPv4Address(text) for text in sys.argv[1:]])
print(json.dumps([done.sent, done.error]))
"""
# As the lab's provider of kind mac-filter does it.
MAC_FILTER = f"""
table bridge provider {{
    counter foreign {{ }}
    chain switch {{
        type filter hook prerouting priority -300; policy accept;
        iifname "wire" ether saddr != {MAC} counter name foreign drop
    }}
}}
""".encode()


def site(method: str, **external: Any) -> Site:
    return Site.model_validate(
        {
            "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "nic0"}],
            "external": {"method": method, **(external or {"block": BLOCK})},
        }
    )


@dataclasses.dataclass
class Wire:
    """A host with one card, and the provider at the other end of its cable."""

    host: str
    provider: str
    more: list[str] = dataclasses.field(default_factory=list)

    def on(self, namespace: str, *argv: str, stdin: bytes = b"") -> str:
        command = ["ip", "netns", "exec", namespace, *argv]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout.decode()

    def here(self, words: str) -> str:
        return self.on(self.host, *words.split())

    def there(self, words: str) -> str:
        return self.on(self.provider, *words.split())

    def knock(self, addresses: Sequence[ipaddress.IPv4Address]) -> Knocks:
        names = [str(address) for address in addresses]
        sent, error = json.loads(self.on(self.provider, sys.executable, "-c", KNOCK, *names))
        return Knocks(addresses=tuple(addresses), sent=sent, error=error)

    def executor(self) -> PrefixExecutor:
        return PrefixExecutor(LocalExecutor(), ("ip", "netns", "exec", self.host), "phys1")

    def probe(self, wanted: Site, *, knocks: bool = True, filtered: bool = False) -> MethodSeen:
        return probe_method(
            self.executor(),
            nic="nic0",
            targets=knock_targets(wanted),
            knocker=self.knock if knocks else None,
            filter_probe=(GATEWAY, MAC) if filtered else None,
            listen_s=LISTEN_S,
        )

    def findings(self, wanted: Site, seen: MethodSeen) -> tuple[Finding, ...]:
        observed = facts.read_observation(
            self.executor(), name="phys1", boot_guest=False, libvirt_uri="test:///default"
        )
        return check.findings(wanted, None, dataclasses.replace(observed, method=seen))

    def judged(self, wanted: Site, seen: MethodSeen) -> list[tuple[str, str]]:
        found = self.findings(wanted, seen)
        return [(str(f.severity), f.what) for f in found if f.subject is Subject.METHOD]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """No address of the block is anywhere yet."""
    wire = Wire(host=f"solo-method-h{os.getpid()}", provider=f"solo-method-p{os.getpid()}")
    made: list[str] = []
    try:
        for name in (wire.host, wire.provider):
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
            # Router solicitations of IPv6 would be noise.
            wire.on(name, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
            wire.on(name, "ip", "link", "set", "lo", "up")
        wire.there("ip link add lan type bridge")
        wire.there(f"ip link set lan address {PROVIDER_MAC}")
        wire.there(f"ip link add wire type veth peer name nic0 netns {wire.host}")
        wire.there("ip link set wire master lan")
        wire.there("ip link set wire up")
        wire.there("ip link set lan up")
        wire.there(f"ip address add {GATEWAY}/24 dev lan")
        wire.here(f"ip link set nic0 address {MAC}")
        wire.here("ip link set nic0 up")
        wire.here("ip address add 203.0.113.2/24 dev nic0")
        wire.here(f"ip route add default via {GATEWAY}")
        # Before the first answer a bridge's port may still learn.
        wire.here(f"ping -c1 -W2 {GATEWAY}")
        yield wire
    finally:
        for name in [*made, *wire.more]:
            subprocess.run(["ip", "netns", "delete", name], check=True)


def test_routed_provider(wire: Wire) -> None:
    wire.there(f"ip route add {BLOCK} via 203.0.113.2")
    seen = wire.probe(site("routed"))

    assert seen.way is Way.ROUTED
    assert seen.knocks is not None
    assert seen.knocks.sent == 18
    address = seen.targets[0]
    assert seen.evidence == (
        f"a packet for {address} came from {PROVIDER_MAC} to nic0's own MAC {MAC}, "
        "nobody asked for it with ARP"
    )
    assert wire.judged(site("routed"), seen) == [("ok", f"routed fits: {seen.evidence}")]
    assert wire.judged(site("proxy"), seen) == [
        ("warning", f"the site says proxy, but packets for {address} are routed to this host")
    ]


def test_on_link_provider(wire: Wire) -> None:
    wire.there(f"ip route add {BLOCK} dev lan")
    seen = wire.probe(site("proxy"))

    assert seen.way is Way.ON_WIRE
    address = seen.targets[0]
    assert seen.evidence == f"{GATEWAY} ({PROVIDER_MAC}) asked with ARP who has {address}"
    assert wire.judged(site("proxy"), seen) == [("ok", f"proxy fits: {seen.evidence}")]
    assert wire.judged(site("routed"), seen) == [
        ("error", f"the site says routed, but the provider looks for {address} with ARP")
    ]


def test_scattered_addresses_and_a_gateway_outside_the_prefix(wire: Wire) -> None:
    wanted = site("proxy", addresses=["198.51.100.3", "198.51.100.130"])
    wire.here("ip route delete default")
    wire.here("ip address delete 203.0.113.2/24 dev nic0")
    wire.here("ip address add 203.0.113.2/32 dev nic0")
    wire.here(f"ip route add default via {GATEWAY} dev nic0 onlink")
    for address in wanted.external.addresses:
        wire.there(f"ip route add {address}/32 dev lan")
    seen = wire.probe(wanted)
    assert seen.way is Way.ON_WIRE
    assert [heard.asked is not None for heard in seen.heard] == [True, True]


def test_running_proxies_are_no_false_alarm(wire: Wire) -> None:
    """The provider knows the MAC now, asks no more, and everything looks as if it were routed."""
    wanted = site("proxy")
    wire.there(f"ip route add {BLOCK} dev lan")
    wire.here("ip link add br-external type bridge")
    wire.here("ip link set br-external up")
    wire.here(f"ip route add {BLOCK} dev br-external")
    wire.on(wire.host, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    wire.on(wire.host, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/neigh/nic0/proxy_delay")
    for address in knock_targets(wanted):
        wire.here(f"ip neigh add proxy {address} dev nic0")

    first = wire.probe(wanted)
    assert first.way is Way.ON_WIRE, first
    assert all(heard.answered for heard in first.heard)
    again = wire.probe(wanted)

    assert again.way is Way.EITHER, again
    for seen in (first, again):
        assert [severity for severity, _ in wire.judged(wanted, seen)] == ["ok"], seen
    # The same host under a site that says routed: no proof, no alarm.
    assert [severity for severity, _ in wire.judged(site("routed"), again)] == ["info"]


def test_blanket_proxy_arp_proves_no_route(wire: Wire) -> None:
    wire.there(f"ip route add {BLOCK} via 203.0.113.2")
    wire.on(wire.host, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/nic0/proxy_arp")
    assert wire.probe(site("routed")).way is Way.EITHER


def test_running_bridge_is_no_false_alarm(wire: Wire) -> None:
    """OVN's MAC is behind another port of the bridge that the card has joined."""
    wanted = site("bridge")
    ovn = f"solo-method-o{os.getpid()}"
    subprocess.run(["ip", "netns", "add", ovn], check=True)
    wire.more.append(ovn)
    wire.there(f"ip route add {BLOCK} dev lan")
    wire.here("ip link add br-uplink type bridge")
    wire.here(f"ip link set br-uplink address {MAC}")
    wire.here("ip link set br-uplink up")
    wire.here(f"ip link add solo-uplink type veth peer name eth0 netns {ovn}")
    wire.here("ip link set solo-uplink up master br-uplink")
    wire.here("ip link set nic0 master br-uplink")
    wire.on(ovn, "ip", "link", "set", "eth0", "up")
    for address in knock_targets(wanted):
        wire.on(ovn, "ip", "address", "add", f"{address}/32", "dev", "eth0")
    wire.on(ovn, "ip", "route", "add", f"{GATEWAY}/32", "dev", "eth0")

    first, again = wire.probe(wanted), wire.probe(wanted)

    assert first.way is Way.ON_WIRE, first
    assert again.way is Way.ON_WIRE, again
    assert again.heard[0].asked is None, "the provider kept the MAC"
    for seen in (first, again):
        assert [severity for severity, _ in wire.judged(wanted, seen)] == ["ok"], seen


def test_nothing_arrives(wire: Wire) -> None:
    wire.there("ip link add elsewhere type bridge")
    wire.there("ip link set elsewhere up")
    wire.there(f"ip route add {BLOCK} dev elsewhere")
    seen = wire.probe(site("routed"))

    assert seen.way is Way.NOTHING
    assert seen.evidence == ""
    assert wire.judged(site("routed"), seen) == [
        ("warning", f"nothing of {BLOCK} reaches this host: neither a packet nor an ARP request")
    ]
    [finding] = [f for f in wire.findings(site("routed"), seen) if f.subject is Subject.METHOD]
    assert f"UDP 33434 and TCP 443 to {seen.targets[0]}, " in finding.why
    assert [severity for severity, _ in wire.judged(site("private"), seen)] == ["ok"]


def test_nobody_can_knock_from_here(wire: Wire) -> None:
    seen = wire.probe(site("routed"))
    assert seen.knocks is not None
    assert seen.knocks.sent == 0
    assert wire.judged(site("routed"), seen) == [
        ("info", "method routed could not be tried from here: Network is unreachable")
    ]


def test_on_the_host_itself_it_only_listens(wire: Wire) -> None:
    seen = wire.probe(site("routed"), knocks=False)
    assert wire.judged(site("routed"), seen) == [
        ("info", "method routed cannot be proven from the host itself")
    ]


def test_what_is_not_for_the_block_is_not_heard(wire: Wire) -> None:
    """Traffic of the host itself, and ARP for its own address, prove nothing."""
    wire.there("ip neigh flush dev lan")
    with background(wire.provider, "ping", "-i0.2", "203.0.113.2"):
        seen = wire.probe(site("routed"), knocks=False)
    assert seen.way is Way.NOTHING, seen


@contextlib.contextmanager
def background(namespace: str, *argv: str) -> Iterator[None]:
    process = subprocess.Popen(["ip", "netns", "exec", namespace, *argv], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def bridge_findings(wire: Wire, seen: MethodSeen) -> list[tuple[str, str]]:
    found = wire.findings(site("bridge"), seen)
    return [(str(f.severity), f.what) for f in found if f.subject is Subject.BRIDGE]


def test_provider_that_drops_foreign_macs(wire: Wire) -> None:
    wire.on(wire.provider, "nft", "-f", "-", stdin=MAC_FILTER)
    wire.there(f"ip route add {BLOCK} dev lan")
    seen = wire.probe(site("bridge"), filtered=True)

    assert seen.filter_probe is not None
    assert (seen.filter_probe.own, seen.filter_probe.foreign) == (PROVIDER_MAC, "")
    assert (
        "error",
        "the provider drops frames from other MACs: bridge cannot work here",
    ) in bridge_findings(wire, seen)
    # The same for other methods sends no frame of another MAC.
    wire.there("nft reset counters")
    wire.probe(site("proxy"))
    assert "packets 0 bytes 0" in wire.there("nft list counters")


def test_provider_that_lets_foreign_macs_pass(wire: Wire) -> None:
    wire.there(f"ip route add {BLOCK} dev lan")
    seen = wire.probe(site("bridge"), filtered=True)
    assert seen.filter_probe is not None
    assert seen.filter_probe.own == seen.filter_probe.foreign == PROVIDER_MAC
    assert {severity for severity, _ in bridge_findings(wire, seen)} == {"ok"}


def test_gateway_that_answers_no_probe(wire: Wire) -> None:
    wire.on(wire.provider, "sh", "-c", "echo 8 >/proc/sys/net/ipv4/conf/lan/arp_ignore")
    seen = wire.probe(site("bridge"), knocks=False, filtered=True)
    assert seen.filter_probe is not None
    assert (seen.filter_probe.own, seen.filter_probe.foreign) == ("", "")
    assert next(severity for severity, _ in bridge_findings(wire, seen)) == "info"


def test_listening_leaves_nothing(wire: Wire) -> None:
    def state() -> tuple[str, ...]:
        return (
            wire.here("ip -d -o link show"),
            wire.here("ip address show"),
            wire.here("ip route show table all"),
            wire.here("nft list ruleset"),
            wire.here("ss -0Hnp"),
            wire.there("ip neigh show dev lan 203.0.113.2").split("lladdr")[1].split()[0],
        )

    wire.there(f"ip route add {BLOCK} via 203.0.113.2")
    before = state()
    wire.probe(site("bridge"), filtered=True)
    assert state() == before


def test_check_on_the_host_itself(wire: Wire, tmp_path: Path) -> None:
    """The whole command; nobody knocks, but the provider shows itself all the same."""
    wanted = site("routed").model_dump(mode="json")
    hosts = [{**wanted["hosts"][0], "local": True}]
    firewall = {"ssh_from": ["10.0.0.0/8"]}
    text = {"hosts": hosts, "external": {"block": BLOCK}, "firewall": firewall}
    (tmp_path / "site.yaml").write_text(json.dumps(text))
    wire.there(f"ip route add {BLOCK} dev lan")
    asked = str(knock_targets(site("routed"))[0])
    session = "SSH_CONNECTION=192.0.2.50 51234 203.0.113.2 22"
    command = ["ip", "netns", "exec", wire.host, "env", session, sys.executable, "-m", "solostack"]
    command += ["check", "--json", "-f", str(tmp_path / "site.yaml")]
    with background(wire.provider, "ping", "-i0.5", asked):
        done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 4, done.stderr.decode()
    [host] = json.loads(done.stdout)["hosts"]
    found = {item["subject"]: item for item in host["findings"]}
    assert found["external method"]["what"] == (
        f"the site says routed, but the provider looks for {asked} with ARP"
    )
    assert found["ssh"]["what"] == "you come from 192.0.2.50, which is not in firewall.ssh_from"


def test_no_such_card_is_said(wire: Wire) -> None:
    seen = probe_method(
        wire.executor(), nic="eth9", targets=knock_targets(site("routed")), knocker=None
    )
    assert (seen.way, seen.error) == (Way.UNKNOWN, "No such file or directory")
