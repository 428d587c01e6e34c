"""The ports of instances on a userspace switch, kept up. Pure.

Open vSwitch's userspace datapath sets a port promiscuous by reading its flags and writing them back
(netdev_turn_flags_on(), lib/netdev-linux.c, from flags it remembers). libvirt sets the tap of an
instance up at the same moment: when the switch read before and writes after, the tap is down again,
with nobody who would look, and the instance runs without a network. The kernel's datapath sets the
flag inside the kernel and has no such moment.
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.plan.model import HostPlan

SCRIPT_PATH = "/usr/local/lib/solostack/switch-ports"
UNIT = "solostack-ports.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"

# 0x101 is IFF_PROMISC and IFF_UP of linux/if.h. The switch may be first: then libvirt sets the tap
# up in a moment, and there is nothing to put right. A tap may go while it is looked at.
_SCRIPT_TEXT = """#!/bin/bash
# Sets the taps of instances up that the userspace switch left down: those that stay so for over a
# second. Looks at each event of the kernel's links, and every 10 s without any.
set -u
declare -A since=()
look() {
    local path flags name found=" "
    for path in /sys/class/net/tap*/flags; do
        { read -r flags <"$path"; } 2>/dev/null || continue
        [ $((flags & 0x101)) = $((0x100)) ] || continue
        name=${path%/flags} name=${name##*/}
        found+="$name "
        since[$name]=${since[$name]-$SECONDS}
        [ $((SECONDS - ${since[$name]})) -ge 2 ] || continue
        ip link set dev "$name" up && echo "$name was left down by the switch: set up"
    done
    for name in "${!since[@]}"; do
        [[ $found == *" $name "* ]] || unset "since[$name]"
    done
}
exec {events}< <(exec ip -o monitor link)
status=0
while [ "$status" = 0 ] || [ "$status" -gt 128 ]; do
    look
    read -r -t $((${#since[@]} ? 1 : 10)) -u "$events" _
    status=$?
done
exit 1
"""

_UNIT_TEXT = f"""[Unit]
Description=solostack ports of instances on the userspace switch
After=openvswitch-switch.service
Before=nova-compute.service
StartLimitIntervalSec=0

[Service]
ExecStart={SCRIPT_PATH}
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def switch_ports_operations(host: HostPlan) -> tuple[Operation, ...]:
    """Return what keeps the ports up; nothing where the kernel's own datapath is used."""
    if host.kernel_datapath:
        return ()
    return (
        File(path=SCRIPT_PATH, content=_SCRIPT_TEXT, mode=0o755),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        Unit(name=UNIT, restart_on=(UNIT_PATH, SCRIPT_PATH)),
    )
