"""Recorded outputs of Debian's tools, and what is read out of them."""

import contextlib
import dataclasses
import ipaddress
import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from solostack.doors.process import Completed
from solostack.errors import HostError
from solostack.host import facts
from solostack.host.kvm import NOT_PROBED, GuestProbe, Verdict
from solostack.host.probe_network import (
    parse_chains,
    parse_libvirt,
    parse_links,
    parse_listeners,
    parse_network_file,
    parse_routes,
)
from solostack.host.probe_observation import Domain, HostObservation, Presence, UnitState
from solostack.host.probe_parse import FILES, FOLDERS, MODULES, build_request, parse_observation
from solostack.plan.model import HostFacts

LINKS = """[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,
"link_type":"loopback","address":"00:00:00:00:00:00","addr_info":[{"family":"inet",
"local":"127.0.0.1","prefixlen":8,"scope":"host","label":"lo","valid_life_time":4294967295},
{"family":"inet6","local":"::1","prefixlen":128,"scope":"host"}]},
{"ifindex":2,"link":"nic0","ifname":"wire","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],
"mtu":1500,"master":"br0","operstate":"UP","address":"3e:fd:92:0b:46:71","linkinfo":
{"info_kind":"veth","info_slave_kind":"bridge"},"addr_info":[]},
{"ifindex":3,"link":"wire","ifname":"nic0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],
"mtu":1500,"operstate":"UP","address":"1e:7f:30:97:97:21","linkinfo":{"info_kind":"veth"},
"addr_info":[{"family":"inet","local":"203.0.113.2","prefixlen":24,"scope":"global",
"dynamic":true,"label":"nic0","valid_life_time":3600,"preferred_life_time":3600}]},
{"ifindex":4,"ifname":"br0","flags":["BROADCAST","MULTICAST"],"mtu":1500,"operstate":"DOWN",
"address":"3e:fd:92:0b:46:71","linkinfo":{"info_kind":"bridge","info_data":{"stp_state":0}},
"addr_info":[]},{}]"""
ROUTES = """[{"dst":"default","gateway":"203.0.113.1","dev":"nic0","flags":[]},
{"dst":"10.0.0.0/8","flags":[],"nexthops":[{"gateway":"203.0.113.1","dev":"nic0","weight":1,
"flags":[]},{"gateway":"203.0.113.5","dev":"nic0","weight":1,"flags":[]}]},
{"type":"blackhole","dst":"198.51.100.0/28","metric":4000,"flags":[]},
{"dst":"192.0.2.7","dev":"wg0","scope":"link","flags":[]},
{"dst":"203.0.113.0/24","dev":"nic0","protocol":"kernel","scope":"link",
"prefsrc":"203.0.113.2","flags":[]}]"""
TCP = """\
LISTEN 0      128    127.0.0.1:6640 0.0.0.0:* users:(("ovsdb-server",pid=14332,fd=3))
LISTEN 0      4096   127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=700,fd=17))
LISTEN 0      128            *:22         *:* users:(("sshd",pid=14,fd=4),("systemd",pid=1,fd=9))
LISTEN 0      128         [::]:80      [::]:* users:(("nginx",pid=15,fd=4))
LISTEN 0      64       0.0.0.0:2049 0.0.0.0:*
"""
UDP = """\
UNCONN 0      0      0.0.0.0%virbr0:67 0.0.0.0:* users:(("dnsmasq",pid=1433,fd=5))
UNCONN 0      0            0.0.0.0:6081 0.0.0.0:*
"""
RULESET = """{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "ip", "name": "filter", "handle": 1}},
{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter",
"hook": "forward", "prio": 0, "policy": "drop"}},
{"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 2}},
{"rule": {"family": "ip", "table": "filter", "chain": "DOCKER-USER", "handle": 3, "expr":
[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["docker0",
"br-external"]}}}, {"accept": null}]}},
{"table": {"family": "bridge", "name": "x", "handle": 2}},
{"chain": {"family": "bridge", "table": "x", "name": "f", "handle": 1, "type": "filter",
"hook": "forward", "prio": 0, "policy": "drop"}}]}"""
NETWORK_XML = """<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
  </ip>
  <ip family='ipv6' address='fd00::1' prefix='64'/>
  <route address='192.168.222.0' prefix='24' gateway='192.168.122.2'/>
</network>
"""
OPEN_XML = "<network><name>o</name><forward mode='open'/><bridge name='br-o'/></network>"
ISOLATED_XML = "<network><name>i</name></network>"
DOMAIN_XML = """<domain type='kvm'><name>mail</name><memory unit='KiB'>8388608</memory>
<currentMemory unit='KiB'>2097152</currentMemory></domain>"""
POLICY = """\
nova-compute:
  Installed: (none)
  Candidate: 2:31.0.0-6+deb13u2
  Version table:
     2:31.0.0-6+deb13u2 500
        500 http://mirror.example.org/debian-security trixie-security/main amd64 Packages
qemu-utils:
  Installed: 1:10.0.13+ds-0+deb13u1
  Candidate: 1:10.0.13+ds-0+deb13u1
  Version table:
 *** 1:10.0.13+ds-0+deb13u1 500
        500 http://mirror.example.org/debian trixie/main amd64 Packages
        100 /var/lib/dpkg/status
ovn-host:
  Installed: (none)
  Candidate: (none)
  Version table:
"""
UNITS = """\
Id=docker.service
LoadState=not-found
ActiveState=inactive
UnitFileState=

Id=nftables.service
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled

Id=systemd-networkd.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Id=networking.service
LoadState=masked
ActiveState=inactive
UnitFileState=masked
"""


