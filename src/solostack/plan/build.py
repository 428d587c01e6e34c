"""Site and facts to a Plan. Pure: equal input, equal plan; no clock, no randomness, no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from solostack.errors import HostError
from solostack.plan import addresses, identity, sizing
from solostack.plan.model import (
    DataPlan,
    DemoPlan,
    FrontDoorPlan,
    HostFacts,
    HostPlan,
    Interface,
    NodePlan,
    Plan,
)
from solostack.site.model import Host, Role, Runtime, Site
from solostack.site.networks import node_settings
from solostack.site.releases import RELEASES

DATA_NETWORK = "data"
EXTERNAL_NETWORK = "external"
EXTERNAL_MTU = 1500
HTTPS_PORT = 443

GENEVE_OVERHEAD = 58
"""20 bytes IPv4 and 38 bytes Geneve as Neutron counts them (ml2 ``max_header_size``)."""

IPv4Interface = ipaddress.IPv4Interface


def build_plan(site: Site, facts: Mapping[str, HostFacts]) -> Plan:
    """Decide the whole deployment.

    facts are by host name; hosts the site does not name are ignored. The site must have passed
    its rules (load_site).

    Raises:
        HostError: a host's facts are missing, or its control nodes do not fit; details show the
            arithmetic.
    """
    _require_facts(site, facts)
    homes = {role: home_of(site, role) for role in node_settings(site)}
    sizes = sizing.size_nodes(site, {role: facts[home.name] for role, home in homes.items()})
    by_host = {
        host.name: [size for role, size in sizes.items() if homes[role] is host]
        for host in site.hosts
    }
    _require_fit(site, facts, by_host)
    where = addresses.data_addresses(site)
    gateway = homes[Role.NETWORK]
    return Plan(
        site=site.name,
        release=site.release,
        region=RELEASES[site.release].region,
        hosts=tuple(
            _host_plan(
                site,
                host,
                facts=facts[host.name],
                sizes=by_host[host.name],
                data_address=where[host.name],
            )
            for host in site.hosts
        ),
        nodes=tuple(
            _node_plan(site, size, home=facts[homes[role].name], where=where)
            for role, size in sizes.items()
        ),
        data=_data_plan(site),
        external=addresses.external_plan(site),
        firewall=site.firewall,
        workers=site.workers,
        egress=site.egress,
        flavors=site.flavors,
        images=site.images,
        demo=_demo_plan(site),
        addresses=addresses.address_rows(site, gateway),
        storage=site.storage,
        directory=site.directory,
        front_door=_front_door_plan(site, gateway),
        dashboard=site.dashboard,
    )


def home_of(site: Site, role: Role) -> Host:
    """Return the host a role's node lives on: the one the site names, else the first."""
    name = node_settings(site)[role].host or site.hosts[0].name
    return next(host for host in site.hosts if host.name == name)


def _require_facts(site: Site, facts: Mapping[str, HostFacts]) -> None:
    missing = [host.name for host in site.hosts if host.name not in facts]
    if missing:
        raise HostError(
            "nothing is known yet of " + ", ".join(missing),
            hint="look at the hosts: solostack check",
        )


def _require_fit(
    site: Site,
    facts: Mapping[str, HostFacts],
    by_host: Mapping[str, Sequence[sizing.NodeSize]],
) -> None:
    accounts = [
        account(host, facts[host.name], by_host[host.name])
        for host in site.hosts
        for account in (sizing.memory_account, sizing.disk_account)
    ]
    short = [each for each in accounts if not each.fits]
    if not short:
        return
    what = ", ".join(f"{each.resource} of {each.host}" for each in short)
    raise HostError(
        f"the control nodes do not fit: {what}",
        details=[line for each in short for line in each.lines()],
        hint="make nodes smaller (nodes.*.memory_mib, nodes.*.disk_gib), put one on another host "
        "(nodes.*.host), or give the host more",
    )


def _host_plan(
    site: Site,
    host: Host,
    *,
    facts: HostFacts,
    sizes: Sequence[sizing.NodeSize],
    data_address: IPv4Interface,
) -> HostPlan:
    control = sizing.control_memory_mib(sizes)
    memory = sizing.memory_account(host, facts, sizes)
    disk_gib = host.reserved_disk_gib + sum(size.files_gib for size in sizes)
    return HostPlan(
        name=host.name,
        address=host.address,
        nic=host.nic,
        data_address=data_address,
        data_mac=identity.mac_address(site.name, host.name, DATA_NETWORK),
        kvm=facts.kvm,
        kernel_datapath=facts.openvswitch_module,
        control_memory_mib=control,
        instance_memory_mib=memory.left,
        reserved_memory_mib=host.reserved_memory_mib + control,
        reserved_cpus=sizing.reserved_cpus(facts, sizes),
        reserved_disk_mib=disk_gib * sizing.GIB_IN_MIB,
        gateway=host is home_of(site, Role.NETWORK),
        ssh_port=host.ssh.port,
    )


def _node_plan(
    site: Site,
    size: sizing.NodeSize,
    *,
    home: HostFacts,
    where: Mapping[str, IPv4Interface],
) -> NodePlan:
    name = size.role.value
    return NodePlan(
        name=name,
        role=size.role,
        host=home.name,
        runtime=size.runtime,
        uuid=identity.node_uuid(site.name, name),
        machine_id=identity.machine_id(site.name, name),
        vcpus=size.vcpus,
        memory_mib=size.memory_mib,
        disk_gib=size.disk_gib,
        interfaces=_interfaces(site, size.role, where=where, home=home.name),
        kernel_datapath=size.runtime is Runtime.VM or home.openvswitch_module,
        disks=size.disks,
    )


def _interfaces(
    site: Site, role: Role, *, where: Mapping[str, IPv4Interface], home: str
) -> tuple[Interface, ...]:
    data = Interface(
        name="eth0",
        network=DATA_NETWORK,
        bridge=site.data.bridge,
        mac=identity.mac_address(site.name, role.value, "eth0"),
        mtu=site.data.mtu,
        address=where[role.value],
        gateway=where[home].ip,
    )
    if role is not Role.NETWORK:
        return (data,)
    external = Interface(
        name="eth1",
        network=EXTERNAL_NETWORK,
        bridge=site.external.bridge,
        mac=identity.mac_address(site.name, role.value, "eth1"),
        mtu=EXTERNAL_MTU,
        address=None,
    )
    return (data, external)


def _data_plan(site: Site) -> DataPlan:
    return DataPlan(
        network=site.data.cidr,
        bridge=site.data.bridge,
        mtu=site.data.mtu,
        tenant_mtu=site.data.mtu - GENEVE_OVERHEAD,
    )


def _front_door_plan(site: Site, gateway: Host) -> FrontDoorPlan | None:
    door = site.front_door
    if door is None:
        return None
    address = door.address or gateway.address
    port = "" if door.port == HTTPS_PORT else f":{door.port}"
    return FrontDoorPlan(
        address=address,
        own_address=address == gateway.address,
        own_certificate=door.certificate is not None,
        port=door.port,
        http_port=door.http_port,
        hostname=door.hostname,
        url=f"https://{door.hostname or address}{port}",
    )


def _demo_plan(site: Site) -> DemoPlan | None:
    if site.demo is None:
        return None
    return DemoPlan(project=site.demo.project, network=site.demo.network, dns=tuple(site.demo.dns))
