"""How a plan and its changes look to a person. Must not know how they are made."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from solostack.cli import render
from solostack.plan.diff import Change, Scope
from solostack.plan.model import ExternalPlan, Plan
from solostack.plan.serial import digest
from solostack.site.model import ExternalMethod

_SCOPE_TITLES = {
    Scope.HOST: "on hosts",
    Scope.NODES: "on control nodes",
    Scope.CLOUD: "in the cloud",
}
_METHODS = {
    ExternalMethod.ROUTED: "routed: the provider routes the block to the host",
    ExternalMethod.PROXY: "proxy: the host answers ARP for each address",
    ExternalMethod.BRIDGE: "bridge: the card joins a bridge, OVN answers ARP",
    ExternalMethod.PRIVATE: "private: reached from the host and by a route to it",
}
_CHANGE_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def show_plan(plan: Plan) -> None:
    """Print what is decided: hosts, nodes, networks, and the digest."""
    render.show(f"site {plan.site}: OpenStack {plan.release}, plan {digest(plan)[:12]}")
    render.print_table(
        ("host", "address", "nic", "data", "KVM", "OVS", "MiB nodes", "MiB instances"),
        [
            (
                host.name,
                host.address,
                host.nic,
                host.data_address.ip,
                host.kvm,
                "kernel" if host.kernel_datapath else "userspace",
                host.control_memory_mib,
                host.instance_memory_mib,
            )
            for host in plan.hosts
        ],
    )
    render.print_table(
        ("node", "on", "runs as", "vCPUs", "MiB", "disk GiB", "data address"),
        [
            (
                node.name,
                node.host,
                node.runtime,
                node.vcpus,
                node.memory_mib,
                node.disk_gib,
                node.data_address,
            )
            for node in plan.nodes
        ],
    )
    _show_networks(plan)


def show_changes(changes: Sequence[Change]) -> None:
    """Print what differs from the plan that was applied last, by where it is felt."""
    if not changes:
        render.show("\nas applied last: nothing would change")
        return
    for scope, title in _SCOPE_TITLES.items():
        lines = [change.line() for change in changes if change.scope is scope]
        if lines:
            render.show(f"\nwould change {title}:")
        for line in lines:
            render.show(Text(f"  {render.printable(line)}", style=_CHANGE_STYLES[line[0]]))


def _show_networks(plan: Plan) -> None:
    external = plan.external
    render.show(f"data network      {plan.data.network} on bridge {plan.data.bridge}")
    render.show(f"external          {_METHODS[external.method]}, bridge {external.bridge}")
    title = "private block" if external.method is ExternalMethod.PRIVATE else "public block"
    if external.block is not None:
        render.show(f"{title:<17} {external.block}")
    render.show(f"floating IPs      {_pools(external)}")
    for each in external.published:
        lead = f"{each.protocol} port {each.port} leads to {each.to}"
        render.show(f"published         {lead} port {each.to_port or each.port}")
    transit = f"{external.transit_pool[0]} to {external.transit_pool[1]}"
    render.show(f"router gateways   {transit}, next hop {external.transit_gateway.ip}")
    if plan.demo is not None:
        render.show(f"demo project      {plan.demo.project}, network {plan.demo.network}")
    flavors = ", ".join(flavor.name for flavor in plan.flavors)
    render.show(f"flavors           {flavors}")


def _pools(external: ExternalPlan) -> str:
    ranges = (
        f"{first}" if first == last else f"{first} to {last}" for first, last in external.pools
    )
    return f"{len(external.floating_addresses)}: " + ", ".join(ranges)
