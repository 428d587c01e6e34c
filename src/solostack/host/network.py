"""The host's networks: libvirt's data and external, and the host as a member of both.

Pure. libvirt's networks have no <ip>, no DNS, no DHCP and forward mode ``open``: libvirt then adds
no firewall rules (libvirt formatnetwork), starts no dnsmasq, and does not refuse to start because a
route with the same prefix exists. Everything else is one script, run by one unit at boot and again
by a libvirt hook when a network is restarted. Nothing here touches the NIC or what the outside
sees: that is the uplink's (host.uplink).
"""

from __future__ import annotations

from solostack.engine.operations import Directory, File, Operation, Step, Unit
from solostack.host import rename
from solostack.plan.identity import node_uuid, twin_mac
from solostack.plan.model import HostPlan, Plan

SCRIPT_PATH = "/usr/local/lib/solostack/host-network"
UNIT = "solostack-network.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
HOOK_PATH = "/etc/libvirt/hooks/network.d/solostack"
SYSCTL_PATH = "/etc/sysctl.d/90-solostack.conf"
MEMBER = "solo-data"
MEMBER_PEER = "solo-data-br"
VIRSH = "virsh -q -c qemu:///system"

_UNIT_TEXT = f"""[Unit]
Description=solostack networks of this host
After=libvirtd.service openvswitch-switch.service network.target
Wants=libvirtd.service openvswitch-switch.service
Before=nova-compute.service ovn-controller.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
Restart=on-failure
RestartSec=5
RemainAfterExit=yes
ExecStart={SCRIPT_PATH} up
ExecReload={SCRIPT_PATH} up
TimeoutStartSec=120

[Install]
WantedBy=multi-user.target
"""

# A hook must not call libvirt (libvirt hooks documentation), so it only asks systemd.
_HOOK_TEXT = f"""#!/bin/sh
case "$1 $2" in
"data started" | "external started")
    systemctl --no-block try-reload-or-restart {UNIT} || true ;;
esac
"""


def hook_file() -> File:
    """Return libvirt's hook; libvirtd looks for hooks only when it starts."""
    return File(path=HOOK_PATH, content=_HOOK_TEXT, mode=0o755)


