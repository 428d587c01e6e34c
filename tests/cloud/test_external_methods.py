"""A whole cloud at each kind of provider but the routing one, looked at and attacked from the wire.

One lab after the other. mac-filter is on-link with a stricter switch, so it stands for both with
method proxy, and on-link has method bridge. The tests run in the order of this file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.process import Completed
from solostack.errors import ExitCode
from solostack.lab.lab import Lab
from solostack.lab.spec import GATEWAY, Provider
from solostack.lab.upstream import BRIDGE
from solostack.site.loader import load_site
from solostack.site.model import ExternalMethod, Runtime, Site
from solostack.site.networks import floating_addresses
from tests.cloud import of_others
from tests.cloud.conftest import RUNTIMES, Operator, make_operator
from tests.cloud.neighbours import assert_each_is_one_neighbour, assert_gets_out
from tests.cloud.on_host import install_on_host, on_host
from tests.cloud.silence import verify_while_looking, why_silent

pytestmark = pytest.mark.cloud

WIRE = Path(__file__).with_name("wire.py")
FRAMES = 5
# The watching unit looks every 30 s; the rest is for a machine that builds something meanwhile.
MENDED_S = 90.0
REBOOTED_S = 600.0
CURL_TIMED_OUT = 28
# Nobody outside may learn of these, nor reach them: nodes, routers, tenants, libvirt's own.
INTERNAL = (
    *("172.16.0.1", "172.16.0.11", "172.16.0.12", "10.99.0.1", "10.99.0.2", "10.99.0.200"),
    *("10.10.0.1", "192.168.122.1", "169.254.169.254", "127.0.0.1"),
)
# One of the block's middle, so that both of its ends are for instances.
DOOR = "198.51.100.4"
# Nor does the host answer for other servers of the provider, and for addresses next to ours.
HIDDEN = (
    *INTERNAL,
    *("203.0.113.3", "203.0.113.200"),
    *("198.51.100.0", "198.51.100.1", "198.51.100.7", "198.51.100.76"),
)
SPOOF_PORT = """
ip link add tap-test type veth peer name tap-test-peer
ip link set tap-test master br-external up
ip link set tap-test-peer up
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A provider, how the site says its addresses reach the host, and what the network node is.

    Traffic from outside must pass a network node of either runtime. verify: what `up` proves in the
    end besides what the tests do; everything where nothing is named. on_host: solostack runs as
    root on the host itself, where others have things, too; what flushes theirs is not tried there.
    door: the front door's public address, if it has one.
    """

    provider: Provider
    method: ExternalMethod
    network: Runtime
    reboots: bool
    verify: tuple[str, ...] = ()
    on_host: bool = False
    door: str = ""

    def __str__(self) -> str:
        return f"{self.provider}, {self.method}"


KINDS = (
    Kind(
        provider=Provider.MAC_FILTER,
        method=ExternalMethod.PROXY,
        network=Runtime.CONTAINER,
        reboots=True,
        # Method proxy is verified at the next.
        verify=("--verify=units",),
        door=DOOR,
    ),
    Kind(
        provider=Provider.SCATTERED,
        method=ExternalMethod.PROXY,
        network=Runtime.CONTAINER,
        reboots=False,
        on_host=True,
    ),
    Kind(
        provider=Provider.SINGLE,
        method=ExternalMethod.PRIVATE,
        network=Runtime.CONTAINER,
        reboots=False,
    ),
    Kind(
        provider=Provider.ON_LINK,
        method=ExternalMethod.BRIDGE,
        network=Runtime.VM,
        reboots=True,
        door=DOOR,
    ),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A cloud, its operator, and somebody who notes all that leaves the host."""

    kind: Kind
    operator: Operator
    site: Site
    watch: subprocess.Popen[str]

    @property
    def lab(self) -> Lab:
        return self.operator.lab

    @property
    def mac(self) -> str:
        """The MAC of the host's one card."""
        return self.lab.spec().hosts[0].mac

    @property
    def host(self) -> str:
        return str(self.site.hosts[0].address)

    @property
    def owned(self) -> tuple[str, ...]:
        """The public addresses: floating IPs, and the front door's."""
        floating = (str(address) for address in floating_addresses(self.site))
        return (*floating, *filter(None, [self.kind.door]))

    @property
    def ends(self) -> tuple[str, str]:
        floating = floating_addresses(self.site)
        return str(floating[0]), str(floating[-1])

    @property
    def pages(self) -> tuple[str, ...]:
        """The URLs that instances answer at, as seen from the provider's end of the wire."""
        published = (f"http://{self.host}:{one.port}/" for one in self.site.external.published)
        return (*(f"http://{address}/" for address in self.ends), *published)

    def solostack(self, verb: str, *arguments: str) -> Any:
        """Run one of our commands with --json, from where this cloud is made."""
        if self.kind.on_host:
            return on_host(self.lab.host_executor("phys1"), verb, *arguments)
        return self.operator.solostack(verb, *arguments)

    def on_host(self, *command: str, stdin: bytes = b"", check: bool = True) -> Completed:
        """Run a command on the host's console, which needs no network."""
        console = self.lab.host_executor("phys1")
        return console.run(command, stdin=stdin, timeout_s=120, check=check)

    def wire(self, command: str, **values: object) -> Any:
        """Do something with raw frames at the provider's end of the wire."""
        argv = (sys.executable, "-I", str(WIRE), command, json.dumps(values))
        done = self.operator.run(*argv)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def silent(self, url: str) -> bool:
        return "solostack" not in self.operator.run("curl", "-sf", "-m", "5", url).stdout

    def drops(self) -> int:
        """Count the packets (not ARP) that rules of ours have dropped."""
        ruleset = json.loads(self.on_host("nft", "--json", "list", "ruleset").text)["nftables"]
        return sum(
            expression["counter"]["packets"]
            for item in ruleset
            if item.get("rule", {}).get("table") == "solostack"
            and item["rule"]["family"] != "arp"
            and {"drop": None} in item["rule"]["expr"]
            for expression in item["rule"]["expr"]
            if "counter" in expression
        )


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.lane(f"provider {kind}")) for kind in KINDS],
    ids=str,
)
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    kind: Kind = request.param
    lab = Lab(f"x{os.getpid()}-{kind.method}")
    with contextlib.ExitStack() as stack:
        stack.callback(lab.down)
        folder = tmp_path_factory.mktemp(str(kind.method))
        runtimes = RUNTIMES.replace(
            "network: {runtime: vm}", f"network: {{runtime: {kind.network}}}"
        )
        if kind.door:
            runtimes += f"front_door: {{address: {kind.door}}}\n"
        operator = make_operator(lab, folder, runtimes, provider=kind.provider)
        use_method(operator.site, kind.method)
        # A host whose own firewall service is Debian's, which flushes everything.
        lab.host_executor("phys1").run(("systemctl", "enable", "--now", "nftables"))
        if kind.on_host:
            install_on_host(lab.host_executor("phys1"), folder)
            of_others.put(lab.host_executor("phys1"))
            site = re.sub(r"ssh: \{.*\}", "local: true", operator.site.read_text())
            lab.host_executor("phys1").run(("tee", "/root/site.yaml"), stdin=site.encode())
        made = Cloud(
            kind=kind,
            operator=operator,
            site=load_site(operator.site).site,
            watch=stack.enter_context(watching(operator)),
        )
        value = made.solostack("up", "--yes", *kind.verify)
        assert value["verify"]["ok"], value["verify"]
        yield made


