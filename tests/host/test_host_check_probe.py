"""The host probe and its rules on real interfaces, rules and ports, in a network namespace."""

import contextlib
import dataclasses
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from solostack.doors.process import LocalExecutor, PrefixExecutor
from solostack.errors import HostError
from solostack.host import check, facts
from solostack.host.check import Finding, Severity, Subject
from solostack.host.probe_observation import HostObservation
from solostack.site.model import External, Host, Site

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace"),
]

SITE = Site.model_validate(
    {
        "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "nic0"}],
        "external": {"block": "198.51.100.0/28"},
    }
)
LISTEN = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
door = socket.socket(socket.AF_INET, kind)
door.bind((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_STREAM:
    door.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@dataclasses.dataclass
class Box:
    """A network namespace that stands for a host."""

    name: str

    def run(self, *argv: str, stdin: bytes = b"") -> str:
        command = ["ip", "netns", "exec", self.name, *argv]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout.decode()

    def look(self) -> HostObservation:
        executor = PrefixExecutor(LocalExecutor(), ("ip", "netns", "exec", self.name), "phys1")
        return facts.read_observation(
            executor, name="phys1", boot_guest=False, libvirt_uri="test:///default"
        )

    def check(self, site: Site = SITE) -> tuple[Finding, ...]:
        return check.findings(site, None, self.look())

    @contextlib.contextmanager
    def listening(self, protocol: str, address: str, port: int) -> Iterator[None]:
        command = ["ip", "netns", "exec", self.name, "python3", "-c", LISTEN]
        process = subprocess.Popen(
            [*command, protocol, address, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin and process.stdout
        try:
            assert select.select([process.stdout], [], [], 10)[0]
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()


@pytest.fixture
def box() -> Iterator[Box]:
    """A host with one NIC, an address and a default route, and nothing else."""
    box = Box(f"solo-check-{os.getpid()}")
    subprocess.run(["ip", "netns", "add", box.name], check=True)
    try:
        # Duplicate address detection of IPv6 would change what is compared later.
        box.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
        box.run("ip", "link", "set", "lo", "up")
        box.run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "wire")
        box.run("ip", "link", "set", "wire", "up")
        box.run("ip", "link", "set", "nic0", "up")
        box.run("ip", "address", "add", "203.0.113.2/24", "dev", "nic0")
        box.run("ip", "route", "add", "default", "via", "203.0.113.1")
        yield box
    finally:
        subprocess.run(["ip", "netns", "delete", box.name], check=True)


def of(found: tuple[Finding, ...], subject: Subject) -> list[Finding]:
    return [finding for finding in found if finding.subject is subject]


def severities(found: tuple[Finding, ...], subject: Subject) -> set[str]:
    return {str(finding.severity) for finding in of(found, subject)}


def test_clean_network_has_no_clash(box: Box) -> None:
    found = box.check()
    for subject in (
        Subject.NIC,
        Subject.ADDRESS,
        Subject.GATEWAY,
        Subject.BLOCK,
        Subject.PREFIXES,
        Subject.NAMES,
        Subject.PORTS,
        Subject.FIREWALL,
        Subject.OPEN_PORTS,
        Subject.NETWORKS,
        Subject.SSH,
    ):
        assert severities(found, subject) == {"ok"}, (subject, of(found, subject))


def test_taken_bridge_name_and_prefix(box: Box) -> None:
    box.run("ip", "link", "add", "br-data", "type", "bridge")
    box.run("ip", "address", "add", "172.16.0.200/25", "dev", "br-data")
    box.run("ip", "link", "set", "br-data", "up")
    found = box.check()
    [name] = of(found, Subject.NAMES)
    assert (name.severity, name.what) == (
        Severity.ERROR,
        "there is an interface br-data already",
    )
    assert "ip link delete br-data" in name.todo
    [prefix] = of(found, Subject.PREFIXES)
    assert prefix.severity is Severity.ERROR
    assert prefix.what == "172.16.0.0/24 (data.cidr) overlaps 172.16.0.128/25 of br-data"


def test_block_on_the_wire(box: Box) -> None:
    box.run("ip", "address", "add", "198.51.100.3/28", "dev", "nic0")
    box.run("ip", "route", "add", "blackhole", "198.51.100.8/32")
    whats = {finding.what for finding in of(box.check(), Subject.BLOCK)}
    assert whats == {
        "198.51.100.3/28 on nic0 lies in the public block 198.51.100.0/28",
        "198.51.100.0/28 of the public block is routed to nic0",
        "198.51.100.8/32 of the public block is routed to nowhere",
    }


def test_nic_without_link_address_and_route(box: Box) -> None:
    box.run("ip", "link", "set", "wire", "down")
    box.run("ip", "address", "delete", "203.0.113.2/24", "dev", "nic0")
    box.run("ip", "link", "add", "other", "type", "bridge")
    box.run("ip", "link", "set", "other", "up")
    box.run("ip", "address", "add", "203.0.113.2/32", "dev", "other", "valid_lft", "900",
            "preferred_lft", "900")  # fmt: skip
    found = box.check()
    assert [f.what for f in of(found, Subject.NIC)] == ["nic0 has no link"]
    assert [f.what for f in of(found, Subject.ADDRESS)] == [
        "nic0 does not hold 203.0.113.2, other does"
    ]
    assert severities(found, Subject.GATEWAY) == {"error"}
    moved = SITE.hosts[0].model_copy(update={"nic": "other"})
    found = box.check(SITE.model_copy(update={"hosts": (moved,)}))
    [address] = of(found, Subject.ADDRESS)
    assert (address.severity, address.what) == (
        Severity.WARNING,
        "203.0.113.2/32 on other comes from DHCP",
    )


def test_ports_in_use(box: Box) -> None:
    with (
        box.listening("tcp", "127.0.0.1", 6640),
        box.listening("udp", "0.0.0.0", 6081),
        box.listening("tcp", "0.0.0.0", 5901),
        box.listening("tcp", "127.0.0.1", 16509),
    ):
        found = of(box.check(), Subject.PORTS)
    assert {(str(f.severity), f.what) for f in found} == {
        ("error", "in use: tcp 127.0.0.1:6640 by python3"),
        ("error", "in use: udp 0.0.0.0:6081 by python3"),
        ("warning", "in use: tcp 0.0.0.0:5901 by python3"),
    }
    assert severities(box.check(), Subject.PORTS) == {"ok"}


def test_services_that_the_firewall_will_close(box: Box) -> None:
    with (
        box.listening("tcp", "0.0.0.0", 8443),
        box.listening("tcp", "127.0.0.1", 8444),
        box.listening("udp", "203.0.113.2", 53),
    ):
        found = of(box.check(), Subject.OPEN_PORTS)
        words = [finding.todo.partition(": - ")[2] for finding in found]
        entries = YAML(typ="safe").load("\n".join(f"- {item}" for item in words))
        opened = Site.model_validate(SITE.model_dump() | {"firewall": {"open": entries}})
        assert severities(box.check(opened), Subject.OPEN_PORTS) == {"ok"}
    assert {(str(f.severity), f.what) for f in found} == {
        ("warning", "tcp 8443 (python3) will be closed to the outside"),
        ("warning", "udp 53 (python3) will be closed to the outside"),
    }


def test_networks_behind_the_host(box: Box) -> None:
    box.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    box.run("ip", "link", "add", "eno2", "type", "bridge")
    box.run("ip", "link", "set", "eno2", "up")
    box.run("ip", "address", "add", "192.168.50.1/24", "dev", "eno2")
    box.run("ip", "address", "add", "192.0.2.9/32", "dev", "lo")
    assert {finding.what for finding in of(box.check(), Subject.NETWORKS)} == {
        "192.168.50.0/24 lies behind this host (eno2)",
        "192.0.2.9/32 lies behind this host (lo)",
    }


@pytest.mark.parametrize(("client", "severity"), [("192.0.2.50", "error"), ("10.1.2.3", "ok")])
def test_where_you_come_from(box: Box, client: str, severity: str) -> None:
    session = f"SSH_CONNECTION={client} 51234 203.0.113.2 22"
    prefix = ("ip", "netns", "exec", box.name, "env", session)
    executor = PrefixExecutor(LocalExecutor(), prefix, "phys1")
    seen = facts.read_observation(
        executor, name="phys1", boot_guest=False, libvirt_uri="test:///default"
    )
    wanted = Site.model_validate(SITE.model_dump() | {"firewall": {"ssh_from": ["10.0.0.0/8"]}})
    assert severities(check.findings(wanted, None, seen), Subject.SSH) == {severity}
    assert severities(box.check(), Subject.SSH) == {"ok"}


def test_arp_ignore_that_would_hide_the_host(box: Box) -> None:
    box.run("sh", "-c", "echo 2 >/proc/sys/net/ipv4/conf/nic0/arp_ignore")
    assert severities(box.check(), Subject.SYSCTL) <= {"ok", "info"}
    box.run("ip", "address", "replace", "203.0.113.2/32", "dev", "nic0")
    box.run("ip", "address", "delete", "203.0.113.2/24", "dev", "nic0")
    assert "error" in severities(box.check(), Subject.SYSCTL)


RULES = b"""
table inet filter {
    chain forward { type filter hook forward priority filter; policy drop; }
    chain input { type filter hook input priority filter; policy drop; iifname "lo" accept; }
}
table inet solostack {
    chain forward { type filter hook forward priority filter; policy drop; }
}
"""
ACCEPTED = b"""
insert rule inet filter forward iifname "br-external" accept
insert rule inet filter forward oifname "br-external" accept
insert rule inet filter input iifname { "br-data", "solo-data" } accept
"""


def test_dropping_chains(box: Box) -> None:
    box.run("nft", "-f", "-", stdin=RULES)
    found = of(box.check(), Subject.FIREWALL)
    assert {(str(f.severity), f.what) for f in found} == {
        ("error", "chain inet filter forward drops forwarded packets it has no rule for"),
        ("warning", "chain inet filter input drops packets to the host it has no rule for"),
    }
    # What the finding says to do is done word for word, and the finding is gone.
    for finding in found:
        for command in finding.todo.split("; "):
            if command.startswith("nft "):
                box.run(*command.split())
    assert severities(box.check(), Subject.FIREWALL) == {"info"}


def test_rules_for_the_bridges_are_seen(box: Box) -> None:
    box.run("nft", "-f", "-", stdin=RULES + ACCEPTED)
    [finding] = of(box.check(), Subject.FIREWALL)
    assert finding.severity is Severity.INFO
    assert "it has rules for br-external" in finding.what


def test_bridge_netfilter(box: Box) -> None:
    setting = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    if not Path(setting).exists():
        pytest.skip("this kernel has not loaded br_netfilter")
    box.run("sh", "-c", f"echo 1 >{setting}")
    assert severities(box.check(), Subject.BRIDGE_NETFILTER) == {"info"}
    box.run("nft", "-f", "-", stdin=RULES)
    assert severities(box.check(), Subject.BRIDGE_NETFILTER) == {"error"}
    box.run("sh", "-c", f"echo 0 >{setting}")
    assert severities(box.check(), Subject.BRIDGE_NETFILTER) == {"ok"}


def test_sysctls(box: Box) -> None:
    box.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/nic0/proxy_arp")
    box.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    found = {f.what: str(f.severity) for f in of(box.check(), Subject.SYSCTL)}
    assert found["the host forwards packets already"] == "ok"
    assert found["proxy ARP is on for nic0"] == "warning"


def test_libvirt_is_read(box: Box) -> None:
    seen = box.look().libvirt
    assert [(n.name, n.bridge, n.mode, n.active) for n in seen.networks] == [
        ("default", "virbr0", "nat", True)
    ]
    assert [str(prefix) for prefix in seen.networks[0].prefixes] == ["192.168.122.0/24"]
    assert [(d.name, d.running, d.memory_mib) for d in seen.domains] == [("test", True, 8192)]
    clash = SITE.data.model_copy(update={"bridge": "virbr0", "cidr": "192.168.0.0/16"})
    clash = type(clash).model_validate(clash.model_dump())
    found = box.check(SITE.model_copy(update={"data": clash}))
    assert any("default has the bridge virbr0" in f.what for f in of(found, Subject.LIBVIRT))
    assert "192.168.0.0/16 (data.cidr) overlaps 192.168.122.0/24 of libvirt network default" in {
        f.what for f in of(found, Subject.PREFIXES)
    }


def state(box: Box) -> dict[str, str]:
    """What the probe could have changed, as text."""
    apt = sorted((str(p), p.stat().st_mtime_ns) for p in Path("/var/cache/apt").glob("*.bin"))
    folders = ("/var/lib/solostack", "/var/lib/nova", "/root/.cache/solostack", "/run/netns")
    return {
        "links": box.run("ip", "-d", "address", "show"),
        "routes": box.run("ip", "route", "show", "table", "all"),
        "rules": box.run("nft", "list", "ruleset"),
        "ports": box.run("ss", "-Htulnp"),
        "sysctls": box.run("sh", "-c", "cat /proc/sys/net/ipv4/ip_* /proc/sys/net/ipv4/conf/*/*p*"),
        "modules": Path("/proc/modules").read_text() if Path("/proc/modules").exists() else "",
        "apt": repr(apt),
        "folders": repr([Path(folder).exists() for folder in folders]),
    }  # fmt: skip


def test_looking_changes_nothing(box: Box) -> None:
    box.run("nft", "-f", "-", stdin=RULES)
    box.run("ip", "link", "add", "br-data", "type", "bridge")
    with box.listening("tcp", "127.0.0.1", 6640):
        before = state(box)
        box.check()
        assert state(box) == before


def test_facts_agree_with_the_machine(box: Box) -> None:
    seen = box.look()
    found = seen.facts()
    assert found.name == "phys1"
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.memory_mib == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    assert found.disk_gib > 0
    assert not found.kvm_proven, "no guest was booted"
    assert seen.system.python >= (3, 11)
    assert seen.system.is_root


def test_broken_python_is_a_host_error() -> None:
    executor = PrefixExecutor(LocalExecutor(), ("false",), "phys1")
    with pytest.raises(HostError, match="phys1: the host could not be looked at") as caught:
        facts.read_observation(executor, name="phys1")
    assert "apt install python3" in caught.value.hint


def test_noise_instead_of_an_answer_is_a_host_error() -> None:
    executor = PrefixExecutor(LocalExecutor(), ("echo", "motd"), "phys1")
    with pytest.raises(HostError, match="not JSON"):
        facts.read_observation(executor, name="phys1")


def test_site_of_the_test_is_valid() -> None:
    assert isinstance(SITE.hosts[0], Host)
    assert isinstance(SITE.external, External)