def network_operations(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return the operations that give a host its networks."""
    networks = [("data", plan.data.bridge, plan.data.mtu)]
    if host.gateway:
        networks.append(("external", plan.external.bridge, 1500))
    operations: list[Operation] = [Directory(path="/etc/solostack/networks")]
    for name, bridge, mtu in networks:
        operations += _libvirt_network(plan.site, name, bridge, mtu)
    operations += [
        File(path=SYSCTL_PATH, content=sysctl_text()),
        Step(
            name="forwarding",
            run="mkdir -p /var/lib/solostack/before\n"
            "f=/var/lib/solostack/before/ip_forward\n"
            '[ -e "$f" ] || cat /proc/sys/net/ipv4/ip_forward >"$f"\n'
            "echo 1 >/proc/sys/net/ipv4/ip_forward\n",
            unless="[ $(cat /proc/sys/net/ipv4/ip_forward) = 1 ]",
            undo="f=/var/lib/solostack/before/ip_forward\n"
            '[ ! -e "$f" ] || { cat "$f" >/proc/sys/net/ipv4/ip_forward; rm "$f"; }\n',
        ),
        File(path=SCRIPT_PATH, content=script_text(plan, host), mode=0o755),
        Step(
            name="remove member interfaces",
            run="mkdir -p /var/lib/solostack/before && touch /var/lib/solostack/before/network\n",
            unless="test -e /var/lib/solostack/before/network",
            undo=f"{SCRIPT_PATH} down\nrm -f /var/lib/solostack/before/network\n",
        ),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        Unit(name=UNIT, restart_on=(UNIT_PATH, SCRIPT_PATH), reload=True),
    ]
    return tuple(operations)


def network_xml(site: str, name: str, bridge: str, mtu: int) -> str:
    """Render a libvirt network without address, DNS or DHCP.

    With its own UUID it can be defined again and again; another's network of that name is refused.
    """
    return (
        f"<network>\n  <name>{name}</name>\n  <uuid>{node_uuid(site, f'network-{name}')}</uuid>\n"
        f"  <bridge name='{bridge}' stp='off' delay='0'/>\n"
        f"  <mtu size='{mtu}'/>\n"
        "  <forward mode='open'/>\n  <dns enable='no'/>\n</network>\n"
    )


def _libvirt_network(site: str, name: str, bridge: str, mtu: int) -> tuple[Operation, ...]:
    path = f"/etc/solostack/networks/{name}.xml"
    return (
        File(path=path, content=network_xml(site, name, bridge, mtu)),
        Step(
            name=f"libvirt network {name}",
            run=rename.network_text(name, bridge, path),
            unless=rename.is_done_text(name, bridge),
            undo=f"{VIRSH} net-destroy {name} || true\n"
            f"{VIRSH} net-undefine {name} || ! {VIRSH} net-uuid {name}\n"
            f"rm -rf {rename.kept_path(name)}\n",
            when_changed=(path,),
        ),
    )


def sysctl_text() -> str:
    """Render the sysctl file."""
    return "# solostack: the host routes between its NIC and the cloud.\nnet.ipv4.ip_forward = 1\n"


def script_text(plan: Plan, host: HostPlan) -> str:
    """Render the script that brings the host's own interfaces, addresses and routes up or down.

    With the kernel's Open vSwitch the member interface carries the address. Without it the address
    is on an Open vSwitch netdev bridge, because a userspace switch finds its tunnel's way only
    through its own bridges (Open vSwitch, "userspace tunneling").
    """
    member = "br-phy" if not host.kernel_datapath else MEMBER
    lines = [
        "#!/bin/sh",
        "# Brings the host's part of the cloud's networks up or down; safe to run at any time.",
        "set -eu",
        f"data={plan.data.bridge} member={member} address={host.data_address}",
        f"mac={host.data_mac} mtu={plan.data.mtu}",
        "up() {",
        *_networks_up(plan, host),
        *_member_up(host),
        *(_gateway_up(plan) if host.gateway else ()),
        "}",
        "down() {",
        *(_gateway_down(plan) if host.gateway else ()),
        *([] if host.kernel_datapath else ["    ovs-vsctl --if-exists del-br br-phy"]),
        f"    ip link delete {MEMBER} 2>/dev/null || true",
        "}",
        '"$1"',
    ]
    return "\n".join(lines) + "\n"


def _networks_up(plan: Plan, host: HostPlan) -> list[str]:
    names = "data external" if host.gateway else "data"
    bridges = f"{plan.data.bridge} {plan.external.bridge}" if host.gateway else plan.data.bridge
    return [
        "    # Another file of sysctl settings may say otherwise at boot, and win.",
        "    echo 1 >/proc/sys/net/ipv4/ip_forward",
        f"    for network in {names}; do",
        f"        {VIRSH} net-list --name | grep -qx $network || {VIRSH} net-start $network",
        "    done",
        "    # Asked on a bridge for an address of another interface, the host stays silent there.",
        f"    for bridge in {bridges}; do",
        "        echo 1 >/proc/sys/net/ipv4/conf/$bridge/arp_ignore",
        "    done",
    ]


def _member_up(host: HostPlan) -> list[str]:
    lines = [
        f"    [ -e /sys/class/net/{MEMBER} ] ||",
        f'        ip link add {MEMBER} mtu "$mtu" address "$mac" type veth \\',
        f'            peer name {MEMBER_PEER} mtu "$mtu"',
        f'    ip link set {MEMBER_PEER} master "$data" up',
        f"    ip link set {MEMBER} up",
    ]
    if not host.kernel_datapath:
        lines += [
            f"    ethtool -K {MEMBER} tx off >/dev/null",
            f"    ethtool -K {MEMBER_PEER} tx off >/dev/null",
            "    # The switch only takes a copy: what comes to the card is for the bridge.",
            f"    ip link set {MEMBER} address {twin_mac(host.data_mac)} arp off",
            "    ovs-vsctl --may-exist add-br br-phy -- set bridge br-phy datapath_type=netdev \\",
            '        other_config:hwaddr=\\"$mac\\" \\',
            f"        -- --may-exist add-port br-phy {MEMBER}",
            "    ip link set br-phy up",
        ]
    return [*lines, '    ip address replace "$address" dev "$member"']


def _gateway_up(plan: Plan) -> list[str]:
    external = plan.external
    return [
        f"    ip link set {external.bridge} up",
        f"    ip address replace {external.transit_gateway} dev {external.bridge}",
    ]


def _gateway_down(plan: Plan) -> list[str]:
    external = plan.external
    return [
        f"    ip address delete {external.transit_gateway} dev {external.bridge} 2>/dev/null ||",
        "        true",
    ]
