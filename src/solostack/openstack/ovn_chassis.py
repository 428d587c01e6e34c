"""An OVN chassis: the network node (gateway, external network) and the compute hosts.

Everything about the chassis is in Open vSwitch's own database; one ovs-vsctl writes it all.
"""

from __future__ import annotations

import dataclasses
import ipaddress

from solostack.engine.operations import File, Operation, Step, Unit
from solostack.openstack import auth
from solostack.plan.identity import twin_mac
from solostack.plan.model import HostPlan, NodePlan, Plan

PACKAGES = ("openvswitch-switch", "ovn-host")
UNITS = ("openvswitch-switch.service", "ovn-host.service")
SYSTEM_ID = "/etc/openvswitch/system-id.conf"
SOUTHBOUND_PORT = 6642
EXTERNAL_BRIDGE = "br-ex"
TUNNEL_BRIDGE = "br-phy"
PHYSICAL_NETWORK = "external"
MANAGER = "ptcp:6640:127.0.0.1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chassis:
    """A chassis. external_port is the card on the public side (gateways only).

    tunnel_port is the card that joins br-phy: with the userspace datapath the tunnels' address must
    be on a bridge of Open vSwitch, else what is sent to it never reaches the datapath. "" with the
    kernel's datapath, and where somebody else looks after that bridge. tunnel_mac is the bridge's:
    Open vSwitch would make up another at each start, and neighbours remember the old for minutes.
    manager: a listener on loopback for the services (os-vif) that may not use the database's
    socket.
    """

    name: str
    address: ipaddress.IPv4Address
    kernel_datapath: bool
    external_port: str = ""
    tunnel_port: str = ""
    tunnel_mac: str = ""
    manager: bool = False


def gateway_chassis(node: NodePlan) -> Chassis:
    """Return the network node as a chassis."""
    data, *others = node.interfaces
    return Chassis(
        name=node.name,
        address=node.data_address,
        kernel_datapath=node.kernel_datapath,
        external_port=others[0].name,
        tunnel_port="" if node.kernel_datapath else data.name,
        tunnel_mac="" if node.kernel_datapath else twin_mac(data.mac),
    )


def compute_chassis(host: HostPlan) -> Chassis:
    """Return a compute host as a chassis."""
    return Chassis(
        name=host.name,
        address=host.data_address.ip,
        kernel_datapath=host.kernel_datapath,
        manager=True,
    )


def chassis_operations(plan: Plan, chassis: Chassis) -> tuple[Operation, ...]:
    """Return the identity file and the database's content; ovsdb-server alone must run for it.

    ovs-ctl writes system-id anew from the file at each start; were only the database set, the
    chassis would have another name after a reboot and the southbound database would refuse it.
    """
    return (
        File(path=SYSTEM_ID, content=f"{chassis.name}\n"),
        Unit(name="ovsdb-server.service", enabled=None),
        Step(
            name=f"chassis {chassis.name}",
            run=render_script(plan, chassis),
            unless=render_check(plan, chassis),
            undo=render_undo(plan, chassis),
            timeout_s=120,
        ),
    )


def chassis_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return the units of Open vSwitch and ovn-controller."""
    # Restarting Open vSwitch would take the userspace datapath's bridges away, addresses and all.
    return (
        Unit(name="openvswitch-switch.service", running=running),
        Unit(name="ovn-host.service", running=running, restart_on=(SYSTEM_ID,)),
    )


def external_ids(plan: Plan, chassis: Chassis) -> dict[str, str]:
    """Return what ovn-controller(8) reads from the Open_vSwitch table."""
    ids = {
        "system-id": chassis.name,
        "hostname": chassis.name,
        "ovn-remote": f"tcp:{auth.controller_address(plan)}:{SOUTHBOUND_PORT}",
        "ovn-remote-probe-interval": "60000",
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": str(chassis.address),
        "ovn-monitor-all": "true",
    }
    if not chassis.kernel_datapath:
        ids["ovn-bridge-datapath-type"] = "netdev"
    if chassis.external_port:
        ids["ovn-bridge-mappings"] = f"{PHYSICAL_NETWORK}:{EXTERNAL_BRIDGE}"
        ids["ovn-cms-options"] = "enable-chassis-as-gw"
    return ids


def _bridges(chassis: Chassis) -> tuple[tuple[str, str], ...]:
    """Return bridges of ours, each with its one port."""
    pairs = ((EXTERNAL_BRIDGE, chassis.external_port), (TUNNEL_BRIDGE, chassis.tunnel_port))
    return tuple((bridge, port) for bridge, port in pairs if port)


# Debian's ovs-ctl(8) has named the machine already; only physical hosts have the folder.
_KEEP_IDS = """\
before=/var/lib/solostack/before/open-vswitch
[ ! -d "${before%/*}" ] || [ -e "$before" ] || ovs-vsctl --no-wait --timeout=60 --if-exists \\
    get open . external_ids:hostname external_ids:system-id >"$before"
