"""What is drawn: the topology of a plan as values, and what is there of it if known. Pure."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections.abc import Mapping

from solostack.plan.model import HostPlan, Interface, NodePlan, Plan
from solostack.site.model import Role, Runtime


class State(enum.StrEnum):
    """How a part is, against the plan."""

    PLANNED = "planned"
    PRESENT = "present"
    ABSENT = "absent"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def bad(self) -> bool:
        """Whether it is planned and not there, or there and not working."""
        return self in (State.ABSENT, State.FAILED)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found of one part; note in two or three words, detail in full."""

    state: State
    note: str = ""
    detail: str = ""


PLANNED = Seen(state=State.PLANNED)
UNKNOWN = Seen(state=State.UNKNOWN, note="not known")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A server of Nova. host "": it is on none (never scheduled)."""

    name: str
    host: str
    project: str
    fixed: tuple[str, ...]
    floating: tuple[str, ...]
    seen: Seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LiveHost:
    """What was found of a physical host; services by the names of Names."""

    seen: Seen
    services: Mapping[str, Seen]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What is there. cloud_error says why instances and floating IPs are not known, else "".

    floating_ips are all that are allocated, in use by an instance or not.
    """

    hosts: Mapping[str, LiveHost]
    nodes: Mapping[str, Seen]
    gateways: Mapping[str, Seen]
    instances: tuple[Instance, ...]
    floating_ips: tuple[str, ...]
    cloud_error: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names that other parts of solostack decide and the plan does not hold.

    services are pairs: the name a live host reports it by, and how it is called in the picture.
    """

    member: str
    userspace_member: str
    gateway_bridge: str
    firewall_table: str
    network_service: str
    firewall_service: str
    services: tuple[tuple[str, str], ...]
    node_services: Mapping[Role, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A named part without a place of its own, such as a service."""

    name: str
    seen: Seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A node's card; address "" when it has none."""

    name: str
    network: str
    bridge: str
    address: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The OVN gateway on the network node. bridge has no address."""

    bridge: str
    routers: str
    floating_ips: int
    seen: Seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A control node."""

    name: str
    runtime: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    nics: tuple[Nic, ...]
    services: tuple[str, ...]
    gateway: Gateway | None
    seen: Seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The host's own network: routes and masquerading, and where they lead."""

    nic: str
    block: str
    external_bridge: str
    transit_address: str
    member: str
    member_address: str
    firewall_table: str
    masqueraded: tuple[str, ...]
    routes: Seen
    firewall: Seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The host's part as a compute host; instances None: it is not known which."""

    chassis: str
    tunnel_address: str
    kvm: bool
    kernel_datapath: bool
    instance_memory_mib: int
    services: tuple[Part, ...]
    instances: tuple[Instance, ...] | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A physical host; gateway says that its external bridge carries the block."""

    name: str
    nic: str
    address: str
    gateway: bool
    nodes: tuple[Node, ...]
    stack: Stack
    compute: Compute
    seen: Seen


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The public block, routed to host at next_hop.

    used are the indices of allocated addresses, None when not known.
    """

    cidr: str
    first: str
    last: str
    size: int
    next_hop: str
    host: str
    used: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Every network's prefix as text; tenant and project are "" where the site has no demo."""

    transit: str
    data: str
    data_bridge: str
    data_mtu: int
    tenant: str
    tenant_project: str
    tenant_mtu: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The whole picture. elsewhere are instances on no host of the site."""

    site: str
    release: str
    region: str
    live: bool
    block: Block
    networks: Networks
    hosts: tuple[Host, ...]
    elsewhere: tuple[Instance, ...]
    cloud_error: str


def build_topology(plan: Plan, names: Names, live: Live | None = None) -> Topology:
    """Decide what is drawn: everything planned, and with live how each of it is."""
    instances = live.instances if live else ()
    here = {host.name for host in plan.hosts}
    return Topology(
        site=plan.site,
        release=plan.release,
        region=plan.region,
        live=live is not None,
        block=_block(plan, live),
        networks=Networks(
            transit=str(plan.external.transit),
            data=str(plan.data.network),
            data_bridge=plan.data.bridge,
            data_mtu=plan.data.mtu,
            tenant=str(plan.demo.network) if plan.demo else "",
            tenant_project=plan.demo.project if plan.demo else "",
            tenant_mtu=plan.data.tenant_mtu,
        ),
        hosts=tuple(_host(plan, host, names, live) for host in plan.hosts),
        elsewhere=tuple(one for one in instances if one.host not in here),
        cloud_error=live.cloud_error if live else "",
    )


def _block(plan: Plan, live: Live | None) -> Block:
    external = plan.external
    gateway = next(host for host in plan.hosts if host.gateway)
    used = None
    if live is not None and not live.cloud_error:
        addresses = {ipaddress.IPv4Address(one) for one in live.floating_ips}
        first = int(external.block[0])
        used = tuple(sorted(int(one) - first for one in addresses if one in external.block))
    return Block(
        cidr=str(external.block),
        first=str(external.pools[0][0]),
        last=str(external.pools[-1][1]),
        size=sum(int(last) - int(first) + 1 for first, last in external.pools),
        next_hop=str(gateway.address),
        host=gateway.name,
        used=used,
    )


def _host(plan: Plan, host: HostPlan, names: Names, live: Live | None) -> Host:
    found = live.hosts.get(host.name) if live else None
    nodes = sorted(
        (node for node in plan.nodes if node.host == host.name),
        key=lambda node: (node.role is not Role.NETWORK, node.name),
    )
    return Host(
        name=host.name,
        nic=host.nic,
        address=str(host.address),
        gateway=host.gateway,
        nodes=tuple(_node(plan, node, names, live) for node in nodes),
        stack=_stack(plan, host, names, found),
        compute=_compute(host, names, live),
        seen=_host_seen(found, live),
    )


def _host_seen(found: LiveHost | None, live: Live | None) -> Seen:
    if live is None:
        return PLANNED
    return found.seen if found else UNKNOWN


def _service(found: LiveHost | None, name: str) -> Seen:
    """Return how a host's service is; of a host that does not answer nothing is said twice."""
    if found is None:
        return PLANNED
    if found.seen.state.bad:
        return UNKNOWN
    return found.services.get(name, UNKNOWN)


