"""Guests that QEMU's emulation stopped for ever, reset. Pure.

Now and then, on a busy machine, an emulated processor loses the end of an interrupt while its guest
boots: its timer stays in service in the local APIC, nothing of that priority comes any more, and
the processor sleeps until somebody resets the machine (seen with QEMU 10.0; Linux says "rcu_preempt
kthread timer wakeup didn't happen"). An operating system never halts a processor with an interrupt
in service, so what is seen so again and again is such a guest. With KVM the processor is real.
"""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit
from solostack.plan.model import NODE_XML_NAMESPACE, HostPlan

SCRIPT_PATH = "/usr/local/lib/solostack/halted-guests"
UNIT = "solostack-guests.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"

# QEMU's monitor: "info registers -a" has HLT=1 for a processor that sleeps, "info lapic N" a line
# ISR with the vectors in service. Between two looks a guest may have ended and another begun: its
# number tells.
# Machines of others are theirs to reset: ours carry metadata of solostack or of Nova.
_OURS = f"{NODE_XML_NAMESPACE}|http://openstack.org/xmlns/libvirt/nova/"
_SCRIPT_TEXT = """#!/bin/bash
# Resets emulated guests that sleep with an interrupt in service: three looks, 10 s apart.
set -u
declare -A looks=()
monitor() {
    timeout 20 virsh -q -c qemu:///system qemu-monitor-command --hmp "$1" "$2" 2>/dev/null
}
sleeping() {
    monitor "$1" "info registers -a" |
        awk '/^CPU#/ { cpu = substr($1, 5) } /HLT=1/ { print cpu }'
}
is_ours() {
    timeout 20 virsh -q -c qemu:///system dumpxml "$1" 2>/dev/null | grep -E "@OURS@" >/dev/null
}
is_halted() {
    local cpu
    for cpu in $(sleeping "$1"); do
        monitor "$1" "info lapic $cpu" | grep -qE '^ISR[[:space:]]+[0-9]' && return
    done
    return 1
}
while sleep 10; do
    found=" "
    for name in $(timeout 20 virsh -q -c qemu:///system list --state-running --name); do
        is_halted "$name" && is_ours "$name" || continue
        key=$name/$(timeout 20 virsh -q -c qemu:///system domid "$name")
        found+="$key "
        looks[$key]=$((${looks[$key]-0} + 1))
        [ "${looks[$key]}" -ge 3 ] || continue
        timeout 20 virsh -q -c qemu:///system reset "$name" &&
            echo "$name slept with an interrupt in service: reset"
        unset "looks[$key]"
    done
    for key in "${!looks[@]}"; do
        [[ $found == *" $key "* ]] || unset "looks[$key]"
    done
done
""".replace("@OURS@", _OURS)

_UNIT_TEXT = f"""[Unit]
Description=solostack resets guests that emulation stopped
After=libvirtd.service
StartLimitIntervalSec=0

[Service]
ExecStart={SCRIPT_PATH}
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def halted_guests_operations(host: HostPlan) -> tuple[Operation, ...]:
    """Return what resets them; nothing where KVM runs guests."""
    if host.kvm:
        return ()
    return (
        File(path=SCRIPT_PATH, content=_SCRIPT_TEXT, mode=0o755),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
        Unit(name=UNIT, restart_on=(UNIT_PATH, SCRIPT_PATH)),
    )
