"""The iSCSI initiator of a compute host, by which Nova attaches volumes.

What the host itself may use iSCSI and LVM for stays as it is: only records, sessions and disks of
Cinder's targets are touched, which their names tell.
"""

from __future__ import annotations

import uuid

from solostack.engine.operations import File, Line, Operation, Step, Unit
from solostack.openstack import volumes
from solostack.openstack.ini import BANNER
from solostack.plan import identity
from solostack.plan.model import HostPlan, Plan

NAME_PATH = "/etc/iscsi/initiatorname.iscsi"
NAME_BEFORE = "/var/lib/solostack/initiatorname.before"
RECORDS = "/var/lib/iscsi/nodes"
ISCSID_CONF = "/etc/iscsi/iscsid.conf"
LOGIN_DROPIN = "/etc/systemd/system/open-iscsi.service.d/solostack.conf"
UDEV_RULE = "/etc/udev/rules.d/61-solostack-volumes.rules"
LVM_CONF = "/etc/lvm/lvmlocal.conf"
STOP_SCRIPT = "/usr/local/lib/solostack/stop-instances"
INSTANCES = "solostack-instances.service"
INSTANCES_PATH = f"/etc/systemd/system/{INSTANCES}"

OUTAGE_S = 900
"""How long an instance's disk waits for a storage node that is away, before it sees errors.

open-iscsi's default, 120 s, is less than an emulated node takes to boot, and a file system that
saw an error stays read-only.
"""
STOP_INSTANCES_S = 60

# After the names are known (60-persistent-storage.rules) and before MD RAID and LVM look: what a
# user of the cloud wrote on a volume is nothing that the host may assemble or activate.
_UDEV_TEXT = (
    BANNER
    + f'SUBSYSTEM=="block", ENV{{ID_PATH}}=="ip-*-iscsi-{volumes.TARGET_PREFIX}*", '
    + 'ENV{ID_FS_TYPE}="", ENV{UDISKS_IGNORE}="1"\n'
)
_LVM_PATTERN = "r|^/dev/disk/by-path/ip-.*-iscsi-" + volumes.TARGET_PREFIX.replace(".", "[.]") + "|"

# os-brick marks what it logs in to as automatic, so that the next boot would wait for a storage
# node which that very boot has yet to start. Nova logs in again by itself.
_LOGIN_TEXT = f"""[Service]
ExecStartPre=-/bin/sh -c 'find {RECORDS} -path "*/{volumes.TARGET_PREFIX}*" -type f \\
    -exec sed -i "s/^node.startup = automatic/node.startup = manual/" {{}} +'
"""

_STOP_TEXT = rf"""#!/bin/sh
# Ends instances, then the sessions to their volumes: only while the host shuts down.
[ "$(systemctl is-system-running)" = stopping ] || exit 0
virsh() {{ command virsh -q -c qemu:///system "$@"; }}
running() {{ virsh list --name | grep '^instance-'; }}
for name in $(running); do virsh shutdown "$name" >/dev/null; done
for try in $(seq {STOP_INSTANCES_S}); do
    running >/dev/null || break
    sleep 1
done
for name in $(running); do virsh destroy "$name" >/dev/null; done
iscsiadm -m session 2>/dev/null | grep -o '{volumes.TARGET_PREFIX}[^ ]*' | sort -u |
while read -r target; do iscsiadm -m node -T "$target" -u >/dev/null; done
exit 0
"""

# libvirt-guests shuts the storage node down beside the instances, which could then not write any
# more what they have in memory. Started before nova-compute, this one ends between the two.
_INSTANCES_TEXT = f"""[Unit]
Description=solostack: instances end before the nodes that they need
After=libvirt-guests.service libvirtd.service iscsid.service network-online.target
Before=nova-compute.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh {STOP_SCRIPT}
TimeoutStopSec=180

[Install]
WantedBy=multi-user.target
"""


def initiator_operations(plan: Plan, host: HostPlan) -> tuple[Operation, ...]:
    """Return what a host needs to attach volumes of the storage node; nothing without such."""
    if not volumes.on_lvm(plan):
        return ()
    name = initiator_name(plan, host)
    return (
        _name_step(name),
        Line(
            path=ISCSID_CONF,
            line=f"node.session.timeo.replacement_timeout = {OUTAGE_S}",
            match=r"^node\.session\.timeo\.replacement_timeout *=",
        ),
        File(path=LOGIN_DROPIN, content=_LOGIN_TEXT),
        File(path=UDEV_RULE, content=_UDEV_TEXT),
        Step(
            name="rules for volumes",
            run="udevadm control --reload || true\n",
            when_changed=(UDEV_RULE,),
        ),
        _lvm_step(),
        File(path=STOP_SCRIPT, content=_STOP_TEXT, mode=0o755),
        File(path=INSTANCES_PATH, content=_INSTANCES_TEXT),
        # Never restarted: its stop is for shutdowns.
        Unit(name=INSTANCES),
    )


def initiator_name(plan: Plan, host: HostPlan) -> str:
    """Return a host's initiator name (RFC 3720, section 3.2.6.3), the same at every call."""
    ident: uuid.UUID = identity.node_uuid(plan.site, f"{host.name}/initiator")
    return f"iqn.1993-08.org.debian:01:{ident.hex[:12]}"


def _name_step(name: str) -> Step:
    """Give the host its name, unless it uses iSCSI for itself: its targets know it by its name."""
    own_records = f"ls {RECORDS} 2>/dev/null | grep -qv '^{volumes.TARGET_PREFIX}'"
    return Step(
        name="iSCSI initiator name",
        run=f"[ ! -s {NAME_PATH} ] || [ -e {NAME_BEFORE} ] || cp -p {NAME_PATH} {NAME_BEFORE}\n"
        "umask 077\n"
        f"echo 'InitiatorName={name}' >{NAME_PATH}\n"
        "systemctl try-restart iscsid.service\n",
        unless=f"grep -qx 'InitiatorName={name}' {NAME_PATH} || "
        f"{{ grep -q '^InitiatorName=iqn' {NAME_PATH} && {own_records}; }}\n",
        undo=f"if [ -e {NAME_BEFORE} ]; then mv {NAME_BEFORE} {NAME_PATH}; "
        f"else rm -f {NAME_PATH}; fi\n",
    )


def _lvm_step() -> Step:
    """Hide volumes from the host's LVM commands, unless the operator's own filter rules there."""
    filters = "grep -qsE '^[^#]*global_filter' /etc/lvm/lvm.conf /etc/lvm/lvmlocal.conf"
    line = f'devices/global_filter=[ "{_LVM_PATTERN}" ]'
    return Step(
        name="volumes hidden from LVM",
        run=f"printf '%s\\n' '{line}' >>{LVM_CONF}\n",
        unless=f"[ ! -d /etc/lvm ] || {filters}\n",
        undo=f"grep -vxF '{line}' {LVM_CONF} >{LVM_CONF}.new || true\n"
        f"if [ -s {LVM_CONF}.new ]; then mv {LVM_CONF}.new {LVM_CONF}; "
        f"else rm -f {LVM_CONF} {LVM_CONF}.new; fi\n",
    )
