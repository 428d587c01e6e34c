"""Plans to be drawn, of all kinds, and what is there of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from solostack.flows.status import HOST_UNITS, HostStatus, NodeStatus, Status
from solostack.picture.layout import lay_out
from solostack.picture.model import Topology
from solostack.picture.sheet import Box, Text
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import load_site, parse_site

ROOT = Path(__file__).parents[2]
LONGEST = "a-name-of-thirty-one-characters"


def facts(name: str, *, kvm: bool = True) -> HostFacts:
    return HostFacts(
        name=name, cores=16, memory_mib=64000, disk_gib=900, kvm=kvm, openvswitch_module=kvm
    )


def example_plan(name: str) -> Plan:
    small = dataclasses.replace(facts("phys1"), cores=4, memory_mib=7900, disk_gib=220)
    site = load_site(ROOT / "examples" / f"{name}.yaml").site
    return build_plan(site, {"phys1": facts("phys1") if name == "full" else small})


def minimal_plan() -> Plan:
    return example_plan("minimal")


def plan_of(
    hosts: int,
    more: str = "",
    *,
    block: str = "198.51.100.0/28",
    name: str = "",
    method: str = "routed",
    external: str = "",
) -> Plan:
    names = [f"{name[: 31 - 2]}-{n}" if name else f"phys{n}" for n in range(hosts)]
    text = "hosts:\n" + "".join(
        f"  - {{name: {each}, address: 203.0.113.{n + 100}, nic: enx00112233445{n}}}\n"
        for n, each in enumerate(names)
    )
    external = external or f"block: {block}"
    text += f"external: {{method: {method}, {external}, bridge: br-externalbrid}}\n" + more
    site = parse_site(text, Path("site.yaml")).site
    return build_plan(site, {each: facts(each, kvm=hosts != 2) for each in names})


def server(name: str, host: str, number: int, status: str = "ACTIVE") -> dict[str, object]:
    return {
        "name": name,
        "status": status,
        "host": host,
        "project": "demo",
        "fixed": [f"10.10.0.{number}"],
        "floating_ips": [f"198.51.100.{number}"],
        "fault": "no valid host was found" if status == "ERROR" else "",
    }


def status_of(plan: Plan, servers: tuple[dict[str, object], ...] = ()) -> Status:
    """Return the status of a cloud where all is well."""
    active = dict.fromkeys(HOST_UNITS, "active")
    addresses = [address for row in servers for address in row["floating_ips"]]
    return Status(
        site=plan.site,
        hosts=tuple(
            HostStatus(name=host.name, address=str(host.address), services=active)
            for host in plan.hosts
        ),
        nodes=tuple(
            NodeStatus(
                name=node.name,
                role=str(node.role),
                host=node.host,
                runtime=str(node.runtime),
                address=str(node.data_address),
                machine="running",
                system="running",
            )
            for node in plan.nodes
        ),
        cloud={
            "compute_services": [],
            "agents": [{"type": "gateway", "host": "network", "alive": True}],
            "servers": list(servers),
            "floating_ips": [{"address": address} for address in addresses],
        },
        cloud_error=None,
    )


def broken_status(plan: Plan) -> Status:
    """Return the status of a cloud where much is wrong, with long and odd names."""
    first, *others = (host.name for host in plan.hosts)
    servers = (
        *(server(f"web-{n}", first, n) for n in range(30)),
        server("x" * 255, first, 40),
        server('日本 <&> \x07"quoted"', others[-1] if others else first, 41, "SHUTOFF"),
        server("lost-" * 20, "", 42, "ERROR"),
    )
    whole = status_of(plan, servers)
    failed = dict.fromkeys(HOST_UNITS, "failed")
    hosts = [dataclasses.replace(whole.hosts[0], services=failed), *whole.hosts[1:]]
    if others:
        error = f"{others[0]}: ssh: connect to host port 22: No route to host"
        hosts[1] = dataclasses.replace(hosts[1], services={}, error=error)
    nodes = [dataclasses.replace(whole.nodes[0], machine="shut off", system="no answer")]
    nodes += [dataclasses.replace(each, failed_units=("ssh.service",)) for each in whole.nodes[1:]]
    return dataclasses.replace(whole, hosts=tuple(hosts), nodes=tuple(nodes))


PLANS = {
    "minimal": minimal_plan(),
    "containers": plan_of(1, "nodes: {controller: {runtime: container}}\n"),
    "two": plan_of(2, "demo: null\n"),
    "three-long": plan_of(
        3,
        f"name: {LONGEST}\ndata: {{bridge: br-dataabcdefgh, cidr: 172.16.100.0/24}}\n"
        f"demo: {{project: {LONGEST}, network: 10.110.120.0/24}}\n",
        block="198.51.100.192/26",
        name=LONGEST,
    ),
    "apart": plan_of(3, "nodes: {controller: {host: phys2}}\n", block="198.51.100.7/32"),
    "five": plan_of(5, block="198.51.0.0/22"),
    "routed-firewall": example_plan("routed"),
    "proxy-subnet": example_plan("proxy-subnet"),
    "proxy-singles": example_plan("proxy-single-addresses"),
    "proxy-many": plan_of(
        2,
        "firewall: {ssh_from: [192.0.2.0/24, 10.0.0.0/8, 172.30.0.0/16, 192.168.77.0/24], "
        "open: [{port: 9100, sources: [192.0.2.10/32]}, {port: 51820, protocol: udp}], "
        "networks: [10.5.0.0/16]}\n",
        method="proxy",
        external=f"addresses: [{', '.join(f'198.51.100.{7 * n + 3}' for n in range(30))}]",
    ),
    "bridge": example_plan("bridge"),
    "bridge-apart": plan_of(
        3,
        "nodes: {controller: {host: a-name-of-thirty-one-characte-1}, "
        "network: {host: a-name-of-thirty-one-characte-2}}\n",
        name=LONGEST,
        method="bridge",
        external="block: 203.0.113.96/27, not_ours: [203.0.113.97, 203.0.113.98], "
        "addresses: [198.51.100.5], published: [{port: 80, to: 203.0.113.110}]",
    ),
    "bridge-large": plan_of(1, method="bridge", block="198.51.0.0/22"),
    "private": example_plan("private"),
    "private-many": plan_of(
        2,
        method="private",
        external="published: ["
        + ", ".join(f"{{port: {8000 + n}, to: 10.98.1.{n}, protocol: udp}}" for n in range(9))
        + "]",
    ),
}


def marked(topology: Topology) -> set[str]:
    """Return what is drawn as absent or failed: last words of the boxes' names."""
    shapes = lay_out(topology).shapes
    boxes = {box.name.split("/")[-1] for box in shapes if isinstance(box, Box) and box.bad}
    return boxes | {s.text for s in shapes if isinstance(s, Text) and s.look == "bad"}
