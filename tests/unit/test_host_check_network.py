"""Rules about the host's network, its firewalls, and what else lives on it; by value, both ways."""

import ipaddress
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from solostack.host.check import Subject
from solostack.host.probe_observation import (
    Domain,
    HostObservation,
    LibvirtNetwork,
    NetworkFile,
    UnitState,
)
from tests.unit.host_observations import (
    GOOD,
    KERNEL,
    NETWORK,
    SYSTEM,
    about,
    chain,
    full,
    link,
    listener,
    route,
    seen,
    site,
)

LO, NIC = NETWORK.links
OURS = {"sites": ("cloud",), "ledger": True}
ACTIVE = UnitState(active=True, enabled=True)


def with_links(*links: Any, **changes: Any) -> HostObservation:
    return seen(network={"links": (*NETWORK.links, *links)}, **changes)


@pytest.mark.parametrize(
    ("subject", "network", "expected"),
    [
        (
            Subject.NIC,
            {"links": (LO, link("eno1", "203.0.113.2/26", carrier=False))},
            ("error", "eno1 has no link"),
        ),
        (
            Subject.NIC,
            {"links": (LO, link("eno1", "203.0.113.2/26", mtu=1400))},
            ("warning", "eno1 has MTU 1400"),
        ),
        (
            Subject.NIC,
            {"links": (LO, link("eno1", "203.0.113.2/26", master="br0"))},
            ("info", "eno1 is a port of br0"),
        ),
        (
            Subject.ADDRESS,
            {"links": (LO, link("eno1", "203.0.113.7/26"))},
            ("error", "eno1 does not hold 203.0.113.2; its addresses: 203.0.113.7/26"),
        ),
        (
            Subject.ADDRESS,
            {"links": (LO, link("eno1"), link("br0", "203.0.113.2/26"))},
            ("error", "eno1 does not hold 203.0.113.2, br0 does"),
        ),
        (
            Subject.ADDRESS,
            {"links": (LO, link("eno1", "203.0.113.2/26", dynamic=True))},
            ("warning", "203.0.113.2/26 on eno1 comes from DHCP"),
        ),
        (Subject.GATEWAY, {"routes": ()}, ("error", "there is no default route")),
        (
            Subject.GATEWAY,
            {"routes": (route("0.0.0.0/0", "wg0"),)},
            ("warning", "the default route leaves by wg0, not by eno1"),
        ),
        (
            Subject.BLOCK,
            {"links": (LO, NIC, link("eno2", "198.51.100.3/28"))},
            ("error", "198.51.100.3/28 on eno2 lies in the public block 198.51.100.0/28"),
        ),
        (
            Subject.BLOCK,
            {"links": (LO, NIC, link("eno2", "198.51.100.200/24"))},
            (
                "error",
                "the network 198.51.100.0/24 of eno2 holds the public block 198.51.100.0/28",
            ),
        ),
        (
            Subject.BLOCK,
            {"routes": (*NETWORK.routes, route("198.51.100.8/29", "eno2"))},
            ("error", "198.51.100.8/29 of the public block is routed to eno2"),
        ),
        (
            Subject.BLOCK,
            {"routes": (route("0.0.0.0/0", "eno1", "198.51.100.1"),)},
            ("error", "the gateway 198.51.100.1 lies in the public block 198.51.100.0/28"),
        ),
        (
            Subject.PREFIXES,
            {"links": (LO, NIC, link("docker0", "172.16.0.1/16"))},
            ("error", "172.16.0.0/24 (data.cidr) overlaps 172.16.0.0/16 of docker0"),
        ),
        (
            Subject.PREFIXES,
            {"routes": (*NETWORK.routes, route("10.99.0.128/25", "wg0"))},
            ("error", "10.99.0.0/24 (external.transit) overlaps 10.99.0.128/25 of wg0"),
        ),
        (
            Subject.PREFIXES,
            {"routes": (*NETWORK.routes, route("10.10.0.0/16", "wg0"))},
            ("warning", "10.10.0.0/24 (demo.network) overlaps 10.10.0.0/16 of wg0"),
        ),
        (
            Subject.NAMES,
            {"links": (LO, NIC, link("br-data", kind="bridge"))},
            ("error", "there is an interface br-data already"),
        ),
    ],
)
def test_bad_network_is_found_and_good_one_is_not(
    subject: Subject, network: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert expected in about(subject, seen(network=network))
    assert [severity for severity, _ in about(subject, GOOD)] == ["ok"]


def test_missing_nic_names_the_one_that_holds_the_address() -> None:
    observation = seen(network={"links": (LO, link("enp3s0", "203.0.113.2/26"))})
    [finding] = full(Subject.NIC, observation)
    assert finding.what == "there is no interface eno1"
    assert finding.todo.startswith("set nic: enp3s0 in the site")
    assert full(Subject.ADDRESS, observation) == []


def test_own_networks_are_no_clash_where_we_are_deployed() -> None:
    links = (
        link("br-data", kind="bridge"),
        link("solo-data", "172.16.0.1/24", kind="veth"),
        link("br-external", "10.99.0.1/24", kind="bridge"),
    )
    routes = (
        *NETWORK.routes,
        route("172.16.0.0/24", "solo-data"),
        route("10.99.0.0/24", "br-external"),
        route("198.51.100.0/28", "br-external"),
        route("198.51.100.0/28", ""),
    )
    network = {"links": (*NETWORK.links, *links), "routes": routes}
    ours = seen(network=network, traces=OURS)
    foreign = seen(network=network)
    for subject in (Subject.BLOCK, Subject.PREFIXES, Subject.NAMES):
        assert {severity for severity, _ in about(subject, ours)} <= {"ok"}, subject
        assert "error" in {severity for severity, _ in about(subject, foreign)}, subject


@pytest.mark.parametrize(
    ("now", "links", "others", "expected"),
    [
        ("br-data", (), (), []),
        ("eth1", (link("eth1", kind="bridge"),), (), []),
        ("br-data", (link("eth1"),), (), ["that interface is there"]),
        ("br-data", (), (("lan", "eth1"),), ["the libvirt network lan has it"]),
    ],
)
def test_a_new_name_of_the_data_bridge_must_be_free(
    now: str, links: Any, others: Any, expected: list[str]
) -> None:
    networks = tuple(libvirt_network(*names) for names in (("data", now), *others))
    here = with_links(*links, libvirt={"networks": networks}, traces=OURS)
    found = about(Subject.NAMES, here, site(data={"bridge": "eth1"}))
    wanted = [f"the data bridge cannot be renamed from br-data to eth1: {end}" for end in expected]
    assert [what for severity, what in found if severity == "error"] == wanted


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(8, 32))
def test_prefix_clashes_exactly_when_it_overlaps(address: int, length: int) -> None:
    network = ipaddress.IPv4Network((address, length), strict=False)
    found = about(Subject.PREFIXES, seen(network={"routes": (route(str(network), "wg0"),)}))
    expected = network.overlaps(ipaddress.IPv4Network("172.16.0.0/24")) or network.overlaps(
        ipaddress.IPv4Network("10.99.0.0/24")
    )
    assert ("error" in {severity for severity, _ in found}) is expected