def use_method(site: Path, method: ExternalMethod) -> None:
    """Have a site file that the lab wrote say another method."""
    text = site.read_text()
    if method is ExternalMethod.BRIDGE:
        assert "method: proxy" in text
        site.write_text(text.replace("method: proxy", "method: bridge"))


@contextlib.contextmanager
def watching(operator: Operator) -> Iterator[subprocess.Popen[str]]:
    """Watch the host's cable from the provider's end."""
    argv = operator.argv(sys.executable, "-I", str(WIRE), "watch", json.dumps({"device": "phys1"}))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == '"listening"\n'
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object], what: str, timeout_s: float) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(1)


def wait_for_pages(cloud: Cloud, timeout_s: float, *urls: str) -> None:
    for url in urls or cloud.pages:
        end_s = time.monotonic() + timeout_s
        while cloud.silent(url):
            if time.monotonic() > end_s:
                told = [why_silent(cloud.operator, f"at-end-{number}") for number in (0, 1)]
                pytest.fail("\n".join([f"not within {timeout_s:.0f} s: {url}", *told]))
            time.sleep(1)


def who_has(cloud: Cloud, *addresses: str) -> Mapping[str, list[str]]:
    """Ask on the wire for addresses; returns the MACs that answer for each."""
    answers: dict[str, list[str]] = cloud.wire(
        "ask", device=BRIDGE, sender=str(GATEWAY), targets=list(addresses), tries=2, wait_s=2
    )
    return answers


