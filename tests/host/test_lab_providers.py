"""The kinds of provider on real namespaces, with a namespace and a cable in the place of a host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.process import Executor, LocalExecutor, PrefixExecutor
from solostack.lab.spec import (
    GATEWAY,
    SCATTERED,
    LabSpec,
    Provider,
    host_namespace,
    upstream_namespace,
)
from solostack.lab.upstream import BRIDGE, ensure_upstream, enter_upstream, read_violations

pytestmark = pytest.mark.host

WIRE = Path(__file__).parents[1] / "cloud/wire.py"
INTERNAL = ["10.99.0.1", "172.16.0.11"]


class Wired:
    """A provider, and a host of it that is a namespace only."""

    def __init__(self, spec: LabSpec) -> None:
        local = LocalExecutor()
        self.spec = spec
        self.upstream: Executor = PrefixExecutor(local, enter_upstream(spec.name), "upstream")
        inside = ("ip", "netns", "exec", host_namespace(spec.name, "phys1"))
        self.host: Executor = PrefixExecutor(local, inside, "phys1")

    def wire(self, command: str, **values: object) -> Any:
        argv = (sys.executable, "-I", str(WIRE), command, json.dumps(values))
        return json.loads(self.upstream.run(argv).text)

    def ask(self, *targets: str) -> dict[str, list[str]]:
        answers: dict[str, list[str]] = self.wire(
            "ask", device=BRIDGE, sender=str(GATEWAY), targets=list(targets), tries=1, wait_s=0.5
        )
        return answers

    def reaches(self, address: object) -> bool:
        # Longer than a second: so long the kernel waits before it asks for a neighbour once more
        # that was silent at an earlier try (retrans_time_ms, arp(7)).
        argv = ("ping", "-c3", "-i0.3", "-W1", str(address))
        return self.upstream.run(argv, check=False).status == 0


@contextlib.contextmanager
def wired(provider: Provider) -> Iterator[Wired]:
    empty = LabSpec(name=f"w{os.getpid()}", provider=provider, cache=Path("/nowhere"), hosts=())
    spec = empty.with_hosts(1, Path("/nowhere"))
    local = LocalExecutor()
    upstream, host = upstream_namespace(spec.name), host_namespace(spec.name, "phys1")
    prefix = 32 if provider is Provider.SCATTERED else 24
    mac, address = spec.hosts[0].mac, spec.hosts[0].address
    script = f"""
    ip netns add {host}
    ip link add peth0 address {mac} netns {host} type veth peer name phys1 netns {upstream}
    ip -n {upstream} link set phys1 master {BRIDGE} up
    ip -n {host} link set lo up
    ip -n {host} link set peth0 up
    ip -n {host} address add {address}/{prefix} dev peth0
    ip -n {host} route add default via {GATEWAY} dev peth0 onlink
    ip netns exec {host} sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.ip_forward=1
    ip netns exec {host} sysctl -qw net.ipv4.neigh.peth0.proxy_delay=0
    """
    try:
        ensure_upstream(spec, local)
        local.run(("sh", "-e"), stdin=script.encode())
        yield Wired(spec)
    finally:
        for namespace in (host, upstream):
            local.run(("ip", "netns", "delete", namespace), check=False)


@pytest.mark.parametrize("provider", [Provider.ON_LINK, Provider.MAC_FILTER])
def test_a_subnet_on_the_wire_is_looked_for_by_its_router(provider: Provider) -> None:
    with wired(provider) as lab:
        assert "198.51.100.1/29" in lab.upstream.run(("ip", "address", "show", BRIDGE)).text
        assert not lab.reaches("198.51.100.2")
        seen = lab.upstream.run(("ip", "neigh", "show", "198.51.100.2")).text
        assert "FAILED" in seen or "INCOMPLETE" in seen
        lab.host.run(("ip", "address", "add", "198.51.100.2/32", "dev", "lo"))
        # The address is on lo, so with arp_ignore=1 only the proxy entry answers for it.
        assert lab.ask("198.51.100.2") == {"198.51.100.2": []}
        lab.host.run(("ip", "address", "delete", "198.51.100.2/32", "dev", "lo"))
        lab.host.run(("ip", "link", "add", "br-external", "type", "bridge"))
        lab.host.run(("ip", "link", "set", "br-external", "up"))
        lab.host.run(("ip", "route", "add", "198.51.100.2", "dev", "br-external"))
        lab.host.run(("ip", "neigh", "replace", "proxy", "198.51.100.2", "dev", "peth0"))
        answers = lab.ask("198.51.100.2", "198.51.100.3", *INTERNAL)
        assert answers.pop("198.51.100.2") == [lab.spec.hosts[0].mac]
        assert not any(answers.values()), answers


def test_a_filtering_switch_drops_and_counts_and_goes_on_counting() -> None:
    with wired(Provider.MAC_FILTER) as lab:
        assert lab.reaches(lab.spec.hosts[0].address)
        assert read_violations(lab.upstream) == {"phys1": 0}
        script = """
        ip link add foreign link peth0 type macvlan
        ip link set foreign up
        ip address add 203.0.113.77/24 dev foreign
        ping -c2 -i0.2 -W1 -I foreign 203.0.113.1 || :
        """
        lab.host.run(("sh", "-e"), stdin=script.encode())
        counted = read_violations(lab.upstream)["phys1"]
        assert counted > 0
        lab.host.run(("ip", "link", "delete", "foreign"))
        ensure_upstream(lab.spec, LocalExecutor())
        assert read_violations(lab.upstream) == {"phys1": counted}
        assert lab.reaches(lab.spec.hosts[0].address)
        assert read_violations(lab.upstream) == {"phys1": counted}


def test_scattered_addresses_reach_a_host_with_a_gateway_outside_of_its_prefix() -> None:
    with wired(Provider.SCATTERED) as lab:
        assert lab.host.run(("ping", "-c1", "-W1", "192.0.2.1")).status == 0
        for address in SCATTERED:
            assert not lab.reaches(address)
            lab.host.run(("ip", "address", "add", f"{address}/32", "dev", "peth0"))
        assert all(lab.reaches(address) for address in SCATTERED)
        assert read_violations(lab.upstream) == {}


def test_a_neighbour_may_route_a_private_block_to_a_single_host() -> None:
    with wired(Provider.SINGLE) as lab:
        lab.host.run(("ip", "address", "add", "10.98.1.0/32", "dev", "lo"))
        assert not lab.reaches("10.98.1.0")
        lab.upstream.run(("ip", "route", "add", "10.98.1.0/24", "via", "203.0.113.2"))
        assert lab.reaches("10.98.1.0")


def test_raw_frames_reach_the_host_and_what_it_sends_is_seen() -> None:
    with wired(Provider.SINGLE) as lab:
        watching = json.dumps({"device": "phys1"})
        argv = [*enter_upstream(lab.spec.name), sys.executable, "-I", str(WIRE), "watch", watching]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            assert watch.stdout.readline() == '"listening"\n'
            rules = """
            add table inet t
            add chain inet t pre { type filter hook prerouting priority raw; }
            add rule inet t pre ip saddr 10.99.0.5 counter drop
            add rule inet t pre ip daddr 203.0.113.2 icmp type echo-request counter
            """
            lab.host.run(("nft", "-f", "-"), stdin=rules.encode())
            sent = lab.wire(
                "send",
                device=BRIDGE,
                to=lab.spec.hosts[0].mac,
                packets=[["10.99.0.5", "203.0.113.2"], ["203.0.113.1", "203.0.113.2"]],
                count=3,
            )
            assert sent == 6
            ruleset = lab.host.run(("nft", "list", "table", "inet", "t")).text
            assert ruleset.count("packets 3 ") == 2
            lab.host.run(("ip", "link", "set", "peth0", "down"))
            lab.host.run(("ip", "link", "set", "peth0", "up"))
            watch.send_signal(signal.SIGTERM)
            seen = json.loads(watch.stdout.read())
    mac = lab.spec.hosts[0].mac
    assert seen["macs"] == [mac]
    assert f"203.0.113.2 {mac}" in seen["arp"]
    assert "203.0.113.2" in seen["sources"]