"""
_PUT_BACK_IDS = """\
before=/var/lib/solostack/before/open-vswitch
[ -e "$before" ] || exit 0
{ read -r hostname && read -r id; } <"$before" || true
[ -z "$hostname" ] || ovs-vsctl --no-wait set open . external_ids:hostname="$hostname"
[ -z "$id" ] || ovs-vsctl --no-wait set open . external_ids:system-id="$id"
rm "$before"
"""


def render_script(plan: Plan, chassis: Chassis) -> str:
    """Render the one ovs-vsctl call, made so that it needs no running ovs-vswitchd.

    userspace-tso-enable is read when ovs-vswitchd starts. Without it TCP fails where ping works:
    instances leave checksums to the card, and the userspace datapath would not fill them in.
    """
    settings = [f"external_ids:{key}={value}" for key, value in external_ids(plan, chassis).items()]
    if chassis.tunnel_port:
        settings.append("other_config:userspace-tso-enable=true")
    calls = ["set open . \\\n    " + " \\\n    ".join(f"'{setting}'" for setting in settings)]
    for bridge, port in _bridges(chassis):
        calls.append(f"--may-exist add-br {bridge}")
        if not chassis.kernel_datapath:
            calls.append(f"set bridge {bridge} datapath_type=netdev")
        if port == chassis.tunnel_port:
            calls.append(f"set bridge {bridge} 'other_config:hwaddr=\"{chassis.tunnel_mac}\"'")
        calls.append(f"--may-exist add-port {bridge} {port}")
    if chassis.manager:
        calls.append(f"set-manager {MANAGER}")
    script = _KEEP_IDS
    script += "ovs-vsctl --no-wait --timeout=60 -- \\\n  " + " \\\n  -- ".join(calls) + "\n"
    if chassis.tunnel_port:
        script += "systemctl try-restart ovs-vswitchd.service\n"
    return script


def render_check(plan: Plan, chassis: Chassis) -> str:
    """Render the guard: one ovs-vsctl that reads everything render_script writes."""
    wanted = external_ids(plan, chassis)
    columns = [f"external_ids:{key}" for key in wanted]
    lines = list(wanted.values())
    if chassis.tunnel_port:
        columns.append("other_config:userspace-tso-enable")
        lines.append("true")
    calls = ["--if-exists get open . " + " ".join(columns)]
    for bridge, port in _bridges(chassis):
        # Not list-ports: ovn-controller adds patch ports of its own to the bridge.
        calls.append(f"get bridge {bridge} datapath_type -- port-to-br {port}")
        lines += ["" if chassis.kernel_datapath else "netdev", bridge]
        if port == chassis.tunnel_port:
            calls.append(f"get bridge {bridge} other_config:hwaddr")
            lines.append(chassis.tunnel_mac)
    if chassis.manager:
        calls.append("get-manager")
        lines.append(MANAGER)
    text = "\n".join(lines)
    return (
        "have=$(ovs-vsctl --no-wait --timeout=10 -- " + " -- ".join(calls) + " 2>/dev/null)\n"
        "have=$(printf '%s' \"$have\" | tr -d '\"')\n"
        f"[ \"$have\" = '{text}' ]\n"
    )


def render_undo(plan: Plan, chassis: Chassis) -> str:
    """Render the inverse, for physical hosts: they forget that they were a chassis."""
    calls = [f"remove open . external_ids {key}" for key in external_ids(plan, chassis)]
    if chassis.tunnel_port:
        calls.append("remove open . other_config userspace-tso-enable")
    if chassis.manager:
        calls.append("del-manager")
    calls += [f"--if-exists del-br {bridge}" for bridge, _ in _bridges(chassis)]
    calls.append("--if-exists del-br br-int")
    return (
        "command -v ovs-vsctl >/dev/null || exit 0\n"
        "systemctl start ovsdb-server.service\n"
        "ovs-vsctl --no-wait --timeout=60 -- " + " \\\n  -- ".join(calls) + "\n" + _PUT_BACK_IDS
    )
