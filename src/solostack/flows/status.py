"""`status`: hosts, nodes, services, agents and instances at a glance, asked all at once."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable

from solostack.cloud.door_probes import probe_certificate
from solostack.cloud.probes import Vantage
from solostack.doors.clock import SystemClock
from solostack.doors.process import LocalExecutor
from solostack.doors.progress import Progress, Step
from solostack.errors import SolostackError
from solostack.flows import cloud_files
from solostack.flows.deployment import (
    Deployment,
    host_executors,
    make_deployment,
    site_state,
)
from solostack.flows.facts import known_facts
from solostack.flows.parallel import run_together
from solostack.host import halted_guests, switch_ports
from solostack.plan.model import HostPlan, NodePlan
from solostack.site.loader import LoadedSite
from solostack.site.model import Runtime

# Prints one JSON line: load, memory, disk, and the state of the units and domains named in argv.
_HOST_SCRIPT = """
import json, os, shutil, subprocess, sys
memory = dict(line.split(":") for line in open("/proc/meminfo"))
mib = {k: int(memory[k].split()[0]) // 1024 for k in ("MemTotal", "MemAvailable")}
def ask(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()
units = {u: ask("systemctl", "show", "-P", "ActiveState", u) for u in sys.argv[1].split()}
domains = {d: ask("virsh", "-q", "-c", "qemu:///system", "domstate", d) or "absent"
           for d in sys.argv[2].split()}
failed = [l.split()[0] for l in ask("systemctl", "--failed", "--plain", "--no-legend").splitlines()]
print(json.dumps({"load": os.getloadavg()[0], "memory_mib": mib["MemTotal"],
    "memory_available_mib": mib["MemAvailable"],
    "disk_free_gib": shutil.disk_usage("/var/lib").free >> 30,
    "units": units, "domains": domains, "failed": failed}))
"""
_NODE_SCRIPT = "systemctl is-system-running; systemctl --failed --plain --no-legend"
HOST_UNITS = (
    "solostack-network.service",
    "solostack-uplink.service",
    "solostack-firewall.service",
    "solostack-watch.service",
    "libvirtd.service",
    "ovs-vswitchd.service",
    "ovn-controller.service",
    "nova-compute.service",
    "neutron-ovn-metadata-agent.service",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """A physical host. error says why nothing else is known."""

    name: str
    address: str
    load: float | None = None
    memory_mib: int | None = None
    memory_available_mib: int | None = None
    disk_free_gib: int | None = None
    services: dict[str, str] = dataclasses.field(default_factory=dict)
    failed_units: tuple[str, ...] = ()
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """A control node: its machine's state as the host sees it, its system's as it says itself."""

    name: str
    role: str
    host: str
    runtime: str
    address: str
    machine: str
    system: str
    failed_units: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DoorStatus:
    """The front door as seen from here: the certificate it shows, or why it shows none."""

    url: str
    ok: bool
    detail: str
    hint: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything at a glance; cloud is what the controller's APIs say, None when they do not.

    front_door None: the site has none.
    """

    site: str
    hosts: tuple[HostStatus, ...]
    nodes: tuple[NodeStatus, ...]
    cloud: dict[str, object] | None
    cloud_error: str | None
    front_door: DoorStatus | None = None


def status_of(loaded: LoadedSite, progress: Progress) -> Status:
    """Plan a site from what is known of its hosts, and ask everything."""
    state = site_state(loaded)
    state.create()
    facts = known_facts(state, loaded, host_executors(loaded))
    with progress.step("ask hosts and nodes") as step:
        return read_status(make_deployment(loaded, state, facts), step)


def read_status(deployment: Deployment, step: Step) -> Status:
    """Ask everything; what does not answer is reported as such, never raised."""
    plan = deployment.plan
    works: list[Callable[[], object]] = []
    works += [functools.partial(_host_raw, deployment, host) for host in plan.hosts]
    works += [functools.partial(_node_system, deployment, node) for node in plan.nodes]
    works.append(functools.partial(_front_door, deployment))
    works.append(functools.partial(_cloud, deployment, step))
    results = run_together(works)
    raw = dict(zip((host.name for host in plan.hosts), results, strict=False))
    systems = dict(
        zip((node.name for node in plan.nodes), results[len(plan.hosts) :], strict=False)
    )
    door, cloud = results[-2:]
    return Status(
        site=plan.site,
        hosts=tuple(_host(host, raw[host.name]) for host in plan.hosts),
        nodes=tuple(_node(node, raw[node.host], systems[node.name]) for node in plan.nodes),
        cloud=cloud if isinstance(cloud, dict) else None,
        cloud_error=None if isinstance(cloud, dict) else str(cloud),
        front_door=door if isinstance(door, DoorStatus) else None,
    )


def _host_raw(deployment: Deployment, host: HostPlan) -> object:
    nodes = [node for node in deployment.plan.nodes if node.host == host.name]
    units = [*_host_units(host)]
    units += [_unit(node) for node in nodes if node.runtime is Runtime.CONTAINER]
    domains = [node.name for node in nodes if node.runtime is Runtime.VM]
    command = ("python3", "-I", "-", " ".join(units), " ".join(domains))
    try:
        done = deployment.host(host.name).run(command, stdin=_HOST_SCRIPT.encode())
    except SolostackError as error:
        return error.message
    value: object = json.loads(done.text)
    return value


def _host_units(host: HostPlan) -> tuple[str, ...]:
    return (
        *HOST_UNITS,
        *(() if host.kernel_datapath else (switch_ports.UNIT,)),
        *(() if host.kvm else (halted_guests.UNIT,)),
    )


def _unit(node: NodePlan) -> str:
    return f"solostack-node@{node.name}.service"


def _node_system(deployment: Deployment, node: NodePlan) -> object:
    try:
        executor = deployment.node(node)
        done = executor.run(("sh",), stdin=_NODE_SCRIPT.encode(), check=False, timeout_s=30)
    except SolostackError as error:
        return error.message
    return done.text.splitlines()


def _cloud(deployment: Deployment, step: Step) -> object:
    try:
        return cloud_files.cloud_status(deployment, step)
    except SolostackError as error:
        return error.message


def _front_door(deployment: Deployment) -> object:
    door = deployment.plan.front_door
    if door is None:
        return None
    here = Vantage(executor=LocalExecutor("this machine"), clock=SystemClock())
    try:
        found = probe_certificate(here, cloud_files.door_to_probe(deployment, door))
    except SolostackError as error:
        detail = "; ".join((error.message, *error.details))
        return DoorStatus(url=door.url, ok=False, detail=detail, hint=error.hint)
    return DoorStatus(url=door.url, ok=found.ok, detail=found.detail, hint=found.hint)


def _host(host: HostPlan, raw: object) -> HostStatus:
    if not isinstance(raw, dict):
        return HostStatus(name=host.name, address=str(host.address), error=str(raw))
    services = {name: state for name, state in raw["units"].items() if name in _host_units(host)}
    return HostStatus(
        name=host.name,
        address=str(host.address),
        load=raw["load"],
        memory_mib=raw["memory_mib"],
        memory_available_mib=raw["memory_available_mib"],
        disk_free_gib=raw["disk_free_gib"],
        services=services,
        failed_units=tuple(raw["failed"]),
    )


def _node(node: NodePlan, raw: object, system: object) -> NodeStatus:
    machine = "unknown"
    if isinstance(raw, dict):
        found = {**raw["units"], **raw["domains"]}
        machine = found.get(_unit(node)) or found.get(node.name, "absent")
    lines = system if isinstance(system, list) else ["no answer"]
    return NodeStatus(
        name=node.name,
        role=str(node.role),
        host=node.host,
        runtime=str(node.runtime),
        address=str(node.data_address),
        machine=machine,
        system=lines[0] if lines else "no answer",
        failed_units=tuple(line.split()[0] for line in lines[1:] if line.strip()),
    )
