"""`diagram`: the topology of a site as a picture, from its plan and from what is there."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from solostack.doors.process import Executor
from solostack.errors import CommandError
from solostack.flows.status import HostStatus, NodeStatus, Status
from solostack.host import firewall, network, uplink
from solostack.openstack import ovn_chassis
from solostack.picture.layout import lay_out
from solostack.picture.model import (
    Instance,
    Live,
    LiveHost,
    Names,
    Seen,
    State,
    Topology,
    build_topology,
)
from solostack.picture.svg import render_html, render_svg
from solostack.plan.model import Plan
from solostack.site.model import Role

NAMES = Names(
    member=network.MEMBER,
    userspace_member=ovn_chassis.TUNNEL_BRIDGE,
    gateway_bridge=ovn_chassis.EXTERNAL_BRIDGE,
    uplink_bridge=uplink.UPLINK_BRIDGE,
    uplink_links=(uplink.UPLINK_LINK, uplink.EXTERNAL_LINK),
    firewall_table="table inet solostack",
    network_service=network.UNIT,
    uplink_service=uplink.UNIT,
    watch_service=uplink.WATCH_UNIT,
    firewall_service=firewall.UNIT,
    services=(
        ("nova-compute.service", "nova-compute"),
        ("libvirtd.service", "libvirt"),
        ("ovs-vswitchd.service", "Open vSwitch"),
        ("ovn-controller.service", "ovn-controller"),
        ("neutron-ovn-metadata-agent.service", "metadata agent"),
    ),
    node_services={
        Role.CONTROLLER: (
            "Keystone",
            "Placement",
            "Glance",
            "Nova",
            "Neutron",
            "MariaDB",
            "RabbitMQ",
            "memcached",
            "OVN databases",
        ),
    },
)
_PRESENT = Seen(state=State.PRESENT)
_RUNNING = ("active", "running")
_NOT_THERE = ("absent", "", "inactive")
_PNG_TIMEOUT_S = 60.0


class Format(enum.StrEnum):
    """What a picture can be written as."""

    SVG = "svg"
    PNG = "png"
    HTML = "html"


def build_site_topology(plan: Plan, status: Status | None = None) -> Topology:
    """Return what is drawn: the plan, and with a status what is there of it."""
    names = dataclasses.replace(NAMES, node_services=node_services(plan))
    return build_topology(plan, names, live_of(status) if status else None)


def node_services(plan: Plan) -> Mapping[Role, tuple[str, ...]]:
    """Return what people call the services of each node."""
    storage, directory = plan.storage, plan.directory
    chosen = (
        (Role.CONTROLLER, "Cinder", storage and storage.cinder),
        (Role.CONTROLLER, "front door", plan.front_door),
        (Role.CONTROLLER, "Horizon", plan.dashboard),
        (Role.STORAGE, "Cinder volumes", storage and storage.cinder),
        (Role.STORAGE, "Swift", storage and storage.swift),
        (Role.STORAGE, "NFS", storage and storage.nfs),
        (Role.DIRECTORY, "389 Directory Server", directory),
    )
    return {
        role: (
            *NAMES.node_services.get(role, ()),
            *(name for where, name, is_there in chosen if where is role and is_there),
        )
        for role in Role
    }


def render_picture(topology: Topology, kind: Format, executor: Executor) -> bytes:
    """Return the picture's bytes; executor is asked for PNG only.

    Raises:
        CommandError: rsvg-convert is missing or fails.
    """
    picture = lay_out(topology)
    match kind:
        case Format.SVG:
            return render_svg(picture).encode()
        case Format.HTML:
            return render_html(picture).encode()
        case Format.PNG:
            return _png(render_svg(picture).encode(), executor)


def _png(svg: bytes, executor: Executor) -> bytes:
    command = ("rsvg-convert", "--format", "png")
    try:
        return executor.run(command, stdin=svg, timeout_s=_PNG_TIMEOUT_S).stdout
    except CommandError as error:
        raise CommandError(
            "cannot make a PNG of the picture",
            details=(error.message, *error.details),
            hint="apt-get install librsvg2-bin, or write .svg or .html, which need no program",
        ) from error


def live_of(status: Status) -> Live:
    """Return what a status says, as the picture needs it."""
    cloud: Mapping[str, Any] = status.cloud or {}
    return Live(
        hosts={host.name: _host(host, cloud.get("compute_services", ())) for host in status.hosts},
        nodes={node.name: _node(node) for node in status.nodes},
        gateways={node.name: _gateway(node, cloud) for node in status.nodes},
        instances=tuple(_instance(row) for row in cloud.get("servers", ())),
        floating_ips=tuple(row["address"] for row in cloud.get("floating_ips", ())),
        cloud_error="" if status.cloud is not None else status.cloud_error or "no answer",
    )


def _host(host: HostStatus, compute_services: Iterable[Mapping[str, Any]]) -> LiveHost:
    if host.error:
        seen = Seen(state=State.FAILED, note="does not answer", detail=host.error)
        return LiveHost(seen=seen, services={})
    services = {name: _unit(state) for name, state in host.services.items()}
    for row in compute_services:
        name = f"{row['binary']}.service"
        # The process may run while Nova has not heard of it for a minute.
        if row["host"] == host.name and row["state"] != "up" and services.get(name) == _PRESENT:
            services[name] = Seen(state=State.FAILED, note="down")
    return LiveHost(seen=_PRESENT, services=services)


def _unit(state: str) -> Seen:
    if state in _RUNNING:
        return _PRESENT
    if state in _NOT_THERE:
        return Seen(state=State.ABSENT, note=state or "absent")
    return Seen(state=State.FAILED, note=state)


def _node(node: NodeStatus) -> Seen:
    if node.machine == "unknown":
        return Seen(state=State.UNKNOWN, note="not known")
    machine = _unit(node.machine)
    if machine.state.bad:
        return machine
    if node.failed_units:
        return Seen(state=State.FAILED, note="failed: " + ", ".join(node.failed_units))
    if node.system != "running":
        return Seen(state=State.FAILED, note=node.system)
    return machine


def _gateway(node: NodeStatus, cloud: Mapping[str, Any]) -> Seen:
    rows = [row for row in cloud.get("agents", ()) if row["host"] == node.name]
    if not rows:
        return Seen(state=State.UNKNOWN)
    if all(row["alive"] for row in rows):
        return _PRESENT
    return Seen(state=State.FAILED, note="not alive")


def _instance(row: Mapping[str, Any]) -> Instance:
    status = row["status"]
    seen = Seen(state=State.UNKNOWN, note=status.lower())
    if status == "ACTIVE":
        seen = _PRESENT
    elif status == "ERROR":
        seen = Seen(state=State.FAILED, note=f"error: {row['fault']}" if row["fault"] else "error")
    return Instance(
        name=row["name"],
        host=row["host"],
        project=row["project"],
        fixed=tuple(row["fixed"]),
        floating=tuple(row["floating_ips"]),
        seen=seen,
    )