def test_links() -> None:
    lo, wire, nic, bridge = parse_links(LINKS)
    assert [str(item.interface) for item in lo.addresses] == ["127.0.0.1/8"]
    assert (wire.kind, wire.master, wire.carrier) == ("veth", "br0", True)
    assert (nic.mac, nic.mtu, nic.master) == ("1e:7f:30:97:97:21", 1500, "")
    assert [(str(item.interface), item.dynamic) for item in nic.addresses] == [
        ("203.0.113.2/24", True)
    ]
    assert (bridge.kind, bridge.carrier, bridge.addresses) == ("bridge", False, ())
    assert parse_links("") == ()


def test_routes() -> None:
    found = [
        (str(item.destination), item.device, str(item.gateway)) for item in parse_routes(ROUTES)
    ]
    assert found == [
        ("0.0.0.0/0", "nic0", "203.0.113.1"),
        ("10.0.0.0/8", "nic0", "203.0.113.1"),
        ("198.51.100.0/28", "", "None"),
        ("192.0.2.7/32", "wg0", "None"),
        ("203.0.113.0/24", "nic0", "None"),
    ]


def test_listeners() -> None:
    found = {
        item.port: item for item in (*parse_listeners(TCP, "tcp"), *parse_listeners(UDP, "udp"))
    }
    assert found[6640].text == "tcp 127.0.0.1:6640 by ovsdb-server"
    assert (found[53].address, found[53].device) == ("127.0.0.53", "lo")
    assert (found[22].process, found[22].is_wildcard) == ("sshd", True)
    assert (found[80].address, found[80].is_wildcard) == ("::", True)
    assert (found[2049].process, found[2049].text) == ("", "tcp 0.0.0.0:2049")
    assert (found[67].device, found[67].is_wildcard) == ("virbr0", False)
    assert (found[6081].protocol, found[6081].process) == ("udp", "")


def test_chains() -> None:
    [chain] = parse_chains(RULESET)
    assert (chain.text, chain.hook, chain.policy) == ("ip filter FORWARD", "forward", "drop")
    assert {"docker0", "br-external"} <= chain.names
    assert parse_chains("") == ()