def assert_arp_is_exact(cloud: Cloud) -> None:
    """Owned addresses are answered for, all others are not."""
    answers = dict(who_has(cloud, cloud.host, *{*cloud.owned, *HIDDEN}))
    assert answers.pop(cloud.host) == [cloud.mac]
    owned = cloud.owned if cloud.site.external.on_wire else ()
    ours = {address: answers.pop(address) for address in owned}
    assert not any(answers.values()), answers
    if cloud.kind.method is ExternalMethod.PROXY:
        assert all(macs == [cloud.mac] for macs in ours.values()), ours
    elif cloud.kind.method is ExternalMethod.BRIDGE:
        # OVN answers itself, for addresses that somebody has.
        assert all(len(ours[address]) == 1 for address in cloud.ends), ours
        assert not any(cloud.mac in ours[address] for address in cloud.ends), ours
    if cloud.kind.door:
        assert ours[cloud.kind.door] == [cloud.mac]


def assert_dropped(cloud: Cloud, source: str, target: str, *, to: str = "") -> None:
    """Send packets to the host's card, or to another MAC; each must be dropped and counted."""
    before = cloud.drops()
    sent = cloud.wire(
        "send", device=BRIDGE, to=to or cloud.mac, packets=[[source, target]], count=FRAMES
    )
    assert cloud.drops() - before >= sent == FRAMES, f"{source} to {target}"


def restart_libvirtd(cloud: Cloud) -> None:
    cloud.on_host("systemctl", "restart", "libvirtd")


def pull_the_cable(cloud: Cloud) -> None:
    cloud.lab.unplug("phys1")
    time.sleep(5)
    assert cloud.silent(cloud.pages[0])
    cloud.lab.plug("phys1")


def reload_nftables(cloud: Cloud) -> None:
    cloud.on_host("systemctl", "reload", "nftables")


def flush_ruleset(cloud: Cloud) -> None:
    cloud.on_host("nft", "flush", "ruleset")


def test_instances_at_both_ends_of_the_addresses_answer(cloud: Cloud) -> None:
    for number, address in enumerate(cloud.ends):
        server = cloud.solostack("launch", f"at-end-{number}", "--address", address)
        assert server["floating"] == address
    if cloud.kind.method is ExternalMethod.PRIVATE:
        wait_for_pages(cloud, 120, cloud.pages[-1])
        assert cloud.silent(cloud.pages[0])
        # A neighbour in the host's LAN.
        route = ("ip", "route", "add", str(cloud.site.external.block), "via", cloud.host)
        assert cloud.operator.run(*route).returncode == 0
    wait_for_pages(cloud, 120)