@pytest.mark.parametrize(
    ("found", "severity"),
    [
        (listener("tcp", "127.0.0.1", 6640), "error"),
        (listener("tcp", "*", 6640), "error"),
        (listener("tcp", "192.0.2.9", 6640), "ok"),
        (listener("udp", "127.0.0.1", 6640), "ok"),
        (listener("tcp", "127.0.0.1", 6640, "ovsdb-server"), "ok"),
        (listener("udp", "0.0.0.0", 6081), "error"),
        (listener("udp", "172.16.0.1", 6081), "error"),
        (listener("udp", "0.0.0.0", 6081, ""), "ok"),
        (listener("tcp", "::", 5901), "warning"),
        (listener("tcp", "0.0.0.0", 5900, "qemu-system-x86"), "ok"),
        (listener("tcp", "127.0.0.1", 5900), "ok"),
        (listener("tcp", "0.0.0.0", 16509, "nginx"), "warning"),
        (listener("tcp", "0.0.0.0", 16514, "libvirtd"), "ok"),
        (listener("tcp", "0.0.0.0", 49160), "warning"),
        (listener("udp", "0.0.0.0", 4789), "info"),
        (listener("tcp", "0.0.0.0", 22, "sshd"), "ok"),
    ],
)
def test_ports(found: Any, severity: str) -> None:
    wanted = site(
        hosts=[
            {
                "name": "phys1",
                "address": "203.0.113.2",
                "nic": "eno1",
                "data_address": "172.16.0.1",
            }
        ]
    )
    results = about(Subject.PORTS, seen(network={"listeners": (found,)}), wanted)
    assert [result for result, _ in results] == [severity]


