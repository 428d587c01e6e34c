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

# 0x101 is IFF_PROMISC and IFF_UP of linux/if.h: a port that the switch has taken is promiscuous,
# and after that its flags are libvirt's alone. A tap may go while it is looked at.
_SCRIPT_TEXT = """#!/bin/bash
# Sets the taps of instances up that the userspace switch left down: at each event of the kernel's
# links, and every 10 s without any.
set -u
mend() {
    local path flags name
    for path in /sys/class/net/tap*/flags; do
        { read -r flags <"$path"; } 2>/dev/null || continue
        [ $((flags & 0x101)) = $((0x100)) ] || continue
        name=${path%/flags} name=${name##*/}
        ip link set dev "$name" up && echo "$name was left down by the switch: set up"
    done
}
exec {events}< <(exec ip -o monitor link)
status=0
while [ "$status" = 0 ] || [ "$status" -gt 128 ]; do
    mend
    read -r -t 10 -u "$events" _
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