def test_the_front_door_has_a_public_address_of_its_own(cloud: Cloud) -> None:
    if not cloud.kind.door:
        pytest.skip("no address to spare: tried with methods proxy and bridge, at other providers")
    assert cloud.kind.door not in {str(each) for each in floating_addresses(cloud.site)}
    assert_door_is_open(cloud)
    asked = ("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{redirect_url}")
    moved = cloud.operator.run(*asked, f"http://{cloud.kind.door}/identity/v3")
    assert moved.stdout == f"https://{cloud.kind.door}/identity/v3"
    assert cloud.operator.run("ping", "-c", "3", "-W", "5", cloud.kind.door).returncode == 0
    for port in (22, 3306, 5000):
        tried = cloud.operator.run("curl", "-s", "-m", "3", f"telnet://{cloud.kind.door}:{port}")
        assert tried.returncode == CURL_TIMED_OUT, (port, tried.returncode, tried.stdout)
    console = cloud.on_host("curl", "-sk", "-m", "10", f"https://{cloud.kind.door}/identity/v3")
    assert "v3" in console.text, "from the host itself"


def assert_door_is_open(cloud: Cloud) -> None:
    """From outside with the authority's file: a front door that is who it says it is."""
    state = cloud.operator.state_home / "solostack/sites" / cloud.lab.name
    said = cloud.operator.run(
        *("curl", "-sS", "-m", "10", "--retry", "20", "--retry-all-errors", "--retry-delay", "2"),
        *("--cacert", str(state / "ca.pem"), f"https://{cloud.kind.door}/identity/v3"),
    )
    assert said.returncode == 0, said.stderr
    links = json.loads(said.stdout)["version"]["links"]
    assert links[0]["href"] == f"https://{cloud.kind.door}/identity/v3/"


def test_arp_is_answered_for_owned_addresses_only(cloud: Cloud) -> None:
    assert_arp_is_exact(cloud)


def test_a_node_is_one_neighbour_on_the_data_network(cloud: Cloud) -> None:
    host = cloud.lab.host_executor("phys1")
    assert_each_is_one_neighbour(host, "172.16.0.11", "172.16.0.12")
    assert_gets_out(host, "controller")


def test_packets_to_addresses_that_are_not_ours_are_dropped(cloud: Cloud) -> None:
    for target in sorted({*HIDDEN} - {*cloud.owned}):
        assert_dropped(cloud, str(GATEWAY), target)
    if cloud.kind.method is ExternalMethod.BRIDGE:
        (ovn,) = who_has(cloud, cloud.ends[0])[cloud.ends[0]]
        assert ovn != cloud.mac
        for target in ("10.99.0.2", "172.16.0.11", "198.51.100.0"):
            assert_dropped(cloud, str(GATEWAY), target, to=ovn)


def test_spoofed_sources_are_dropped_on_their_way_in(cloud: Cloud) -> None:
    for source in (cloud.ends[0], "10.99.0.1", "10.99.0.2", "172.16.0.11", "127.0.0.1"):
        assert_dropped(cloud, source, cloud.host)
    assert_dropped(cloud, "10.99.0.2", cloud.ends[1])


def test_spoofed_sources_are_dropped_on_their_way_out(cloud: Cloud) -> None:
    """From a port of the external bridge: Neutron keeps instances from trying it themselves."""
    cloud.on_host("sh", "-e", stdin=SPOOF_PORT.encode())
    try:
        shown = json.loads(cloud.on_host("ip", "-json", "link", "show", "br-external").text)
        door = filter(None, [cloud.kind.door])
        for source in ("172.16.0.11", "192.0.2.77", "10.10.0.5", *door):
            before = cloud.drops()
            request = {
                "device": "tap-test-peer",
                "to": shown[0]["address"],
                "packets": [[source, "192.0.2.1"]],
                "count": FRAMES,
            }
            cloud.on_host(
                "python3", "-I", "-", "send", json.dumps(request), stdin=WIRE.read_bytes()
            )
            assert cloud.drops() - before >= FRAMES, source
    finally:
        cloud.on_host("ip", "link", "delete", "tap-test")


def assert_the_wire_is_exact(cloud: Cloud) -> None:
    assert_arp_is_exact(cloud)
    assert_dropped(cloud, str(GATEWAY), "172.16.0.11")
    if cloud.kind.door:
        assert_door_is_open(cloud)