def units(**more: UnitState) -> dict[str, Any]:
    return {"units": SYSTEM.units | {f"{name}.service": state for name, state in more.items()}}


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (seen(system=units(ufw=ACTIVE)), ("warning", "ufw is active")),
        (seen(system=units(firewalld=ACTIVE)), ("warning", "firewalld is active")),
        (seen(system=units(docker=ACTIVE)), ("warning", "Docker is active")),
        (
            seen(system=units(nftables=ACTIVE), network={"nftables_flushes": True}),
            (
                "warning",
                "nftables.service is enabled and /etc/nftables.conf begins with flush ruleset",
            ),
        ),
        (
            seen(network={"legacy_tables": ("nat", "filter")}),
            ("warning", "rules of the old iptables are in use (tables nat, filter)"),
        ),
        (
            seen(network={"chains": (chain("forward", "drop"),)}),
            ("error", "chain inet filter forward drops forwarded packets it has no rule for"),
        ),
        (
            seen(network={"chains": (chain("input", "drop"),)}),
            ("warning", "chain inet filter input drops packets to the host it has no rule for"),
        ),
        (seen(network={"chains": None}), ("info", "the nftables rules cannot be read")),
    ],
)
def test_firewalls(observation: HostObservation, expected: tuple[str, str]) -> None:
    assert about(Subject.FIREWALL, observation) == [expected]
    assert [severity for severity, _ in about(Subject.FIREWALL, GOOD)] == ["ok"]


@pytest.mark.parametrize(
    "observation",
    [
        seen(system=units(ufw=UnitState(active=False, enabled=True))),
        seen(system=units(nftables=ACTIVE)),
        seen(
            system=units(nftables=UnitState(active=False, enabled=False)),
            network={"nftables_flushes": True},
        ),
        seen(network={"chains": (chain("forward", "accept"), chain("output", "drop"))}),
        seen(network={"chains": (chain("forward", "drop", table="solostack"),)}),
        seen(network={"chains": (chain("input", "drop", names=frozenset({"solo-data"})),)}),
    ],
)
def test_harmless_firewalls(observation: HostObservation) -> None:
    assert [severity for severity, _ in about(Subject.FIREWALL, observation)] == ["ok"]


def test_chain_of_iptables_is_changed_with_iptables() -> None:
    docker = chain("forward", "drop", family="ip", name="FORWARD")
    [finding] = full(Subject.FIREWALL, seen(network={"chains": (docker,)}))
    assert finding.todo.startswith(
        "iptables -t filter -I FORWARD -i br-external -j ACCEPT; "
        "iptables -t filter -I FORWARD -i eno1 -o br-external -j ACCEPT; "
        "iptables -t filter -I FORWARD -i solo-data -j ACCEPT; "
        "iptables -t filter -I FORWARD -i eno1 -o solo-data -j ACCEPT; "
    )


def test_advice_for_other_firewalls_names_the_interfaces_packets_come_in_by() -> None:
    for manager in ("ufw", "firewalld", "docker"):
        [finding] = full(Subject.FIREWALL, seen(system=units(**{manager: ACTIVE})))
        for name in ("br-external", "br-data", "solo-data"):
            assert name in finding.todo, manager


@pytest.mark.parametrize(
    ("on", "chains", "expected"),
    [
        (0, (chain("forward", "drop"),), "ok"),
        (1, (), "info"),
        (1, (chain("forward", "drop", names=frozenset({"br-data"})),), "info"),
        (1, (chain("forward", "drop"),), "error"),
    ],
)
def test_bridge_netfilter(on: int, chains: Any, expected: str) -> None:
    sysctls = {**KERNEL.sysctls, "bridge.bridge-nf-call-iptables": on}
    observation = seen(kernel={"sysctls": sysctls}, network={"chains": chains})
    assert [severity for severity, _ in about(Subject.BRIDGE_NETFILTER, observation)] == [expected]
    assert [severity for severity, _ in about(Subject.BRIDGE_NETFILTER, GOOD)] == ["ok"]


@pytest.mark.parametrize(
    ("sysctls", "routes", "expected"),
    [
        ({"ipv4.ip_forward": 0}, (), ("info", "the host does not forward packets yet")),
        ({"ipv4.conf.all.proxy_arp": 1}, (), ("warning", "proxy ARP is on for eno1")),
        (
            {"ipv4.conf.all.rp_filter": 1},
            (route("0.0.0.0/0", "wg0"),),
            (
                "warning",
                "reverse path filtering is strict on eno1, and there is another default route",
            ),
        ),
    ],
)
def test_sysctls(sysctls: dict[str, int], routes: Any, expected: tuple[str, str]) -> None:
    observation = seen(
        kernel={"sysctls": {**KERNEL.sysctls, **sysctls}},
        network={"routes": (*NETWORK.routes, *routes)},
    )
    assert expected in about(Subject.SYSCTL, observation)
    assert {severity for severity, _ in about(Subject.SYSCTL, GOOD)} == {"ok"}


