"""A control node as a systemd-nspawn container: pure rendering of its unit and its network.

The container has the same tree, MACs and addresses as the VM would have. Its NICs are veth pairs in
a network namespace of its own, made before it starts and removed after it ends: a namespace that
stays would keep the node's address alive.
"""

from __future__ import annotations

from solostack.plan.model import HostPlan, NodePlan

NETWORK_SCRIPT_PATH = "/usr/local/lib/solostack/node-network"
UNIT_PATH = "/etc/systemd/system/solostack-node@.service"

NETWORK_SCRIPT = r"""#!/bin/sh
# Makes (up) or removes (down) the network namespace of a control node that runs as a container.
# /etc/solostack/nodes/NAME.nics has a line a NIC: NAME MAC NETWORK MTU OFFLOAD [switched]
set -eu
action=$1 node=$2
space=solostack-$node nics=/etc/solostack/nodes/$2.nics
down() {
    while read -r nic mac network mtu offload switched; do
        ip link delete "$(host_side "$mac")" 2>/dev/null || true
    done <"$nics"
    ip netns delete "$space" 2>/dev/null || true
}
bridge_of() {
    sed -n "s/.*<bridge name='\([^']*\)'.*/\1/p" "/etc/solostack/networks/$1.xml"
}
host_side() { printf 'sn%s' "$(printf %s "$1" | tr -d : | cut -c4-)"; }
up() {
    down
    ip netns add "$space"
    ip -n "$space" link set lo up
    while read -r nic mac network mtu offload switched; do
        outer=$(host_side "$mac")
        ip link add "$outer" mtu "$mtu" type veth \
            peer name "$nic" address "$mac" mtu "$mtu" netns "$space"
        ip link set "$outer" master "$(bridge_of "$network")" up
        if [ "$offload" = off ]; then
            ethtool -K "$outer" tx off >/dev/null
            ip netns exec "$space" ethtool -K "$nic" tx off >/dev/null
        fi
        if [ -n "$switched" ]; then
            ip -n "$space" link set "$nic" arp off
        fi
    done <"$nics"
}
$action
"""

UNIT = f"""[Unit]
Description=solostack control node %i
Documentation=man:systemd-nspawn(1)
After=solostack-network.service
Wants=solostack-network.service

[Service]
Type=notify
NotifyAccess=all
Environment=SYSTEMD_SECCOMP=0
ExecStartPre=-/usr/sbin/modprobe -q tun
ExecStartPre={NETWORK_SCRIPT_PATH} up %i
ExecStart=/usr/bin/systemd-nspawn -q -b --keep-unit --register=no --notify-ready=no \\
    -D /var/lib/solostack/nodes/%i/root --machine=solostack-%i \\
    --network-namespace-path=/run/netns/solostack-%i --capability=all --bind=/dev/net/tun \\
    --resolv-conf=off --timezone=off --link-journal=no
ExecStopPost={NETWORK_SCRIPT_PATH} down %i
KillMode=mixed
TimeoutStopSec=120
Restart=always
RestartSec=2
SuccessExitStatus=133
RestartForceExitStatus=133
Delegate=yes
TasksMax=16384

[Install]
WantedBy=multi-user.target
"""


def unit_name(node: NodePlan) -> str:
    """Return the systemd unit of a container node."""
    return f"solostack-node@{node.name}.service"


def nics_text(host: HostPlan, node: NodePlan) -> str:
    """Render the lines that the network script reads.

    They name libvirt's network and not its bridge, which may get another name while the node runs:
    a change of these lines restarts the node. Of what arrives at a NIC of the userspace switch that
    only takes a copy (packet(7)). So the kernel must not answer ARP there: the node's address is at
    the switch's bridge, which has a MAC of its own.
    """
    offload = "on" if host.kernel_datapath else "off"
    switched = " switched" if not node.kernel_datapath and len(node.interfaces) > 1 else ""
    return "".join(
        f"{nic.name} {nic.mac} {nic.network} {nic.mtu} {offload}{switched}\n"
        for nic in node.interfaces
    )


def limits_text(node: NodePlan) -> str:
    """Render the drop-in that holds the node to its planned memory and CPUs."""
    return f"[Service]\nMemoryMax={node.memory_mib}M\nCPUQuota={node.vcpus * 100}%\n"