@pytest.mark.parametrize(
    "disturb", [pull_the_cable, restart_libvirtd, reload_nftables, flush_ruleset]
)
def test_owned_addresses_answer_again_after(cloud: Cloud, disturb: Callable[[Cloud], None]) -> None:
    if cloud.kind.on_host:
        pytest.skip("beside what others have: tried with method proxy at another provider")
    disturb(cloud)
    tables = ("nft", "list", "tables")
    wait_for(lambda: "inet solostack" in cloud.on_host(*tables).text, "our tables", MENDED_S)
    wait_for_pages(cloud, MENDED_S)
    assert_the_wire_is_exact(cloud)


def test_owned_addresses_answer_again_after_a_reboot(cloud: Cloud) -> None:
    if not cloud.kind.reboots:
        pytest.skip("reboots take minutes: tried with methods proxy and bridge, at other providers")
    cloud.lab.reboot("phys1")
    wait_for_pages(cloud, REBOOTED_S)
    assert_the_wire_is_exact(cloud)


def test_status_and_verify_are_content_after_all_that(cloud: Cloud) -> None:
    (host,) = cloud.solostack("status")["hosts"]
    assert set(host["services"].values()) == {"active"}
    if cloud.kind.method is ExternalMethod.PRIVATE:
        # Now from outside: with the route the provider's end of the wire is a neighbour.
        verify_while_looking(cloud.operator)


def test_down_gives_the_host_back(cloud: Cloud) -> None:
    if not cloud.kind.on_host:
        # The flush above took the host's own table, which nobody puts back but its own service.
        cloud.on_host("systemctl", "reload", "nftables")
    (host,) = cloud.solostack("down", "--yes")["hosts"]
    assert not host["not_compared"], host["not_compared"]
    assert host["differences"] == []
    answers = who_has(cloud, cloud.host, *cloud.owned)
    assert answers.pop(cloud.host) == [cloud.mac]
    assert not any(answers.values()), answers
    assert "solostack" not in cloud.on_host("nft", "list", "ruleset").text
    assert f"{cloud.host}/" in cloud.on_host("ip", "-4", "-o", "address", "show", "peth0").text
    if cloud.kind.on_host:
        of_others.check(cloud.lab.host_executor("phys1"))


def test_nothing_but_owned_addresses_ever_left_the_host(cloud: Cloud) -> None:
    """What the provider has seen since before `up` until after `down`."""
    assert cloud.watch.stdout is not None
    cloud.watch.send_signal(signal.SIGTERM)
    seen = json.loads(cloud.watch.stdout.read())
    on_wire = cloud.site.external.on_wire
    announced = {entry.split()[0] for entry in seen["arp"]}
    assert cloud.host in announced
    assert announced <= {cloud.host, "0.0.0.0", *(cloud.owned if on_wire else ())}
    assert not {*INTERNAL} & {*seen["asked"]}
    # From a private block too: those are answers to the neighbour that has a route.
    assert {*seen["sources"]} <= {cloud.host, "0.0.0.0", *cloud.owned}
    if cloud.kind.method is not ExternalMethod.BRIDGE:
        assert seen["macs"] == [cloud.mac]
    if cloud.kind.provider is Provider.MAC_FILTER:
        assert cloud.lab.violations() == {"phys1": 0}


def test_bridging_is_refused_where_the_provider_filters_macs(tmp_path: Path) -> None:
    lab = Lab(f"x{os.getpid()}-refused")
    try:
        operator = make_operator(lab, tmp_path, RUNTIMES, provider=Provider.MAC_FILTER)
        use_method(operator.site, ExternalMethod.BRIDGE)
        done = operator.run(*operator.command("check", "--json"), timeout_s=300)
        assert done.returncode == ExitCode.HOST, done.stdout[-3000:] + done.stderr[-3000:]
        (host,) = json.loads(done.stdout)["hosts"]
        errors = [finding for finding in host["findings"] if finding["severity"] == "error"]
        text = json.dumps(errors)
        assert "MAC" in text, errors
        assert "proxy" in text, errors
    finally:
        lab.down()