def test_libvirt() -> None:
    raw = {
        "error": "",
        "networks": [
            {"name": "default", "active": True, "xml": NETWORK_XML},
            {"name": "o", "active": False, "xml": OPEN_XML},
            {"name": "i", "active": False, "xml": ISOLATED_XML},
            {"name": "gone", "active": False, "xml": ""},
        ],
        "domains": [{"name": "mail", "running": True, "xml": DOMAIN_XML}],
    }
    found = parse_libvirt(raw)
    assert [(item.name, item.bridge, item.mode) for item in found.networks] == [
        ("default", "virbr0", "nat"),
        ("o", "br-o", "open"),
        ("i", "", ""),
    ]
    assert [str(prefix) for prefix in found.networks[0].prefixes] == [
        "192.168.122.0/24",
        "192.168.222.0/24",
    ]
    assert found.domains == (Domain(name="mail", running=True, memory_mib=8192),)
    assert not parse_libvirt(None).installed


@pytest.mark.parametrize(
    ("text", "names", "kinds"),
    [
        ("[Match]\nName=en* eth0\n\n[Network]\nDHCP=yes\n", ("en*", "eth0"), ()),
        ("# all\n[Match]\nType=ether\n[Network]\nDNS=9.9.9.9\nDNS=1.1.1.1\n", (), ("ether",)),
        ("[Match]\nKind=bridge\nName=!br*\n", ("!br*",), ("bridge",)),
        ("[Network]\nDHCP=yes\n", (), ()),
        ("no section", (), ()),
    ],
)
def test_network_files(text: str, names: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    found = parse_network_file("/etc/systemd/network/a.network", text)
    assert (found.names, found.kinds) == (names, kinds)


def test_network_file_by_mac() -> None:
    text = "[Match]\nMACAddress=52:54:00:AB:00:01 52-54-00-ab-00-02\n"
    found = parse_network_file("/etc/systemd/network/a.network", text)
    assert found.macs == ("52:54:00:ab:00:01", "52:54:00:ab:00:02")


def answer() -> dict[str, Any]:
    """What the script writes about a small Debian 13 machine."""
    ran = {
        "candidates": POLICY,
        "container": "none\n",
        "dpkg": "",
        "installed": "installed qemu-utils 1:10.0.13\nconfig-files ufw 0.36.2-9\n",
        "links": LINKS,
        "routes": ROUTES,
        "tcp": TCP,
        "time": "Timezone=Etc/UTC\nNTP=yes\nNTPSynchronized=yes\n",
        "udp": UDP,
        "units": UNITS,
        "virtualization": "none\n",
    }
    files: dict[str, str | None] = dict.fromkeys(path for path in FILES if "*" not in path)
    files |= {
        "/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 phys1.example.org phys1 # mine\n",
        "/etc/nftables.conf": "#!/usr/sbin/nft -f\n\nflush ruleset\n",
        "/etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13"\n',
        "/etc/resolv.conf": "# by hand\nnameserver 9.9.9.9\nsearch example.org\n",
        "/etc/solostack/nodes/controller.json": '{"site": "cloud", "name": "controller"}',
        "/etc/systemd/network/a.network": "[Match]\nName=en*\n",
        "/proc/cpuinfo": "processor : 0\nmodel name\t: Intel X\nflags\t\t: fpu vmx lm\n",
        "/proc/meminfo": "MemTotal:       16281600 kB\nMemAvailable:   15000000 kB\n",
        "/proc/self/mounts": "/dev/a / ext4 rw 0 0\n/dev/b /var xfs rw 0 0\n",
        "/proc/sys/net/ipv4/ip_forward": "1\n",
        "/proc/sys/net/ipv4/conf/nic0/rp_filter": "2\n",
        "/sys/module/apparmor/parameters/enabled": "Y\n",
        "/sys/module/kvm_intel/parameters/nested": "Y\n",
    }
    names = dict.fromkeys(FOLDERS)
    space = {"there": "/var/lib", "free_bytes": 50 << 30, "total_bytes": 99 << 30, "device": 7}
    feature = {"loaded": False, "builtin": False, "available": False, "option": ""}
    return {
        "machine": {"cores": 4, "hostname": "phys1", "kernel": "6.12.107+deb13-amd64",
                    "architecture": "x86_64", "python": [3, 13, 5], "euid": 0},
        "commands": {key: {"status": 0, "out": out, "err": ""} for key, out in ran.items()},
        "files": files,
        "folders": names | {
            "/run/systemd/system": [],
            "/var/lib/apt/lists": ["mirror.example.org_debian_dists_trixie_InRelease", "partial",
                                   "security.example.org_dists_trixie-security_InRelease"],
            "/var/lib/nova/instances": ["_base", "7c0f6a1e-9c3b-4b58-a06f-2a0f3c8b3d11"],
            "/var/lib/solostack/ledger": ["blobs", "journal.jsonl"],
        },
        "file_systems": {
            path: {**space, "flags": 4096 | 2 | 4}
            for path in ("/var/lib/solostack", "/var/lib/nova", "/root/.cache/solostack")
        },
        "usage": {"/var/lib/solostack": 3 << 30},
        "modules": {
            "folder": True, "releases": ["6.12.107+deb13-amd64"], "configuration": True,
            "features": dict.fromkeys(MODULES, feature) | {
                "openvswitch": feature | {"available": True, "option": "m"},
                "bridge": feature | {"loaded": True, "available": True, "option": "m"},
                "overlay": feature | {"builtin": True},
            },
        },
        "kvm": {"exists": True, "usable": True, "mode": 0o660},
        "libvirt": None,
        "ruleset": {"status": 0, "out": RULESET, "err": ""},
    }  # fmt: skip


def parsed(**changes: Any) -> HostObservation:
    return parse_observation(answer() | changes, name="phys1", guest=NOT_PROBED)


def test_machine_and_system() -> None:
    found = parsed()
    assert (found.machine.cores, found.machine.memory_mib) == (4, 15900)
    assert (found.machine.cpu_flag, found.machine.nested) == ("vmx", True)
    assert (found.machine.virtualization, found.machine.is_container) == ("none", False)
    system = found.system
    assert (system.os_id, system.os_version, system.python) == ("debian", 13, (3, 13, 5))
    assert (system.hostname, system.fqdn) == ("phys1", "phys1.example.org")
    assert (system.name_servers, system.time_synchronized) == (("9.9.9.9",), True)
    assert (system.is_root, system.systemd, system.apparmor) == (True, True, True)
    assert system.units == {
        "nftables.service": UnitState(active=False, enabled=False),
        "systemd-networkd.service": UnitState(active=True, enabled=True),
    }
    assert system.installed == {"qemu-utils": "1:10.0.13"}
    assert system.candidates["nova-compute"] == "2:31.0.0-6+deb13u2"
    assert system.candidates["ovn-host"] == ""
    assert system.suites == ("trixie", "trixie-security")


def test_kernel_disk_and_traces() -> None:
    found = parsed()
    features = found.kernel.features
    assert features["openvswitch"] is Presence.AVAILABLE
    assert features["bridge"] is Presence.LOADED
    assert features["overlay"] is Presence.BUILTIN
    assert features["geneve"] is Presence.MISSING
    assert found.kernel.sysctls == {"ipv4.ip_forward": 1, "ipv4.conf.nic0.rp_filter": 2}
    disk = found.file_systems["/var/lib/solostack"]
    assert (disk.mount, disk.kind, disk.free_mib, disk.used_mib) == ("/var", "xfs", 51200, 3072)
    assert disk.restricted == ("nodev", "nosuid")
    assert found.network.nftables_flushes
    assert found.traces.sites == ("cloud",)
    assert found.traces.ledger
    assert found.traces.nova_instances == ("7c0f6a1e-9c3b-4b58-a06f-2a0f3c8b3d11",)


def test_nothing_to_look_at_is_unknown() -> None:
    modules = answer()["modules"] | {"folder": False, "configuration": False, "releases": []}
    found = parsed(modules=modules).kernel.features
    assert found["geneve"] is Presence.UNKNOWN
    assert not found["geneve"].usable
    assert found["overlay"].usable


def test_rules_that_cannot_be_read() -> None:
    assert parsed(ruleset=None).network.chains is None
    assert parsed(ruleset={"status": 1, "out": "", "err": "Operation not permitted"}
                  ).network.chains is None  # fmt: skip
    assert parsed(ruleset={"status": 0, "out": "", "err": ""}).network.chains == ()


def test_commands_that_are_not_there() -> None:
    commands = answer()["commands"] | {"time": None, "virtualization": None, "container": None}
    found = parsed(commands=commands)
    assert found.system.time_synchronized is None
    assert (found.machine.virtualization, found.machine.is_container) == ("none", False)


def test_facts() -> None:
    found = parsed()
    expected = HostFacts(
        name="phys1",
        cores=4,
        memory_mib=15900,
        disk_gib=53,
        kvm=True,
        openvswitch_module=True,
        kvm_proven=False,
    )
    assert found.facts() == expected


@pytest.mark.parametrize(("verdict", "runs"), [(Verdict.YES, True), (Verdict.NO, False)])
def test_a_guest_that_was_booted_proves_what_kvm_does(verdict: Verdict, runs: bool) -> None:
    guest = GuestProbe(verdict=verdict, reason="", duration_s=0.1)
    facts = dataclasses.replace(parsed(), guest=guest).facts()
    assert (facts.kvm, facts.kvm_proven) == (runs, True)


def test_observation_is_of_values() -> None:
    assert parsed() == parsed()
    assert parsed().network.default_routes[0].gateway == ipaddress.IPv4Address("203.0.113.1")


def test_request_is_json_and_only_reads() -> None:
    request = build_request()
    assert json.loads(json.dumps(request)).keys() == request.keys()
    first = {argv[0] for argv in request["commands"].values()}
    assert first == {"apt-cache", "dpkg", "dpkg-query", "ip", "ss", "systemctl",
                     "systemd-detect-virt", "timedatectl"}  # fmt: skip


class Saying:
    """A machine that answers every command with the same text."""

    name = "phys1"

    def __init__(self, text: str) -> None:
        self.text = text
        self.stdin: list[bytes] = []

    def run(self, argv: Any, *, stdin: Any = b"", **_: Any) -> Completed:
        self.stdin.append(stdin)
        return Completed(tuple(argv), 0, self.text.encode(), b"")


def test_facts_over_one_command() -> None:
    executor = Saying(json.dumps(answer()))
    found = facts.read_observation(executor, name="phys1", boot_guest=False)
    assert found.facts() == parsed().facts()
    assert len(executor.stdin) == 1
    assert executor.stdin[0].endswith(b"')\n")


def test_answer_without_a_part_is_a_host_error() -> None:
    lame = answer()
    lame["files"]["/proc/meminfo"] = None
    with pytest.raises(HostError, match="phys1: what the host probe saw cannot be read"):
        facts.read_observation(Saying(json.dumps(lame)), name="phys1", boot_guest=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@hypothesis.given(st.data())
def test_any_answer_is_read_or_refused(data: st.DataObject) -> None:
    """One part of a good answer is replaced, at whatever depth."""
    lame = answer()
    part = lame
    while True:
        key = data.draw(st.sampled_from(sorted(part)))
        if not (isinstance(part[key], dict) and part[key] and data.draw(st.booleans())):
            break
        part = part[key]
    part[key] = data.draw(JSON)
    with contextlib.suppress(HostError):
        facts.read_observation(Saying(json.dumps(lame)), name="phys1", boot_guest=False)


@hypothesis.given(st.sampled_from(["links", "routes", "tcp", "udp"]), JSON | st.text())
def test_any_output_of_a_tool_is_read_or_refused(command: str, value: Any) -> None:
    lame = answer()
    text = value if isinstance(value, str) else json.dumps(value)
    lame["commands"][command] = {"status": 0, "out": text, "err": ""}
    with contextlib.suppress(HostError):
        facts.read_observation(Saying(json.dumps(lame)), name="phys1", boot_guest=False)


@hypothesis.given(st.sampled_from(["{}", '{"nftables": %s}', "%s"]), JSON)
def test_any_ruleset_is_read_or_refused(form: str, value: Any) -> None:
    lame = answer()
    text = form.replace("%s", json.dumps(value))
    lame["ruleset"] = {"status": 0, "out": text, "err": ""}
    with contextlib.suppress(HostError):
        facts.read_observation(Saying(json.dumps(lame)), name="phys1", boot_guest=False)


@hypothesis.given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with pytest.raises(HostError):
        facts.read_observation(Saying(json.dumps(value)), name="phys1", boot_guest=False)
