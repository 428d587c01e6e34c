"""What is drawn: the topology of a plan as values, and what is there of it if known. Pure."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from solostack.picture import outside
from solostack.picture.outside import Block
from solostack.plan.model import HostPlan, Interface, NodePlan, Plan
from solostack.site.model import ExternalMethod, Role, Runtime


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
    uplink_links are the ends of method bridge's veth pair, the outer one first.
    """

    member: str
    userspace_member: str
    gateway_bridge: str
    uplink_bridge: str
    uplink_links: tuple[str, str]
    firewall_table: str
    network_service: str
    uplink_service: str
    watch_service: str
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
    """A control node. disks are those besides the root disk, in words."""

    name: str
    runtime: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    disks: tuple[str, ...]
    nics: tuple[Nic, ...]
    services: tuple[str, ...]
    gateway: Gateway | None
    seen: Seen


class Side(enum.StrEnum):
    """Which network an address is of."""

    EXTERNAL = "external"
    TRANSIT = "transit"
    DATA = "data"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The host's own network, and where it leads; words are short lines.

    uplink is what the outside reaches the host by: its card, or the bridge that this joined by
    veth pair links. routed are networks on the external bridge, "" and () without one. bridges,
    reach and firewall are how libvirt's networks, the uplink and the tables are.
    """

    nic: str
    uplink: str
    links: tuple[str, ...]
    routed: tuple[str, ...]
    on_link: str
    external_bridge: str
    transit_address: str
    member: str
    member_address: str
    arp: tuple[str, ...]
    published: tuple[str, ...]
    firewall_table: str
    let_in: tuple[str, ...]
    masqueraded: tuple[tuple[Side, str], ...]
    bridges: Seen
    reach: Seen
    firewall: Seen

    @property
    def bridged(self) -> bool:
        """Whether the card is a port of a bridge of ours."""
        return bool(self.links)


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
    allocated = live.floating_ips if live and not live.cloud_error else None
    here = {host.name for host in plan.hosts}
    return Topology(
        site=plan.site,
        release=plan.release,
        region=plan.region,
        live=live is not None,
        block=outside.build_block(plan, allocated),
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
    external, gateway = plan.external, host.gateway
    bridged = gateway and external.method is ExternalMethod.BRIDGE
    return Stack(
        nic=host.nic,
        uplink=names.uplink_bridge if bridged else host.nic,
        links=names.uplink_links if bridged else (),
        routed=outside.routed_networks(external) if gateway else (),
        on_link=outside.on_link_words(external) if gateway else "",
        external_bridge=external.bridge if gateway else "",
        transit_address=str(external.transit_gateway) if gateway else "",
        member=names.member if host.kernel_datapath else names.userspace_member,
        member_address=str(host.data_address),
        arp=outside.arp_words(plan, host),
        published=outside.published_words(plan, host),
        firewall_table=names.firewall_table,
        let_in=outside.let_in_words(plan, host),
        masqueraded=_masqueraded(plan, host),
        bridges=_service(found, names.network_service),
        reach=_reach(found, names),
        firewall=_service(found, names.firewall_service),
    )


def _reach(found: LiveHost | None, names: Names) -> Seen:
    """Return how the uplink is, or else what keeps it so."""
    uplink = _service(found, names.uplink_service)
    watch = _service(found, names.watch_service)
    if watch.state.bad and not uplink.state.bad:
        return dataclasses.replace(watch, note=f"watch {watch.note}")
    return uplink


def _masqueraded(plan: Plan, host: HostPlan) -> tuple[tuple[Side, str], ...]:
    external = plan.external
    data = [(Side.DATA, str(plan.data.network))] if plan.egress else []
    if not host.gateway:
        return tuple(data)
    private = external.networks if external.method is ExternalMethod.PRIVATE else ()
    return (
        *data,
        (Side.TRANSIT, str(external.transit)),
        *((Side.EXTERNAL, str(each)) for each in private),
    )


def _node(plan: Plan, node: NodePlan, names: Names, live: Live | None) -> Node:
    external = plan.external
    gateway = None
    if node.role is Role.NETWORK:
        gateway = Gateway(
            bridge=names.gateway_bridge,
            routers=f"{external.transit_pool[0]} – {external.transit_pool[1]}",  # noqa: RUF001
            floating_ips=len(external.floating_addresses),
            seen=live.gateways.get(node.name, UNKNOWN) if live else PLANNED,
        )
    return Node(
        name=node.name,
        runtime="VM" if node.runtime is Runtime.VM else "container",
        vcpus=node.vcpus,
        memory_mib=node.memory_mib,
        disk_gib=node.disk_gib,
        disks=tuple(f"{disk.name} {disk.size_gib} GiB" for disk in node.disks),
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