def test_strict_filter_alone_is_fine() -> None:
    strict = seen(kernel={"sysctls": {"ipv4.ip_forward": 1, "ipv4.conf.eno1.rp_filter": 1}})
    assert {severity for severity, _ in about(Subject.SYSCTL, strict)} == {"ok"}


def test_network_managers() -> None:
    network_manager = seen(system=units(NetworkManager=ACTIVE), traces={"netplan": True})
    assert about(Subject.NETWORK_MANAGER, network_manager) == [
        ("warning", "NetworkManager is active (written by netplan)")
    ]
    assert about(Subject.NETWORK_MANAGER, seen(system={"units": {}}))[0][0] == "info"
    assert about(Subject.NETWORK_MANAGER, GOOD) == [("ok", "systemd-networkd")]


@pytest.mark.parametrize(
    ("on", "kind", "ports", "refused"),
    [
        (1, "bridge", ("enp1s0", "tap0"), True),
        (0, "bridge", ("enp1s0", "tap0"), False),
        (1, "bridge", ("enp1s0",), False),
        (1, "bond", ("enp1s0", "enp2s0"), False),
    ],
)
def test_a_card_that_is_a_bridge_of_other_machines(
    on: int, kind: str, ports: tuple[str, ...], refused: bool
) -> None:
    card = link("eno1", "203.0.113.2/26", kind=kind)
    observation = seen(
        kernel={"sysctls": {"bridge.bridge-nf-call-iptables": on}},
        network={"links": (card, *(link(name, master="eno1") for name in ports))},
    )
    what = (
        "eno1 is a bridge (enp1s0, tap0), and its packets pass through the IP firewall "
        "(bridge-nf-call-iptables is 1)"
    )
    assert (("error", what) in about(Subject.BRIDGE_NETFILTER, observation)) is refused


@pytest.mark.parametrize(
    ("names", "kinds", "taken"),
    [
        (("eno1",), (), ""),
        (("en*", "eth*"), (), ""),
        (("*",), (), "br-data"),
        (("br-*",), (), "br-data"),
        (("!en*",), (), "br-data"),
        (("!br-*", "solo-*", "tap*", "vnet*"), (), ""),
        (("vnet*",), (), "vnet0"),
        ((), ("ether",), "ether"),
        ((), ("wlan",), ""),
        ((), (), ""),
    ],
)
def test_greedy_networkd_files(names: Any, kinds: Any, taken: str) -> None:
    file = NetworkFile(path="/etc/systemd/network/x.network", names=names, kinds=kinds)
    found = about(Subject.NETWORK_MANAGER, seen(network={"networkd_files": (file,)}))
    expected = ("warning", f"{file.path} takes the cloud's interfaces too ({taken})")
    assert (expected in found) is bool(taken)


@pytest.mark.parametrize(
    ("method", "block", "kind"),
    [("routed", "198.51.100.0/28", "public"), ("private", "10.98.1.0/24", "private")],
)
def test_block_is_called_what_it_is(method: str, block: str, kind: str) -> None:
    held = link("eno2", f"{ipaddress.IPv4Network(block)[3]}/30")
    observation = seen(network={"links": (*NETWORK.links, held)})
    wanted = site(external={"method": method, "block": block})
    [(severity, what)] = about(Subject.BLOCK, observation, wanted)
    assert (severity, what.partition(" lies in ")[2]) == ("error", f"the {kind} block {block}")


def test_networkd_files_that_take_the_uplink_bridge() -> None:
    file = NetworkFile(path="/etc/systemd/network/x.network", names=("br-up*",), kinds=())
    observation = seen(network={"networkd_files": (file,)})
    wire = site(external={"method": "bridge", "block": "198.51.100.0/28"})
    taken = ("warning", f"{file.path} takes the cloud's interfaces too (br-uplink)")
    assert taken in about(Subject.NETWORK_MANAGER, observation, wire)
    assert taken not in about(Subject.NETWORK_MANAGER, observation)