def _stack(plan: Plan, host: HostPlan, names: Names, found: LiveHost | None) -> Stack:
    external = plan.external
    inside = (str(plan.data.network),) if plan.egress else ()
    return Stack(
        nic=host.nic,
        block=str(external.block) if host.gateway else "",
        external_bridge=external.bridge if host.gateway else "",
        transit_address=str(external.transit_gateway) if host.gateway else "",
        member=names.member if host.kernel_datapath else names.userspace_member,
        member_address=str(host.data_address),
        firewall_table=names.firewall_table,
        masqueraded=(*inside, str(external.transit)),
        routes=_service(found, names.network_service),
        firewall=_service(found, names.firewall_service),
    )


def _node(plan: Plan, node: NodePlan, names: Names, live: Live | None) -> Node:
    external = plan.external
    gateway = None
    if node.role is Role.NETWORK:
        gateway = Gateway(
            bridge=names.gateway_bridge,
            routers=f"{external.transit_pool[0]} – {external.transit_pool[1]}",  # noqa: RUF001
            floating_ips=sum(int(last) - int(first) + 1 for first, last in external.pools),
            seen=live.gateways.get(node.name, UNKNOWN) if live else PLANNED,
        )
    return Node(
        name=node.name,
        runtime="VM" if node.runtime is Runtime.VM else "container",
        vcpus=node.vcpus,
        memory_mib=node.memory_mib,
        disk_gib=node.disk_gib,
        nics=tuple(_nic(interface) for interface in node.interfaces),
        services=names.node_services.get(node.role, ()),
        gateway=gateway,
        seen=live.nodes.get(node.name, UNKNOWN) if live else PLANNED,
    )


def _nic(interface: Interface) -> Nic:
    return Nic(
        name=interface.name,
        network=interface.network,
        bridge=interface.bridge,
        address=str(interface.address.ip) if interface.address else "",
    )


def _compute(host: HostPlan, names: Names, live: Live | None) -> Compute:
    found = live.hosts.get(host.name) if live else None
    instances = None
    if live is not None and not live.cloud_error:
        instances = tuple(one for one in live.instances if one.host == host.name)
    return Compute(
        chassis=host.name,
        tunnel_address=str(host.data_address.ip),
        kvm=host.kvm,
        kernel_datapath=host.kernel_datapath,
        instance_memory_mib=host.instance_memory_mib,
        services=tuple(
            Part(name=shown, seen=_service(found, name)) for name, shown in names.services
        ),
        instances=instances,
    )
