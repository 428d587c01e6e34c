"""The storage node's disks as its guest uses them: LVM thin pools and XFS file systems.

What a disk is for follows from its name. A seed is a container without device mapper, so disks are
made usable at the VM's first boot, by one unit that runs scripts/storage_disks.py at every boot and
whenever the list of disks changed. What lives on them starts after it, with AFTER_DISKS.
"""

from __future__ import annotations

import json

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack.ini import BANNER
from solostack.openstack.programs import program
from solostack.plan.model import DiskPlan, NodePlan, Plan
from solostack.site.services import Squash

UNIT = "solostack-disks.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
DISKS = "/etc/solostack/disks.json"
LVM_CONF = "/etc/lvm/lvmlocal.conf"
PROGRAM = program("storage_disks")
VOLUME_GROUP = "cinder-volumes"
SWIFT_DEVICES = "/srv/node"
NFS_EXPORT = "/srv/nfs"
CINDER_DISK = "cinder"
NFS_DISK = "nfs"
START_TIMEOUT_S = 600
_SWIFT_ROOT = ("swift", "swift", "0755")
_EXPORT_ROOTS = {
    Squash.ALL: ("nobody", "nogroup", "0755"),
    Squash.ROOT: ("root", "root", "1777"),
    Squash.NONE: ("root", "root", "0755"),
}
"""Who may make the first file in the shared folder: nobody, where every client is nobody; everybody
as in /tmp, where a client's root is nobody and can give no folder away; else the client's root.
What clients make of it afterwards stays, until squash is another one."""
ENSURE = ("/usr/bin/python3", "-I", PROGRAM.path, "ensure", DISKS)
REPORT = ("/usr/bin/python3", "-I", PROGRAM.path, "report", DISKS)

AFTER_DISKS = f"[Unit]\nAfter={UNIT}\nWants={UNIT}\nStartLimitIntervalSec=0\n"
"""The beginning of a drop-in for a unit that needs the disks.

Not Requires=: a disk that is mended later would not start again what was refused because of it.
So the unit must see for itself that its disk is there (ExecStartPre=, RequiresMountsFor=).
"""

_UNIT_TEXT = f"""[Unit]
Description=solostack: disks of the storage node
ConditionVirtualization=vm
After=systemd-udevd.service local-fs.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={" ".join(ENSURE)}
TimeoutStartSec={START_TIMEOUT_S}
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
"""

# Volumes hold what users of the cloud wrote, LVM of their own among it: only real disks are looked
# at here (and scan_lvs is off by default).
_LVM_TEXT = BANNER + 'devices/global_filter=["a|^/dev/vd|","r|.*|"]\n'


def disk_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return the files by which a node's disks are made usable."""
    squash = plan.storage.nfs.squash if plan.storage and plan.storage.nfs else Squash.ALL
    return (
        PROGRAM,
        File(path=DISKS, content=render_disks(node, squash)),
        File(path=LVM_CONF, content=_LVM_TEXT),
        File(path=UNIT_PATH, content=_UNIT_TEXT),
    )


def disk_units(*, running: bool = True) -> tuple[Operation, ...]:
    """Return the unit; when the list of disks changed, it runs again and grows what got larger."""
    files = (PROGRAM.path, DISKS, LVM_CONF, UNIT_PATH)
    return (Unit(name=UNIT, running=running, restart_on=files, timeout_s=START_TIMEOUT_S),)


def render_disks(node: NodePlan, squash: Squash = Squash.ALL) -> str:
    """Render what scripts/storage_disks.py makes of the node's disks."""
    return json.dumps([_use(disk, squash) for disk in node.disks], indent=1, sort_keys=True) + "\n"


def mount_point(disk: DiskPlan) -> str | None:
    """Return where a disk's file system is mounted; None for a disk of volumes."""
    if disk.name == CINDER_DISK:
        return None
    return NFS_EXPORT if disk.name == NFS_DISK else f"{SWIFT_DEVICES}/{disk.name}"


def _use(disk: DiskPlan, squash: Squash) -> dict[str, str | int | bool]:
    described: dict[str, str | int | bool] = {"name": disk.name, "size_gib": disk.size_gib}
    mount = mount_point(disk)
    if mount is None:
        return described | {"kind": "lvm", "volume_group": VOLUME_GROUP}
    shared = disk.name == NFS_DISK
    owner, group, mode = _EXPORT_ROOTS[squash] if shared else _SWIFT_ROOT
    return described | {
        "kind": "xfs", "mount": mount, "owner": owner, "group": group, "mode": mode,
        "shared_root": shared,
    }  # fmt: skip