def libvirt(*networks: LibvirtNetwork, domains: tuple[Domain, ...] = ()) -> dict[str, Any]:
    return {"installed": True, "networks": networks, "domains": domains}


def libvirt_network(name: str, bridge: str, *prefixes: str) -> LibvirtNetwork:
    found = tuple(ipaddress.IPv4Network(prefix) for prefix in prefixes)
    return LibvirtNetwork(name=name, active=True, bridge=bridge, mode="nat", prefixes=found)


DEFAULT = libvirt_network("default", "virbr0", "192.168.122.0/24")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            libvirt(libvirt_network("data", "virbr1")),
            ("error", "there is a libvirt network data already (bridge virbr1)"),
        ),
        (
            libvirt(libvirt_network("lan", "br-data")),
            ("error", "the libvirt network lan has the bridge br-data"),
        ),
        (
            libvirt(domains=(Domain(name="controller", running=False, memory_mib=1),)),
            ("error", "there is a virtual machine controller already"),
        ),
        (
            libvirt(domains=(Domain(name="mail", running=True, memory_mib=2048),)),
            ("warning", "1 other virtual machine(s) run here, with 2048 MiB: mail"),
        ),
        (
            {"installed": True, "error": "a\nno socket"},
            ("warning", "libvirt does not answer: no socket"),
        ),
    ],
)
def test_libvirt_clashes(parts: dict[str, Any], expected: tuple[str, str]) -> None:
    assert about(Subject.LIBVIRT, seen(libvirt=parts)) == [expected]


@pytest.mark.parametrize(
    "observation",
    [
        GOOD,
        seen(libvirt=libvirt(DEFAULT)),
        seen(libvirt=libvirt(domains=(Domain(name="old", running=False, memory_mib=2048),))),
        seen(
            traces=OURS,
            libvirt=libvirt(
                libvirt_network("data", "br-data"),
                domains=(Domain(name="controller", running=True, memory_mib=4096),),
            ),
        ),
    ],
)
def test_libvirt_without_clash(observation: HostObservation) -> None:
    assert [severity for severity, _ in about(Subject.LIBVIRT, observation)] == ["ok"]


def test_prefix_of_a_libvirt_network() -> None:
    observation = seen(libvirt=libvirt(libvirt_network("lan", "virbr9", "172.16.0.0/20")))
    assert (
        "error",
        "172.16.0.0/24 (data.cidr) overlaps 172.16.0.0/20 of libvirt network lan",
    ) in about(Subject.PREFIXES, observation)


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (
            seen(traces={"nova_instances": ("a", "b"), "nova_compute_id": True}),
            ("error", "2 instance(s) of another Nova are here"),
        ),
        (
            seen(
                libvirt=libvirt(
                    domains=(Domain(name="instance-00000001", running=True, memory_mib=1),)
                )
            ),
            ("error", "1 instance(s) of another Nova are here"),
        ),
        (
            seen(traces={"nova_compute_id": True}),
            ("warning", "nova-compute has run here before (there is a compute_id)"),
        ),
        (
            with_links(link("br-ex"), link("br-tun")),
            ("warning", "there are bridges as Neutron makes them: br-ex, br-tun"),
        ),
        (
            seen(system={"installed": {"proxmox-ve": "9"}}),
            ("warning", "Proxmox VE is on this host"),
        ),
        (seen(system=units(kubelet=ACTIVE)), ("warning", "Kubernetes is on this host")),
    ],
)
def test_other_clouds(observation: HostObservation, expected: tuple[str, str]) -> None:
    assert about(Subject.OTHER_CLOUD, observation) == [expected]
    assert about(Subject.OTHER_CLOUD, GOOD) == [("ok", "no sign of another cloud")]


def test_our_own_instances_are_no_other_cloud() -> None:
    observation = seen(traces={"nova_instances": ("a",), "nova_compute_id": True, **OURS})
    assert about(Subject.OTHER_CLOUD, observation) == []


@pytest.mark.parametrize(
    ("traces", "expected"),
    [
        ({}, ("ok", "no deployment of solostack")),
        (OURS, ("ok", "cloud is deployed here already")),
        (
            {"sites": ("lab",), "ledger": True},
            ("error", "control nodes of the deployment lab live here"),
        ),
        ({"ledger": True}, ("info", "solostack has changed this host before")),
    ],
)
def test_deployments(traces: dict[str, Any], expected: tuple[str, str]) -> None:
    assert about(Subject.DEPLOYMENT, seen(traces=traces)) == [expected]
